//! Messages that are written in pieces: how long a piece takes from its author to the readers, and
//! what open streams cost. The binary runs on one core; authors, readers, PostgreSQL and Redis use
//! another.
//!
//! `cargo bench --profile dist -p roomcast-server --features dist --bench streams` measures all, or
//! the figures that are named after `--`:
//!
//! - `sqlite`, `postgres`: each of 1,000 authors writes a message, 20 pieces a second, for one
//!   reader.
//! - `readers`: an author writes for 1,000 readers. In turn with it, a service publishes an event
//!   of the same size to a room of these readers with `POST /api/v1/emit`.
//! - `memory`: a user has 20,000 messages open. What the second half adds to the resident memory is
//!   counted.
//! - `second`: two servers with Redis and PostgreSQL share the first core. 200 messages have a
//!   reader at each.
//!
//! The first number is the number of measured seconds, the second the number of authors. Times count
//! from when a piece was due, so that a late generator hides nothing. Each reader must receive the
//! exact text in order. Not a criterion bench, because it makes one run with a fixed amount of work
//! and prints percentiles.

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
mod clients;
#[path = "../support/connections.rs"]
mod connections;
#[path = "../../tests/support/port.rs"]
mod port;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/processor.rs"]
mod processor;
mod publish;
#[path = "../../tests/support/redis.rs"]
mod redis;
mod text;

use std::time::{Duration, Instant};

use binary::Server;
use clients::{Chat, Readings};
use postgres::Postgres;
use redis::RedisServer;
use rustix::process::getpid;
use text::PIECE;
use tokio::{task::LocalSet, time::sleep};

/// The pieces of a message per second.
const RATE: u32 = 20;
/// The seconds before the measured ones. PostgreSQL counts what was done before only after 10 s.
const WARM_UP: u32 = 12;
/// The alternating rounds of `readers`.
const ROUNDS: usize = 5;
const FIGURES: [&str; 5] = ["sqlite", "postgres", "readers", "memory", "second"];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if !has("--bench") {
        println!("streams: measured by `cargo bench --bench streams` only");
        return;
    }
    let mut numbers = words.iter().filter_map(|word| word.parse::<u32>().ok());
    let seconds = numbers.next().unwrap_or(20);
    let authors = numbers.next();
    processor::pin(getpid(), &processor::cores().generator);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for figure in FIGURES {
        if !has(figure) && FIGURES.into_iter().any(has) {
            continue;
        }
        let measured = async {
            match figure {
                "sqlite" => many(None, authors.unwrap_or(1000), seconds).await,
                "postgres" => {
                    let database = database();
                    many(Some(&database), authors.unwrap_or(1000), seconds).await;
                }
                "readers" => readers(seconds).await,
                "memory" => memory().await,
                _ => second(authors.unwrap_or(200), seconds).await,
            }
        };
        LocalSet::new().block_on(&runtime, measured);
    }
}

/// Starts a PostgreSQL that waits for the disk, on the cores of the generator.
fn database() -> Postgres {
    let database = Postgres::start_durable();
    for process in database.processes() {
        processor::pin(process, &processor::cores().database);
    }
    database
}

/// Measures many messages with a reader each.
async fn many(database: Option<&Postgres>, authors: u32, seconds: u32) {
    let url = database.map(Postgres::database);
    let store = url.as_deref().unwrap_or("sqlite:streams.db");
    let server = Server::start(store, &processor::cores().server);
    let mut chat = Chat::open(&[&server], authors).await;
    let start = chat.begin(RATE, WARM_UP + seconds).await;
    let measured = start + Duration::from_secs(WARM_UP.into());
    tokio::time::sleep_until(measured.into()).await;
    let name = store.rsplit('/').next().unwrap();
    let transactions = || match database {
        Some(database) => database.sql(name, TRANSACTIONS).parse().unwrap(),
        None => commits(&server.metrics()),
    };
    let worked = || database.map_or(0.0, |database| processor::worked(&database.processes()));
    let (before, worked_before) = (transactions(), worked());
    let cpu = processor::worked(&[server.process()]);
    tokio::time::sleep_until((measured + Duration::from_secs(seconds.into())).into()).await;
    let cpu = processor::worked(&[server.process()]) - cpu;
    let (after, worked_after) = (transactions(), worked());
    let mut readings = chat.end(measured).await;
    println!(
        "{}: {authors} authors, {} pieces/s for {seconds} s",
        if database.is_some() {
            "PostgreSQL"
        } else {
            "SQLite"
        },
        authors * RATE,
    );
    println!("  to the reader, ms: {}", show(&mut readings.times[0]));
    println!("  acknowledged, ms: {}", show(&mut readings.acknowledged));
    println!(
        "  cores of the server: {:.2}; CPU µs/piece: {:.1}",
        cpu / f64::from(seconds),
        cpu / f64::from(authors * RATE * seconds) * 1e6,
    );
    println!(
        "  stored writes/s of a message: {:.2}; transactions/s: {:.1}; cores of the database: {:.2}",
        readings.stored as f64 / f64::from(authors * seconds),
        (after - before) / f64::from(seconds),
        (worked_after - worked_before) / f64::from(seconds),
    );
    println!("  {}", faults(&readings));
}

/// Reads how many transactions the database has committed, also those that only read.
const TRANSACTIONS: &str =
    "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";

/// Returns how many transactions a server has committed, all of which write.
fn commits(metrics: &str) -> f64 {
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix("roomcast_store_commits_total "));
    line.unwrap().parse().unwrap()
}

/// Compares a message that 1,000 users read with events of the same size for a room of them.
async fn readers(seconds: u32) {
    let server = Server::start("sqlite:streams.db", &processor::cores().server);
    let mut chat = Chat::open_one(&server, 1000).await;
    println!("1 author, 1,000 readers, {RATE} pieces/s for {seconds} s: CPU µs/delivery");
    println!("| streamed | published | ratio |\n|---|---|---|");
    for _ in 0..ROUNDS {
        let start = chat.begin(RATE, WARM_UP + seconds).await;
        let measured = start + Duration::from_secs(WARM_UP.into());
        tokio::time::sleep_until(measured.into()).await;
        let streamed = chat.cost(&server, seconds).await;
        let readings = chat.end(measured).await;
        assert_eq!(readings.faults, 0, "{}", faults(&readings));
        let due = Instant::now() + Duration::from_secs(1);
        let publishing = publish::publish(server.address(), due, RATE, WARM_UP + seconds);
        let publishing = tokio::task::spawn_local(publishing);
        tokio::time::sleep_until((due + Duration::from_secs(WARM_UP.into())).into()).await;
        let published = chat.cost(&server, seconds).await;
        publishing.await.unwrap();
        println!(
            "| {streamed:.2} | {published:.2} | {:.2} |",
            streamed / published
        );
    }
}

/// Measures the memory of open messages.
async fn memory() {
    const HALF: u32 = 10_000;
    let unlimited = [
        ("ROOMCAST_CHAT__STREAMS__MAX", "100000"),
        ("ROOMCAST_CHAT__STREAMS__PER_USER", "100000"),
        ("ROOMCAST_CHAT__STREAMS__TIMEOUT", "1h"),
        ("ROOMCAST_LIMITS__APPENDS_PER_SECOND", "0"),
    ];
    let cores = processor::cores();
    let server = Server::start_with("sqlite:streams.db", &cores.server, &unlimited);
    let mut chat = Chat::open_one(&server, 1).await;
    let mut resident = Vec::new();
    for _ in 0..2 {
        chat.open_messages(HALF).await;
        // By then the texts are stored, and the allocator has returned what is free.
        sleep(Duration::from_secs(15)).await;
        resident.push(processor::resident(server.process()));
    }
    println!(
        "open messages with a text of {PIECE} characters: {:.0} bytes each; {:.0} MiB with {HALF} of them",
        (resident[1] - resident[0]) as f64 / f64::from(HALF),
        resident[0] as f64 / f64::from(1 << 20),
    );
}

/// Measures two servers.
async fn second(authors: u32, seconds: u32) {
    let (database, broker) = (database(), RedisServer::start());
    let (store, adapter) = (database.database(), broker.url());
    let joined = [
        ("ROOMCAST_ADAPTER__URL", adapter.as_str()),
        ("ROOMCAST_ADAPTER__KEY", "bench"),
    ];
    let servers = [(); 2].map(|()| Server::start_with(&store, &processor::cores().server, &joined));
    sleep(Duration::from_secs(2)).await;
    let mut chat = Chat::open(&servers.each_ref(), authors).await;
    let start = chat.begin(RATE, WARM_UP + seconds).await;
    let mut readings = chat.end(start + Duration::from_secs(WARM_UP.into())).await;
    println!(
        "two servers, {authors} authors, {} pieces/s for {seconds} s",
        authors * RATE
    );
    let [here, there] = &mut readings.times;
    println!("  at the author's server, ms: {}", show(here));
    println!("  at the other one, ms: {}", show(there));
    println!(
        "  the other one after the author's, ms: {}",
        show(&mut readings.lag)
    );
    println!("  {}", faults(&readings));
}

fn faults(readings: &Readings) -> String {
    format!(
        "faults: {}, missing: {}, refused: {}",
        readings.faults, readings.missing, readings.refused
    )
}

/// Formats the median, the 99th percentile and the largest, in milliseconds.
fn show(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    format!(
        "p50 {:.1}, p99 {:.1}, maximum {:.1}",
        at(0.5),
        at(0.99),
        at(1.0)
    )
}
