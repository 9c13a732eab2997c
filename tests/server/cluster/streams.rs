//! What is peculiar to servers that a stream of Redis joins.

use roomcast::{Builder, Config, adapter::Health, metrics::Counter};

use super::{Servers, Wire, quiet};
use crate::{
    local::{text, until},
    redis_server::RedisServer,
};

/// The data of an entry for everybody.
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
fn what_the_stream_still_has_is_read_once_and_in_order_after_connections_broke() {
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
    // Each connection that broke may have taken the heartbeat along that was under way; nothing else was said until now.
    let lost = servers[0].io.metrics().counter(Counter::ClusterLost);
    assert!(lost <= 3, "{lost}");
    servers.settle();
    servers[0].io.emit("end", ());
    for client in &mut clients {
        client.expect_text("42[\"end\"]");
    }
}

#[test]
fn what_was_trimmed_before_it_was_read_is_counted() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Streams, quiet);
    let (mut client, _) = servers[0].connect();
    // Nobody reads while a script runs.
    let script = "for n = 1, 5 do redis.call('XADD', KEYS[1], '*', 'uid', 'x', 'nsp', '/', 'type', '3', 'data', ARGV[1]) end \
                  redis.call('XTRIM', KEYS[1], 'MAXLEN', 2)";
    let data = news(7);
    redis.command(&["EVAL", script, "1", &servers.key], data.as_bytes());
    for _ in 0..2 {
        client.expect_text("42[\"n\",7]");
    }
    redis.command(&["CLIENT", "KILL", "TYPE"], b"normal");
    let lost = || servers[0].io.metrics().counter(Counter::ClusterLost);
    // The connection that broke may have taken a heartbeat along.
    until(|| lost() >= 3);
    add(&redis, &servers.key, "3", news(8).as_bytes());
    client.expect_text("42[\"n\",8]");
    assert!(lost() <= 4);
}

#[test]
fn entries_that_cannot_be_read_are_counted_and_reach_nobody() {
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
    // What is kept for a while has a bound.
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
    let patient = |io: Builder| quiet(io.config(Config::default().outbox_bytes(64 << 20)));
    let servers = Servers::on_redis(RedisServer::shared(), 2, Wire::Streams, patient);
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

/// An event for a room, whose packet is this.
fn for_room(room: &str, packet: &str) -> String {
    format!(r#"{{"packet":{packet},"opts":{{"rooms":["{room}"],"except":[],"flags":{{}}}}}}"#)
}

#[test]
fn of_what_is_for_rooms_without_a_member_here_nothing_is_read_but_the_rooms() {
    let redis = RedisServer::start();
    let servers = Servers::on_redis(&redis, 1, Wire::Streams, quiet);
    let (mut client, id) = servers[0].connect();
    servers[0].io.in_(&*id).join("here");
    let key = &*servers.key;
    let metrics = servers[0].io.metrics();
    let packet = |n: usize| format!(r#"{{"type":2,"data":["n",{n}],"nsp":"/"}}"#);
    let (passed, malformed) = (Counter::ClusterPassed, Counter::ClusterMalformed);
    for round in 0..3 {
        // Had it been read, it would count as one that cannot be.
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
        // It is read on behind what was passed by as well, and none of that is missing.
        redis.command(&["CLIENT", "KILL", "TYPE"], b"normal");
    }
    // Each connection that broke may have taken a heartbeat along.
    assert!(metrics.counter(Counter::ClusterLost) <= 3);
    // Whoever asks is answered, and what is in a room with a member is read.
    let question = r#"{"opts":{"rooms":["elsewhere"],"except":[]},"requestId":1,"packet":1}"#;
    add(&redis, key, "3", question.as_bytes());
    until(|| metrics.counter(malformed) == 1);
    add(&redis, key, "3", for_room("here", "1").as_bytes());
    until(|| metrics.counter(malformed) == 2);
    // In a namespace without sockets everybody is nobody.
    drop(client);
    until(|| servers[0].io.of("/").count() == 0);
    add(&redis, key, "3", news(1).as_bytes());
    until(|| metrics.counter(passed) == 16);
}
