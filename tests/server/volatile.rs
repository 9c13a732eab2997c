//! What may be lost, and what may not.

use roomcast::{Config, Io, SocketId, metrics::Counter};

use crate::local::{Local, text, until};

/// More than the kernel takes for a client that does not read.
const MANY: usize = 4000;

#[test]
fn a_client_that_does_not_read_loses_volatile_events_only() {
    let mut io = Io::builder();
    io.namespace("/");
    let server = Local::serve(io);
    let (mut client, id) = server.connect();
    let id = SocketId::parse(&id).unwrap();
    let payload = "x".repeat(10_000);
    let (mut queued, mut dropped) = (0, 0);
    for n in 0..MANY {
        let emitted = server.io.to(id).volatile().emit("v", (n, &payload));
        queued += emitted.queued;
        dropped += emitted.dropped;
    }
    assert_eq!(queued + dropped, MANY);
    assert!(dropped > 0);
    assert_eq!(server.io.to(id).emit("end", ()).queued, 1);
    let (mut got, mut last) = (0, None);
    loop {
        let message = text(&mut client);
        if message == "42[\"end\"]" {
            break;
        }
        let rest = message.strip_prefix("42[\"v\",").unwrap();
        let n: usize = rest.split_once(',').unwrap().0.parse().unwrap();
        assert!(last < Some(n), "in order");
        (got, last) = (got + 1, Some(n));
    }
    assert_eq!(got, queued);
}

#[test]
fn a_client_that_is_too_slow_for_what_must_arrive_is_closed() {
    let mut io = Io::builder().config(Config {
        outbox_bytes: 100_000,
        ..Config::default()
    });
    io.namespace("/");
    let server = Local::serve(io);
    let (mut client, id) = server.connect();
    let socket = server
        .io
        .of("/")
        .socket(SocketId::parse(&id).unwrap())
        .unwrap();
    let payload = "x".repeat(10_000);
    let overflowed = (0..MANY)
        .map(|_| socket.emit("r", &payload))
        .find(|emitted| emitted.queued == 0);
    assert_eq!(overflowed.unwrap().overflowed, 1);
    until(|| !socket.is_connected());
    assert_eq!(socket.disconnect_reason().unwrap().to_string(), "overflow");
    assert_eq!(server.io.metrics().counter(Counter::ClosedOverflow), 1);
    client.expect_close();
}

#[test]
fn a_client_that_was_slow_gets_the_newest_of_every_key() {
    let mut io = Io::builder();
    io.namespace("/");
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    let payload = "x".repeat(10_000);
    let many = MANY / 4;
    let last = many - 1;
    let mut queued = 0;
    for n in 0..many {
        for key in ["a", "b"] {
            let quote = server.io.local().conflate(key);
            queued += quote.emit("quote", (key, n, &payload)).queued;
        }
    }
    // Nothing is dropped: older ones have given way.
    assert_eq!(queued, 2 * many);
    let mut newest = [None, None];
    let mut got = 0;
    while newest != [Some(last), Some(last)] {
        let message = text(&mut client);
        let rest = message.strip_prefix("42[\"quote\",\"").unwrap();
        let mut parts = rest.split(',');
        let key = usize::from(parts.next().unwrap() == "b\"");
        let n = parts.next().unwrap().parse().unwrap();
        assert!(newest[key] < Some(n), "in order");
        newest[key] = Some(n);
        got += 1;
    }
    assert!(got < 2 * many, "{got}");
    server.io.emit("end", ());
    assert_eq!(text(&mut client), "42[\"end\"]");
}

#[test]
fn what_replaces_itself_is_limited_in_bytes_and_keys() {
    let mut io = Io::builder().config(Config {
        outbox_bytes: 100_000,
        ..Config::default()
    });
    io.namespace("/");
    let server = Local::serve(io);
    let polling = crate::support::Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    assert!(polling.poll().body.starts_with("40"));
    let emit = |key: usize, size: usize| {
        let quotes = server.io.local().conflate(&key.to_string());
        quotes.emit("q", (key, "x".repeat(size))).queued
    };
    let taken: usize = (0..20).map(|key| emit(key, 10_000)).sum();
    assert_eq!(taken, 9);
    assert_eq!(emit(3, 5), 1);
    assert_eq!(polling.poll().body.split('\x1e').count(), 9);
    let taken: usize = (0..300).map(|key| emit(key, 1)).sum();
    assert_eq!(taken, 256);
}
