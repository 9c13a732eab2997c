//! Messages that a broker refuses on a working connection: only they are lost, they are counted,
//! and emitters get an error.

use std::fs;

use roomcast::{
    adapter::{Emitter, Health, nats::Nats, postgres::Postgres, redis::Redis},
    metrics::Counter,
    types::Bytes,
};
use tempfile::TempDir;

use super::{Servers, Wire, postgres_url, quiet};
use crate::{local::until, nats_server::NatsServer, postgres_server, redis_server::RedisServer};

fn lost(servers: &Servers, i: usize) -> u64 {
    servers[i].io.metrics().counter(Counter::ClusterLost)
}

/// Returns how often the connection of a server has broken.
fn breaks(servers: &Servers, i: usize) -> u64 {
    servers[i].io.adapter_backlog().unwrap().breaks
}

/// Starts a NATS server whose user `mute` may connect and subscribe, but not publish.
fn nats_without_publish_permission(folder: &TempDir, options: &str) -> NatsServer {
    let file = folder.path().join("nats.conf");
    let users = r#"authorization { users = [
        { user: all, password: p },
        { user: mute, password: p, permissions: { publish: { deny: ["roomcast.>"] } } }
    ] }"#;
    fs::write(&file, users).unwrap();
    NatsServer::start_with(&format!("{options} -c {}", file.display()))
}

fn nats_url(nats: &NatsServer, user: &str) -> String {
    format!("nats://{user}:p@127.0.0.1:{}", nats.port())
}

#[test]
fn events_refused_by_a_full_redis_are_lost_without_disconnect() {
    for wire in [Wire::Streams, Wire::Journal] {
        let redis = RedisServer::start();
        let servers = Servers::on_redis(&redis, 2, wire, quiet);
        let mut clients = [0, 1].map(|i| servers[i].connect().0);
        servers[0].io.emit("before", ());
        for client in &mut clients {
            client.expect_text("42[\"before\"]");
        }
        let (before, broken) = (lost(&servers, 0), breaks(&servers, 0));
        redis.ask(&["config", "set", "maxmemory", "1"]);
        for n in 0..50 {
            servers[0].io.emit("refused", n);
            // Several batches, each of which is refused.
            if n % 10 == 0 {
                until(|| lost(&servers, 0) == before + n + 1);
            }
        }
        // Clients of the same server receive them nevertheless, even if events normally return
        // through Redis.
        for n in 0..50 {
            clients[0].expect_text(&format!("42[\"refused\",{n}]"));
        }
        until(|| lost(&servers, 0) == before + 50);
        redis.ask(&["config", "set", "maxmemory", "0"]);
        servers[0].io.emit("after", ());
        for client in &mut clients {
            client.expect_text("42[\"after\"]");
        }
        assert_eq!(lost(&servers, 0), before + 50);
        assert_eq!(
            breaks(&servers, 0),
            broken,
            "the connection is as good as before"
        );
    }
}

#[test]
fn events_forbidden_by_nats_are_counted_without_disconnect() {
    for options in ["", "-js"] {
        let folder = TempDir::new().unwrap();
        let nats = nats_without_publish_permission(&folder, options);
        let url = nats_url(&nats, "mute");
        let servers = Servers::serve_and_meet(1, |key| Nats::new(&url).unwrap().key(key), quiet);
        let mut client = servers[0].connect().0;
        let (before, broken) = (lost(&servers, 0), breaks(&servers, 0));
        for n in 0..3 {
            servers[0].io.emit("n", n);
            client.expect_text(&format!("42[\"n\",{n}]"));
        }
        // Heartbeats are forbidden as well.
        until(|| lost(&servers, 0) >= before + 3);
        assert_eq!(breaks(&servers, 0), broken);
        assert_eq!(servers[0].io.adapter_health(), Some(Health::Ready));
    }
}

/// Sends one event through an emitter that reaches its broker, and returns why it was lost.
fn refusal(emitter: impl Into<Emitter>, payload: usize) -> String {
    let emitter = Emitter::new(emitter);
    emitter.emit("news", "x".repeat(payload)).unwrap();
    let closed = tokio::runtime::Handle::current().block_on(emitter.close());
    let error = closed.unwrap_err();
    assert_eq!((error.messages, emitter.lost()), (1, 1));
    error.why
}

#[test]
fn emitter_gets_an_error_for_unsent_events() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    for options in ["", "-js"] {
        let folder = TempDir::new().unwrap();
        let nats = nats_without_publish_permission(&folder, options);
        let why = refusal(Nats::new(&nats_url(&nats, "mute")).unwrap(), 1);
        assert!(why.contains("Permissions Violation"), "{why}");
    }
    let redis = RedisServer::start();
    redis.ask(&["config", "set", "maxmemory", "1"]);
    let why = refusal(Redis::new(&redis.url()).unwrap().streams(), 1);
    assert!(why.contains("OOM"), "{why}");
    redis.ask(&[
        "acl",
        "setuser",
        "mute",
        "on",
        ">p",
        "+@all",
        "&socket.io-roomcast*",
    ]);
    let url = format!("redis://mute:p@127.0.0.1:{}", redis.port());
    let why = refusal(Redis::new(&url).unwrap(), 1);
    assert!(why.contains("NoPerm"), "{why}");
    let server = postgres_server::Postgres::start();
    server.sql("postgres", "CREATE ROLE mute LOGIN");
    let url = format!("postgres://mute@127.0.0.1:{}/postgres", server.port());
    let why = refusal(Postgres::new(&url).unwrap(), 9_000);
    assert!(why.contains("socket_io_attachments"), "{why}");
    let nobody = "redis://127.0.0.1:1";
    let why = refusal(Redis::new(nobody).unwrap(), 1);
    assert!(why.to_lowercase().contains("refused"), "{why}");
}

#[test]
fn emitter_close_succeeds_if_everything_was_sent() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let folder = TempDir::new().unwrap();
    let plain = nats_without_publish_permission(&folder, "");
    let redis = RedisServer::shared().url();
    for emitter in [
        Emitter::new(Nats::new(&nats_url(&plain, "all")).unwrap()),
        Emitter::new(Nats::new(&NatsServer::shared().url()).unwrap()),
        Emitter::new(Redis::new(&redis).unwrap()),
        Emitter::new(Redis::new(&redis).unwrap().streams()),
        Emitter::new(Postgres::new(&postgres_url()).unwrap()),
    ] {
        emitter.emit("news", Bytes::from_static(b"x")).unwrap();
        assert_eq!(runtime.block_on(emitter.close()), Ok(()));
        assert_eq!(emitter.lost(), 0);
    }
}

#[test]
fn emitter_creates_a_missing_nats_stream() {
    let nats = NatsServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let delete = || {
        runtime.block_on(async {
            let client = async_nats::connect(nats.url()).await.unwrap();
            let context = async_nats::jetstream::new(client);
            context.delete_stream("roomcast-key").await.unwrap();
        });
    };
    let messages = || {
        runtime.block_on(async {
            let client = async_nats::connect(nats.url()).await.unwrap();
            let context = async_nats::jetstream::new(client);
            let stream = context.get_stream("roomcast-key").await.ok()?;
            Some(stream.get_info().await.unwrap().state.messages)
        })
    };
    let emitter = Emitter::new(Nats::new(&nats.url()).unwrap().key("key"));
    until(|| emitter.health() == Health::Ready);
    delete();
    emitter.emit("first", ()).unwrap();
    until(|| messages() == Some(1));
    assert_eq!(emitter.lost(), 0);
    delete();
    emitter.emit("lost", ()).unwrap();
    until(|| emitter.lost() == 1);
    emitter.emit("after", ()).unwrap();
    until(|| messages() == Some(1));
    let error = runtime.block_on(emitter.close()).unwrap_err();
    assert_eq!(error.messages, 1);
}
