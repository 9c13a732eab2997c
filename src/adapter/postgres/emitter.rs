//! Emitters for PostgreSQL, in programs that are not servers.

use std::sync::Arc;

use super::{
    Postgres,
    broker::{BrokerLink, Listener},
    sending::Sender,
};
use crate::adapter::{
    common::{Emitter, Losses, Options, emitter_name, unwritten},
    node_js::write_message,
};

impl From<Postgres> for Emitter {
    /// See [`Emitter::new`]. The connection may use a pooler, because an emitter does not listen.
    fn from(postgres: Postgres) -> Self {
        let losses = Arc::new(Losses::default());
        let listener: Arc<dyn Listener> = Arc::<Losses>::clone(&losses);
        let listener = Arc::downgrade(&listener);
        let link = postgres.link(None, listener);
        let Options { key, sealing, .. } = &postgres.options;
        let name = emitter_name(sealing.secrets.is_some());
        let sender = Sender::new(name.as_str(), key, sealing);
        Self::connect(link, losses, move |link: &BrokerLink, publication| {
            let written = write_message(name.as_str(), publication).map_err(unwritten)?;
            sender.send(link, &publication.namespace, written, false)
        })
    }
}

impl Listener for Losses {
    fn lost(&self, messages: u64) {
        self.add(messages);
    }
}
