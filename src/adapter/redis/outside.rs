//! Redis for programs that are no server.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use super::{
    Redis,
    joins::RecentJoins,
    link::Link,
    shared::{RedisState, note_joins, own_channel, write_publication},
    streams::Stream,
};
use crate::adapter::{
    common::{Broker as _, Emitter, Outlet, UID},
    envelope::{NodeId, Publication},
    interface::{AdapterError, BoxFuture, Health},
};

impl From<Redis> for Emitter {
    /// See [`Emitter::new`].
    fn from(redis: Redis) -> Self {
        let own = format!("{UID}-{:016x}", getrandom::u64().unwrap_or_default());
        let nobody: Weak<RedisState> = Weak::new();
        let own = NodeId::new(&own).map(|own| own_channel(&redis.key, &own));
        let link = Arc::new(Link::new(
            redis.place.clone(),
            redis.wire.how(),
            own.unwrap_or_default(),
            redis.limits,
            nobody,
        ));
        link.open();
        tokio::spawn(Arc::clone(&link).run());
        let stream = Arc::new(redis.stream());
        Self::through(Connected {
            redis,
            stream,
            joins: RecentJoins::default(),
            link,
        })
    }
}

struct Connected {
    redis: Redis,
    stream: Arc<Stream>,
    joins: RecentJoins,
    link: Arc<Link>,
}

impl Outlet for Connected {
    fn send(&self, publication: &Publication) -> Result<(), AdapterError> {
        let Redis { wire, key, .. } = &self.redis;
        let joins = &self.joins;
        note_joins(*wire, key, joins, publication);
        let sent = write_publication(*wire, key, &self.stream, joins, UID, publication)?;
        self.link.publish(sent)
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
        self.redis.fmt(f)
    }
}
