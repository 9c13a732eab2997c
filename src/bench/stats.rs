//! The figures that one thread collects, and how those of several become one.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use super::{chat::Stored, completion::Completion};

/// Times in nanoseconds, with three digits, up to ten minutes.
#[derive(Clone, Debug)]
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Self {
        Self(Histogram::new_with_bounds(1_000, MAX, 3).expect("constant bounds that fit"))
    }

    pub(super) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(MAX);
        self.0.saturating_record(nanos);
    }

    pub(super) fn add(&mut self, other: &Self) {
        // Both have the same bounds, so this cannot fail.
        let _ = self.0.add(&other.0);
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share of all (0 to 1) does not exceed, in milliseconds.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        millis(self.0.value_at_quantile(share))
    }

    pub(super) fn min(&self) -> f64 {
        millis(self.0.min())
    }

    pub(super) fn max(&self) -> f64 {
        millis(self.0.max())
    }

    pub(super) fn mean(&self) -> f64 {
        self.0.mean() / 1e6
    }
}

fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// Latency over the time of a run, in equal intervals.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    interval: Duration,
    /// Made when something falls into it.
    buckets: Vec<Option<Box<Histogram<u64>>>>,
}

impl Timeline {
    /// For a time of this length; at most 120 intervals, of a second or more.
    pub(super) fn new(length: Duration) -> Self {
        let seconds = length.as_secs_f64().max(1.0);
        let interval = (seconds / 120.0).ceil();
        let buckets = (seconds / interval).ceil() as usize;
        Self {
            interval: Duration::from_secs_f64(interval),
            buckets: vec![None; buckets.max(1)],
        }
    }

    /// Notes something that was due `at` after the beginning; what lies outside is left out.
    pub(super) fn record(&mut self, at: Duration, time: Duration) {
        let index = at.as_secs_f64() / self.interval.as_secs_f64();
        if let Some(bucket) = self.buckets.get_mut(index as usize) {
            let histogram = bucket.get_or_insert_with(|| {
                let histogram = Histogram::new_with_bounds(1_000, MAX, 2);
                Box::new(histogram.expect("constant bounds that fit"))
            });
            histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(MAX));
        }
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            match (mine, theirs) {
                (_, None) => {}
                (Some(mine), Some(theirs)) => {
                    let _ = mine.add(&**theirs);
                }
                (mine @ None, Some(theirs)) => *mine = Some(theirs.clone()),
            }
        }
    }

    /// Seconds from the beginning, number per second, and p50, p99 and maximum in milliseconds.
    pub(super) fn points(&self) -> impl Iterator<Item = [f64; 5]> {
        let interval = self.interval.as_secs_f64();
        self.buckets.iter().enumerate().map(move |(i, bucket)| {
            let at = i as f64 * interval;
            match bucket {
                None => [at, 0.0, 0.0, 0.0, 0.0],
                Some(times) => [
                    at,
                    times.len() as f64 / interval,
                    millis(times.value_at_quantile(0.5)),
                    millis(times.value_at_quantile(0.99)),
                    millis(times.max()),
                ],
            }
        })
    }
}

/// Names and how often each occurred; of more than 32 different ones the rest is put together.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally(pub(super) BTreeMap<String, u64>);

impl Tally {
    pub(super) fn count(&mut self, name: &str) {
        self.add_some(name, 1);
    }

    fn add_some(&mut self, name: &str, count: u64) {
        if let Some(found) = self.0.get_mut(name) {
            *found += count;
        } else if self.0.len() < 32 {
            self.0.insert(name.to_owned(), count);
        } else {
            *self.0.entry("others".to_owned()).or_default() += count;
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add_some(name, *count);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// What went wrong with messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) duplicate: u64,
    pub(super) out_of_order: u64,
    pub(super) corrupt: u64,
    pub(super) misrouted: u64,
    /// Requests that were never answered.
    pub(super) unanswered: u64,
}

/// Everything that a thread collects.
#[derive(Clone, Debug)]
pub(super) struct Stats {
    /// From when a message was due to when it was read.
    pub(super) latency: Times,
    /// From when a message was due to when its acknowledgement was read.
    pub(super) acks: Times,
    /// Of connecting, the namespace included.
    pub(super) connect: Times,
    /// From when a message was due to when it was sent: the generator's own part.
    pub(super) lag: Times,
    pub(super) timeline: Timeline,
    pub(super) sent: u64,
    /// Due, but the client had gone or its queue was full.
    pub(super) unsent: u64,
    /// Messages that each client was to get.
    pub(super) expected: u64,
    pub(super) delivered: u64,
    /// Not got by clients whose connection had ended.
    pub(super) missed: u64,
    pub(super) faults: Faults,
    /// What the server did not accept, by its reason.
    pub(super) refused: Tally,
    pub(super) opened: u64,
    /// Clients that could not connect, by reason.
    pub(super) failed: Tally,
    /// Connections that ended early, by reason.
    pub(super) dropped: Tally,
    pub(super) pings: u64,
    pub(super) slow: Slow,
    /// When messages had come to everyone.
    pub(super) completion: Completion,
    /// What a chat has stored, or why that is not known. Found out when all threads have ended.
    pub(super) stored: Option<Result<Stored, String>>,
}

/// Clients that stop reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Slow {
    pub(super) clients: u64,
    pub(super) cut: u64,
    pub(super) expected: u64,
    pub(super) received: u64,
    /// Messages missing although later ones came.
    pub(super) holes: u64,
}

impl Stats {
    /// For a measured time of this length.
    pub(super) fn new(length: Duration) -> Self {
        Self {
            latency: Times::new(),
            acks: Times::new(),
            connect: Times::new(),
            lag: Times::new(),
            timeline: Timeline::new(length),
            sent: 0,
            unsent: 0,
            expected: 0,
            delivered: 0,
            missed: 0,
            faults: Faults::default(),
            refused: Tally::default(),
            opened: 0,
            failed: Tally::default(),
            dropped: Tally::default(),
            pings: 0,
            slow: Slow::default(),
            completion: Completion::default(),
            stored: None,
        }
    }

    /// Takes in what another thread has collected.
    pub(super) fn merge(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.acks.add(&other.acks);
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        self.timeline.add(&other.timeline);
        self.refused.add(&other.refused);
        self.failed.add(&other.failed);
        self.dropped.add(&other.dropped);
        self.completion.merge(&other.completion);
        let (mine, theirs) = (&mut self.faults, &other.faults);
        let (slow, their_slow) = (&mut self.slow, &other.slow);
        for (mine, theirs) in [
            (&mut self.sent, other.sent),
            (&mut self.unsent, other.unsent),
            (&mut self.expected, other.expected),
            (&mut self.delivered, other.delivered),
            (&mut self.missed, other.missed),
            (&mut self.opened, other.opened),
            (&mut self.pings, other.pings),
            (&mut mine.lost, theirs.lost),
            (&mut mine.duplicate, theirs.duplicate),
            (&mut mine.out_of_order, theirs.out_of_order),
            (&mut mine.corrupt, theirs.corrupt),
            (&mut mine.misrouted, theirs.misrouted),
            (&mut mine.unanswered, theirs.unanswered),
            (&mut slow.clients, their_slow.clients),
            (&mut slow.cut, their_slow.cut),
            (&mut slow.expected, their_slow.expected),
            (&mut slow.received, their_slow.received),
            (&mut slow.holes, their_slow.holes),
        ] {
            *mine += theirs;
        }
    }
}

/// Longer times count as this long.
const MAX: u64 = 600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn merged_times_are_those_of_one_histogram() {
        let (mut odd, mut even, mut all) = (Times::new(), Times::new(), Times::new());
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
    fn times_out_of_bounds_are_kept_at_the_bound() {
        let mut times = Times::new();
        times.record(Duration::MAX);
        times.record(Duration::ZERO);
        assert_eq!(times.count(), 2);
        assert!(times.max() >= 600_000.0);
    }

    #[test]
    fn a_timeline_counts_where_things_were_due_and_merges() {
        let mut first = Timeline::new(Duration::from_secs(3));
        first.record(MS * 500, MS);
        first.record(MS * 2999, MS * 4);
        first.record(MS * 3000, MS);
        let mut second = Timeline::new(Duration::from_secs(3));
        second.record(MS * 700, MS);
        second.record(MS * 1500, MS);
        first.add(&second);
        let counts: Vec<_> = first.points().map(|point| point[1]).collect();
        assert_eq!(counts, [2.0, 1.0, 1.0]);
    }

    #[test]
    fn a_long_run_has_intervals_of_more_than_a_second() {
        let timeline = Timeline::new(Duration::from_secs(3600));
        assert_eq!(timeline.points().count(), 120);
    }

    #[test]
    fn every_count_is_merged() {
        let mut one = Stats::new(Duration::from_secs(1));
        one.sent = 1;
        one.faults.lost = 2;
        one.slow.cut = 3;
        one.dropped.count("x");
        let mut both = one.clone();
        both.merge(&one);
        assert_eq!((both.sent, both.faults.lost, both.slow.cut), (2, 4, 6));
        assert_eq!(both.dropped.0["x"], 2);
    }

    #[test]
    fn a_tally_has_a_bound() {
        let mut tally = Tally::default();
        for i in 0..1000 {
            tally.count(&i.to_string());
        }
        assert_eq!((tally.0.len(), tally.total()), (33, 1000));
    }
}
