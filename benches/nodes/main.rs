//! Two servers of one chat and a broker on one machine: how long a message takes from one server to
//! the clients of the other, and what that costs.
//!
//! Run `cargo build --profile dist --example fanout`, then
//! `cargo bench --profile dist --bench nodes -- latency`. It sends 1,000 messages a second through
//! each adapter, to one member on each server. `-- compare` measures 1,000 clients on each of two
//! servers, alternately of Roomcast and Node.js, with the Redis adapter. Further arguments select
//! adapters (`postgres`, `redis`, `redis-sharded`, `redis-streams`, `nats`); numbers are the
//! messages per second and the measured seconds.
//!
//! The servers use the first core; the broker, the clients and the sender use the last core. Not a
//! criterion bench, because it makes one run with a fixed amount of work and prints percentiles.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "../../tests/support/broker.rs"]
mod broker;
mod brokers;
mod load;
#[path = "../../tests/support/nats.rs"]
mod nats;
#[path = "../../tests/support/port.rs"]
mod port;
#[path = "../../tests/support/postgres.rs"]
mod postgres;
#[path = "../support/processor.rs"]
mod processor;
#[path = "../../tests/support/redis.rs"]
mod redis;
mod servers;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use brokers::{ADAPTERS, Broker};
use load::{Figures, Plan};
use rustix::process::getpid;
use servers::{Kind, Server};

/// One room with a member on each server, to which a client of the first server sends.
const LATENCY: Plan = Plan {
    members: 1,
    rooms: 1,
    rate: 1000,
    seconds: 20,
};
/// A hundred rooms of ten members on each server.
const COMPARE: Plan = Plan {
    members: 1000,
    rooms: 100,
    rate: 1000,
    seconds: 10,
};
/// The number of alternating rounds of each kind of server.
const ROUNDS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|one| one == word);
    if !has("--bench") {
        println!("nodes: measured by `cargo bench --profile dist --bench nodes` only");
        return;
    }
    let mut plan = if has("compare") { COMPARE } else { LATENCY };
    let mut numbers = words.iter().filter_map(|word| word.parse().ok());
    plan.rate = numbers.next().unwrap_or(plan.rate);
    plan.seconds = numbers.next().unwrap_or(plan.seconds);
    processor::pin(getpid(), &processor::cores().generator);
    if has("compare") {
        compare(&plan);
        return;
    }
    let named: Vec<&str> = ADAPTERS.into_iter().filter(|name| has(name)).collect();
    println!("{} messages/s for {} s", plan.rate, plan.seconds);
    println!(
        "| adapter | at the sender's server p50, p99 ms | at the other p50, p99 ms | the other behind the sender's p50, p99 ms | lost |\n|---|---|---|---|---|"
    );
    for adapter in ADAPTERS {
        if named.is_empty() || named.contains(&adapter) {
            latency(adapter, &plan);
        }
    }
}

fn latency(adapter: &str, plan: &Plan) {
    let broker = Broker::start(adapter);
    let servers = [(); 2].map(|()| Server::start(Kind::Roomcast, broker.url()));
    let mut figures = load::play(&servers, plan);
    println!(
        "| {adapter} | {} | {} | {} | {} |",
        show(&mut figures.local),
        show(&mut figures.remote),
        show(&mut figures.lag),
        figures.lost,
    );
}

fn compare(plan: &Plan) {
    let broker = Broker::start("redis");
    println!(
        "{} messages/s for {} s, {} clients at each server, in {} rooms",
        plan.rate, plan.seconds, plan.members, plan.rooms
    );
    println!(
        "| servers | deliveries/s | CPU s of both | CPU µs/delivery | MiB of both | at the sender's server p50, p99 ms | at the other p50, p99 ms | lost |\n|---|---|---|---|---|---|---|---|"
    );
    for _ in 0..ROUNDS {
        for kind in [Kind::Node, Kind::Roomcast] {
            let servers = [(); 2].map(|()| Server::start(kind, broker.url()));
            let mut figures = load::play(&servers, plan);
            let Figures { cpu, resident, .. } = figures;
            let deliveries = figures.local.len() + figures.remote.len();
            println!(
                "| {kind:?} | {:.0} | {cpu:.2} | {:.2} | {:.0} | {} | {} | {} |",
                deliveries as f64 / plan.seconds as f64,
                cpu / deliveries as f64 * 1e6,
                resident as f64 / f64::from(1 << 20),
                show(&mut figures.local),
                show(&mut figures.remote),
                figures.lost,
            );
        }
    }
}

/// Formats the median and the 99th percentile, in milliseconds.
fn show(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        let index = (times.len() as f64 * part) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1)));
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
    };
    format!("{:.2}, {:.2}", at(0.5), at(0.99))
}
