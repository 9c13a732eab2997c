//! Scenarios that hold with every adapter. The modules of the adapters run them on their servers.

use std::{
    thread,
    time::{Duration, Instant},
};

use roomcast::{
    Ack, Builder, Event, Io, Parser, SocketId,
    adapter::{Adapter, Emitter, Health},
    handler::ServerSide,
    metrics::Counter,
    types::Bytes,
};

use super::{Servers, quiet};
use crate::{
    contracts::Moved,
    local::{Local, join, text, until},
    support::Frame,
};

/// Events of the first of two [`quiet`] servers arrive in order, whatever their target and size.
pub(super) fn events_arrive_in_order(servers: &Servers) {
    let (mut client, id) = servers[1].connect();
    let id = SocketId::parse(&id).unwrap();
    let long = "x".repeat(220);
    servers[1].io.in_(&id).join(["room", &long]);
    servers.settle();
    let large = "x".repeat(9_000);
    let binary = Bytes::from_static(b"\x00\xff");
    let io = &servers[0].io;
    for n in 0..300 {
        let _ = match n % 6 {
            0 => io.to("room").emit("n", n),
            1 => io.emit("n", (n, &large)),
            2 => io.to(&id).emit("n", (n, binary.clone())),
            3 => io.to(&*long).emit("n", n),
            4 => io.emit("n", n),
            _ => io.to(["room", "other"]).emit("n", (n, &large)),
        };
    }
    for n in 0..300 {
        let event = text(&mut client);
        let head = if n % 6 == 2 { "451-" } else { "42" };
        let rest = event.strip_prefix(&format!("{head}[\"n\",{n}"));
        assert!(
            rest.is_some_and(|rest| rest.starts_with([',', ']'])),
            "{n}: {event:.30}"
        );
        if n % 6 == 2 {
            assert_eq!(client.message(), Frame::Binary(binary.to_vec()));
        }
    }
}

/// Adds a parser, and a handler that answers other servers with their bytes twice.
pub(super) fn doubling(parser: Parser) -> impl Fn(Builder) -> Builder {
    move |io| {
        io.parser(parser).namespace("/", |namespace| {
            namespace.on_server_side("double", async |event: ServerSide| {
                let data: Bytes = event.arg(0).unwrap();
                Ack(Bytes::from([&data[..], &data[..]].concat()))
            })
        })
    }
}

/// Binary goes from one of two [`doubling`] servers to the clients of the other, and back.
pub(super) fn binary_arrives(servers: &Servers, parser: Parser) {
    let data = Bytes::from_static(b"\x00\xff");
    let mut client = servers[1].open();
    if parser == Parser::Json {
        join(&mut client, "");
    } else {
        client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/");
        assert!(matches!(client.message(), Frame::Binary(_)));
    }
    servers[0].io.emit("data", (data.clone(), u64::MAX, 1.5));
    match client.message() {
        Frame::Text(head) => {
            let placeholder = "{\"_placeholder\":true,\"num\":0}";
            let expected = format!("451-[\"data\",{placeholder},{},1.5]", u64::MAX);
            assert_eq!(head, expected);
            assert_eq!(client.message(), Frame::Binary(data.to_vec()));
        }
        Frame::Binary(packet) => {
            assert!(packet.windows(4).any(|part| part == b"\xc4\x02\x00\xff"));
        }
        frame => panic!("{frame:?}"),
    }
    let main = servers[0].io.of("/");
    // The second answer is too long for a notification of PostgreSQL.
    for data in [data, vec![7; 20_000].into()] {
        let answers = main.server_side_emit_with_acks::<Bytes>("double", data.clone());
        let answers = servers[0].runtime.block_on(answers).unwrap();
        assert_eq!(answers, [[&data[..], &data[..]].concat()]);
    }
}

/// The first of two [`quiet`] servers sends its queue before it ends.
pub(super) fn queue_precedes_the_end(servers: &Servers) {
    let (mut client, _) = servers[1].connect();
    for n in 0..500 {
        servers[0].io.emit("n", n);
    }
    let close = servers[0].io.close(Duration::from_secs(10));
    servers[0].runtime.block_on(close);
    for n in 0..500 {
        client.expect_text(&format!("42[\"n\",{n}]"));
    }
}

/// Adds namespaces of these names, and the main namespace.
pub(super) fn with_namespaces(names: &[String]) -> impl Fn(Builder) -> Builder {
    move |io| {
        let named = |io: Builder, name: &String| {
            io.namespace(name, |namespace| namespace.on("x", async |_: Event| {}))
        };
        names.iter().fold(quiet(io), named)
    }
}

/// Each of these namespaces of two servers gets its own events, with binary, and no others.
pub(super) fn namespaces_are_apart(servers: &Servers, names: &[String]) {
    let enter = |name| {
        let mut client = servers[1].open();
        join(&mut client, &format!("{name},"));
        client
    };
    let clients: Vec<_> = names.iter().map(enter).collect();
    for name in names {
        let binary = Bytes::from_static(b"x");
        servers[0].io.of(name).emit("to", (name, binary));
    }
    for (mut client, name) in clients.into_iter().zip(names) {
        let shown = serde_json::to_string(name).unwrap();
        let placeholder = "{\"_placeholder\":true,\"num\":0}";
        client.expect_text(&format!("451-{name},[\"to\",{shown},{placeholder}]"));
        assert_eq!(client.message(), Frame::Binary(b"x".to_vec()));
        servers[1].io.of(name).emit("end", ());
        client.expect_text(&format!("42{name},[\"end\"]"));
    }
}

/// The last event of an emitter reaches a [`quiet`] server before the emitter ends.
pub(super) fn last_event_arrives(servers: &Servers, emitter: impl FnOnce() -> Emitter) {
    let (mut client, _) = servers[0].connect();
    servers[0].runtime.block_on(async {
        let emitter = emitter();
        emitter.emit("last", ()).unwrap();
        emitter.close().await.unwrap();
    });
    client.expect_text("42[\"last\"]");
}

/// Adds a handler that forwards the event `note` of other servers to clients.
pub(super) fn forwarding_notes(mut io: Builder) -> Builder {
    io = io.namespace("/", |namespace| {
        namespace.on_server_side("note", async |event: ServerSide| {
            let namespace = event.namespace();
            namespace.local().emit("noted", event.args().clone());
        })
    });
    io
}

/// A program that is no server does everything that it can to the clients of two
/// [`forwarding_notes`] servers.
pub(super) fn reaches_everything(servers: &Servers, emitter: impl FnOnce() -> Emitter) {
    let (mut a, a_id) = servers[0].connect();
    let (mut b, b_id) = servers[1].connect();
    let _runtime = servers[0].runtime.enter();
    let emitter = emitter();
    emitter.emit("all", (1, Bytes::from_static(b"x"))).unwrap();
    let large = "x".repeat(9_000);
    emitter.emit("large", &large).unwrap();
    for client in [&mut a, &mut b] {
        let placeholder = "{\"_placeholder\":true,\"num\":0}";
        client.expect_text(&format!("451-[\"all\",1,{placeholder}]"));
        assert_eq!(client.message(), Frame::Binary(b"x".to_vec()));
        client.expect_text(&format!("42[\"large\",\"{large}\"]"));
    }
    emitter.to([&a_id, &b_id]).join("room").unwrap();
    // The emitter does not wait for the join: the next event finds both sockets in the room.
    emitter.to(Vec::<String>::new()).emit("nobody", ()).unwrap();
    emitter.to("room").except(&a_id).emit("b", ()).unwrap();
    let both = emitter.to("room").without_compression();
    both.emit("both", ()).unwrap();
    a.expect_text("42[\"both\"]");
    b.expect_text("42[\"b\"]");
    b.expect_text("42[\"both\"]");
    emitter.send(Moved { x: 1 }).unwrap();
    emitter.to("room").send(Moved { x: 2 }).unwrap();
    for client in [&mut a, &mut b] {
        client.expect_text("42[\"moved\",{\"x\":1}]");
        client.expect_text("42[\"moved\",{\"x\":2}]");
    }
    emitter.of("/").server_side_emit("note", 7).unwrap();
    for client in [&mut a, &mut b] {
        client.expect_text("42[\"noted\",7]");
    }
    assert!(emitter.emit("disconnect", ()).is_err());
    assert_eq!(emitter.health(), Health::Ready);
    // The emitter is no server, so servers expect no answers from it.
    servers.settle();
    emitter.to(&a_id).leave("room").unwrap();
    emitter.to("room").close_connections().unwrap();
    assert_eq!(servers[0].runtime.block_on(emitter.close()), Ok(()));
    b.expect_text("41");
    servers[0].io.emit("end", ());
    a.expect_text("42[\"end\"]");
    assert!(emitter.emit("closed", ()).is_err());
}

/// Two servers work without their broker, and reach each other again when it is back. Each event
/// that one of them sends during the outage reaches the other once and in order, or is counted as
/// lost. If servers do not read the missed events later, both report the gap.
pub(super) fn survives_outage(
    servers: &Servers,
    catch_up: bool,
    fail: impl FnOnce(),
    restart: impl FnOnce(),
) {
    let gaps = |i: usize| servers[i].io.adapter_gaps().unwrap();
    assert_eq!([gaps(0).count, gaps(1).count], [0, 0]);
    let (mut a, _) = servers[0].connect();
    let (mut b, id) = servers[1].connect();
    servers[1]
        .io
        .in_(SocketId::parse(&id).unwrap())
        .join("room");
    servers.settle();
    let is_down = |i: usize| matches!(servers[i].io.adapter_health(), Some(Health::Down(_)));
    // Redis servers count each other once a second, and await as many answers as there were then.
    thread::sleep(Duration::from_secs(3));
    let lost = || servers[0].io.metrics().counter(Counter::ClusterLost);
    let before = lost();
    fail();
    // Sent first before either server can have noticed the outage, then after both have.
    let sent: u64 = 80;
    for n in 0..sent {
        if n == sent / 2 {
            until(|| is_down(0) && is_down(1));
        }
        servers[0].io.emit("alone", n);
        a.expect_text(&format!("42[\"alone\",{n}]"));
    }
    // Each server detects the gap once per heartbeat.
    until(|| catch_up || (gaps(0).is_isolated && gaps(1).is_isolated));
    restart();
    until(|| !is_down(0) && !is_down(1));
    for gaps in [gaps(0), gaps(1)] {
        assert_eq!(gaps.count > 0, !catch_up, "{gaps:?}");
        assert_eq!(gaps.time.is_zero(), catch_up, "{gaps:?}");
        assert!(!gaps.is_isolated);
    }
    // Servers report it to each other.
    let told = || {
        let nodes = servers[0].io.nodes();
        nodes.iter().all(|node| (node.load.gaps > 0) != catch_up)
    };
    until(|| servers[0].io.nodes().len() == 2 && told());
    servers.settle();
    servers[0].io.to("room").emit("back", ());
    let mut arrived: Vec<u64> = Vec::new();
    loop {
        let event = text(&mut b);
        if event == "42[\"back\"]" {
            break;
        }
        let number = event.strip_prefix("42[\"alone\",");
        let number = number.and_then(|rest| rest.strip_suffix(']'));
        arrived.push(number.unwrap_or_else(|| panic!("{event}")).parse().unwrap());
    }
    assert!(
        arrived.is_sorted_by(|one, next| one < next),
        "once and in order: {arrived:?}"
    );
    // Messages that arrived may also be counted as lost.
    let lost = lost() - before;
    assert!(
        arrived.len() as u64 + lost >= sent,
        "{} of {sent} have arrived, and {lost} are lost",
        arrived.len()
    );
}

/// Two servers cannot send an event and their heartbeats during an outage. Only the event counts as
/// lost.
pub(super) fn unsent_heartbeats_are_not_lost(
    servers: &Servers,
    fail: impl FnOnce(),
    restore: impl FnOnce(),
) {
    let lost = || [0, 1].map(|i: usize| servers[i].io.metrics().counter(Counter::ClusterLost));
    let is_down = |i: usize| matches!(servers[i].io.adapter_health(), Some(Health::Down(_)));
    let queued = |i: usize| servers[i].io.adapter_backlog().unwrap().messages;
    servers.settle();
    // The broker may not have confirmed the last answer, which would count as lost although it has
    // arrived. The second heartbeat after it is in a later batch.
    for _ in 0..2 {
        let since = Instant::now();
        let has_heard = |i: usize| {
            let nodes = servers[i].io.nodes();
            nodes
                .iter()
                .all(|node| node.is_this || node.heartbeat_age < since.elapsed())
        };
        until(|| has_heard(0) && has_heard(1));
    }
    assert_eq!(lost(), [0, 0]);
    fail();
    until(|| is_down(0) && is_down(1));
    until(|| queued(0) > 1 && queued(1) > 1);
    servers[0].io.emit("lost", ());
    // The outage lasts longer than messages wait.
    thread::sleep(Duration::from_secs(6));
    restore();
    until(|| !is_down(0) && !is_down(1));
    until(|| lost()[0] > 0);
    // The heartbeats were queued before the event.
    assert_eq!(lost(), [1, 0]);
    // Its next heartbeat reports the loss to the other server.
    let reported = || {
        let nodes = servers[1].io.nodes();
        nodes.iter().map(|node| node.load.lost).sum::<u64>()
    };
    until(|| reported() == lost()[0]);
}

/// A server without peers stops publishing when it knows this for sure, and publishes again from
/// another server's greeting on.
pub(super) fn publishes_only_to_others<A: Adapter>(adapter: impl Fn() -> A) {
    let serve = || Local::serve(quiet(Io::builder().adapter(adapter())));
    let first = serve();
    let (mut near, _) = first.connect();
    let published = || first.io.metrics().counter(Counter::ClusterSent);
    let mut sent = 0;
    let mut emit = || {
        let before = published();
        first.io.emit("n", sent);
        near.expect_text(&format!("42[\"n\",{sent}]"));
        sent += 1;
        published() > before
    };
    assert!(emit(), "others may be there for all it knows");
    let note = || {
        let before = published();
        first.io.of("/").server_side_emit("note", 1).unwrap();
        published() > before
    };
    // A server that stalls is unsure until it resumes, so all three calls are checked together.
    let has_no_peers = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(20)); // The pace of asking.
        !emit() && !emit() && !note()
    });
    assert!(
        has_no_peers,
        "nobody would hear what servers tell each other"
    );
    // Requests that need answers are published nevertheless.
    let before = published();
    let all = first.runtime.block_on(first.io.fetch_sockets());
    assert!(all.missing.is_empty() && published() > before);
    let second = serve();
    let (mut far, _) = second.connect();
    until(|| second.io.adapter_health() == Some(Health::Ready));
    second.runtime.block_on(second.io.rooms_followed());
    until(|| first.io.nodes().len() == 2);
    for n in 0..100 {
        first.io.emit("far", n);
        far.expect_text(&format!("42[\"far\",{n}]"));
    }
    drop(second);
    let before = published();
    first.io.emit("gone", ());
    assert!(published() > before, "another one may come in its place");
}

/// Returns why the adapter is down, or an empty text.
pub(super) fn reason(io: &Io) -> String {
    match io.adapter_health() {
        Some(Health::Down(why)) => why,
        _ => String::new(),
    }
}
