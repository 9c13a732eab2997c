//! NATS for programs that are no server.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Nats,
    link::{Link, Listener, Message},
    subjects::Subjects,
};
use crate::adapter::{
    common::{Broker as _, Emitter, Losses, UID, unwritten},
    envelope::{self, Envelope, NodeId},
    interface::AdapterError,
};

impl From<Nats> for Emitter {
    /// See [`Emitter::new`].
    fn from(nats: Nats) -> Self {
        let losses = Arc::new(Losses::default());
        let listener: Arc<dyn Listener> = Arc::<Losses>::clone(&losses);
        let listener = Arc::downgrade(&listener);
        let subjects = Arc::new(Subjects::new(&nats.key, UID));
        let link = nats.link(Arc::clone(&subjects), listener, false);
        Self::connect(link, losses, move |link: &Link, publication| {
            let node = NodeId::new(UID).ok_or(AdapterError::Closed)?;
            let message = envelope::Message::Publication(publication.clone());
            // All such programs have one name, so that numbers of theirs would collide.
            let envelope = Envelope::new(node, None, message);
            let subject = subjects.of(envelope.channel());
            let payload = envelope.to_bytes().map_err(unwritten)?;
            link.publish(Message {
                subject,
                payload,
                is_pulse: false,
            })
        })
    }
}

impl Listener for Losses {
    fn hear(&self, _: &str, _: Bytes) {}

    fn felt(&self, _: &[u8]) -> bool {
        false
    }

    fn may_have_missed(&self) {}

    fn lost(&self, messages: u64) {
        self.add(messages);
    }

    fn listening(&self, _: bool) {}

    fn cut_off(&self) {}

    fn tick(&self) {}
}
