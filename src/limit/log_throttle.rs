//! Rate limits for log lines that an attacker or a fault could cause without bound: a burst of
//! lines, then one line per second or per given interval.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::pace::SharedTokenBucket;

/// Writes a log line that a client, a peer or a broker can cause, at a limited rate: a burst of 20,
/// then one per second.
///
/// The field `more` is the number of suppressed lines. Each use of the macro has its own limit.
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

/// The rate limit of one kind of log line.
#[derive(Debug)]
pub struct LogThrottle {
    since: Instant,
    burst: u32,
    /// The time between two lines after the burst.
    pace: Duration,
    rested: SharedTokenBucket,
    /// The number of occurrences since the last permitted line.
    suppressed: AtomicU64,
}

impl LogThrottle {
    /// Creates a limit of `burst` lines, and one line per second after that.
    #[must_use]
    pub fn new(burst: u32) -> Self {
        Self::paced(burst.max(1), Duration::from_secs(1))
    }

    /// Creates a limit of one line per interval.
    pub(crate) fn every(pace: Duration) -> Self {
        Self::paced(1, pace)
    }

    fn paced(burst: u32, pace: Duration) -> Self {
        Self {
            since: now(),
            burst,
            pace,
            rested: SharedTokenBucket::default(),
            suppressed: AtomicU64::new(0),
        }
    }

    /// Returns `Some` if a line may be written now, with the number of lines suppressed since the
    /// last one.
    pub fn permit(&self) -> Option<u64> {
        self.add(1).map(|all| all.saturating_sub(1))
    }

    /// Adds occurrences to be reported. Returns the total if it is positive and a line may be
    /// written now.
    pub(crate) fn add(&self, count: u64) -> Option<u64> {
        self.add_at(count, now().saturating_duration_since(self.since))
    }

    fn add_at(&self, count: u64, now: Duration) -> Option<u64> {
        if count == 0 && self.suppressed.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let rested = self.rested.take(now, self.pace, self.burst * self.pace);
        if rested.is_ok() {
            // The count is informational, so `Relaxed` is enough: an occurrence may be reported one
            // line later.
            Some(
                self.suppressed
                    .swap(0, Ordering::Relaxed)
                    .saturating_add(count),
            )
        } else {
            self.suppressed.fetch_add(count, Ordering::Relaxed);
            None
        }
    }
}

/// A limit of one line per second.
impl Default for LogThrottle {
    fn default() -> Self {
        Self::new(1)
    }
}

/// Returns the time of tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A limit of log lines for each of a few causes, so that a flood of one leaves lines for the
/// others. Further causes share one limit, until one of the few has not occurred for a while.
#[derive(Debug)]
pub(crate) struct CauseThrottle {
    burst: u32,
    causes: Mutex<Vec<Cause>>,
    others: LogThrottle,
}

#[derive(Debug)]
struct Cause {
    name: Box<str>,
    throttle: LogThrottle,
    occurred_at: Instant,
}

impl CauseThrottle {
    /// Creates limits of `burst` lines, and one line per second after that.
    pub(crate) fn new(burst: u32) -> Self {
        Self {
            burst,
            causes: Mutex::default(),
            others: LogThrottle::new(burst),
        }
    }

    /// Returns the number of lines suppressed since the last one with this cause, if a line may be
    /// written now.
    pub(crate) fn permit(&self, cause: &str) -> Option<u64> {
        let now = now();
        let mut causes = self.causes.lock();
        if let Some(known) = causes.iter_mut().find(|known| *known.name == *cause) {
            known.occurred_at = now;
            return known.throttle.permit();
        }
        if causes.len() == MAX_CAUSES {
            let is_over = |known: &Cause| now.duration_since(known.occurred_at) >= CAUSE_AGE;
            let Some(over) = causes.iter().position(is_over) else {
                return self.others.permit();
            };
            causes.swap_remove(over);
        }
        let throttle = LogThrottle::new(self.burst);
        let permitted = throttle.permit();
        causes.push(Cause {
            name: cause.into(),
            throttle,
            occurred_at: now,
        });
        permitted
    }
}

/// The number of causes with a limit of their own. Applications can refuse with any text.
const MAX_CAUSES: usize = 16;
/// A cause that has not occurred for this long leaves its limit to another one. Texts of refusals
/// can contain the id of a user, so there is no end of them.
const CAUSE_AGE: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log_throttle: &LogThrottle, milliseconds: u64) -> Option<u64> {
        let all = log_throttle.add_at(1, Duration::from_millis(milliseconds));
        all.map(|all| all - 1)
    }

    #[test]
    fn one_line_per_second_reports_suppressed_count() {
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
        // After a rest the full burst is available again.
        assert_eq!(written(1000), 100);
    }

    #[test]
    fn one_line_per_interval_reports_the_sum() {
        let log_throttle = LogThrottle::every(Duration::from_secs(10));
        let add = |count, second| log_throttle.add_at(count, Duration::from_secs(second));
        assert_eq!(add(2, 0), Some(2));
        for second in 1..10 {
            assert_eq!(add(3, second), None);
        }
        assert_eq!(add(1, 10), Some(28));
        assert_eq!(add(1, 11), None);
    }

    #[test]
    fn flood_of_one_cause_leaves_lines_for_others() {
        let throttle = CauseThrottle::new(2);
        let permitted = |cause: &str| (0..10).filter_map(|_| throttle.permit(cause)).count();
        assert_eq!((permitted("expired"), permitted("revoked")), (2, 2));
        for n in 2..MAX_CAUSES {
            throttle.permit(&n.to_string());
        }
        assert_eq!(permitted("a") + permitted("b"), 2, "these share a limit");
    }

    #[tokio::test(start_paused = true)]
    async fn causes_that_no_longer_occur_leave_their_limits_to_others() {
        let throttle = CauseThrottle::new(2);
        let permitted = |cause: &str| (0..10).filter_map(|_| throttle.permit(cause)).count();
        for n in 0..MAX_CAUSES {
            throttle.permit(&n.to_string());
        }
        tokio::time::advance(CAUSE_AGE / 2).await;
        throttle.permit("0");
        tokio::time::advance(CAUSE_AGE / 2).await;
        for n in 1..MAX_CAUSES {
            assert_eq!(permitted(&format!("new {n}")), 2, "{n}");
        }
        assert_eq!(permitted("a") + permitted("b"), 2, "these share a limit");
    }
}
