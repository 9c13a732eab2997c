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
