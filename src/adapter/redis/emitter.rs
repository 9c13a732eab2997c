//! Emitters for Redis, in programs that are not servers.

use std::sync::Arc;

use super::{
    Redis,
    broker::{BrokerLink, Listener},
    recent_joins::RecentJoins,
    sealing::Sealers,
    shared::{note_joins, own_channel, write_publication},
};
use crate::adapter::{
    common::{Broker as _, Emitter, Losses, UID, emitter_name},
    envelope::NodeId,
};

impl From<Redis> for Emitter {
    /// See [`Emitter::new`].
    fn from(redis: Redis) -> Self {
        let own = format!("{UID}-{:016x}", getrandom::u64().unwrap_or_default());
        let losses = Arc::new(Losses::default());
        let listener: Arc<dyn Listener> = Arc::<Losses>::clone(&losses);
        let listener = Arc::downgrade(&listener);
        let options = &redis.options;
        let sealers = Sealers::new(&options.sealing, &options.key);
        let name = emitter_name(sealers.is_some());
        let own = NodeId::new(&own).map(|own| own_channel(&options.key, &own));
        let link = BrokerLink::new(
            options.address.clone(),
            redis.wire.channel_kind(),
            own.unwrap_or_default(),
            options.limits,
            listener,
        );
        let stream = Arc::new(redis.stream());
        let joins = RecentJoins::default();
        Self::connect(link, losses, move |link: &BrokerLink, publication| {
            let (wire, key) = (redis.wire, redis.options.key.as_str());
            note_joins(wire, key, &joins, publication);
            let name = name.as_str();
            let sent = write_publication(wire, key, &stream, &joins, name, publication)?;
            match &sealers {
                Some(sealers) => sealers.send(link, sent),
                None => link.publish(sent),
            }
        })
    }
}

impl Listener for Losses {
    fn lost(&self, messages: u64) {
        self.add(messages);
    }
}
