//! Redis streams only.

use roomcast::{Builder, Config, adapter::Health, metrics::Counter};

use super::{Servers, Wire, quiet};
use crate::{
    local::{text, until},
    redis_server::RedisServer,
};

/// Returns the data of an entry for all clients.
fn news(n: usize) -> String {
    format!(
        r#"{{"packet":{{"type":2,"data":["n",{n}],"nsp":"/"}},"opts":{{"rooms":[],"except":[],"flags":{{}}}}}}"#
    )
}

fn add(redis: &RedisServer, key: &str, kind: &str, data: &[u8]) {
    let fields = ["uid", "x", "nsp", "/", "type", kind, "data"];
    redis.command(&[&["XADD", key, "*"], &fields[..]].concat(), data);
}

#[test]
fn stream_is_read_once_in_order_after_broken_connections() {
    let redis = RedisServer::start_persistent();
    let servers = Servers::on_redis(&redis, 2, Wire::Streams, quiet);
    let mut clients = [0, 1].map(|i| servers[i].connect().0);
    let mut next = 0;
    for round in 0..4 {
        match round {
            0 => {}
            1 => {
                redis.kill();
                let is_down = |i: usize| servers[i].io.adapter_health() != Some(Health::Ready);
                until(|| is_down(0) && is_down(1));
                redis.restart();
            }
            _ => {
                for kind in [&b"normal"[..], b"pubsub"] {
                    redis.command(&["CLIENT", "KILL", "TYPE"], kind);
                }
            }
        }
        for n in next..next + 20 {
            add(&redis, &servers.key, "3", news(n).as_bytes());
        }
        for client in &mut clients {
            for n in next..next + 20 {
                client.expect_text(&format!("42[\"n\",{n}]"));
            }
        }
        next += 20;
    }
    until(|| (0..2).all(|i| servers[i].io.adapter_health() == Some(Health::Ready)));
    // Each broken connection may have lost the heartbeat in flight, which does not count; nothing
    // else was sent until now.
    assert_eq!(servers[0].io.metrics().counter(Counter::ClusterLost), 0);
    servers.settle();
    servers[0].io.emit("end", ());
    for client in &mut clients {
        client.expect_text("42[\"end\"]");
    }
}

#[test]
fn entries_trimmed_before_reading_are_counted() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Streams, quiet);
    let (mut client, _) = servers[0].connect();
    // Redis serves no reads while a script runs.
    let script = "for n = 1, 5 do redis.call('XADD', KEYS[1], '*', 'uid', 'x', 'nsp', '/', 'type', '3', 'data', ARGV[1]) end \
                  redis.call('XTRIM', KEYS[1], 'MAXLEN', 2)";
    let data = news(7);
    redis.command(&["EVAL", script, "1", &servers.key], data.as_bytes());
    for _ in 0..2 {
        client.expect_text("42[\"n\",7]");
    }
    redis.command(&["CLIENT", "KILL", "TYPE"], b"normal");
    let lost = || servers[0].io.metrics().counter(Counter::ClusterLost);
    until(|| lost() >= 3);
    add(&redis, &servers.key, "3", news(8).as_bytes());
    client.expect_text("42[\"n\",8]");
    // The broken connection may have lost a heartbeat, which does not count.
    assert_eq!(lost(), 3);
}

#[test]
fn malformed_stream_entries_are_only_counted() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Streams, quiet);
    let (mut client, _) = servers[0].connect();
    let metrics = servers[0].io.metrics();
    let key = &*servers.key;
    for data in [
        "",
        "{",
        "{}",
        "é",
        "////",
        r#"{"packet":1}"#,
        r#"{"packet":{"type":2,"data":["disconnect"]},"opts":{"rooms":[]}}"#,
        r#"{"packet":{"type":2,"data":["n",1]}}"#,
    ] {
        add(&redis, key, "3", data.as_bytes());
    }
    add(&redis, key, "three", b"{}");
    redis.command(&["XADD", key, "*", "nsp"], b"/");
    redis.command(&["XADD", key, "*", "else"], b"\xff");
    // Strings that are stored for a while have a limit.
    let long = "x".repeat(257);
    let question = format!(r#"{{"opts":{{"rooms":[],"except":[]}},"requestId":"{long}"}}"#);
    add(&redis, key, "7", question.as_bytes());
    let heartbeat = [
        "XADD", key, "*", "uid", &long, "nsp", "/", "type", "2", "data",
    ];
    redis.command(&heartbeat, b"");
    until(|| metrics.counter(Counter::ClusterMalformed) == 13);
    add(&redis, key, "99", b"{}");
    until(|| metrics.counter(Counter::ClusterUnknown) == 1);
    redis.command(
        &["XADD", key, "*", "nsp", "/elsewhere", "type", "3", "data"],
        b"{",
    );
    add(&redis, key, "3", news(1).as_bytes());
    assert_eq!(text(&mut client), "42[\"n\",1]");
    assert_eq!(metrics.counter(Counter::ClusterMalformed), 13);
}

#[test]
fn large_events_arrive_in_their_order_among_small_ones() {
    let large_outbox = |io: Builder| quiet(io.config(Config::default().outbox_bytes(64 << 20)));
    let servers = Servers::on_redis(RedisServer::shared(), 2, Wire::Streams, large_outbox);
    let (mut client, _) = servers[1].connect();
    let large = "x".repeat(3 << 20);
    for n in 0..60 {
        match n % 20 {
            7 => servers[0].io.emit("n", (n, &large)),
            _ => servers[0].io.emit("n", (n, "")),
        };
    }
    for n in 0..60 {
        let event = text(&mut client);
        assert!(event.starts_with(&format!("42[\"n\",{n},")), "{n}");
    }
}

/// Returns an event for a room with this packet.
fn for_room(room: &str, packet: &str) -> String {
    format!(r#"{{"packet":{packet},"opts":{{"rooms":["{room}"],"except":[],"flags":{{}}}}}}"#)
}

#[test]
fn entries_for_rooms_without_local_members_are_not_decoded() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Streams, quiet);
    let (mut client, id) = servers[0].connect();
    servers[0].io.in_(&*id).join("here");
    let key = &*servers.key;
    let metrics = servers[0].io.metrics();
    let packet = |n: usize| format!(r#"{{"type":2,"data":["n",{n}],"nsp":"/"}}"#);
    let (passed, malformed) = (Counter::ClusterSkipped, Counter::ClusterMalformed);
    for round in 0..3 {
        // It would count as malformed if it were decoded.
        add(&redis, key, "3", for_room("elsewhere", "1").as_bytes());
        // Map with `opts` (of `rooms`: `elsewhere`) and `packet`, in MessagePack and base 64.
        add(
            &redis,
            key,
            "3",
            b"gqRvcHRzgaVyb29tc5GpZWxzZXdoZXJlpnBhY2tldAE=",
        );
        for (kind, more) in [
            ("4", r#""rooms":1"#),
            ("5", r#""rooms":1"#),
            ("6", r#""close":true"#),
        ] {
            let data = format!(r#"{{"opts":{{"rooms":["elsewhere"],"except":[]}},{more}}}"#);
            add(&redis, key, kind, data.as_bytes());
        }
        for room in ["here", &id] {
            add(&redis, key, "3", for_room(room, &packet(round)).as_bytes());
            client.expect_text(&format!("42[\"n\",{round}]"));
        }
        assert_eq!(metrics.counter(passed), 5 * (round as u64 + 1));
        assert_eq!(metrics.counter(malformed), 0);
        // Reading continues after skipped entries, and none of them counts as missing.
        redis.command(&["CLIENT", "KILL", "TYPE"], b"normal");
    }
    // Each broken connection may have lost a heartbeat, which does not count.
    assert_eq!(metrics.counter(Counter::ClusterLost), 0);
    // A request is answered, and an event for a room with a member is decoded.
    let question = r#"{"opts":{"rooms":["elsewhere"],"except":[]},"requestId":1,"packet":1}"#;
    add(&redis, key, "3", question.as_bytes());
    until(|| metrics.counter(malformed) == 1);
    add(&redis, key, "3", for_room("here", "1").as_bytes());
    until(|| metrics.counter(malformed) == 2);
    // In a namespace without sockets, an event for all has no recipient.
    drop(client);
    until(|| servers[0].io.of("/").count() == 0);
    add(&redis, key, "3", news(1).as_bytes());
    until(|| metrics.counter(passed) == 16);
}
