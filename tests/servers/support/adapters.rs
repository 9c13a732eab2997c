//! What joins a contract server to others.
//!
//! `ADAPTER` is `redis://…`, `redis+sharded://…`, `redis+sharded-private://…`, `redis-streams://…`, `nats://…` or `postgres://…`, `ADAPTER_KEY` what the names of
//! channels begin with, and the name of the stream.

use std::env;

use roomcast::{
    Builder,
    adapter::{
        nats::Nats,
        postgres::Postgres,
        redis::{Redis, Subscriptions},
    },
};

/// Gives the server an adapter, if one is asked for.
pub(crate) fn join(io: Builder, suffix: &str) -> Builder {
    let Ok(url) = env::var("ADAPTER") else {
        return io;
    };
    let key = env::var("ADAPTER_KEY").unwrap_or_else(|_| "socket.io".to_owned());
    let key = format!("{key}{suffix}");
    if url.starts_with("postgres") {
        let postgres = Postgres::new(&url).unwrap_or_else(|error| panic!("{error}"));
        return io.adapter(postgres.key(&key));
    }
    if url.starts_with("nats") {
        let nats = Nats::new(&url).unwrap_or_else(|error| panic!("{error}"));
        return io.adapter(nats.key(&key));
    }
    let private = url.replacen("redis+sharded-private:", "redis+sharded:", 1);
    let subscriptions = match private == url {
        true => Subscriptions::Rooms,
        false => Subscriptions::RoomsAndSockets,
    };
    let plain = private.replacen("redis+sharded:", "redis:", 1);
    let redis = Redis::new(&plain).unwrap_or_else(|error| panic!("{url}: {error}"));
    let redis = redis.key(&key);
    let redis = redis.recovery(suffix.ends_with("-recovery"));
    io.adapter(match plain == url {
        true => redis,
        false => redis.sharded(subscriptions),
    })
}
