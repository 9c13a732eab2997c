//! Processor time of the server for one ping and its pong, with many idle connections.
//!
//! Not a criterion bench: it measures once and prints. The clients run in the same process on
//! another thread, whose time is excluded.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "support/cpu.rs"]
mod cpu;
mod support;

use std::time::Duration;

use cpu::OtherThreads;
use criterion::measurement::Measurement as _;
use roomcast::Config;
use support::Client;

const CLIENTS: usize = 2000;
const ROUNDS: usize = 10;

fn main() {
    // `cargo test --benches` also runs this; then a handful of clients shows that it works.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let (clients, rounds) = if measuring { (CLIENTS, ROUNDS) } else { (5, 1) };
    let address = support::serve(
        support::io_with(Config::default().ping_interval(Duration::from_secs(1))),
        1,
    );
    let mut held: Vec<Client> = (0..clients).map(|_| Client::connect(address)).collect();
    let mut round = || held.iter_mut().for_each(Client::answer_ping);
    round();
    let before = OtherThreads.start();
    for _ in 0..rounds {
        round();
    }
    let spent = OtherThreads.end(before);
    println!(
        "heartbeats: {:.2} µs of the server for a ping and its pong, {clients} idle connections",
        spent.as_secs_f64() * 1e6 / (clients * rounds) as f64
    );
}
