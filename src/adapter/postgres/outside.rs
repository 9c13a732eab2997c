//! PostgreSQL for programs that are no server.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    Postgres,
    link::Link,
    wire::{channel, message},
};
use crate::adapter::{
    common::{Broker as _, Emitter, Outlet, UID, unwritten},
    envelope::Publication,
    interface::{AdapterError, BoxFuture, Health},
    message::write_message,
};

impl From<Postgres> for Emitter {
    /// See [`Emitter::new`]. A pooler may be between: nothing is listened to.
    fn from(postgres: Postgres) -> Self {
        let nobody: Weak<super::PostgresState> = Weak::new();
        let link = Arc::new(postgres.link(None, nobody));
        link.open();
        tokio::spawn(Arc::clone(&link).run());
        Self::through(Connected {
            postgres,
            link,
            sent: AtomicU64::new(0),
        })
    }
}

struct Connected {
    postgres: Postgres,
    link: Arc<Link>,
    sent: AtomicU64,
}

impl Outlet for Connected {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError> {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        let written = write_message(UID, publication).map_err(unwritten)?;
        let body = message(UID, number, written).map_err(unwritten)?;
        let channel = channel(&self.postgres.key, &publication.namespace);
        self.link.publish(channel, body)
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
        self.postgres.fmt(f)
    }
}
