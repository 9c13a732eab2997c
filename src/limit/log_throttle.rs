//! Limits log lines that an attacker could cause as often as it likes: a burst of lines, then one
//! line per second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::pace::SharedRested;

/// The limit of one kind of log line.
#[derive(Debug)]
pub struct LogThrottle {
    since: Instant,
    burst: u32,
    rested: SharedRested,
    /// Lines left out since the last one that was written.
    left_out: AtomicU64,
}

/// The time between two lines when the burst is used up.
const PACE: Duration = Duration::from_secs(1);

impl LogThrottle {
    /// Permits `burst` lines at once, and one line per second after that.
    #[must_use]
    pub fn new(burst: u32) -> Self {
        Self {
            since: now(),
            burst: burst.max(1),
            rested: SharedRested::default(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Returns `Some` if a line may be written now, with the number of lines left out since the last
    /// one.
    pub fn permit(&self) -> Option<u64> {
        self.permit_at(now().saturating_duration_since(self.since))
    }

    fn permit_at(&self, now: Duration) -> Option<u64> {
        if self.rested.take(now, PACE, self.burst * PACE).is_ok() {
            // The count is only told to people, so `Relaxed` is enough: a line may be told of with
            // the one after the next.
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
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
        log_throttle.permit_at(Duration::from_millis(milliseconds))
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
}
