//! Connects a contract server to others with an adapter.
//!
//! `ADAPTER` is `redis://…`, `redis+OPTION://…`, `redis-streams://…`, `redis-streams+sharded://…`,
//! `nats://…` or `postgres://…`. `ADAPTER_KEY` is the prefix of channel names, and the name of the
//! stream.
//!
//! The options of Redis `sharded`, `sharded-private` and `sharded-static` select which rooms have
//! channels. With `specific`, Node servers are answered on their own channels. With
//! `redis-streams+sharded`, answers use sharded channels, and the stream is called `stream of KEY`.
//! With `SECRET`, the servers encrypt what they exchange.

use std::env;

use roomcast::{
    Builder,
    adapter::{Secrets, Subscriptions, nats::Nats, postgres::Postgres, redis::Redis},
};

/// Gives the server an adapter if one is configured.
pub(crate) fn join(io: Builder, suffix: &str) -> Builder {
    let Ok(url) = env::var("ADAPTER") else {
        return io;
    };
    let key = env::var("ADAPTER_KEY").unwrap_or_else(|_| "socket.io".to_owned());
    let key = format!("{key}{suffix}");
    let secrets = env::var("SECRET").ok();
    let secrets =
        secrets.map(|secret| Secrets::new([secret]).unwrap_or_else(|error| panic!("{error}")));
    if url.starts_with("postgres") {
        let postgres = Postgres::new(&url).unwrap_or_else(|error| panic!("{error}"));
        let postgres = postgres.key(&key);
        return io.adapter(match secrets {
            Some(secrets) => postgres.sealed(secrets),
            None => postgres,
        });
    }
    if url.starts_with("nats") {
        let nats = Nats::new(&url).unwrap_or_else(|error| panic!("{error}"));
        let nats = nats.key(&key);
        return io.adapter(match secrets {
            Some(secrets) => nats.sealed(secrets),
            None => nats,
        });
    }
    // The text after the plus sign is an option of the adapter, for a single Redis server.
    let (kind, address) = url.split_once("://").unwrap_or_default();
    let (scheme, option) = kind.split_once('+').unwrap_or((kind, ""));
    let redis = Redis::new(&format!("{scheme}://{address}"));
    let redis = redis
        .unwrap_or_else(|error| panic!("{url}: {error}"))
        .key(&key);
    let redis = match suffix.ends_with("-recovery") {
        true => redis.recovery(),
        false => redis,
    };
    let redis = match secrets {
        Some(secrets) => redis.sealed(secrets),
        None => redis,
    };
    io.adapter(match option {
        "" => redis,
        "specific" => redis.publish_on_specific_response_channel(),
        "sharded" if scheme == "redis" => redis.sharded(Subscriptions::Rooms),
        "sharded" => {
            let name = format!("stream of {key}");
            redis.sharded_channels().stream_name(&name)
        }
        "sharded-private" => redis.sharded(Subscriptions::RoomsAndSockets),
        "sharded-static" => redis.sharded(Subscriptions::Namespaces),
        option => panic!("an unknown option: {option}"),
    })
}
