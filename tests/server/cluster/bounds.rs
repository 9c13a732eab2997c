//! An event that exceeds the adapter's size limit is refused by the sender and reaches no client.
//! An event just below the limit reaches all clients.

use std::fs;

use roomcast::{
    Args, Builder, Io, SocketId,
    adapter::{Adapter, AdapterError, nats::Nats, postgres::Postgres, redis::Redis},
    broadcast::Acks,
    errors::{EmitError, ServerSideError},
    metrics::Counter,
    options::Recovery,
};

use super::{Servers, Wire, postgres_url, quiet, scenarios::forwarding_notes};
use crate::{
    local::{Local, text, until},
    nats_server::NatsServer,
    redis_server::RedisServer,
    support::RawClient,
};

/// Size limit of all adapters here, in bytes.
const BOUND: usize = 20_000;
/// Tolerance for the digits of message numbers.
const DIGITS: usize = 16;

/// Connects a client and returns its socket id, whether the server keeps sessions or not.
fn connect(server: &Local) -> (RawClient, SocketId) {
    let mut client = server.open();
    client.send_text("40");
    let answer = text(&mut client);
    let id = answer.split('"').nth(3).and_then(SocketId::parse);
    (client, id.unwrap())
}

/// Expects an event with one text. With a journal, the event ends with its offset.
fn expect(client: &mut RawClient, event: &str, argument: &str) {
    let message = text(client);
    let expected = format!("42[\"{event}\",\"{argument}\"");
    let rest = message.strip_prefix(&expected);
    assert!(
        rest.is_some_and(|rest| rest.len() < 40),
        "{}",
        message.len()
    );
}

fn refuses_what_is_too_large<A: Adapter>(adapter: impl Fn(&str) -> A, is_journaled: bool) {
    let build = |io: Builder| match is_journaled {
        true => forwarding_notes(io.recovery(Recovery::default())),
        false => forwarding_notes(io),
    };
    let servers = Servers::serve_and_meet(2, adapter, build);
    let (mut near, near_id) = connect(&servers[0]);
    let (mut far, far_id) = connect(&servers[1]);
    let emit = |bytes: usize| servers[0].io.to("room").emit("n", "x".repeat(bytes)).error;
    // No socket is in the room yet. The search finds the limit without knowing what an adapter
    // adds.
    let (mut fits, mut refused) = (BOUND - 2_000, BOUND + 1);
    assert!(emit(fits).is_none());
    while refused - fits > 1 {
        let middle = usize::midpoint(fits, refused);
        match emit(middle) {
            None => fits = middle,
            Some(_) => refused = middle,
        }
    }
    // The events so far reach no client, even if they arrive late.
    servers.settle();
    for (i, id) in [(0, near_id), (1, far_id)] {
        servers[i].io.local().in_(id).join("room");
    }
    servers.settle();
    let unsent = || servers[0].io.metrics().counter(Counter::ClusterUnsent);
    let (below, above) = (fits - DIGITS, fits + DIGITS);

    assert!(emit(below).is_none());
    for client in [&mut near, &mut far] {
        expect(client, "n", &"x".repeat(below));
    }
    let before = unsent();
    assert!(matches!(emit(above), Some(EmitError::TooLarge)));
    assert_eq!(unsent(), before + 1);

    // A request to clients reaches none either, and reports the error.
    let to = servers[0].io.to("room");
    let asked: Acks<Args> = to.emit_with_acks("n", "x".repeat(BOUND + 1));
    assert!(matches!(asked.error(), Some(EmitError::TooLarge)));
    assert_eq!(asked.expected(), 0);

    let main = servers[0].io.of("/");
    main.server_side_emit("note", "x".repeat(BOUND - 2_000))
        .unwrap();
    expect(&mut far, "noted", &"x".repeat(BOUND - 2_000));
    let refused = main.server_side_emit("note", "x".repeat(BOUND + 1));
    assert!(matches!(
        refused,
        Err(ServerSideError::Adapter(AdapterError::TooLarge))
    ));

    // This server does not have the namespace, so it has no local clients there.
    let elsewhere = servers[0].io.of("/elsewhere");
    let error = elsewhere.emit("n", "x".repeat(BOUND + 1)).error;
    assert!(matches!(error, Some(EmitError::TooLarge)));

    // An event to one local socket needs no other server, except through a journal.
    let sockets = servers[0].io.sockets();
    let error = sockets[0].emit("own", "x".repeat(BOUND + 1)).error;
    assert_eq!(error.is_some(), is_journaled);
    if !is_journaled {
        expect(&mut near, "own", &"x".repeat(BOUND + 1));
    }

    // Refused events never arrive, and the adapter has not failed.
    servers[0].io.to("room").emit("end", "end");
    for client in [&mut near, &mut far] {
        expect(client, "end", "end");
    }
}

#[test]
fn redis_sends_up_to_its_limit_and_refuses_larger_events() {
    for wire in [
        Wire::Classic,
        Wire::Sharded,
        Wire::Private,
        Wire::Streams,
        Wire::Journal,
    ] {
        let url = RedisServer::shared().url();
        let redis = |key: &str| {
            let key = format!("{wire:?}{key}");
            let redis = Redis::new(&url).unwrap().key(&key).max_message(BOUND);
            wire.on(redis)
        };
        refuses_what_is_too_large(redis, wire == Wire::Journal);
    }
}

#[test]
fn postgresql_sends_up_to_its_limit_and_refuses_larger_events() {
    let url = postgres_url();
    let postgres = |key: &str| Postgres::new(&url).unwrap().key(key).max_message(BOUND);
    refuses_what_is_too_large(postgres, false);
}

#[test]
fn nats_sends_up_to_its_limit_and_refuses_larger_events() {
    let url = NatsServer::shared().url();
    refuses_what_is_too_large(
        |key| Nats::new(&url).unwrap().key(key).max_message(BOUND),
        false,
    );
    // The server announces its limit, so it needs no configuration here.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    fs::write(&config, format!("max_payload: {BOUND}")).unwrap();
    for js in ["-js", ""] {
        let nats = NatsServer::start_with(&format!("{js} -c {}", config.display()));
        refuses_what_is_too_large(|key| Nats::new(&nats.url()).unwrap().key(key), false);
    }
}

#[test]
fn oversized_event_before_nats_info_is_lost_and_counted() {
    let nats = NatsServer::start();
    nats.kill();
    let server = Local::serve(quiet(
        Io::builder().adapter(Nats::new(&nats.url()).unwrap()),
    ));
    let (mut client, _) = server.connect();
    assert!(server.io.emit("large", "x".repeat(2 << 20)).error.is_none());
    drop(client);
    nats.restart();
    until(|| server.io.metrics().counter(Counter::ClusterLost) == 1);
    (client, _) = server.connect();
    assert!(server.io.emit("large", "x".repeat(2 << 20)).error.is_some());
    server.io.emit("small", ());
    client.expect_text("42[\"small\"]");
}
