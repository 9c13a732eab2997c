//! Limits log lines that an attacker, or a fault, could cause as often as it likes: a burst of lines, then one line
//! per second or however often is said.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::pace::SharedRested;

/// Writes a log line that a client, a peer or a broker can cause: 20 of them at once, then one per
/// second. The field `more` is the number of lines left out. The limit belongs to the place in the code.
#[doc(hidden)]
#[macro_export]
macro_rules! throttled_log {
    ($level:ident, $($line:tt)+) => {{
        static THROTTLE: ::std::sync::LazyLock<$crate::LogThrottle> =
            ::std::sync::LazyLock::new(|| $crate::LogThrottle::new(20));
        if let ::std::option::Option::Some(more) = THROTTLE.permit() {
            ::tracing::$level!(more, $($line)+);
        }
    }};
}

/// The limit of one kind of log line.
#[derive(Debug)]
pub struct LogThrottle {
    since: Instant,
    burst: u32,
    /// The time between two lines when the burst is used up.
    pace: Duration,
    rested: SharedRested,
    /// What no line has told of since the last one that was written.
    left_out: AtomicU64,
}

impl LogThrottle {
    /// Permits `burst` lines at once, and one line per second after that.
    #[must_use]
    pub fn new(burst: u32) -> Self {
        Self::paced(burst.max(1), Duration::from_secs(1))
    }

    /// Permits one line in each such time.
    #[cfg(any(test, feature = "cluster"))]
    pub(crate) fn every(pace: Duration) -> Self {
        Self::paced(1, pace)
    }

    fn paced(burst: u32, pace: Duration) -> Self {
        Self {
            since: now(),
            burst,
            pace,
            rested: SharedRested::default(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Returns `Some` if a line may be written now, with the number of lines left out since the last
    /// one.
    pub fn permit(&self) -> Option<u64> {
        self.add(1).map(|all| all.saturating_sub(1))
    }

    /// Adds to what there is to tell of. Returns all of it if there is any and a line may be written now.
    pub(crate) fn add(&self, count: u64) -> Option<u64> {
        self.add_at(count, now().saturating_duration_since(self.since))
    }

    fn add_at(&self, count: u64, now: Duration) -> Option<u64> {
        if count == 0 && self.left_out.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let rested = self.rested.take(now, self.pace, self.burst * self.pace);
        if rested.is_ok() {
            // The count is only told to people, so `Relaxed` is enough: a line may be told of with
            // the one after the next.
            Some(
                self.left_out
                    .swap(0, Ordering::Relaxed)
                    .saturating_add(count),
            )
        } else {
            self.left_out.fetch_add(count, Ordering::Relaxed);
            None
        }
    }
}

/// Permits one line per second.
impl Default for LogThrottle {
    fn default() -> Self {
        Self::new(1)
    }
}

/// The time of tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log_throttle: &LogThrottle, milliseconds: u64) -> Option<u64> {
        let all = log_throttle.add_at(1, Duration::from_millis(milliseconds));
        all.map(|all| all - 1)
    }

    #[test]
    fn a_line_is_written_once_a_second_and_says_how_many_were_not() {
        let log_throttle = LogThrottle::default();
        assert_eq!(at(&log_throttle, 0), Some(0));
        assert_eq!(at(&log_throttle, 10), None);
        assert_eq!(at(&log_throttle, 999), None);
        assert_eq!(at(&log_throttle, 1000), Some(2));
        assert_eq!(at(&log_throttle, 5000), Some(0));
    }

    #[test]
    fn a_storm_writes_its_burst_and_then_a_line_a_second() {
        let log_throttle = LogThrottle::new(100);
        let written = |second: u64| {
            let all = (0..1000).map(|n| at(&log_throttle, second * 1000 + n));
            all.flatten().count()
        };
        assert_eq!(written(0), 100);
        assert_eq!((1..=60).map(written).sum::<usize>(), 60);
        // After a rest there is a burst again.
        assert_eq!(written(1000), 100);
    }

    #[test]
    fn a_line_in_ten_seconds_tells_of_all_that_came_before() {
        let log_throttle = LogThrottle::every(Duration::from_secs(10));
        let add = |count, second| log_throttle.add_at(count, Duration::from_secs(second));
        assert_eq!(add(2, 0), Some(2));
        for second in 1..10 {
            assert_eq!(add(3, second), None);
        }
        assert_eq!(add(1, 10), Some(28));
        assert_eq!(add(1, 11), None);
    }
}
