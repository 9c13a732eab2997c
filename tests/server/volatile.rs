//! Events that may be lost, and events that must not.

use roomcast::{
    Ack, Config, Event, Io, SocketId,
    errors::DrainError,
    metrics::{Counter, Gauge},
    options::Recovery,
};
use serde_json::{Value, json};

use crate::{
    local::{Local, text, until},
    support::Polling,
};

/// More than the kernel buffers for a client that does not read.
const MANY: usize = 4000;

#[test]
fn client_that_does_not_read_loses_only_volatile_events() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, id) = server.connect();
    let id = SocketId::parse(&id).unwrap();
    let payload = "x".repeat(10_000);
    let (mut queued, mut dropped) = (0, 0);
    for n in 0..MANY {
        let emitted = server.io.to(&id).volatile().emit("v", (n, &payload));
        queued += emitted.queued;
        dropped += emitted.dropped;
    }
    assert_eq!(queued + dropped, MANY);
    assert!(queued > 0 && dropped > 0);
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
fn volatile_event_is_dropped_while_earlier_data_is_unsent() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("first", async |event: Event| {
                // The server may not know yet that what the client received was sent.
                event.socket.drained().await?;
                let volatile = event.socket.volatile();
                // Nothing is sent before the handler yields.
                let sent = [1, 2, 3].map(|n| volatile.emit("v", n).queued);
                Ok::<_, DrainError>(Ack(sent))
            })
            .on("behind", async |event: Event| {
                event.socket.emit("r", 1);
                let dropped = event.socket.volatile().emit("v", 2).dropped;
                let all = event.io().volatile().emit("v", 3).dropped;
                Ack((dropped, all))
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"first\"]");
    client.expect_text("42[\"v\",1]");
    client.expect_text("431[1,0,0]");
    client.send_text("422[\"behind\"]");
    client.expect_text("42[\"r\",1]");
    client.expect_text("432[1,1]");
    assert_eq!(server.io.metrics().counter(Counter::VolatileDropped), 4);
}

#[test]
fn a_volatile_event_is_dropped_between_two_polls() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    assert!(polling.poll().body.starts_with("40"));
    let emit = |n: u32| server.io.local().volatile().emit("v", n);
    for n in 0..3 {
        assert_eq!((emit(n).queued, emit(n).dropped), (0, 1));
    }
    let mut poll = polling.start_poll();
    until(|| emit(3).queued == 1);
    // The poll is answered with one event, whatever is sent before the next poll.
    assert_eq!(poll.response().body, "42[\"v\",3]");
    for n in 4..6 {
        assert_eq!((emit(n).queued, emit(n).dropped), (0, 1));
    }
    server.io.emit("r", ());
    assert_eq!(emit(6).dropped, 1);
    assert_eq!(polling.poll().body, "42[\"r\"]");
}

#[test]
fn volatile_event_is_not_stored_for_recovery() {
    let io = Io::builder()
        .recovery(Recovery::default())
        .namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let mut client = server.open();
    client.send_text("40");
    let answer = text(&mut client);
    let answer: Value = serde_json::from_str(answer.strip_prefix("40").unwrap()).unwrap();
    let id = SocketId::parse(answer["sid"].as_str().unwrap()).unwrap();
    let socket = server.io.of("/").socket(id.clone()).unwrap();
    socket.emit("first", ());
    let first = text(&mut client);
    let first: Value = serde_json::from_str(first.strip_prefix("42").unwrap()).unwrap();
    drop(client);
    until(|| server.io.metrics().gauge(Gauge::RecoverySessions) == 1);
    let emitted = socket.volatile().emit("v", 1);
    assert_eq!((emitted.queued, emitted.overflowed), (0, 0));
    server.io.to(&id).volatile().emit("v", 2);
    server.io.volatile().emit("v", 3);
    server.io.to(&id).emit("kept", ());
    // The client reconnects, and receives what it missed before the answer.
    let mut client = server.open();
    client.send_text(format!(
        "40{}",
        json!({"pid": answer["pid"], "offset": first[1]})
    ));
    let missed = text(&mut client);
    assert!(missed.starts_with("42[\"kept\","), "{missed}");
    let again = text(&mut client);
    assert!(
        again.starts_with(&format!("40{{\"sid\":\"{id}\"")),
        "{again}"
    );
    server.io.emit("end", ());
    let end = text(&mut client);
    assert!(end.starts_with("42[\"end\","), "{end}");
}

#[test]
fn client_too_slow_for_reliable_events_is_closed() {
    let io = Io::builder()
        .config(Config::default().outbox_bytes(100_000))
        .namespace("/", |namespace| namespace);
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
fn formerly_slow_client_gets_the_newest_event_of_every_key() {
    let io = Io::builder().namespace("/", |namespace| namespace);
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
    // No event is refused: older events are dropped.
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
fn conflated_events_are_limited_in_bytes_and_keys() {
    let io = Io::builder()
        .config(Config::default().outbox_bytes(100_000))
        .namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let polling = Polling::open(server.address(), "/socket.io/");
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

#[test]
fn queued_event_is_replaced_only_by_a_newer_one_of_its_key() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    assert!(polling.poll().body.starts_with("40"));
    let emit = |key: &str, n: u32| {
        let state = server.io.local().replace_queued(key);
        assert_eq!(state.emit("state", (key, n)).queued, 1);
    };
    emit("a", 1);
    emit("b", 2);
    server.io.emit("plain", ());
    emit("a", 3);
    // Another mode of the same key replaces nothing.
    let other = server.io.local().replace_queued("b").conflate("b");
    other.emit("state", ("b", 4));
    server
        .io
        .local()
        .replace_queued("b")
        .volatile()
        .emit("lost", ());
    assert_eq!(
        polling.poll().body,
        "42[\"state\",\"b\",2]\u{1e}42[\"plain\"]\u{1e}42[\"state\",\"a\",3]\u{1e}42[\"state\",\"b\",4]"
    );
    assert_eq!(server.io.metrics().counter(Counter::FramesConflated), 1);
}
