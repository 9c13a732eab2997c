//! The whole chat: the binary on one core, `roomcast bench chat` on another, and a private
//! PostgreSQL that waits for the disk, or SQLite. It prints the table of `benches/README.md`, and a
//! line of JSON for each run to stderr.
//!
//! `cargo bench --bench chat` measures everything in about ten minutes. Arguments after `--`
//! restrict it: `postgres` or `sqlite` to that store, `processing`, `sustained` or `last` to that
//! figure. Numbers replace the rates of the figure, and `quick` makes short runs, to test that it
//! works. The databases are in `TMPDIR`, which must be on a disk. Not a criterion bench, because a
//! run has a fixed duration.

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
mod server;

use std::time::{Duration, Instant};

use serde_json::Value;

use binary::Server;
use postgres::Postgres;
use server::{load, processing};

/// A measured figure.
struct Case {
    name: &'static str,
    /// The clients, as arguments of the generator.
    words: &'static str,
    /// The seconds before the measurement, followed by the measured seconds.
    warmup: u32,
    duration: u32,
    rates: &'static [u32],
    goal: &'static str,
}

const PROCESSING: Case = Case {
    name: "processing, 500/s in 20 conversations of 5",
    words: "--clients 100 --rooms 20",
    warmup: 5,
    duration: 30,
    rates: &[500],
    goal: "p99 < 50 ms",
};
/// Increases the rate until the server cannot keep up.
const SUSTAINED: Case = Case {
    name: "sustained, 50 conversations of 4",
    words: "--clients 200 --rooms 50",
    // After 15 s, a server knows that it has no peers, and stops publishing for them.
    warmup: 20,
    duration: 20,
    rates: &[2000, 4000, 8000, 10_000, 12_000, 14_000],
    goal: "≥ 2,000/s",
};
const LAST: Case = Case {
    name: "last of 1,000 members, 10/s",
    words: "--clients 1000 --rooms 1 --senders 10",
    // Every member is notified of the members that join one after another. That is over when the
    // measurement begins.
    warmup: 20,
    duration: 60,
    rates: &[10],
    goal: "p99 < 100 ms",
};

/// The maximum latency in milliseconds; beyond it, messages are accumulating.
const MAX_LATENCY_MS: f64 = 1000.0;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if !words.iter().any(|word| word == "--bench") {
        println!("chat: measured by `cargo bench --bench chat` only");
        return;
    }
    let arguments = BenchArguments(words);
    let cores = processor::cores();
    println!(
        "server on core {}, generator on {}, PostgreSQL on {}",
        cores.server, cores.generator, cores.database
    );
    println!("{HEAD}");
    if arguments.selects("postgres", &STORES) {
        let database = Postgres::start_durable();
        for process in database.processes() {
            processor::pin(process, &cores.database);
        }
        measure("PostgreSQL", &arguments, Some(&database));
    }
    if arguments.selects("sqlite", &STORES) {
        measure("SQLite", &arguments, None);
    }
}

const HEAD: &str = "\
| figure | store | messages/s | stored and queued p99 ms | acknowledged p50, p99 ms | at the last member p99 ms | cores of server, generator, database | faults | goal |
|---|---|---|---|---|---|---|---|---|";

/// The arguments of the command line.
struct BenchArguments(Vec<String>);

const STORES: [&str; 2] = ["postgres", "sqlite"];
const FIGURES: [&str; 3] = ["processing", "sustained", "last"];

impl BenchArguments {
    fn has(&self, word: &str) -> bool {
        self.0.iter().any(|one| one == word)
    }

    /// Returns whether a choice is selected: by its name, or because no choice of `all` is named.
    fn selects(&self, word: &str, all: &[&str]) -> bool {
        self.has(word) || !all.iter().any(|word| self.has(word))
    }

    fn rates(&self) -> Vec<u32> {
        self.0.iter().filter_map(|word| word.parse().ok()).collect()
    }
}

/// Measures the selected figures on a store, each rate on a new database.
fn measure(store: &str, arguments: &BenchArguments, database: Option<&Postgres>) {
    let url = || database.map_or_else(|| "sqlite:chat.db".to_owned(), Postgres::database);
    let cases = FIGURES.into_iter().zip([PROCESSING, SUSTAINED, LAST]);
    for (_, mut case) in cases.filter(|(name, _)| arguments.selects(name, &FIGURES)) {
        let mut rates = arguments.rates();
        if arguments.has("quick") {
            (case.warmup, case.duration, case.rates) = (1, 2, &[20]);
            case.words = "--clients 20 --rooms 2";
        }
        if rates.is_empty() {
            rates.extend(case.rates);
        }
        for rate in rates {
            let outcome = play(&case, rate, &url(), database);
            println!("{}", outcome.row(&case, store, rate));
            if !outcome.is_sustained(rate) {
                break;
            }
        }
    }
}

fn play(case: &Case, rate: u32, url: &str, database: Option<&Postgres>) -> Outcome {
    let cores = processor::cores();
    let server = Server::start(url, &cores.server);
    let (warmup, duration) = (case.warmup, case.duration);
    let words = format!(
        "{} --warmup {warmup} --duration {duration} --rate {rate}",
        case.words
    );
    let worked = || database.map(|database| processor::worked(&database.processes()));
    let (start, before, worked_before) = (Instant::now(), processing(&server), worked());
    let report = load(&server, &words, &cores.generator);
    let processing = processing(&server).since(&before);
    let database = worked().zip(worked_before);
    eprintln!("{report}");
    Outcome {
        report,
        p99: processing.quantile(0.99),
        database: database.map(|(after, before)| (after - before) / start.elapsed().as_secs_f64()),
    }
}

/// The results of a run.
struct Outcome {
    report: Value,
    /// The time from receiving a message until it is stored and queued, as measured by the server:
    /// the upper bound of the bucket.
    p99: Option<Duration>,
    /// The average number of cores used by PostgreSQL, from the first connection to the last
    /// sample.
    database: Option<f64>,
}

impl Outcome {
    fn number(&self, path: &str) -> f64 {
        let value = self.report.pointer(path).and_then(Value::as_f64);
        value.unwrap_or(f64::NAN)
    }

    /// Returns the number of messages that were lost, duplicated, out of order, not stored and so
    /// on.
    fn faults(&self) -> f64 {
        let messages = [
            "lost",
            "duplicate",
            "outOfOrder",
            "corrupt",
            "misrouted",
            "unanswered",
        ];
        let stored = ["missing", "doubled", "outOfOrder", "refused", "gaps"];
        let messages = messages.map(|fault| self.number(&format!("/messages/{fault}")));
        let stored = stored.map(|fault| self.number(&format!("/stored/{fault}")));
        messages.iter().chain(&stored).sum()
    }

    /// Returns whether the server kept up with this rate without errors.
    fn is_sustained(&self, rate: u32) -> bool {
        let seconds = self.number("/options/durationSeconds");
        let acknowledged = self.number("/acks/count") / seconds;
        self.report["complete"] == true
            && self.faults() == 0.0
            && acknowledged >= 0.99 * f64::from(rate)
            && self.number("/acks/p99") < MAX_LATENCY_MS
            && self.number("/generator/lateP99") < MAX_LATENCY_MS / 10.0
    }

    fn row(&self, case: &Case, store: &str, rate: u32) -> String {
        let processed = match self.p99 {
            Some(Duration::MAX) => "more than all buckets".to_owned(),
            Some(p99) => format!("≤ {}", p99.as_millis()),
            None => "none".to_owned(),
        };
        let trouble = match (self.is_sustained(rate), self.report["problems"].get(0)) {
            (true, _) => String::new(),
            (false, Some(problem)) => format!(" (not kept: {problem})"),
            (false, None) => " (not kept)".to_owned(),
        };
        format!(
            "| {} | {store} | {rate}{trouble} | {processed} | {:.1}, {:.1} | {:.1} | {:.2}, {:.2}, {:.2} | {} | {} |",
            case.name,
            self.number("/acks/p50"),
            self.number("/acks/p99"),
            self.number("/toAll/p99"),
            self.number("/server/cores"),
            self.number("/generator/cores"),
            self.database.unwrap_or_default(),
            self.faults(),
            case.goal,
        )
    }
}
