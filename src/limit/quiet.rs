//! Log lines that an attacker could ask for as often as it likes: some at once, then one a second.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use super::pace::SharedRested;

/// One kind of line.
#[derive(Debug)]
pub struct Quiet {
    since: Instant,
    burst: u32,
    rested: SharedRested,
    /// Lines left out since the last one.
    left_out: AtomicU64,
}

/// Between two lines when the burst is used up.
const PACE: Duration = Duration::from_secs(1);

impl Quiet {
    /// So many lines at once, and one a second.
    #[must_use]
    pub fn new(burst: u32) -> Self {
        Self {
            since: now(),
            burst: burst.max(1),
            rested: SharedRested::default(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether to write a line now, and how many were left out since the last one.
    pub fn speak(&self) -> Option<u64> {
        self.speak_at(now().saturating_duration_since(self.since))
    }

    fn speak_at(&self, now: Duration) -> Option<u64> {
        if self.rested.take(now, PACE, self.burst * PACE).is_ok() {
            Some(self.left_out.swap(0, Ordering::Relaxed))
        } else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// One line a second.
impl Default for Quiet {
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

    fn at(quiet: &Quiet, milliseconds: u64) -> Option<u64> {
        quiet.speak_at(Duration::from_millis(milliseconds))
    }

    #[test]
    fn a_line_is_written_once_a_second_and_says_how_many_were_not() {
        let quiet = Quiet::default();
        assert_eq!(at(&quiet, 0), Some(0));
        assert_eq!(at(&quiet, 10), None);
        assert_eq!(at(&quiet, 999), None);
        assert_eq!(at(&quiet, 1000), Some(2));
        assert_eq!(at(&quiet, 5000), Some(0));
    }

    #[test]
    fn a_storm_writes_its_burst_and_then_a_line_a_second() {
        let quiet = Quiet::new(100);
        let written = |second: u64| {
            let all = (0..1000).map(|n| at(&quiet, second * 1000 + n));
            all.flatten().count()
        };
        assert_eq!(written(0), 100);
        assert_eq!((1..=60).map(written).sum::<usize>(), 60);
        // After a rest there is a burst again.
        assert_eq!(written(1000), 100);
    }
}
