//! Measures how much clients that do not read slow down the readers. Times one broadcast to a room
//! until the last reading member has received it, with more and more members whose buffers are
//! full. Their outboxes are so large that no member is disconnected.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

mod support;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roomcast::Config;
use support::Client;

const READERS: usize = 100;

fn patient() -> Config {
    support::quiet()
        .outbox_bytes(1 << 30)
        .total_outbox_bytes(READERS << 30)
}

fn stalled(c: &mut Criterion) {
    let mut group = c.benchmark_group("backpressure");
    group.throughput(Throughput::Elements(READERS as u64));
    let message = format!("42[\"bcast\",\"room\",\"{}\"]", "x".repeat(128));
    for stalled in [0, 10, 100] {
        let address = support::serve(support::io_with(patient()), 1);
        let idle: Vec<Client> = (0..stalled)
            .map(|_| Client::stalled(address, "room"))
            .collect();
        Client::connect(address).stall();
        let mut clients: Vec<Client> = (0..READERS)
            .map(|_| {
                let mut client = Client::connect(address);
                client.join("room");
                client
            })
            .collect();
        group.bench_function(BenchmarkId::new("readers_beside_stalled", stalled), |b| {
            b.iter(|| {
                clients[0].send(&message);
                for client in &mut clients {
                    client.receive();
                }
            });
        });
        drop(idle);
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = stalled
}
criterion_main!(benches);
