//! Emitters for NATS, in programs that are not servers.

use std::sync::Arc;

use super::{
    Nats,
    broker::{BrokerLink, Listener, Message},
    subjects::Subjects,
};
use crate::adapter::{
    common::{Emitter, Losses, UID, emitter_name},
    envelope::{self, Envelope},
    seal::Sealer,
};

impl From<Nats> for Emitter {
    /// See [`Emitter::new`].
    fn from(nats: Nats) -> Self {
        let losses = Arc::new(Losses::default());
        let listener: Arc<dyn Listener> = Arc::<Losses>::clone(&losses);
        let listener = Arc::downgrade(&listener);
        let subjects = Arc::new(Subjects::new(&nats.options.key, UID));
        let link = nats.link(Arc::clone(&subjects), listener, false);
        let sealing = &nats.options.sealing;
        let node = emitter_name(sealing.secrets.is_some());
        let purpose = nats.purpose();
        let accepts_plain = sealing.accepts_plain;
        let secrets = sealing.secrets.as_ref();
        let sealer = secrets.map(|secrets| Sealer::new(secrets, &purpose));
        Self::connect(link, losses, move |link: &BrokerLink, publication| {
            let message = envelope::Message::Publication(publication.clone());
            // Emitters share one name if they do not seal, so their numbers would collide.
            let envelope = Envelope::new(node.clone(), None, message);
            let subject = subjects.of(envelope.channel());
            let message = Message::new(subject, &envelope)?;
            link.send(message, sealer.as_ref(), accepts_plain)
        })
    }
}

impl Listener for Losses {
    fn lost(&self, messages: u64) {
        self.add(messages);
    }
}
