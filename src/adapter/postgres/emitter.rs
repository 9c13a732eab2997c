//! Emitters for PostgreSQL, in programs that are not servers.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use roomcast_protocol::socket::Nsp;

use super::{
    Postgres,
    broker::{BrokerLink, Listener, ReceivedMessage, Target},
    sealing::{Lane, Sealers},
    wire::{channel, message},
};
use crate::adapter::{
    WireError,
    common::{Emitter, Losses, emitter_name, unwritten},
    message::write_message,
};

impl From<Postgres> for Emitter {
    /// See [`Emitter::new`]. The connection may use a pooler, because an emitter does not listen.
    fn from(postgres: Postgres) -> Self {
        let losses = Arc::new(Losses::default());
        let listener: Arc<dyn Listener> = Arc::<Losses>::clone(&losses);
        let listener = Arc::downgrade(&listener);
        let link = postgres.link(None, listener);
        let sent = AtomicU64::new(0);
        let sealers = Sealers::new(&postgres.sealing, &postgres.key);
        let name = emitter_name(sealers.is_some());
        Self::connect(link, losses, move |link: &BrokerLink, publication| {
            let number = sent.fetch_add(1, Ordering::Relaxed);
            let written = write_message(name.as_str(), publication).map_err(unwritten)?;
            let channel = channel(&postgres.key, &publication.namespace);
            if let Some(sealers) = &sealers {
                let place = publication.namespace.as_str();
                let body = sealers.body(Lane::Together, place, &written);
                link.publish(None, Arc::clone(&channel), body, false)?;
                if !sealers.accepts_plain {
                    return Ok(());
                }
            }
            let body = message(name.as_str(), number, written).map_err(unwritten)?;
            link.publish(None, channel, body, false)
        })
    }
}

impl Listener for Losses {
    fn hear(&self, _: Target, _: ReceivedMessage) {}

    fn ignore(&self, _: &WireError) {}

    fn lost(&self, messages: u64) {
        self.add(messages);
    }

    fn listening(&self, _: Vec<Nsp>) {}

    fn caught_up(&self) {}

    fn cut_off(&self) {}

    fn speak(&self) -> bool {
        false
    }

    fn tick(&self) {}
}
