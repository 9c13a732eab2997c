//! Recent durations: snapshots of histograms, so that a delay of the last minute is not hidden by
//! the durations since the start.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::metrics::{Metrics, Timing};
use crate::service::rules::admin::commands::{Percentiles, Times};
use roomcast::{
    Io,
    metrics::{DurationCounts, Timing as Library},
};

/// The counts of the buckets of all shown timings, as servers send them to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::service::api) struct TimeCounts {
    delivery: Buckets,
    processing: Buckets,
    ping: Buckets,
}

/// The counts of one timing: an array of numbers on the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u64>", into = "Vec<u64>")]
struct Buckets(DurationCounts);

impl TryFrom<Vec<u64>> for Buckets {
    type Error = &'static str;

    fn try_from(counts: Vec<u64>) -> Result<Self, Self::Error> {
        // Another version could have other bounds, whose counts must not be added.
        let counts: [u64; DurationCounts::BUCKETS] =
            counts.try_into().map_err(|_| "has other buckets")?;
        Ok(Self(counts.into()))
    }
}

impl From<Buckets> for Vec<u64> {
    fn from(buckets: Buckets) -> Self {
        buckets.0.counts().to_vec()
    }
}

impl TimeCounts {
    /// Returns the counts since this server was started.
    pub(in crate::service::api) fn of(io: &Io, metrics: &Metrics) -> Self {
        let library = io.metrics();
        Self {
            delivery: Buckets(library.durations(Library::Queue)),
            processing: Buckets(metrics.durations(Timing::MessageProcessing)),
            ping: Buckets(library.durations(Library::Ping)),
        }
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            delivery: Buckets(self.delivery.0.since(&earlier.delivery.0)),
            processing: Buckets(self.processing.0.since(&earlier.processing.0)),
            ping: Buckets(self.ping.0.since(&earlier.ping.0)),
        }
    }

    /// Adds the counts of another server.
    pub(in crate::service::api) fn merge(&mut self, other: &Self) {
        self.delivery.0.merge(&other.delivery.0);
        self.processing.0.merge(&other.processing.0);
        self.ping.0.merge(&other.ping.0);
    }

    /// Returns the percentiles.
    pub(in crate::service::api) fn times(&self) -> Times {
        Times {
            delivery: percentiles(&self.delivery.0),
            processing: percentiles(&self.processing.0),
            ping: percentiles(&self.ping.0),
        }
    }
}

fn percentiles(counts: &DurationCounts) -> Percentiles {
    let percentile = |part| {
        let time: Option<Duration> = counts.quantile(part);
        time.map(|time| time.as_micros() as f64 / 1e3)
    };
    Percentiles {
        count: counts.total(),
        p50: percentile(0.5),
        p95: percentile(0.95),
        p99: percentile(0.99),
    }
}

/// Durations of the last minutes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct RecentTimes {
    /// The last 1, 5 or 60 minutes and up to 10 seconds more, or the time since a server was
    /// started if that is shorter.
    pub(super) minutes: u64,
    pub(super) times: Times,
}

/// Snapshots of the counts of this server, the oldest first.
#[derive(Debug, Default)]
pub(in crate::service::api) struct Snapshots(Mutex<VecDeque<(Instant, TimeCounts)>>);

impl Snapshots {
    /// Takes a snapshot if the newest one is old enough. Called about once a second.
    pub(in crate::service::api) fn update(
        &self,
        now: Instant,
        counts: impl FnOnce() -> TimeCounts,
    ) {
        let mut snapshots = self.0.lock();
        let newest = snapshots.back().map(|(at, _)| *at);
        if newest.is_some_and(|at| now.saturating_duration_since(at) < SNAPSHOT_INTERVAL) {
            return;
        }
        snapshots.push_back((now, counts()));
        while snapshots.len() > MAX_SNAPSHOTS {
            snapshots.pop_front();
        }
    }

    /// Returns the counts of each window of [`MINUTES`], up to the current counts.
    pub(in crate::service::api) fn recent(
        &self,
        now: Instant,
        counts: &TimeCounts,
    ) -> Vec<TimeCounts> {
        let snapshots = self.0.lock();
        let of_window = |minutes: u64| {
            let age = Duration::from_secs(minutes * 60);
            let is_before = |at: Instant| now.saturating_duration_since(at) >= age;
            let before = snapshots.iter().rfind(|(at, _)| is_before(*at));
            // Without such a snapshot, the server was started within the window.
            before.map_or_else(|| counts.clone(), |(_, before)| counts.since(before))
        };
        MINUTES.into_iter().map(of_window).collect()
    }
}

/// The windows of recent durations in minutes.
pub(super) const MINUTES: [u64; 3] = [1, 5, 60];
/// The interval between snapshots.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(10);
/// Maximum number of snapshots: an hour, and one before it. Each has 544 bytes, so all of them have
/// 192 KiB.
const MAX_SNAPSHOTS: usize = 361;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(slow: u64, fast: u64) -> TimeCounts {
        let mut of = [0; DurationCounts::BUCKETS];
        (of[0], of[18]) = (fast, slow);
        TimeCounts {
            delivery: Buckets(of.into()),
            ..TimeCounts::default()
        }
    }

    #[test]
    fn recent_windows_leave_out_what_was_before_them() {
        let (snapshots, start) = (Snapshots::default(), Instant::now());
        // A slow start, and fast deliveries after two minutes.
        for second in 0..=400_u64 {
            let now = start + Duration::from_secs(second);
            let fast = second.saturating_sub(120);
            snapshots.update(now, || counts(100, fast));
        }
        let now = start + Duration::from_secs(400);
        let all = counts(100, 280);
        let windows = snapshots.recent(now, &all);
        let totals: Vec<u64> = windows.iter().map(|of| of.times().delivery.count).collect();
        assert_eq!(totals, [60, 280, 380]);
        let p99 = |of: &TimeCounts| of.times().delivery.p99.unwrap();
        assert!(p99(&windows[0]) <= 0.1, "{windows:?}");
        assert!(
            p99(&windows[2]) > 500.0,
            "the slow start counts in the hour"
        );
    }

    #[test]
    fn snapshots_are_bounded_and_still_reach_an_hour_back() {
        let (snapshots, start) = (Snapshots::default(), Instant::now());
        for second in 0..2 * 3600_u64 {
            let now = start + Duration::from_secs(second);
            snapshots.update(now, || counts(0, second));
        }
        let ring = snapshots.0.lock();
        assert_eq!(ring.len(), MAX_SNAPSHOTS);
        assert!(size_of_val(&ring[0]) <= 544);
        drop(ring);
        let now = start + Duration::from_secs(2 * 3600);
        let hour = &snapshots.recent(now, &counts(0, 7200))[2];
        let count = hour.times().delivery.count;
        assert!((3600..=3610).contains(&count), "{count}");
    }

    #[test]
    fn counts_of_other_buckets_are_refused() {
        let text = r#"{"delivery":[1,2],"processing":[],"ping":[]}"#;
        assert!(serde_json::from_str::<TimeCounts>(text).is_err());
        let own = counts(1, 2);
        let text = serde_json::to_string(&own).unwrap();
        assert_eq!(serde_json::from_str::<TimeCounts>(&text).unwrap(), own);
    }
}
