//! Channels of an application: how long an event takes from a service to a follower, and what
//! followers, deliveries and channels cost. The binary runs on one core; service, followers and
//! PostgreSQL use another.
//!
//! `cargo bench --profile dist -p roomcast-server --features dist --bench channels` measures the
//! time to followers, or the figure that is named after `--`:
//!
//! - without a name: a service publishes to 10,000 channels at several rates, for 100 followers. The
//!   events of each 20 ms are due together, and sent with one request of at most 1,000.
//! - `follow`: clients follow channels that have 200 events.
//! - `fanout`: a service publishes to a channel with 10,000 followers. In turn with it, it publishes
//!   an event of the same size to a room of these followers with `POST /api/v1/emit`.
//! - `memory`: 100,000 channels without followers get an event each.
//!
//! The store is SQLite, or with `postgres` a private PostgreSQL. Words with a value change the plan:
//! `rate` (only this one), `every` (instead of 20 ms), `seconds`, `channels`, `followers` and
//! `history` (`none`, `last` or a number of events). For example: `-- postgres rate 5000`.
//!
//! Times count from when an event was due. Each follower must receive the events of a channel in
//! order without a gap. Not a criterion bench, because a run has a fixed amount of work.

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

use std::{
    iter::once,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use binary::Server;
use clients::{MAX_EVENTS, ROOM, Received, emit_to_room, fill, follow, publish, subscribe};
use connections::{Service, connect};
use futures_util::future::join_all;
use postgres::Postgres;
use roomcast::client::Connection;
use rustix::process::{Resource, getpid, getrlimit, setrlimit};
use tokio::{
    task::{LocalSet, spawn_blocking, spawn_local},
    time::{sleep, sleep_until},
};

/// The events of all channels per second.
const RATES: [u64; 4] = [1000, 2500, 5000, 10_000];
const ROUNDS: u64 = 5;
/// The events of a round of `fanout`: first those of the warm-up.
const FANOUT_EVENTS: [u64; 2] = [10, 50];
const FANOUT_PAUSE: Duration = Duration::from_millis(100);
/// The seconds before the measured ones.
const WARM_UP: u64 = 5;
/// The time in which the server finishes its work, and the allocator returns what is free.
const SETTLE_TIME: Duration = Duration::from_secs(15);
const LATENCY_HEAD: &str = "\
| events/s | of a request | answered p50, p99, max ms | to the follower p50, p99, max ms | cores of server, PostgreSQL, generator |
|---|---|---|---|---|";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if !has("--bench") {
        println!("channels: measured by `cargo bench --bench channels` only");
        return;
    }
    processor::pin(getpid(), &processor::cores().generator);
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let run = Run::start(has("postgres"), &words);
    let mut figure = ["follow", "fanout", "memory"].into_iter();
    let measured = async {
        match figure.find(|word| has(word)) {
            None => run.latency().await,
            Some("follow") => run.follow().await,
            Some("fanout") => run.fanout().await,
            Some(_) => run.memory().await,
        }
    };
    LocalSet::new().block_on(&runtime, measured);
}

/// Returns the word after another one.
fn value<'a>(words: &'a [String], key: &str) -> Option<&'a str> {
    let at = words.iter().position(|word| word == key)?;
    words.get(at + 1).map(String::as_str)
}

/// A plan, and a server with a store.
struct Run<'a> {
    words: &'a [String],
    server: Server,
    database: Option<Postgres>,
}

impl<'a> Run<'a> {
    fn start(has_database: bool, words: &'a [String]) -> Self {
        let database = has_database.then(Postgres::start_durable);
        for process in database.iter().flat_map(Postgres::processes) {
            processor::pin(process, &processor::cores().database);
        }
        let history = value(words, "history").unwrap_or("200");
        let key = match history.parse::<u32>() {
            Ok(_) => "ROOMCAST_CHANNELS__BENCH__HISTORY__EVENTS",
            Err(_) => "ROOMCAST_CHANNELS__BENCH__HISTORY",
        };
        let settings = [
            ("ROOMCAST_CHANNELS__BENCH__PATTERN", "bench:{n}"),
            ("ROOMCAST_CHANNELS__BENCH__FOLLOW", "anyone"),
            (key, history),
            ("ROOMCAST_LIMITS__CHANNELS_PER_CONNECTION", "100000"),
            ("ROOMCAST_ENGINE__PING_INTERVAL", "1h"),
        ];
        let url = database.as_ref().map(Postgres::database);
        let url = url.as_deref().unwrap_or("sqlite:channels.db");
        Self {
            words,
            server: Server::start_with(url, &processor::cores().server, &settings),
            database,
        }
    }

    fn number(&self, key: &str, default: u64) -> u64 {
        value(self.words, key).map_or(default, |value| value.parse().expect("a number"))
    }

    /// Returns the processor time of the server, of PostgreSQL and of this process, in seconds.
    fn worked(&self) -> [f64; 3] {
        let database = self.database.as_ref().map(Postgres::processes);
        let server = vec![self.server.process()];
        let all = [server, database.unwrap_or_default(), vec![getpid()]];
        all.map(|processes| processor::worked(&processes))
    }

    async fn service(&self) -> Service {
        Service::connect(self.server.address()).await
    }

    async fn user(&self, number: u64) -> Connection {
        connect(self.server.address(), &format!("u{number}")).await
    }

    /// Measures the time from when events are due until followers have them.
    async fn latency(&self) {
        let channels = self.number("channels", 10_000);
        let followers = self.number("followers", 100);
        let received = Received::new();
        for at in 0..followers {
            let mut follower = self.user(at).await;
            for number in (at..channels).step_by(followers as usize) {
                subscribe(&mut follower, &format!("bench:{number}"), 0).await;
            }
            spawn_local(follow(follower, 0, Rc::clone(&received)));
        }
        println!("{LATENCY_HEAD}");
        let (only, mut published) = (self.number("rate", 0), 0);
        let rates = if only > 0 { vec![only] } else { RATES.to_vec() };
        for rate in rates {
            published += self.publish(rate, published, &received).await;
        }
    }

    /// Publishes at a rate, to one channel after the other, when others have published `first`
    /// events. Returns the number of events.
    async fn publish(&self, rate: u64, first: u64, received: &Received) -> u64 {
        let (every, seconds) = (self.number("every", 20), self.number("seconds", 20));
        let (channels, together) = (self.number("channels", 10_000), rate * every / 1000);
        let mut service = self.service().await;
        let start = Instant::now() + Duration::from_millis(200);
        let measured = start + Duration::from_secs(WARM_UP);
        let end = measured + Duration::from_secs(seconds);
        let due = |event: u64| start + Duration::from_millis(event / together * every);
        let publishing = async {
            let (mut sent, mut answered) = (0, Vec::new());
            while due(sent) < end {
                until(due(sent)).await;
                let (now, next) = (Instant::now(), sent);
                let is_due = |event: &u64| due(*event) <= now && due(*event) < end;
                let events = (next..next + MAX_EVENTS).take_while(is_due).map(|event| {
                    let k = first + event;
                    (k % channels, k / channels + 1, received.micros(due(event)))
                });
                sent += publish(&mut service, events).await;
                let took = now.elapsed().as_micros() as u64;
                answered.push((received.micros(due(next)), took));
            }
            (sent, answered)
        };
        let working = async {
            sleep_until(measured.into()).await;
            let before = self.worked();
            sleep_until(end.into()).await;
            let after = self.worked();
            [0, 1, 2].map(|at| (after[at] - before[at]) / seconds as f64)
        };
        let ((sent, answered), [server, database, generator]) = tokio::join!(publishing, working);
        received.wait(first + sent).await;
        println!(
            "| {rate} | {:.0} | {} | {} | {server:.2}, {database:.2}, {generator:.2} |",
            sent as f64 / answered.len() as f64,
            show(answered, received.micros(measured)),
            show(received.times.take(), received.micros(measured)),
        );
        sent
    }

    /// Measures the subscription to a channel that nobody follows.
    async fn follow(&self) {
        let (channels, events) = (self.number("channels", 400), 200);
        fill(&mut self.service().await, 0..channels * ROUNDS, events).await;
        sleep(SETTLE_TIME).await;
        let (mut server, mut database) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let mut followers = join_all((0..4).map(|number| self.user(number))).await;
            let before = self.worked();
            for number in round * channels..(round + 1) * channels {
                let follower = &mut followers[number as usize % 4];
                subscribe(follower, &format!("bench:{number}"), events).await;
            }
            let after = self.worked();
            server.push((after[0] - before[0]) / channels as f64 * 1e3);
            database.push((after[1] - before[1]) / channels as f64 * 1e3);
        }
        let (server, database) = (spread(server), spread(database));
        println!("CPU ms/subscription: server {server}, PostgreSQL {database}");
    }

    /// Compares an event of a channel with an event of the same size for all.
    async fn fanout(&self) {
        let mut files = getrlimit(Resource::Nofile);
        files.current = files.maximum;
        setrlimit(Resource::Nofile, files).unwrap();
        // The server and this process need some files besides those of connections.
        let most = files.maximum.map_or(u64::MAX, |files| files - 1000);
        let followers = self.number("followers", 10_000).min(most);
        let received = Received::new();
        let mut service = self.service().await;
        fill(&mut service, 0..1, 1).await;
        for number in 0..followers {
            let mut follower = self.user(number).await;
            subscribe(&mut follower, "bench:0", 1).await;
            service.join(&follower, ROOM).await;
            spawn_local(follow(follower, 1, Rc::clone(&received)));
        }
        println!("{followers} followers\n| channel, CPU µs | room | ratio |\n|---|---|---|");
        let (mut last, mut ratios) = ([1, 1], Vec::new());
        for round in 0..ROUNDS as usize {
            let (mut costs, mut sizes) = ([0.0; 2], [0; 2]);
            for kind in [round % 2, 1 - round % 2] {
                for events in FANOUT_EVENTS {
                    let before = self.worked()[0];
                    for _ in 0..events {
                        last[kind] += 1;
                        match kind {
                            0 => _ = publish(&mut service, once((0, last[0], 0))).await,
                            _ => emit_to_room(&mut service, last[1]).await,
                        }
                        // No two events share a write.
                        received.wait((last[0] + last[1] - 2) * followers).await;
                        sleep(FANOUT_PAUSE).await;
                    }
                    costs[kind] = (self.worked()[0] - before) / (events * followers) as f64 * 1e6;
                }
                sizes[kind] = received.size.get();
            }
            assert!(sizes[0].abs_diff(sizes[1]) < 8, "{sizes:?} bytes");
            ratios.push(costs[0] / costs[1]);
            println!(
                "| {:.2} | {:.2} | {:.2} |",
                costs[0], costs[1], ratios[round]
            );
        }
        println!("ratio {}", spread(ratios));
    }

    /// Measures what channels add to the resident memory after a warm-up.
    async fn memory(&self) {
        let (few, channels) = (20_000, self.number("channels", 100_000));
        let mut resident = Vec::new();
        for channels in [0..few, few..few + channels] {
            fill(&mut self.service().await, channels, 1).await;
            sleep(SETTLE_TIME).await;
            resident.push(processor::resident(self.server.process()) as f64);
        }
        let each = (resident[1] - resident[0]) / channels as f64;
        println!("{channels} channels without followers: {each:.0} bytes each");
    }
}

/// Formats the median, the lowest and the highest.
fn spread(mut values: Vec<f64>) -> String {
    values.sort_unstable_by(f64::total_cmp);
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{:.2} ({low:.2}–{high:.2})", values[values.len() / 2])
}

/// Waits more precisely than the timers of Tokio, which are up to 2 ms late.
async fn until(due: Instant) {
    let waiting =
        spawn_blocking(move || thread::sleep(due.saturating_duration_since(Instant::now())));
    waiting.await.unwrap();
}

/// Formats the median, the 99th percentile and the largest of the times that were due from then on.
fn show(times: Vec<(u64, u64)>, from: u64) -> String {
    let measured = times.into_iter().filter(|(due, _)| *due >= from);
    let mut times: Vec<u64> = measured.map(|(_, time)| time).collect();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize] as f64 / 1e3;
    format!("{:.1}, {:.1}, {:.1}", at(0.5), at(0.99), at(1.0))
}
