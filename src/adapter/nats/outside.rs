//! NATS for programs that are no server.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Nats,
    link::{Link, Message},
    subjects::Subjects,
};
use crate::adapter::{
    common::{Broker as _, Emitter, Outlet, UID, unwritten},
    envelope::{self, Envelope, NodeId, Publication},
    interface::{AdapterError, BoxFuture, Health},
};

impl From<Nats> for Emitter {
    /// See [`Emitter::new`].
    fn from(nats: Nats) -> Self {
        let nobody: Weak<super::NatsState> = Weak::new();
        let subjects = Arc::new(Subjects::new(&nats.key, UID));
        let link = Arc::new(nats.link(Arc::clone(&subjects), nobody, false));
        link.open();
        tokio::spawn(Arc::clone(&link).run());
        Self::through(Connected {
            nats,
            subjects,
            link,
        })
    }
}

struct Connected {
    nats: Nats,
    subjects: Arc<Subjects>,
    link: Arc<Link>,
}

impl Outlet for Connected {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError> {
        let node = NodeId::new(UID).ok_or(AdapterError::Closed)?;
        let message = envelope::Message::Publication(publication.clone());
        // All such programs have one name, so that numbers of theirs would collide.
        let envelope = Envelope::new(node, None, message);
        let subject = self.subjects.of(envelope.channel());
        let payload = envelope.to_bytes().map_err(unwritten)?;
        self.link.publish(Message {
            subject,
            payload,
            is_pulse: false,
        })
    }

    fn health(&self) -> Health {
        self.link.health()
    }

    fn close(&self) -> BoxFuture<()> {
        Box::pin(Arc::clone(&self.link).close())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.link.abandon();
    }
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.nats.fmt(f)
    }
}
