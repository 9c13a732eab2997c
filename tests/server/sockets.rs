//! Queries of the application about its sockets, and bulk operations on them.

use std::{
    sync::Mutex,
    time::{Duration, SystemTime},
};

use roomcast::{
    AckError, Args, Contract, Event, Io, Room, SocketId,
    options::Transport,
    testing::{Client, TestServer, serve},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

struct Name(Mutex<String>);

async fn server() -> TestServer {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on_connect(async |event: Event, auth: Option<Value>| {
                let name = auth.and_then(|auth| auth["name"].as_str().map(str::to_owned));
                event
                    .socket
                    .set_data(Name(Mutex::new(name.unwrap_or_default())));
            })
            .on("rename", async |event: Event, name: String| {
                let stored = event.socket.data::<Name>();
                *stored.expect("it was set at connect").0.lock().unwrap() = name;
            })
            .on_contract(async |event: Event, moved: Moved| {
                event.socket.broadcast().send(&moved);
                event.socket.send(Moved { x: -moved.x });
            })
    });
    serve(io).await
}

async fn client(server: &TestServer, name: &str) -> Client {
    let client = server.client().auth(json!({"name": name}));
    client.connect().await.unwrap()
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Moved {
    x: i32,
}

impl Contract for Moved {
    const EVENT: &'static str = "moved";
}

impl Contract for &Moved {
    const EVENT: &'static str = Moved::EVENT;
}

#[tokio::test]
async fn sockets_are_found_with_their_details() {
    let begun = SystemTime::now();
    let server = server().await;
    let (mut ann, bob) = (client(&server, "ann").await, client(&server, "bob").await);
    let io = server.io();
    io.to(ann.id()).join(["a", "b"]);
    io.to([ann.id(), bob.id()]).join("all");
    ann.emit_with_ack::<Args>("rename", "anna").await.unwrap();

    let all = io.sockets();
    assert_eq!(all.len(), 2);
    assert_eq!(io.in_("all").except("b").sockets()[0].id(), bob.id());
    let found = io.in_("a").sockets().remove(0);
    assert_eq!(found.id(), ann.id());
    let mut rooms = found.rooms();
    rooms.sort();
    assert_eq!(rooms, ["a", "all", "b"].map(Room::from));
    let name = found.data::<Name>().unwrap().0.lock().unwrap().clone();
    assert_eq!(name, "anna");
    assert_eq!(found.auth::<Value>().unwrap(), json!({"name": "ann"}));
    let handshake = found.handshake();
    assert!(
        handshake
            .url()
            .starts_with("/socket.io/?EIO=4&transport=websocket")
    );
    assert_eq!(
        handshake.header("host"),
        Some(server.address().to_string().as_str())
    );
    assert!(handshake.address().ip().is_loopback());
    assert!(!handshake.is_cross_origin() && !handshake.is_secure());
    assert!((begun..=SystemTime::now()).contains(&handshake.time()));
    assert_eq!(found.conn().transport(), Transport::WebSocket);

    // A request to one of several sockets is answered with one value.
    let asking = found
        .timeout(Duration::from_secs(20))
        .emit_with_ack::<String>("who?", ());
    let question = ann.next().await.unwrap();
    ann.ack(&question, "ann").await.unwrap();
    assert_eq!(asking.await.unwrap(), "ann");
    let late = found
        .timeout(Duration::from_millis(20))
        .emit_with_ack::<String>("who?", ());
    assert!(matches!(late.await, Err(AckError::Timeout)));
}

#[tokio::test]
async fn broadcast_flags_chain_in_any_order_without_side_effects() {
    let server = server().await;
    let (mut ann, mut bob) = (client(&server, "ann").await, client(&server, "bob").await);
    let io = server.io();
    io.to(ann.id()).join("a");
    io.to(bob.id()).join(["b", "muted"]);
    let both = io.to("a").in_("b");
    assert_eq!(
        both.clone().except("muted").local().emit("one", ()).queued,
        1
    );
    assert_eq!(both.clone().without_compression().emit("two", ()).queued, 2);
    assert_eq!(io.local().emit("three", ()).queued, 2);
    let four = io.of("/").except("a").volatile();
    while four.clone().emit("four", ()).queued == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(both.except(["a", "muted"]).emit("none", ()).queued, 0);
    io.emit("end", ());
    for (client, expected) in [
        (&mut ann, &["one", "two", "three", "end"]),
        (&mut bob, &["two", "three", "four", "end"]),
    ] {
        for name in expected {
            assert_eq!(client.next().await.unwrap().name, *name);
        }
    }
}

#[tokio::test]
async fn all_sockets_can_be_moved_and_disconnected() {
    let server = server().await;
    let (mut ann, mut bob) = (client(&server, "ann").await, client(&server, "bob").await);
    let io = server.io();
    io.join("all");
    assert_eq!(io.to("all").count(), 2);
    io.of("/").leave("all");
    assert_eq!(io.to("all").count(), 0);
    io.disconnect();
    assert!(ann.closed().await.unwrap());
    assert!(bob.closed().await.unwrap());
    assert_eq!(io.count(), 0);
}

#[tokio::test]
async fn typed_events_have_their_names_with_them() {
    let server = server().await;
    let (mut ann, mut bob) = (client(&server, "ann").await, client(&server, "bob").await);
    ann.emit("moved", Moved { x: 1 }).await.unwrap();
    assert_eq!(bob.event::<Moved>("moved").await.unwrap(), Moved { x: 1 });
    assert_eq!(ann.event::<Moved>("moved").await.unwrap(), Moved { x: -1 });
    assert_eq!(server.io().send(Moved { x: 3 }).queued, 2);
    assert_eq!(server.io().to(bob.id()).send(Moved { x: 4 }).queued, 1);
    assert_eq!(bob.event::<Moved>("moved").await.unwrap().x, 3);
    assert_eq!(bob.event::<Moved>("moved").await.unwrap().x, 4);
    assert_eq!(ann.event::<Moved>("moved").await.unwrap().x, 3);
    let wrong: Value = ann.emit_with_ack("moved", "no object").await.unwrap();
    assert_eq!(wrong["error"]["code"], "INVALID_PAYLOAD");
}

#[tokio::test]
async fn event_named_message_reaches_stock_client_send() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("message", async |event: Event, text: String| {
            event.socket.emit("message", text.to_uppercase());
        })
    });
    let server = serve(io).await;
    let mut client = server.client().connect().await.unwrap();
    client.emit("message", "hi").await.unwrap();
    assert_eq!(client.event::<String>("message").await.unwrap(), "HI");
}

#[tokio::test]
async fn handles_emit_from_every_task_and_thread() {
    fn is_handle<T: Clone + Send + Sync + 'static>() {}
    is_handle::<Io>();
    is_handle::<roomcast::Namespace>();
    is_handle::<roomcast::Socket>();
    is_handle::<roomcast::connection::EngineConnection>();
    let server = server().await;
    let mut ann = client(&server, "ann").await;
    let (io, id) = (server.io().clone(), ann.id());
    let value = id.clone();
    let thread = std::thread::spawn(move || io.to(&value).emit("thread", ()).queued);
    let io = server.io().clone();
    let task = tokio::spawn(async move { io.of("/").socket(id).unwrap().emit("task", ()).queued });
    assert_eq!(task.await.unwrap() + thread.join().unwrap(), 2);
    let mut names = [0, 1].map(|_| String::new());
    for name in &mut names {
        *name = ann.next().await.unwrap().name;
    }
    names.sort();
    assert_eq!(names, ["task", "thread"]);
    let unknown = SocketId::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
    assert!(server.io().of("/").socket(unknown).is_none());
}
