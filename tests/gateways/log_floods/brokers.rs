//! Floods of messages that cannot be opened or decoded, on the channels of each broker.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use roomcast::adapter::{Emitter, Secrets, nats::Nats, postgres::Postgres, redis::Redis};

use super::{FLOOD, lines_of};
use crate::nats_server::NatsServer;
use crate::nodes::Database;
use crate::redis_server::RedisServer;
use crate::server::ServerProcess;

/// Returns the number of messages that a server received and ignored.
async fn ignored(server: &ServerProcess) -> usize {
    let metrics = server.metrics().await;
    let results = ["plain", "unknown_key", "forged", "malformed"];
    let counts = results.map(|result| {
        let name = format!("roomcast_cluster_received_total{{result=\"{result}\"}}");
        usize::try_from(crate::support::http::metric(&metrics, &name)).unwrap()
    });
    counts.iter().sum()
}

/// Waits until a server has ignored this many messages more than before.
async fn until_ignored(server: &ServerProcess, before: usize, more: usize) {
    let start = Instant::now();
    loop {
        let ignored = ignored(server).await - before;
        if ignored >= more {
            return;
        }
        assert!(start.elapsed().as_secs() < 60, "{ignored} of {more}");
        tokio::time::sleep(Duration::from_millis(50)).await; // Poll interval.
    }
}

/// Floods a server that seals, and another server that also accepts plain messages.
async fn flood(database: &Database, url: &str, emitters: [Emitter; 2], garble: impl Fn()) {
    let adapter = ("ROOMCAST_ADAPTER__URL", url);
    let sealed = database.server_with(&[adapter]);
    let plain = database.server_with(&[adapter, ("ROOMCAST_ADAPTER__ACCEPT_PLAIN", "true")]);
    for server in [&sealed, &plain] {
        server.until_joined(true).await;
        server
            .until_metric("roomcast_nodes", |count| count == 2)
            .await;
    }
    let start = Instant::now();
    let before = [&sealed, &plain].map(|server| server.log().lines().count());
    let ignored_before = [ignored(&sealed).await, ignored(&plain).await];
    // The first emitter seals nothing, and the second emitter has another secret.
    for emitter in emitters {
        for n in 0..FLOOD {
            emitter.emit("forged", n).unwrap();
        }
        emitter.close().await.unwrap();
    }
    until_ignored(&sealed, ignored_before[0], 2 * FLOOD).await;
    until_ignored(&plain, ignored_before[1], FLOOD).await;
    garble();
    until_ignored(&sealed, ignored_before[0], 3 * FLOOD).await;
    until_ignored(&plain, ignored_before[1], 2 * FLOOD).await;
    for (server, before) in [&sealed, &plain].into_iter().zip(before) {
        server.expect_log(&["WARN", "could not be opened", "messages="]);
        // A line per ten seconds, and some for servers that lose each other on a busy machine.
        let most = 10 + start.elapsed().as_secs() as usize / 10;
        let log = server.log();
        let written = log.lines().count() - before;
        assert!(written <= most, "{written} lines, {most} at most: {log}");
        assert!(lines_of(&log, "could not be opened") <= most);
    }
}

/// Returns a secret that no server has.
fn other_secret() -> Secrets {
    Secrets::new(["a secret of thirty-two bytes or more"]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_at_channels_of_postgresql_write_few_lines() {
    let database = Database::apart();
    let adapter = || Postgres::new(database.url()).unwrap();
    let emitters = [
        Emitter::new(adapter()),
        Emitter::new(adapter().sealed(other_secret())),
    ];
    let garble = || {
        let last = FLOOD;
        database.sql(&format!(
            "SELECT pg_notify('socket.io#/', 'garbage ' || n) FROM generate_series(1, {last}) n"
        ));
    };
    flood(&database, database.url(), emitters, garble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_at_channels_of_redis_write_few_lines() {
    let database = Database::apart();
    let redis = RedisServer::start();
    let adapter = || Redis::new(&redis.url()).unwrap();
    let emitters = [
        Emitter::new(adapter()),
        Emitter::new(adapter().sealed(other_secret())),
    ];
    let garble = || {
        let mut raw = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
        for n in 0..FLOOD {
            write!(raw, "PUBLISH socket.io#/# garbage{n}\r\n").unwrap();
        }
        // Each command has an answer.
        assert_eq!(BufReader::new(raw).lines().take(FLOOD).count(), FLOOD);
    };
    flood(&database, &redis.url(), emitters, garble).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_at_subjects_of_nats_write_few_lines() {
    let database = Database::apart();
    let nats = NatsServer::start();
    let adapter = || Nats::new(&nats.url()).unwrap();
    let emitters = [
        Emitter::new(adapter()),
        Emitter::new(adapter().sealed(other_secret())),
    ];
    let garble = || {
        let mut raw = TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
        // Servers of the key `socket.io` receive everything below this subject.
        for _ in 0..FLOOD {
            write!(raw, "PUB roomcast.socket=2eio.all.x 1\r\n\x01\r\n").unwrap();
        }
        write!(raw, "PING\r\n").unwrap();
        let mut answers = BufReader::new(raw).lines().map(Result::unwrap);
        assert!(answers.any(|answer| answer == "PONG"));
    };
    flood(&database, &nats.url(), emitters, garble).await;
}
