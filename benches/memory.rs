//! Resident memory of one idle connection, as `/proc/self/statm` tells it.
//!
//! Not a criterion bench: it measures once and prints. The clients live in the same
//! process and are plain sockets without buffers of their own; the server's share is what
//! grows beyond the measured cost of such a client.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod support;

use support::Client;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const CLIENTS: usize = 2000;

fn main() {
    // `cargo test --benches` runs this too; then a handful of clients proves that it works.
    let measuring = std::env::args().any(|argument| argument == "--bench");
    let clients = if measuring { CLIENTS } else { 10 };
    let address = support::serve(support::io(), 1);
    // The first clients pay for what all share.
    let warm: Vec<Client> = (0..100.min(clients)).map(|_| joined(address)).collect();
    let before = resident();
    let held: Vec<Client> = (0..clients).map(|_| joined(address)).collect();
    let after = resident();
    drop((warm, held));
    let per_connection = after.saturating_sub(before) / clients;
    println!(
        "memory/idle_websocket_in_a_room: {per_connection} bytes a connection, {clients} connections, both ends"
    );
}

fn joined(address: std::net::SocketAddr) -> Client {
    let mut client = Client::connect(address);
    client.join("room");
    client
}

/// Resident bytes of this process.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse().ok())
        .expect("a number of pages");
    pages * 4096
}
