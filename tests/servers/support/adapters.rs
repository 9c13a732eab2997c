//! What joins a contract server to others.
//!
//! `ADAPTER` is `redis://…`, `redis+OPTION://…`, `redis-streams://…`, `redis-streams+sharded://…`, `nats://…` or `postgres://…`, `ADAPTER_KEY` what the names of
//! channels begin with, and the name of the stream. An option of Redis is `sharded`, `sharded-private` or `sharded-static`, which say what has a channel, or `specific`,
//! with which Node servers are answered on channels of their own. With `redis-streams+sharded` answers take sharded channels, and the stream is called `stream of KEY`.
//! With `SECRET` the servers seal what they exchange.

use std::env;

use roomcast::{
    Builder,
    adapter::{
        Secrets,
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
    // What stands behind the plus sign is an option of the adapter, for one server of Redis.
    let (kind, address) = url.split_once("://").unwrap_or_default();
    let (scheme, option) = kind.split_once('+').unwrap_or((kind, ""));
    let redis = Redis::new(&format!("{scheme}://{address}"));
    let redis = redis
        .unwrap_or_else(|error| panic!("{url}: {error}"))
        .key(&key);
    let redis = redis.recovery(suffix.ends_with("-recovery"));
    let redis = match secrets {
        Some(secrets) => redis.sealed(secrets),
        None => redis,
    };
    io.adapter(match option {
        "" => redis,
        "specific" => redis.publish_on_specific_response_channel(true),
        "sharded" if scheme == "redis" => redis.sharded(Subscriptions::Rooms),
        "sharded" => {
            let name = format!("stream of {key}");
            redis.sharded_channels(true).stream_name(&name)
        }
        "sharded-private" => redis.sharded(Subscriptions::RoomsAndSockets),
        "sharded-static" => redis.sharded(Subscriptions::Namespaces),
        option => panic!("an unknown option: {option}"),
    })
}
