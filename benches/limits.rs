//! Measures the checks of limits for an event, a packet and a connect. The goal is 100 ns each.
//!
//! `cargo bench --bench limits`

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use roomcast_server::fuzzing::Limited;

fn limits(criterion: &mut Criterion) {
    let limited = Limited::new(10_000);
    let mut group = criterion.benchmark_group("limits");
    // One of ten thousand connected users sends an event of a limited class.
    let mut user = 0;
    group.bench_function("event of a user", |bencher| {
        bencher.iter(|| {
            user = (user + 7919) % 10_000;
            black_box(limited.event(user))
        });
    });
    group.bench_function("packet of a connection", |bencher| {
        let mut connection = limited.connection();
        bencher.iter(|| black_box(connection.packet()));
    });
    // This checks the block list and the connect limit, with a thousand networks blocked.
    let mut address = 0;
    group.bench_function("connect of an address", |bencher| {
        bencher.iter(|| {
            address = (address + 7919) % 10_000;
            black_box(limited.connect(address))
        });
    });
    group.finish();
}

criterion_group!(benches, limits);
criterion_main!(benches);
