//! Tasks of the library that panic: they are reported by name and restarted.

#![cfg(debug_assertions)]

use std::{
    fs,
    time::{Duration, Instant},
};

use roomcast::{
    Ack, Builder, Config, Event, Io, Server,
    adapter::{Health, redis::Redis},
    handler::idempotent,
    metrics::{Counter, Gauge},
    options::Recovery,
    service::Tls,
};

use crate::{
    local::{Local, join, text, until},
    redis_server::RedisServer,
    support::Frame,
};

/// Kills running tasks, and waits until they are reported as ended and run again.
fn kill(io: &Io, name: &str) {
    assert_eq!(io.ended_tasks(), []);
    // A task that has just started does not receive the signal yet.
    until(|| {
        io.tasks().kill(name);
        !io.ended_tasks().is_empty()
    });
    until(|| {
        let ended = io.ended_tasks();
        !ended.is_empty() && ended.iter().all(|task| task.is_restarted)
    });
    assert!(io.ended_tasks().iter().all(|task| task.name == name));
    assert!(io.metrics().gauge(Gauge::TasksDown) >= 1);
    assert!(io.metrics().counter(Counter::TaskRestarts) >= 1);
}

fn builder() -> Builder {
    Io::builder().namespace("/", |namespace| namespace)
}

#[test]
fn queue_of_a_panicked_flusher_is_sent() {
    let server = Local::serve(builder());
    let (mut client, _) = server.connect();
    kill(&server.io, "flusher");
    server.io.emit("news", 1);
    assert_eq!(text(&mut client), "42[\"news\",1]");
}

#[test]
fn events_arrive_after_the_watch_of_stalls_has_panicked() {
    let server = Local::serve(builder().on_stall(async |_| {}));
    let (mut client, _) = server.connect();
    kill(&server.io, "stalls");
    server.io.emit("news", 1);
    assert_eq!(text(&mut client), "42[\"news\",1]");
}

#[test]
fn pings_continue_after_their_task_has_panicked() {
    let config = Config::default().ping_interval(Duration::from_millis(200));
    let server = Local::serve(builder().config(config));
    let (mut client, _) = server.connect();
    kill(&server.io, "heartbeats");
    for _ in 0..2 {
        assert_eq!(client.frame(), Frame::Text("2".to_owned()));
        client.send_text("3");
    }
}

#[test]
fn paced_events_arrive_after_their_task_has_panicked() {
    let server = Local::serve(builder());
    let (mut client, _) = server.connect();
    let quotes = server
        .io
        .local()
        .conflate_every("ACME", Duration::from_secs(1));
    quotes.emit("quote", 1);
    quotes.emit("quote", 2);
    kill(&server.io, "paced events");
    assert_eq!(text(&mut client), "42[\"quote\",1]");
    assert_eq!(text(&mut client), "42[\"quote\",2]");
}

#[test]
fn a_listener_that_panics_accepts_again() {
    let server = Local::serve(builder());
    server.connect();
    kill(&server.io, "listener");
    server.connect();
}

#[test]
fn recoverable_sessions_expire_after_their_task_has_panicked() {
    let recovery = Recovery::default().window(Duration::from_secs(10));
    let config = Config::default().recovery(Some(recovery));
    let server = Local::serve(builder().config(config));
    let mut client = server.open();
    client.send_text("40");
    text(&mut client);
    drop(client);
    let metrics = server.io.metrics();
    until(|| metrics.gauge(Gauge::RecoverySessions) == 1 && server.io.clients_count() == 0);
    kill(&server.io, "recovery sweep");
    until(|| metrics.counter(Counter::SessionsExpired) == 1);
}

#[test]
fn remembered_answers_expire_after_their_task_has_panicked() {
    let mut io = Io::builder();
    let once = idempotent(roomcast::handler::argument(0), async |_: Event, n: u32| {
        Ack(n)
    });
    io = io.namespace("/", |namespace| {
        namespace.on("order", once.window(Duration::from_secs(10)))
    });
    let server = Local::serve(io);
    let mut client = server.open();
    join(&mut client, "");
    client.send_text("421[\"order\",7]");
    assert_eq!(text(&mut client), "431[7]");
    kill(&server.io, "sweep of answers");
    let metrics = server.io.metrics();
    until(|| metrics.gauge(Gauge::IdempotentAnswers) == 0);
}

#[test]
fn cluster_is_rejoined_after_the_adapter_task_has_panicked() {
    let serve = || {
        let redis = Redis::new(&RedisServer::shared().url()).unwrap();
        Local::serve(builder().adapter(redis.key("supervision")))
    };
    let servers = [serve(), serve()];
    let is_joined = |server: &Local| server.io.adapter_health() == Some(Health::Ready);
    until(|| servers.iter().all(is_joined));
    kill(&servers[0].io, "adapter");
    until(|| servers.iter().all(is_joined));
    for (from, to) in [(0, 1), (1, 0)] {
        let (mut client, _) = servers[to].connect();
        servers[from].io.emit("news", from);
        client.expect_text(&format!("42[\"news\",{from}]"));
    }
}

#[test]
fn heartbeats_continue_after_their_task_has_panicked() {
    let serve = || {
        let redis = Redis::new(&RedisServer::shared().url()).unwrap();
        Local::serve(builder().adapter(redis.key("telling")))
    };
    let servers = [serve(), serve()];
    until(|| servers.iter().all(|server| server.io.nodes().len() == 2));
    kill(&servers[0].io, "nodes");
    let name = servers[0].io.node().unwrap();
    let heartbeat_age = || {
        let nodes = servers[1].io.nodes();
        nodes
            .into_iter()
            .find(|node| node.name == *name)
            .unwrap()
            .heartbeat_age
    };
    let since = Instant::now();
    until(|| heartbeat_age() < since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_is_reloaded_after_its_task_has_panicked() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let issue = || {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
        fs::write(&cert, issued.cert.pem()).unwrap();
    };
    issue();
    let io = Io::builder().namespace("/", |namespace| namespace);
    let io = io.build().unwrap();
    let tls = Tls::from_files(&cert, &key).unwrap();
    let server = Server::new(io.clone()).tls(tls).bind("127.0.0.1:0");
    let running = tokio::spawn(server.await.unwrap().run());
    kill(&io, "certificate watch");
    issue();
    until(|| io.metrics().counter(Counter::TlsReloads) >= 1);
    running.abort();
}
