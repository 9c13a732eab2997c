//! Descriptions of sockets on other servers.

use std::{collections::BTreeSet, time::Duration};

use roomcast::{
    AckError, Builder, Config, Event, Room, SocketId, Value,
    broadcast::Fetched,
    metrics::{Counter, Gauge},
    types::Bytes,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Servers, quiet};
use crate::{
    local::{Local, join, text, until},
    support::{DEADLINE, RawClient},
};

fn fetch(server: &Local, room: &str) -> Fetched {
    let found = server.io.to(room).timeout(DEADLINE);
    server.runtime.block_on(found.fetch_sockets())
}

/// Data of a socket: more binary values than a JSON packet can have attachments, and an integer
/// that JavaScript cannot represent.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shown {
    name: String,
    number: u64,
    keys: Vec<Bytes>,
}

impl Shown {
    fn new() -> Self {
        Self {
            name: "Ann".into(),
            number: (1 << 63) + 1,
            keys: (0..12).map(key).collect(),
        }
    }
}

fn key(number: u8) -> Bytes {
    vec![number, 0, 255].into()
}

#[test]
fn sockets_are_known_with_their_rooms_handshake_data_and_server() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on_connect(async |event: Event| {
                event.socket.set_data(7_u8);
                event.socket.share(Shown::new()).unwrap();
                event.socket.join(["room", "other"])
            })
        });
        io
    };
    Servers::each(build, |servers| {
        let mut client = RawClient::connect(servers[1].address());
        client.send(
            "GET /socket.io/?EIO=4&transport=websocket&k=v HTTP/1.1\r\nHost: localhost\r\n\
             Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-A: 1\r\n\
             Cookie: secret=1\r\nAuthorization: Bearer secret\r\n\r\n",
        );
        assert_eq!(client.response().status, 101);
        client.message();
        let id = SocketId::parse(&join(&mut client, "")).unwrap();
        until(|| servers[1].io.to("other").count() == 1);

        let fetched = fetch(&servers[0], "room");
        assert!(fetched.missing.is_empty());
        let [socket] = fetched.sockets.as_slice() else {
            panic!("{fetched:?}");
        };
        assert_eq!(socket.id(), id);
        assert_eq!(socket.node(), &servers.node(1));
        let rooms: BTreeSet<&str> = socket.rooms().iter().map(Room::as_str).collect();
        assert_eq!(rooms, BTreeSet::from(["room", "other"]));
        assert_eq!(socket.handshake()["query"]["k"], "v");
        assert_eq!(socket.handshake()["headers"]["x-a"], "1");
        assert!(!socket.handshake().to_string().contains("secret"));
        assert_eq!(socket.data(), Some(Shown::new()));
        let own = fetch(&servers[1], "room");
        assert_eq!(own.sockets[0].data(), Some(Shown::new()));
        let shown: Value = socket.data().unwrap();
        let first = shown.get("keys").unwrap();
        assert!(matches!(first, Value::Array(keys) if keys[0] == Value::Binary(key(0))));
        assert_eq!(socket.data::<u8>(), None);
        assert_eq!(socket.data::<serde_json::Value>(), None);

        socket.emit("hi", 1);
        client.expect_text("42[\"hi\",1]");
        socket.leave("room");
        socket.join("third");
        servers.settle();
        let again = fetch(&servers[2], "third");
        assert_eq!(again.sockets.len(), 1);
        assert!(fetch(&servers[2], "room").sockets.is_empty());
        socket.close_connection();
        client.expect_text("41");
    });
}

#[test]
fn servers_that_do_not_answer_are_named() {
    let servers = Servers::joined(3, quiet);
    let clients: Vec<_> = (0..3).map(|i| servers[i].connect()).collect();
    servers.hub().isolate(&servers.node(2));
    let timeout = Duration::from_secs(10);
    let all = servers[0].io.timeout(timeout);
    let fetched = servers[0].runtime.block_on(all.fetch_sockets());
    assert_eq!(fetched.missing.nodes, [servers.node(2)]);
    let found: BTreeSet<_> = fetched
        .sockets
        .iter()
        .map(|socket| socket.id().to_string())
        .collect();
    let expected: BTreeSet<_> = clients[..2].iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(found, expected);
    let metrics = servers[0].io.metrics();
    assert_eq!(metrics.counter(Counter::ClusterRequestsTimedOut), 1);
    assert_eq!(metrics.gauge(Gauge::ClusterRequests), 0);
}

#[test]
fn long_list_is_joined_from_parts_in_any_order() {
    let servers = Servers::joined(2, quiet);
    let clients: Vec<_> = (0..250).map(|_| servers[1].connect()).collect();
    servers.hub().shuffle(11);
    servers.hub().duplicate();
    let fetched = servers[0].runtime.block_on(servers[0].io.fetch_sockets());
    assert!(fetched.missing.is_empty());
    let found: BTreeSet<_> = fetched.sockets.iter().map(|socket| socket.id()).collect();
    assert_eq!((found.len(), fetched.sockets.len()), (250, 250));
    drop(clients);
}

#[test]
fn requests_that_wait_are_limited() {
    let servers = Servers::joined(2, |io: Builder| {
        quiet(io.config(Config::default().max_pending_acks(1)))
    });
    servers.hub().hold();
    let io = &servers[0].io;
    let soon = io.timeout(Duration::from_millis(300));
    let (first, second) = servers[0]
        .runtime
        .block_on(async { tokio::join!(soon.fetch_sockets(), io.fetch_sockets()) });
    assert_eq!(first.missing.nodes.len(), 1);
    assert!(first.missing.error.is_none());
    assert!(second.missing.error.is_some());
    assert_eq!(io.metrics().counter(Counter::ClusterRequestsRefused), 1);
    servers.hub().release();
}

#[test]
fn description_of_a_socket_has_a_depth_limit() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on("share", async |event: Event, depth: usize| {
                let value = (0..depth).fold(json!(1), |inner, _| json!([inner]));
                let shared = event.socket.share(value);
                roomcast::Ack(shared.is_ok())
            })
        });
        io
    };
    let servers = Servers::joined(2, build);
    let (mut client, _) = servers[0].connect();
    for (depth, accepted) in [(100, true), (101, false), (1000, false)] {
        client.send_text(format!("421[\"share\",{depth}]"));
        assert_eq!(text(&mut client), format!("431[{accepted}]"));
    }
    let fetched = servers[1].runtime.block_on(servers[1].io.fetch_sockets());
    assert!(fetched.sockets[0].data::<serde_json::Value>().is_some());
}

#[test]
fn remote_socket_acknowledges_and_rooms_are_counted_on_all_servers() {
    let build = |mut io: Builder| {
        io = io.namespace("/", |namespace| {
            namespace.on_connect(async |event: Event| event.socket.join(["all", "room"]))
        });
        io
    };
    Servers::each(build, |servers| {
        let (mut near, _) = servers[0].connect();
        let (mut far, id) = servers[1].connect();
        let here = if servers.are_alone() { 2 } else { 1 };
        for server in [&servers[0], &servers[1]] {
            until(|| server.io.to("room").count() == here);
        }
        let id = SocketId::parse(&id).unwrap();
        let fetched = fetch(&servers[0], "room");
        assert!(fetched.missing.is_empty(), "{:?}", fetched.missing);
        let mut rooms = fetched.rooms();
        rooms.sort();
        assert_eq!(rooms, [(Room::from("all"), 2), (Room::from("room"), 2)]);
        let remote = fetched.sockets.iter().find(|socket| socket.id() == id);
        let remote = remote.unwrap().clone();
        let request = {
            let remote = remote.clone();
            servers[0]
                .runtime
                .spawn(async move { remote.emit_with_ack::<(u8, String)>("question", 1).await })
        };
        let question = text(&mut far);
        let ack = question.strip_prefix("42").unwrap();
        let number = ack.split('[').next().unwrap();
        far.send_text(format!("43{number}[7,\"x\"]"));
        let answer = servers[0].runtime.block_on(request).unwrap();
        assert_eq!(answer.unwrap(), (7, "x".to_owned()));
        far.send_text("41");
        until(|| servers[1].io.of("/").socket(id.clone()).is_none());
        let late = remote.emit_with_ack::<u8>("question", 1);
        let late = servers[0].runtime.block_on(late);
        assert!(matches!(late, Err(AckError::Disconnected)), "{late:?}");
        near.send_text("41");
    });
}
