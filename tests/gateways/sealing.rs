//! A client of the broker without the secret: a whole server of the library, which seals nothing.

#![expect(
    clippy::disallowed_methods,
    reason = "the intruder sends events without rows"
)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use roomcast::{
    Event, Io,
    adapter::{Adapter, Health, NodeOptions, nats::Nats, postgres::Postgres, redis::Redis},
    handler::ServerSide,
};
use serde_json::json;

use crate::nats_server::NatsServer;
use crate::nodes::Database;
use crate::redis_server::RedisServer;
use crate::server::LOBBY;
use crate::support::RawClient;

/// The intruder: what it has received, and its address.
struct Intruder {
    io: Io,
    received: Arc<Mutex<Vec<String>>>,
    address: String,
}

/// Starts an intruder with the id of a server in the cluster, which claims to have run for longer.
async fn intrude(adapter: impl Adapter) -> Intruder {
    let received: Arc<Mutex<Vec<String>>> = Arc::default();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let options = NodeOptions::default()
        .id("one")
        .address(format!("http://{address}"));
    let mut io = Io::builder()
        .adapter(adapter)
        .node(options)
        .namespace("/", |namespace| namespace.on("x", async |_: Event| {}));
    let log = Arc::clone(&received);
    io = io.namespace("/roomcast", |namespace| {
        namespace.on_server_side("news", move |event: ServerSide| {
            log.lock().unwrap().push(event.arg(0).unwrap());
            std::future::ready(())
        })
    });
    let io = io.build().unwrap();
    let server = roomcast::Server::new(io.clone())
        .bind(&address)
        .await
        .unwrap();
    tokio::spawn(server.run());
    Intruder {
        io,
        received,
        address,
    }
}

async fn until(is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed().as_secs() < 20);
        tokio::time::sleep(Duration::from_millis(20)).await; // Poll interval.
    }
}

/// Lets an intruder try everything that a server can do, at a server with this adapter.
async fn try_everything(database: &Database, url: &str, adapter: impl Adapter) {
    let intruder = intrude(adapter).await;
    until(|| intruder.io.adapter_health() == Some(Health::Ready)).await;
    let variables = |id: &'static str| {
        [
            ("ROOMCAST_ADAPTER__URL", url.to_owned()),
            ("ROOMCAST_NODE__ID", id.to_owned()),
        ]
    };
    let start = |id| {
        let variables = variables(id);
        let variables: Vec<_> = variables.iter().map(|(k, v)| (*k, &**v)).collect();
        database.server_with(&variables)
    };
    let [one, two] = [start("one"), start("two")];
    one.until_metric("roomcast_nodes", |count| count == 2).await;
    let mut ann = one.guest("ann").await;
    let mut bob = two.guest("bob").await;
    ann.must("join_conversation", json!(LOBBY)).await;
    bob.must("join_conversation", json!(LOBBY)).await;
    // It forges an event for all, an event for a room, and a join of all sockets, and requests the
    // list of sockets.
    intruder.io.emit("forged", 1);
    intruder
        .io
        .to(format!("conversation:{LOBBY}"))
        .emit("message", json!({"content": "forged"}));
    intruder.io.of("/").join("spied");
    intruder.io.to("spied").emit("forged", 2);
    let found = intruder
        .io
        .of("/")
        .timeout(Duration::from_secs(1))
        .fetch_sockets()
        .await;
    assert!(found.sockets.is_empty(), "{found:?}");
    intruder.io.of("/").close_connections();
    // It forges a request for its own session, which would contain what the client has sent.
    let mut client = RawClient::connect(intruder.address.parse().unwrap());
    let opened = client.get("/socket.io/?EIO=4&transport=polling").body;
    let (_, sid) = opened.split_once("\"sid\":\"").unwrap();
    let target = format!("/socket.io/?EIO=4&transport=polling&sid={}", &sid[..28]);
    let at = one.address();
    let answer = tokio::task::spawn_blocking(move || RawClient::connect(at).get(&target));
    assert_eq!(answer.await.unwrap().status, 400);
    // Events of the real servers arrive in order, and no others.
    let message = json!({"conversationId": LOBBY, "content": "the canary"});
    ann.must("message", message).await;
    let received = bob.event("message").await;
    assert_eq!(received["content"], "the canary");
    for client in [&mut ann, &mut bob] {
        assert_eq!(
            client.events_until_now("forged").await,
            Vec::<serde_json::Value>::new()
        );
        assert_eq!(
            client.events_until_now("message").await,
            Vec::<serde_json::Value>::new()
        );
    }
    assert_eq!(intruder.io.nodes().len(), 1, "it knows of no server");
    assert_eq!(*intruder.received.lock().unwrap(), Vec::<String>::new());
    assert_eq!(
        intruder
            .io
            .metrics()
            .counter(roomcast::metrics::Counter::ForwardedReceived),
        0
    );
    // Older heartbeats of the intruder, with the same id, have arrived by now.
    one.until_metric(
        "roomcast_cluster_received_total{result=\"plain\"}",
        |count| count > 3,
    )
    .await;
    one.until_metric("roomcast_nodes", |count| count == 2).await;
    one.terminate();
    two.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_can_only_connect_to_the_database_is_no_server() {
    let database = Database::apart();
    drop(database.server_with(&[]));
    database.sql("CREATE ROLE bare LOGIN");
    let adapter = Postgres::new(&database.url_as("bare")).unwrap();
    try_everything(&database, database.url(), adapter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_redis_without_the_secret_is_no_server() {
    let redis = RedisServer::start();
    let database = Database::apart();
    let adapter = Redis::new(&redis.url()).unwrap();
    try_everything(&database, &redis.url(), adapter).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_nats_without_the_secret_is_no_server() {
    let nats = NatsServer::start();
    let database = Database::apart();
    let adapter = Nats::new(&nats.url()).unwrap();
    try_everything(&database, &nats.url(), adapter).await;
}
