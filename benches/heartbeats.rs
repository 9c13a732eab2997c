//! Processor time of the server for one ping and its pong, with many idle connections.
//!
//! Not a criterion bench: it measures once and prints. The clients live in the same process, on
//! another thread; the kernel says what the server's thread has used.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod support;

use std::{fs, time::Duration};

use roomcast::Config;
use support::Client;

const CLIENTS: usize = 2000;
const ROUNDS: usize = 10;

fn main() {
    // `cargo test --benches` runs this too; then a handful of clients proves that it works.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let (clients, rounds) = if measuring { (CLIENTS, ROUNDS) } else { (5, 1) };
    let address = support::serve(
        support::io_with(Config {
            ping_interval: Duration::from_secs(1),
            ..Config::default()
        }),
        1,
    );
    let mut held: Vec<Client> = (0..clients).map(|_| Client::connect(address)).collect();
    let mut round = || held.iter_mut().for_each(Client::answer_ping);
    round();
    let before = server_nanoseconds();
    for _ in 0..rounds {
        round();
    }
    let spent = server_nanoseconds() - before;
    println!(
        "heartbeats: {:.2} µs of the server for a ping and its pong, {clients} idle connections",
        spent as f64 / 1e3 / (clients * rounds) as f64
    );
}

/// What the threads of the runtime have used.
fn server_nanoseconds() -> u64 {
    let threads = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let used = threads.filter_map(|thread| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let used = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let nanoseconds = used.split(' ').next()?.parse::<u64>().ok()?;
        name.starts_with("tokio").then_some(nanoseconds)
    });
    used.sum()
}
