//! The room router without I/O: the cost of queueing one frame to every member of a room, and of
//! joining and leaving.
//!
//! `broadcast/room/N` is one broadcast to N members; its throughput is members per second. Outboxes
//! are emptied between measurements, which is not counted. The members simulate WebSockets, so
//! passing them to a flusher is part of the cost; waking it and writing is not.
#![allow(missing_docs, reason = "made by a macro")]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use roomcast::fuzzing::Crowd;

fn crowd(size: usize) -> Crowd {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let stream = runtime.and_then(|runtime| {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
            tokio::net::TcpStream::connect(listener.local_addr()?).await
        })
    });
    Crowd::new(size, stream.expect("a connection to ourselves"))
}

fn broadcast(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("broadcast");
    group.sample_size(20);
    for size in [10, 1_000, 10_000, 100_000] {
        let crowd = crowd(size);
        let payload = "x".repeat(100);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("room", size), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let began = Instant::now();
                    let queued = crowd.broadcast(black_box(&payload));
                    spent += began.elapsed();
                    assert_eq!(queued, size);
                    crowd.discard();
                }
                spent
            });
        });
    }
    group.finish();
}

fn churn(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("join-and-leave");
    for size in [10, 10_000] {
        let crowd = crowd(size);
        let mut member = 0;
        group.bench_function(BenchmarkId::new("full-room", size), |bencher| {
            bencher.iter(|| {
                crowd.churn(black_box(member));
                member += 7;
            });
        });
        group.bench_function(BenchmarkId::new("new-room", size), |bencher| {
            bencher.iter(|| {
                crowd.visit(black_box(member));
                member += 7;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, broadcast, churn);
criterion_main!(benches);
