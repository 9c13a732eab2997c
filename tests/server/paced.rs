//! Events that are sent at most once per key and interval.

use std::time::Duration;

use roomcast::{Builder, Event, Io, SocketId};

use crate::{
    local::{Local, text, until},
    support::Frame,
};

/// An interval that does not end during a test.
const HOUR: Duration = Duration::from_secs(3600);

fn builder() -> Builder {
    Io::builder().namespace("/", |namespace| namespace)
}

fn close(server: &Local) {
    let closed = server.io.close(Duration::from_secs(10));
    server.runtime.block_on(closed);
}

#[test]
fn paced_events_send_the_first_and_the_last() {
    let server = Local::serve(builder());
    let (mut client, _) = server.connect();
    let quotes = server
        .io
        .local()
        .conflate_every("ACME", Duration::from_millis(200));
    for round in 1..=3 {
        let (first, last) = (1000 * round, 1000 * round + 999);
        for price in first..=last {
            quotes.emit("quote", ("ACME", price));
        }
        let price = |message: String| -> u32 {
            let price = message.strip_prefix("42[\"quote\",\"ACME\",");
            price.unwrap().strip_suffix(']').unwrap().parse().unwrap()
        };
        let mut got = vec![price(text(&mut client))];
        while got.last() != Some(&last) {
            got.push(price(text(&mut client)));
        }
        assert!(got.is_sorted(), "{got:?}");
        assert!(got.len() < 999, "{got:?}");
        if round == 1 {
            assert_eq!(got[0], first);
        }
    }
    server.io.emit("end", ());
    assert_eq!(text(&mut client), "42[\"end\"]");
}

#[test]
fn pending_paced_events_are_sent_on_close() {
    let server = Local::serve(builder());
    let (mut client, _) = server.connect();
    for n in 1..=5 {
        let emitted = server.io.conflate_every("n", HOUR).emit("n", n);
        assert_eq!(emitted.queued, usize::from(n == 1));
    }
    assert_eq!(text(&mut client), "42[\"n\",1]");
    close(&server);
    assert_eq!(text(&mut client), "42[\"n\",5]");
    // No event is pending.
    assert_eq!(server.io.conflate_every("n", HOUR).emit("n", 6).closed, 0);
    while !matches!(client.message(), Frame::Close(_)) {}
}

#[test]
fn every_key_and_target_has_an_interval_of_its_own() {
    let server = Local::serve(builder());
    let (mut a, a_id) = server.connect();
    let (mut b, _) = server.connect();
    let io = &server.io;
    let own = SocketId::parse(&a_id).unwrap();
    io.in_(&own).join("a");
    let sender = io.of("/").socket(own.clone()).unwrap();
    for n in 1..=3 {
        io.conflate_every("x", HOUR).emit("all", n);
        io.conflate_every("y", HOUR).emit("other key", n);
        io.to("a").conflate_every("x", HOUR).emit("room", n);
        io.to(&own).conflate_every("x", HOUR).emit("own", n);
        io.except("a").conflate_every("x", HOUR).emit("except", n);
        sender
            .broadcast()
            .conflate_every("x", HOUR)
            .emit("sender", n);
        io.to(["a", "b"]).conflate_every("x", HOUR).emit("two", n);
        // The last setting applies.
        io.conflate_every("x", HOUR).conflate("x").emit("free", n);
        io.conflate_every("x", HOUR).volatile().emit("now", n);
        io.conflate_every("x", Duration::ZERO).emit("zero", n);
    }
    io.emit("end", ());
    let until_end = |client: &mut crate::support::RawClient| {
        let mut got = Vec::new();
        loop {
            match text(client).as_str() {
                "42[\"end\"]" => return got,
                // Volatile events may be dropped.
                volatile if volatile.contains("\"now\"") => {}
                event => got.push(event.to_owned()),
            }
        }
    };
    let once = |names: &[&str]| -> Vec<String> {
        let event = |name: &&str, n| format!("42[\"{name}\",{n}]");
        let mut all: Vec<_> = names.iter().map(|name| event(name, 1)).collect();
        for name in ["free", "zero"] {
            all.extend((1..=3).map(|n| event(&name, n)));
        }
        all.sort();
        all
    };
    let mut to_a = until_end(&mut a);
    to_a.sort();
    assert_eq!(to_a, once(&["all", "other key", "room", "own", "two"]));
    let mut to_b = until_end(&mut b);
    to_b.sort();
    assert_eq!(to_b, once(&["all", "other key", "except", "sender"]));
    close(&server);
    let mut rest: Vec<_> = (0..5).map(|_| text(&mut a)).collect();
    rest.sort();
    let third = ["all", "other key", "own", "room", "two"].map(|name| format!("42[\"{name}\",3]"));
    assert_eq!(rest, third);
}

#[test]
fn pending_paced_event_reaches_members_at_send_time() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("join", async |event: Event| event.socket.join("ticker"))
    });
    let server = Local::serve(io);
    let (mut early, _) = server.connect();
    early.send_text("42[\"join\"]");
    until(|| server.io.to("ticker").count() == 1);
    let quotes = server
        .io
        .to("ticker")
        .conflate_every("ACME", Duration::from_millis(500));
    quotes.emit("quote", 1);
    quotes.emit("quote", 2);
    let (mut late, _) = server.connect();
    late.send_text("42[\"join\"]");
    until(|| server.io.to("ticker").count() == 2);
    assert_eq!(text(&mut early), "42[\"quote\",1]");
    assert_eq!(text(&mut early), "42[\"quote\",2]");
    drop(early);
    quotes.emit("quote", 3);
    // The second event may have arrived before the join.
    while text(&mut late) != "42[\"quote\",3]" {}
}

#[test]
fn encode_error_of_a_paced_event_is_returned_to_the_caller() {
    let server = Local::serve(builder());
    let (mut client, _) = server.connect();
    let quotes = server.io.local().conflate_every("ACME", HOUR);
    let bad = std::collections::HashMap::from([((1, 2), 3)]);
    assert!(quotes.emit("quote", &bad).error.is_some());
    assert!(quotes.emit("quote", 1).error.is_none());
    assert!(quotes.emit("quote", &bad).error.is_some());
    close(&server);
    assert_eq!(text(&mut client), "42[\"quote\",1]");
}
