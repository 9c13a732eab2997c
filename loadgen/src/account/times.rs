//! Distributions of times, of a whole run and of its intervals.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times in nanoseconds, by default with three significant digits, up to ten minutes.
#[derive(Clone, Debug)]
pub(crate) struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self::with_digits(3)
    }
}

impl Times {
    fn with_digits(digits: u8) -> Self {
        Self(Histogram::new_with_bounds(1_000, MAX, digits).expect("constant bounds that fit"))
    }

    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(MAX);
        self.0.saturating_record(nanos);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot fail.
        let _ = self.0.add(&other.0);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the time that a share of all times (0 to 1) does not exceed, in milliseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        millis(self.0.value_at_quantile(share))
    }

    pub(crate) fn min(&self) -> f64 {
        millis(self.0.min())
    }

    pub(crate) fn max(&self) -> f64 {
        millis(self.0.max())
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.mean() / 1e6
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Latency over the time of a run, in equal intervals.
#[derive(Clone, Debug, Default)]
pub(crate) struct Timeline {
    interval: Duration,
    /// The times of each interval with two digits, which are created for its first value.
    buckets: Vec<Option<Box<Times>>>,
}

impl Timeline {
    /// Creates a timeline for this length, with at most 120 intervals of a second or more.
    pub(crate) fn new(length: Duration) -> Self {
        let seconds = length.as_secs_f64().max(1.0);
        let interval = (seconds / 120.0).ceil();
        let buckets = (seconds / interval).ceil() as usize;
        Self {
            interval: Duration::from_secs_f64(interval),
            buckets: vec![None; buckets.max(1)],
        }
    }

    /// Records a time that was due `at` after the beginning; times outside are ignored.
    pub(crate) fn record(&mut self, at: Duration, time: Duration) {
        let index = at.as_secs_f64() / self.interval.as_secs_f64();
        if let Some(bucket) = self.buckets.get_mut(index as usize) {
            bucket.get_or_insert_with(Self::bucket).record(time);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (own, merged) in self.buckets.iter_mut().zip(&other.buckets) {
            if let Some(merged) = merged {
                own.get_or_insert_with(Self::bucket).add(merged);
            }
        }
    }

    fn bucket() -> Box<Times> {
        Box::new(Times::with_digits(2))
    }

    /// Returns the figures of each interval.
    pub(crate) fn points(&self) -> impl Iterator<Item = Point> {
        let interval = self.interval.as_secs_f64();
        self.buckets.iter().enumerate().map(move |(i, bucket)| {
            let times = bucket.as_ref();
            Point {
                at: i as f64 * interval,
                per_second: times.map_or(0.0, |times| times.count() as f64 / interval),
                p50: times.map_or(0.0, |times| times.quantile(0.5)),
                p99: times.map_or(0.0, |times| times.quantile(0.99)),
                max: times.map_or(0.0, |times| times.max()),
            }
        })
    }
}

/// The figures of one interval.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Point {
    /// The seconds from the beginning.
    pub(crate) at: f64,
    pub(crate) per_second: f64,
    /// Times in milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

/// The maximum in nanoseconds; longer times count as this long.
const MAX: u64 = 600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn merged_times_are_those_of_one_histogram() {
        let (mut odd, mut even, mut all) = (Times::default(), Times::default(), Times::default());
        for i in 1..=1000 {
            let half = if i % 2 == 0 { &mut even } else { &mut odd };
            half.record(MS * i);
            all.record(MS * i);
        }
        odd.add(&even);
        assert_eq!(odd.count(), 1000);
        for share in [0.0, 0.5, 0.9, 0.99, 1.0] {
            assert_eq!(odd.quantile(share), all.quantile(share));
        }
        assert!(
            (odd.quantile(0.5) - 500.0).abs() < 1.0,
            "{}",
            odd.quantile(0.5)
        );
        assert_eq!((odd.min(), odd.max()), (all.min(), all.max()));
    }

    #[test]
    fn times_out_of_bounds_are_clamped() {
        let mut times = Times::default();
        times.record(Duration::MAX);
        times.record(Duration::ZERO);
        assert_eq!(times.count(), 2);
        assert!(times.max() >= 600_000.0);
    }

    #[test]
    fn timeline_counts_messages_at_their_due_time_and_merges() {
        let mut first = Timeline::new(Duration::from_secs(3));
        first.record(MS * 500, MS);
        first.record(MS * 2999, MS * 4);
        first.record(MS * 3000, MS);
        let mut second = Timeline::new(Duration::from_secs(3));
        second.record(MS * 700, MS);
        second.record(MS * 1500, MS);
        first.add(&second);
        let counts: Vec<_> = first.points().map(|point| point.per_second).collect();
        assert_eq!(counts, [2.0, 1.0, 1.0]);
    }

    #[test]
    fn a_long_run_has_intervals_of_more_than_a_second() {
        let timeline = Timeline::new(Duration::from_secs(3600));
        assert_eq!(timeline.points().count(), 120);
    }
}
