use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Microseconds up to which a bucket of times goes.
pub const TIMES: [u64; 21] = [
    100, 250, 500, 1_000, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 40_000,
    50_000, 75_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
];

/// Bytes up to which a bucket of sizes goes.
pub const SIZES: [u64; 9] = [
    0,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
    4 << 20,
    16 << 20,
];

/// Counts in as many buckets as there are bounds, and one for what is beyond.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: &'static [u64; N],
    buckets: [AtomicU64; N],
    beyond: AtomicU64,
    /// Of all together.
    sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    /// Nothing was noted yet. Bounds are in ascending order.
    #[must_use]
    pub const fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// Notes a value, in the unit of the bounds.
    pub fn note(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        let cell = self.buckets.get(bucket).unwrap_or(&self.beyond);
        cell.fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Notes a time in microseconds, rounded up, so that what took a nanosecond more than a bound is
    /// beyond it.
    pub fn time(&self, took: Duration) {
        self.note(u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX));
    }

    /// How often something was noted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts().sum()
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        let cells = self.buckets.iter().chain([&self.beyond]);
        cells.map(|cell| cell.load(Ordering::Relaxed))
    }

    /// In the Prometheus text format, values in units of so many. Each row of a bucket counts what
    /// the ones before it do.
    pub(super) fn render(&self, out: &mut String, family: &str, unit: f64) {
        let bounds = self.bounds.iter().map(|&n| (n as f64 / unit).to_string());
        let mut count = 0;
        for (bound, here) in bounds.chain(["+Inf".to_owned()]).zip(self.counts()) {
            count += here;
            let _ = writeln!(out, "{family}_bucket{{le=\"{bound}\"}} {count}");
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        let _ = writeln!(out, "{family}_sum {sum}\n{family}_count {count}");
    }
}
