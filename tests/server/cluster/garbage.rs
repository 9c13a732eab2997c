//! Invalid messages on every transport of Redis, and numbers at the limits of formats.

use roomcast::metrics::Counter;

use super::{Servers, Wire, quiet};
use crate::{
    local::{text, until},
    nats_server::NatsServer,
    redis_server::RedisServer,
};

/// Publishes a payload on the channel of a namespace, or adds it to the stream.
fn say(redis: &RedisServer, servers: &Servers, wire: Wire, payload: &[u8]) {
    let key = &servers.key;
    let channel = format!("{key}#/#");
    match wire {
        Wire::Classic => redis.command(&["PUBLISH", &channel], payload),
        Wire::Sharded | Wire::Private => redis.command(&["SPUBLISH", &channel], payload),
        Wire::Streams | Wire::Journal => {
            let fields = ["uid", "x", "nsp", "/", "type", "3", "data"];
            redis.command(&[&["XADD", key, "*"], &fields[..]].concat(), payload);
        }
    }
}

#[test]
fn invalid_payloads_on_every_redis_transport_are_only_counted() {
    for wire in Wire::ALL {
        let redis = RedisServer::start();
        let servers = Servers::on_redis(&redis, 2, wire, quiet);
        let (mut client, _) = servers[0].connect();
        servers.settle();
        let malformed = || {
            let metrics = servers[0].io.metrics();
            metrics.counter(Counter::ClusterMalformed)
        };
        let packed = vec![0x91; 200_000];
        let deep = "[".repeat(200_000);
        let inside = format!(r#"{{"uid":"x","nsp":"/","type":3,"data":{deep}"#);
        for garbage in [
            &b"\xc1"[..],
            b"{",
            b"{}",
            b"[]",
            &packed,
            deep.as_bytes(),
            inside.as_bytes(),
        ] {
            let before = malformed();
            say(&redis, &servers, wire, garbage);
            until(|| malformed() > before);
        }
        // Redis disconnects subscribers with more than 32 MiB of pending output, and they
        // reconnect.
        say(&redis, &servers, wire, &vec![b'x'; 33 << 20]);
        // The other server misses what this server sends while it is disconnected.
        until(|| {
            let all = servers[1].runtime.block_on(servers[1].io.fetch_sockets());
            all.missing.is_empty() && all.sockets.len() == 1
        });
        servers[1].io.emit("end", ());
        assert_eq!(text(&mut client), "42[\"end\"]");
    }
}

#[test]
fn integers_of_any_size_arrive_unchanged() {
    let check = |servers: &Servers| {
        let (mut client, _) = servers[1].connect();
        servers.settle();
        for number in [i64::MAX as u64, 1 << 63, (1 << 63) + 1, u64::MAX] {
            servers[0].io.emit("n", number);
            client.expect_text(&format!("42[\"n\",{number}]"));
        }
        servers[0].io.emit("n", i64::MIN);
        client.expect_text(&format!("42[\"n\",{}]", i64::MIN));
    };
    for wire in Wire::ALL {
        check(&Servers::on_redis(RedisServer::shared(), 2, wire, quiet));
    }
    check(&Servers::on_nats(NatsServer::shared(), 2, quiet));
    check(&Servers::on_postgres(2, quiet));
}
