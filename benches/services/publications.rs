//! Measures how long an event that a service publishes within its own transaction takes to reach a
//! client. Uses the binary, a private PostgreSQL that waits for the disk, publishers with a
//! connection each, and one client of each of two servers.
//!
//! `cargo bench --bench publications` publishes 1,000 rows a second for 30 seconds; `-- RATE
//! SECONDS` changes that. The database is in `TMPDIR`, which must be on a disk. Not a criterion
//! bench, because it makes one run with a fixed amount of work and prints percentiles.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "../support/binary.rs"]
mod binary;
#[path = "../../tests/support/broker.rs"]
mod broker;
#[path = "../../tests/support/port.rs"]
mod port;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/processor.rs"]
mod processor;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use binary::Server;
use futures_util::{SinkExt as _, StreamExt as _};
use postgres::Postgres;
use processor::Cores;
use rustix::process::getpid;
use tokio::{task::JoinSet, time::interval};
use tokio_tungstenite::{connect_async, tungstenite::Message};

/// The number of connections that publish.
const PUBLISHERS: usize = 8;

/// When each row was due, and when its commit was confirmed.
type Times = Arc<Mutex<Vec<Option<(Instant, Instant)>>>>;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        println!("publications: measured by `cargo bench --bench publications` only");
        return;
    }
    let mut numbers = words.iter().filter_map(|word| word.parse::<usize>().ok());
    let (rate, seconds) = (numbers.next().unwrap_or(1000), numbers.next().unwrap_or(30));
    let cores = processor::cores();
    processor::pin(getpid(), &cores.generator);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(measure(rate, seconds, &cores));
}

async fn measure(rate: usize, seconds: usize, cores: &Cores) {
    let database = Postgres::start_durable();
    let url = database.database();
    for process in database.processes() {
        processor::pin(process, &cores.database);
    }
    let servers = [(); 2].map(|()| Server::start(&url, &cores.server));
    let count = rate * seconds / PUBLISHERS * PUBLISHERS;
    let times: Times = Arc::new(Mutex::new(vec![None; count]));
    let mut clients = JoinSet::new();
    for (n, server) in servers.iter().enumerate() {
        let stream = connect(server.address()).await;
        clients.spawn(async move { (n, receive(stream, count).await) });
    }
    let mut publishers = JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let (times, url) = (Arc::clone(&times), url.clone());
        publishers.spawn(async move {
            let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            let publish = "SELECT roomcast_publish_to_everyone('n', to_jsonb($1::bigint))";
            let publish = client.prepare(publish).await.unwrap();
            let mut due = interval(Duration::from_secs_f64(PUBLISHERS as f64 / rate as f64));
            for row in (publisher..count).step_by(PUBLISHERS) {
                // The time of a late publisher counts from when the row was due.
                let at = due.tick().await.into_std();
                client.query(&publish, &[&(row as i64)]).await.unwrap();
                times.lock().unwrap()[row] = Some((at, Instant::now()));
            }
        });
    }
    let start = Instant::now();
    while publishers.join_next().await.is_some() {}
    let took = start.elapsed().as_secs_f64();
    println!(
        "{count} rows in {took:.1} s ({:.0}/s), two servers",
        count as f64 / took
    );
    println!("| server | from | p50 ms | p99 ms | max ms |\n|---|---|---|---|---|");
    while let Some(received) = clients.join_next().await {
        let (n, received) = received.unwrap();
        let times = times.lock().unwrap();
        let since = |from: fn((Instant, Instant)) -> Instant| {
            let pairs = times.iter().zip(&received);
            let mut all: Vec<Duration> = pairs
                .map(|(times, at)| at.saturating_duration_since(from(times.unwrap())))
                .collect();
            all.sort_unstable();
            all
        };
        for (what, all) in [
            ("when it was due", since(|(due, _)| due)),
            ("the commit's answer", since(|(_, committed)| committed)),
        ] {
            let at = |part: f64| {
                let index = ((all.len() as f64 * part) as usize).min(all.len() - 1);
                all[index].as_secs_f64() * 1e3
            };
            println!(
                "| {n} | {what} | {:.1} | {:.1} | {:.1} |",
                at(0.5),
                at(0.99),
                at(1.0)
            );
        }
    }
}

type Stream =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(address: SocketAddr) -> Stream {
    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let (mut stream, _) = connect_async(url).await.unwrap();
    stream.next().await.unwrap().unwrap();
    stream.send(Message::text("40")).await.unwrap();
    let connected = stream.next().await.unwrap().unwrap();
    assert!(connected.to_text().unwrap().starts_with("40"));
    stream
}

/// Returns when each row arrived. Each must arrive once.
async fn receive(mut stream: Stream, count: usize) -> Vec<Instant> {
    let mut times = vec![None; count];
    let mut left = count;
    while left > 0 {
        let message = stream.next().await.unwrap().unwrap();
        let text = message.to_text().unwrap();
        if text == "2" {
            stream.send(Message::text("3")).await.unwrap();
            continue;
        }
        let row = text.strip_prefix("42[\"n\",");
        let Some(row) = row.and_then(|row| row.strip_suffix(']')) else {
            continue;
        };
        let row: usize = row.parse().unwrap();
        assert!(times[row].replace(Instant::now()).is_none(), "twice: {row}");
        left -= 1;
    }
    times.into_iter().map(Option::unwrap).collect()
}
