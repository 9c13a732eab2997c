//! One broadcast to a room over real sockets, until its last member has read it.

#![allow(
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "a bench"
)]

#[path = "support/cpu.rs"]
mod cpu;
mod support;

use cpu::OtherThreads;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::Client;

/// The binary's allocator, so that the measurement matches the binary.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn broadcast(c: &mut Criterion) {
    let address = support::serve(support::io(), 1);
    let mut group = c.benchmark_group("broadcast");
    let payload = "x".repeat(128);
    for members in [10_usize, 100, 1000] {
        let room = format!("room{members}");
        let mut clients: Vec<Client> = (0..members)
            .map(|_| {
                let mut client = Client::connect(address);
                client.join(&room);
                client
            })
            .collect();
        let message = format!("42[\"bcast\",\"{room}\",\"{payload}\"]");
        group.throughput(Throughput::Elements(members as u64));
        group.bench_function(BenchmarkId::new("whole_room", members), |b| {
            b.iter(|| {
                clients[0].send(&message);
                for client in &mut clients {
                    client.receive();
                }
            });
        });
    }
    group.finish();
}

/// Measures what recovery adds to a delivery, in CPU time of the server.
fn recovery(c: &mut Criterion<OtherThreads>) {
    const MEMBERS: usize = 1000;
    let mut group = c.benchmark_group("recovery");
    group.throughput(Throughput::Elements(MEMBERS as u64));
    let message = format!("42[\"bcast\",\"room\",\"{}\"]", "x".repeat(128));
    for (name, io) in [("off", support::io()), ("on", support::io_with_recovery())] {
        let address = support::serve(io, 1);
        let mut clients: Vec<Client> = (0..MEMBERS)
            .map(|_| {
                let mut client = Client::connect(address);
                client.join("room");
                client
            })
            .collect();
        group.bench_function(BenchmarkId::new("whole_room", name), |b| {
            b.iter(|| {
                clients[0].send(&message);
                for client in &mut clients {
                    client.receive();
                }
            });
        });
    }
    group.finish();
}

fn echo(c: &mut Criterion) {
    let address = support::serve(support::io(), 1);
    let mut client = Client::connect(address);
    c.bench_function("echo/one_request", |b| {
        b.iter(|| {
            client.send("421[\"echo\",\"hello\"]");
            client.receive()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = broadcast, echo
}
criterion_group! {
    name = cpu_benches;
    config = Criterion::default().with_measurement(OtherThreads).sample_size(30);
    targets = recovery
}
criterion_main!(benches, cpu_benches);
