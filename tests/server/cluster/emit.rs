//! Events to the clients of all servers, and rooms across servers.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use roomcast::{
    Builder, Event, Io, Lifecycle, Parser, Room, SocketId, adapter::Health, metrics::Counter,
    options::Recovery, types::Bytes,
};
use serde::{Serialize, Serializer};

use super::{Servers, Wire, hub::Hub, quiet};
use crate::{
    local::{join, text, until},
    redis_server::RedisServer,
    support::{Frame, Polling, RawClient},
};

fn id(text: &str) -> SocketId {
    SocketId::parse(text).unwrap()
}

/// Connects three clients, to three servers if there are as many.
fn three(servers: &Servers) -> [(RawClient, SocketId); 3] {
    [0, 1, 2].map(|i| {
        let (client, sid) = servers[i].connect();
        (client, id(&sid))
    })
}

#[test]
fn room_event_reaches_members_on_all_servers_once() {
    Servers::each(quiet, |servers| {
        let [(mut a, a_id), (mut b, b_id), (mut c, _)] = three(servers);
        servers[1]
            .io
            .in_([a_id.clone(), b_id.clone()])
            .join(["x", "y"]);
        servers.settle();
        let io = &servers[2].io;
        io.to(["x", "y"]).emit("both", (1, "é"));
        io.to("x").except(b_id).emit("a", ());
        io.to("x").except("y").emit("nobody", ());
        io.except("x").emit("c", ());
        io.to(a_id).emit("own", ());
        io.to(Vec::<Room>::new()).emit("nobody", ());
        io.emit("all", ());
        for (client, events) in [
            (
                &mut a,
                &[
                    "42[\"both\",1,\"é\"]",
                    "42[\"a\"]",
                    "42[\"own\"]",
                    "42[\"all\"]",
                ][..],
            ),
            (&mut b, &["42[\"both\",1,\"é\"]", "42[\"all\"]"]),
            (&mut c, &["42[\"c\"]", "42[\"all\"]"]),
        ] {
            for event in events {
                client.expect_text(event);
            }
        }
    });
}

#[test]
fn a_socket_is_not_in_its_own_audience_on_any_server() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on("shout", async |event: Event, text: String| {
                event.socket.broadcast().emit("heard", text);
            })
        });
        io
    };
    Servers::each(build, |servers| {
        let [(mut a, _), (mut b, _), (mut c, _)] = three(servers);
        a.send_text("42[\"shout\",\"hi\"]");
        b.expect_text("42[\"heard\",\"hi\"]");
        c.expect_text("42[\"heard\",\"hi\"]");
        servers.settle();
        servers[1].io.emit("end", ());
        a.expect_text("42[\"end\"]");
    });
}

#[test]
fn rooms_are_joined_left_and_disconnected_from_any_server() {
    Servers::each(quiet, |servers| {
        let [(mut a, a_id), (mut b, b_id), (mut c, c_id)] = three(servers);
        servers[1]
            .io
            .in_([a_id.clone(), b_id.clone(), c_id.clone()])
            .join("x");
        // Concurrent operations of two servers have no order.
        servers.settle();
        servers[2].io.in_("x").except(c_id).leave("x");
        servers.settle();
        let members = |room: &str| (0..3).map(|i| servers[i].io.to(room).count()).max();
        assert_eq!(members("x"), Some(1));
        servers[0].io.to("x").emit("x", ());
        c.expect_text("42[\"x\"]");

        servers[1].io.in_(a_id).disconnect();
        a.expect_text("41");
        servers[0].io.in_("x").close_connections();
        c.expect_text("41");
        c.expect_close();
        join(&mut a, "");
        servers.settle();
        servers[2].io.in_(b_id).emit("still", ());
        b.expect_text("42[\"still\"]");
    });
}

/// An argument that counts how often it is serialized.
struct Costly<'a>(&'a AtomicUsize);

impl Serialize for Costly<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        serializer.serialize_str("costly")
    }
}

#[test]
fn event_is_encoded_once_for_all_servers_and_rooms() {
    let packed = |io: Builder| quiet(io.parser(Parser::MessagePack));
    let suite = |servers: &Servers| {
        let is_json = servers[0].io.config().sockets.parser == Parser::Json;
        // Two clients on each server.
        let clients = [0, 1, 2, 3, 4, 5].map(|i| {
            if is_json {
                return servers[i].connect().0;
            }
            let mut client = servers[i].open();
            client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/");
            assert!(matches!(client.message(), Frame::Binary(_)));
            client
        });
        servers[0].io.join(["a", "b", "c"]);
        servers.settle();
        let io = &servers[0].io;
        let count = AtomicUsize::new(0);
        let costly = || Costly(&count);
        io.to(["a", "b", "c"]).emit("rooms", costly());
        io.emit("all", costly());
        io.except("nobody").emit("but", costly());
        io.to("a").conflate("key").emit("newest", costly());
        // A volatile event may be lost, so the clients do not wait for it.
        io.to("a").volatile().emit("volatile", costly());
        for mut client in clients {
            for name in ["rooms", "all", "but", "newest"] {
                match client.message() {
                    // With a journal, the event ends with its offset.
                    Frame::Text(text) => {
                        let event = format!("42[\"{name}\",\"costly\"");
                        assert!(text.starts_with(&event), "{text}");
                    }
                    Frame::Binary(packet) => {
                        let has = |part: &str| {
                            packet
                                .windows(part.len())
                                .any(|bytes| bytes == part.as_bytes())
                        };
                        assert!(has(name) && has("costly"));
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // All clients receive the same request.
        drop(
            io.to("a")
                .local()
                .emit_with_local_acks::<()>("asked", costly()),
        );
        let question = io.to("a").timeout(Duration::from_millis(1));
        drop(question.emit_with_acks::<()>("asked", costly()));
        // No local client is in that namespace, so the event is published only if peers exist.
        io.of("/elsewhere").emit("there", costly());
        let emitted = if servers.are_alone() { 7 } else { 8 };
        assert_eq!(count.load(Ordering::Relaxed), emitted);
    };
    Servers::each_at_once(quiet, suite);
    Servers::each_at_once(packed, suite);
    let journal = Servers::on_redis(RedisServer::shared(), 3, Wire::Journal, |io| {
        quiet(io.recovery(Recovery::default()))
    });
    suite(&journal);
}

#[test]
fn attachments_and_both_parsers_go_from_server_to_server() {
    let packed = |io: Builder| quiet(io.parser(Parser::MessagePack));
    for build in [quiet, packed] {
        let servers = Servers::joined(2, build);
        let mut client = servers[0].open();
        let is_json = servers[0].io.config().sockets.parser == Parser::Json;
        if is_json {
            join(&mut client, "");
        } else {
            client.send_binary(b"\x82\xa4type\x00\xa3nsp\xa1/");
            assert!(matches!(client.message(), Frame::Binary(_)));
        }
        let args = (Bytes::from_static(b"\x00\xff"), 7);
        for i in [1, 0] {
            servers[i].io.emit("b", &args);
            if is_json {
                client.expect_text("451-[\"b\",{\"_placeholder\":true,\"num\":0},7]");
                assert_eq!(client.message(), Frame::Binary(b"\x00\xff".to_vec()));
            } else {
                let packet = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa1b\xc4\x02\x00\xff\x07";
                assert_eq!(client.message(), Frame::Binary(packet.to_vec()));
            }
        }
    }
}

#[test]
fn local_events_stay_on_their_server() {
    let servers = Servers::joined(2, quiet);
    let (mut here, _) = servers[0].connect();
    let (mut there, _) = servers[1].connect();
    let delivered = servers.hub().delivered();
    let local = || servers[0].io.local();
    assert_eq!(local().emit("here", ()).queued, 1);
    local().join("x");
    let request = servers[0]
        .io
        .to("x")
        .emit_with_local_acks::<u8>("ready?", ());
    assert_eq!(request.expected(), 1);
    let fetched = servers[0].runtime.block_on(local().fetch_sockets());
    assert_eq!(fetched.sockets.len(), 1);
    assert_eq!(servers.hub().delivered(), delivered);
    servers[0].io.emit("all", ());
    here.expect_text("42[\"here\"]");
    here.expect_text("420[\"ready?\"]");
    here.expect_text("42[\"all\"]");
    there.expect_text("42[\"all\"]");
}

#[test]
fn namespace_missing_on_the_sender_is_reached_on_peers() {
    let hub = Hub::new();
    let here = Servers::joined_by(hub.clone(), 1, quiet);
    let there = Servers::joined_by(hub, 1, |mut io: Builder| {
        io = io
            .namespace("/chat", |namespace| namespace)
            .namespaces(|name| name.starts_with("/tenant-"), |namespace| namespace);
        io
    });
    let mut client = there[0].open();
    let chat = join(&mut client, "/chat,");
    join(&mut client, "/tenant-7,");
    let io = &here[0].io;
    assert_eq!(io.of("/chat").emit("hi", ()).queued, 0);
    client.expect_text("42/chat,[\"hi\"]");
    io.of("/tenant-7").emit("hi", 1);
    client.expect_text("42/tenant-7,[\"hi\",1]");
    io.of("/chat").in_(id(&chat)).join("x");
    here.settle();
    assert_eq!(there[0].io.of("/chat").to("x").count(), 1);
    let fetched = here[0].runtime.block_on(io.of("/chat").fetch_sockets());
    assert_eq!(fetched.sockets.len(), 1);
    assert!(fetched.missing.is_empty());
    assert_eq!(fetched.sockets[0].node(), there[0].io.node().unwrap());
    let nowhere = here[0].runtime.block_on(io.of("/none").fetch_sockets());
    assert!(nowhere.sockets.is_empty() && nowhere.missing.is_empty());
}

#[test]
fn duplicate_and_reordered_envelopes_are_applied_once() {
    let servers = Servers::joined(2, quiet);
    let hub = servers.hub();
    let (mut client, _) = servers[0].connect();
    hub.hold();
    for n in 0..50 {
        servers[1].io.emit("n", n);
    }
    hub.duplicate();
    hub.shuffle(7);
    hub.release();
    servers.settle();
    let mut got: Vec<u32> = (0..50)
        .map(|_| {
            let event = text(&mut client);
            let number = event.strip_prefix("42[\"n\",").unwrap();
            number.strip_suffix(']').unwrap().parse().unwrap()
        })
        .collect();
    assert!(!got.is_sorted(), "another order");
    got.sort_unstable();
    assert_eq!(got, (0..50).collect::<Vec<_>>());
    servers[0].io.local().emit("end", ());
    client.expect_text("42[\"end\"]");
    let metrics = servers[0].io.metrics();
    assert_eq!(metrics.counter(Counter::ClusterReceived), 50);
    // The last repetition is counted after the last new event was written.
    until(|| metrics.counter(Counter::ClusterRepeated) == 50);
}

#[test]
fn only_lost_envelopes_are_missing() {
    let servers = Servers::joined(2, quiet);
    let (mut client, _) = servers[0].connect();
    let emit = |n: u32| servers[1].io.emit("n", n);
    emit(1);
    servers.settle();
    servers.hub().lose(2);
    for n in 2..=5 {
        emit(n);
    }
    for n in [1, 4, 5] {
        client.expect_text(&format!("42[\"n\",{n}]"));
    }
}

#[test]
fn conflated_event_replaces_pending_ones_of_all_servers() {
    let servers = Servers::joined(2, quiet);
    let client = Polling::open(servers[0].address(), "/socket.io/");
    assert_eq!(client.post("40").parts(), (200, "ok"));
    assert_eq!(client.poll().status, 200);
    for (i, price) in [(0, 1), (1, 2), (0, 3), (1, 4)] {
        servers[i].io.conflate("price").emit("price", price);
        servers[i].io.drop_oldest("trades", 2).emit("trade", price);
        servers.settle();
    }
    let body = client.poll().body;
    assert_eq!(
        body,
        "42[\"price\",4]\u{1e}42[\"trade\",3]\u{1e}42[\"trade\",4]"
    );
}

#[test]
fn event_that_replaces_queued_ones_stays_at_its_server() {
    let servers = Servers::joined(2, quiet);
    let client = Polling::open(servers[0].address(), "/socket.io/");
    assert_eq!(client.post("40").parts(), (200, "ok"));
    assert_eq!(client.poll().status, 200);
    for (i, state) in [(0, 1), (0, 2), (1, 3)] {
        servers[i]
            .io
            .to("a")
            .replace_queued("state")
            .emit("none", state);
        servers[i]
            .io
            .except("a")
            .replace_queued("state")
            .emit("state", state);
        servers.settle();
    }
    assert_eq!(client.poll().body, "42[\"state\",2]");
}

#[test]
fn conflated_events_publish_only_the_newest_to_all_servers() {
    let servers = Servers::joined(2, quiet);
    let [(mut here, _), (mut there, _)] = [0, 1].map(|i| servers[i].connect());
    servers.settle();
    let io = &servers[0].io;
    let delivered = servers.hub().delivered();
    for price in 1..=9 {
        let hour = Duration::from_secs(3600);
        io.conflate_every("price", hour).emit("price", price);
    }
    for client in [&mut here, &mut there] {
        client.expect_text("42[\"price\",1]");
    }
    assert_eq!(servers.hub().delivered() - delivered, 1);
    let closed = io.close(Duration::from_secs(5));
    servers[0].runtime.block_on(closed);
    for client in [&mut here, &mut there] {
        client.expect_text("42[\"price\",9]");
    }
}

#[test]
fn without_a_runtime_every_paced_event_is_sent_immediately() {
    let servers = Servers::joined(1, quiet);
    let (mut client, _) = servers[0].connect();
    // A server that never serves has no runtime to send anything later.
    let adapter = servers.hub().adapter();
    let io = quiet(Io::builder().adapter(adapter)).build().unwrap();
    let hour = Duration::from_secs(3600);
    for n in 1..=3 {
        let emitted = io.conflate_every("n", hour).emit("n", n);
        assert!(emitted.error.is_none());
        client.expect_text(&format!("42[\"n\",{n}]"));
    }
}

#[test]
fn adapter_is_notified_when_rooms_open_and_close() {
    let hub = Hub::following_rooms();
    let servers = Servers::joined_by(hub, 3, quiet);
    let [(mut a, a_id), (mut b, b_id), (c, c_id)] = three(&servers);
    servers[0]
        .io
        .in_([a_id.clone(), b_id.clone()])
        .join(["x", "y"]);
    servers[0].io.in_(c_id).join("z");
    servers.settle();
    let delivered = servers.hub().delivered();
    servers[2].io.to("x").emit("x", ());
    servers[2].io.to("z").emit("z", ());
    a.expect_text("42[\"x\"]");
    b.expect_text("42[\"x\"]");
    assert_eq!(
        servers.hub().delivered() - delivered,
        2,
        "nobody needs the rest"
    );

    servers[2].io.in_(a_id).leave("x");
    drop(c);
    until(|| servers[2].io.of("/").count() == 0);
    servers.settle();
    let delivered = servers.hub().delivered();
    servers[2].io.to("x").emit("x", 2);
    servers[0].io.to("z").emit("z", ());
    b.expect_text("42[\"x\",2]");
    servers.settle();
    assert_eq!(servers.hub().delivered() - delivered, 1);
    a.send_text("41");
    until(|| servers[0].io.of("/").count() == 0);
    servers[1].io.in_(b_id).leave(["x", "y"]);
    let delivered = servers.hub().delivered();
    servers[2].io.to("y").emit("y", ());
    assert_eq!(servers.hub().delivered(), delivered);
}

#[test]
fn unsent_events_are_counted_and_reach_local_clients() {
    let servers = Servers::joined(2, quiet);
    let (mut client, _) = servers[0].connect();
    assert_eq!(servers[0].io.adapter_health(), Some(Health::Ready));
    assert_eq!(Servers::alone(quiet)[0].io.adapter_health(), None);
    servers.hub().send_leave(&servers.node(0));
    assert_eq!(servers[0].io.emit("hi", ()).queued, 1);
    client.expect_text("42[\"hi\"]");
    assert!(matches!(
        servers[0].io.adapter_health(),
        Some(Health::Down(_))
    ));
    let metrics = servers[0].io.metrics();
    assert_eq!(metrics.counter(Counter::ClusterUnsent), 1);
    assert_eq!(metrics.counter(Counter::ClusterSent), 0);
}

#[test]
fn a_server_that_closes_leaves_the_cluster() {
    let servers = Servers::joined(2, quiet);
    let closed = servers[1].io.close(Duration::from_secs(5));
    servers[1].runtime.block_on(closed);
    let fetched = servers[0].runtime.block_on(servers[0].io.fetch_sockets());
    assert!(fetched.missing.is_empty());
}

#[test]
fn room_watchers_see_changes_of_other_servers() {
    use std::sync::{Arc, Mutex};
    let seen = Arc::new(Mutex::new(Vec::new()));
    let rooms = Arc::clone(&seen);
    let servers = Servers::joined(2, move |mut io: Builder| {
        io = io.namespace("/", |namespace| namespace);
        let rooms = Arc::clone(&rooms);
        io = io.on_event(move |event: &Lifecycle<'_>| {
            if let Lifecycle::RoomJoined { room, .. } | Lifecycle::RoomLeft { room, .. } = event {
                rooms.lock().unwrap().push(room.as_str().to_owned());
            }
        });
        io
    });
    let (_client, sid) = servers[0].connect();
    servers[1].io.in_(id(&sid)).join("x");
    servers[1].io.in_("x").leave("x");
    servers.settle();
    assert_eq!(*seen.lock().unwrap(), ["x", "x"]);
}

#[test]
fn server_that_is_not_built_reaches_no_client() {
    let hub = Hub::new();
    let servers = Servers::joined_by(hub.clone(), 1, quiet);
    let (mut client, _) = servers[0].connect();
    let builder = Io::builder()
        .adapter(hub.adapter())
        .namespace("/", |namespace| namespace);
    let early = builder.handle();
    early.emit("early", ());
    let io = builder.build().unwrap();
    io.emit("built", ());
    client.expect_text("42[\"built\"]");
}
