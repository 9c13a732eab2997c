use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::Row;

/// Upper bounds of the buckets for durations, in microseconds.
pub(super) const TIMES: [u64; 21] = [
    100, 250, 500, 1_000, 2_000, 3_000, 5_000, 7_000, 10_000, 15_000, 20_000, 30_000, 40_000,
    50_000, 75_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
];

/// Upper bounds of the buckets for sizes, in bytes.
pub(super) const SIZES: [u64; 9] = [
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

/// A histogram with one bucket for each bound, and one for larger values.
#[derive(Debug)]
pub(super) struct Histogram {
    bounds: &'static [u64],
    buckets: Box<[AtomicU64]>,
    /// The sum of all recorded values.
    sum: AtomicU64,
}

impl Histogram {
    /// Creates an empty histogram. The bounds must be in ascending order.
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    /// Records a value, in the unit of the bounds.
    pub(super) fn note(&self, value: u64) {
        let bucket = self.bounds.partition_point(|&bound| bound < value);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
        // A concurrent reader may see the new count without the new sum. The sum is then off by one
        // value until the next read.
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Records a duration in microseconds, rounded up, so that a duration just above a bound counts
    /// as above it.
    pub(super) fn time(&self, took: Duration) {
        self.note(u64::try_from(took.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX));
    }

    /// Returns the number of recorded values.
    pub(super) fn count(&self) -> u64 {
        self.counts().sum()
    }

    /// Returns the value below which this fraction (0 to 1) of the recorded values lie, or `None`
    /// if no value was recorded.
    #[cfg(test)]
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let counts: Vec<u64> = self.counts().collect();
        quantile(self.bounds, &counts, part)
    }

    /// Returns the number of recorded values in each bucket.
    pub(super) fn snapshot(&self) -> DurationCounts {
        let mut counts = DurationCounts::default();
        for (copy, count) in counts.0.iter_mut().zip(self.counts()) {
            *copy = count;
        }
        counts
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        let cells = self.buckets.iter();
        cells.map(|cell| cell.load(Ordering::Relaxed))
    }

    /// Renders the Prometheus text format, with values divided by `unit`. Each bucket row includes
    /// the counts of the buckets before it.
    pub(super) fn render(&self, out: &mut String, row: &Row, unit: f64) {
        let Row { family, labels, .. } = row;
        // The bound is added to the labels of the row.
        let own = labels
            .strip_prefix('{')
            .and_then(|own| own.strip_suffix('}'));
        let own = own.map_or_else(String::new, |own| format!("{own},"));
        let bounds = self.bounds.iter().map(|&n| (n as f64 / unit).to_string());
        let mut count = 0;
        for (bound, in_bucket) in bounds.chain(["+Inf".to_owned()]).zip(self.counts()) {
            count += in_bucket;
            let _ = writeln!(out, "{family}_bucket{{{own}le=\"{bound}\"}} {count}");
        }
        let sum = self.sum.load(Ordering::Relaxed) as f64 / unit;
        let _ = writeln!(
            out,
            "{family}_sum{labels} {sum}\n{family}_count{labels} {count}"
        );
    }
}

/// The number of recorded durations in each bucket of a timing, at one time or between two times.
///
/// [`Registry::durations`](super::Registry::durations) returns the counts since the start. The
/// difference of two of them describes the time between them, and sums describe several servers:
///
/// ```
/// use roomcast::metrics::DurationCounts;
///
/// let mut early = [0; DurationCounts::BUCKETS];
/// early[3] = 7;
/// let mut late = early;
/// late[3] += 1;
/// let recent = DurationCounts::from(late).since(&DurationCounts::from(early));
/// assert_eq!(recent.total(), 1);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationCounts([u64; TIMES.len() + 1]);

impl DurationCounts {
    /// The number of buckets. The last one has the durations above all bounds.
    pub const BUCKETS: usize = TIMES.len() + 1;

    /// Returns the counts, those of the shortest durations first.
    #[must_use]
    pub const fn counts(&self) -> &[u64; Self::BUCKETS] {
        &self.0
    }

    /// Returns the number of durations.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Returns the durations recorded after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = self.clone();
        for (count, before) in rest.0.iter_mut().zip(&earlier.0) {
            *count = count.saturating_sub(*before);
        }
        rest
    }

    /// Adds the durations of another server or time.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count = count.saturating_add(*more);
        }
    }

    /// Returns the duration below which this fraction (0 to 1) of the durations lie, or `None`
    /// without durations. Durations are assumed to be spread evenly within a bucket, and those
    /// above all bounds count as the last bound, 5 s.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let micros = quantile(&TIMES, &self.0, part)?;
        Some(Duration::from_nanos((micros * 1e3) as u64))
    }
}

impl Default for DurationCounts {
    fn default() -> Self {
        Self([0; Self::BUCKETS])
    }
}

impl From<[u64; Self::BUCKETS]> for DurationCounts {
    fn from(counts: [u64; Self::BUCKETS]) -> Self {
        Self(counts)
    }
}

/// Returns the value below which this fraction (0 to 1) of the counted values lie.
///
/// Values are assumed to be spread evenly within a bucket. Values above all bounds count as the
/// last bound. Returns `None` if no value was counted.
fn quantile(bounds: &[u64], counts: &[u64], part: f64) -> Option<f64> {
    let sum: f64 = counts.iter().map(|&count| count as f64).sum();
    let rank = part.clamp(0.0, 1.0) * sum;
    let (mut below, mut lower) = (0.0, 0.0);
    for (&upper, &in_bucket) in bounds.iter().zip(counts) {
        let (upper, in_bucket) = (upper as f64, in_bucket as f64);
        if in_bucket > 0.0 && below + in_bucket >= rank {
            return Some(lower + (upper - lower) * (rank - below) / in_bucket);
        }
        below += in_bucket;
        lower = upper;
    }
    let is_any_beyond = counts.last().is_some_and(|&beyond| beyond > 0);
    is_any_beyond.then_some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantile_is_within_its_bucket_and_none_if_empty() {
        static BOUNDS: [u64; 3] = [10, 20, 40];
        let histogram = Histogram::new(&BOUNDS);
        assert_eq!(histogram.quantile(0.5), None);
        for value in [11, 12, 13, 14] {
            histogram.note(value);
        }
        assert_eq!(histogram.quantile(0.5), Some(15.0));
        assert_eq!(histogram.quantile(1.0), Some(20.0));
        for value in [39, 41, 1000, 2000] {
            histogram.note(value);
        }
        assert_eq!(histogram.quantile(0.5), Some(20.0));
        assert_eq!(histogram.quantile(0.99), Some(40.0));
        let histogram = Histogram::new(&BOUNDS);
        histogram.note(41);
        assert_eq!(histogram.quantile(0.5), Some(40.0));
    }

    #[test]
    fn differences_of_durations_describe_only_the_time_between() {
        let histogram = Histogram::new(&TIMES);
        histogram.time(Duration::from_millis(900));
        let early = histogram.snapshot();
        for _ in 0..10 {
            histogram.time(Duration::from_micros(90));
        }
        let late = histogram.snapshot();
        let mut recent = late.since(&early);
        assert_eq!((late.total(), recent.total()), (11, 10));
        assert!(recent.quantile(0.99).unwrap() <= Duration::from_micros(100));
        assert_eq!(early.since(&late), DurationCounts::default());
        assert_eq!(DurationCounts::default().quantile(0.5), None);
        // Buckets of two servers are added, which their percentiles could not be.
        recent.merge(&early);
        assert_eq!(recent, late);
    }

    #[test]
    fn the_rows_of_a_histogram_have_its_labels_and_the_bound() {
        static BOUNDS: [u64; 1] = [10];
        let histogram = Histogram::new(&BOUNDS);
        histogram.note(4);
        let mut text = String::new();
        let row = Row {
            family: "tests_bytes",
            help: "Tests.",
            labels: "{of=\"one\"}",
        };
        histogram.render(&mut text, &row, 1.0);
        assert_eq!(
            text,
            "tests_bytes_bucket{of=\"one\",le=\"10\"} 1\n\
             tests_bytes_bucket{of=\"one\",le=\"+Inf\"} 1\n\
             tests_bytes_sum{of=\"one\"} 4\ntests_bytes_count{of=\"one\"} 1\n"
        );
    }
}
