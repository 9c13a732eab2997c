//! Measures how often, and for how long, this server was isolated from its peers.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::interface::Gaps;

/// The reachability of the peers, as reported by the adapter.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// When the peers were last known to be reachable, or `None` if they never were.
    last: Option<Instant>,
    /// Whether the peers are unreachable now. The gap since `last` is already counted.
    is_isolated: bool,
    /// When the adapter last reported the end of an outage.
    back: Option<Instant>,
    count: u64,
    /// The total duration of all gaps, without the current gap.
    time: Duration,
}

impl Isolation {
    /// Records whether the peers are reachable. For the time `lag`, messages may not have arrived
    /// although the peers seem reachable.
    pub(super) fn record(&mut self, is_reached: bool, lag: Duration, now: Instant) {
        if !is_reached {
            // An adapter reports the end of an outage slightly before it becomes ready.
            let is_coming = |back| now.saturating_duration_since(back) < READY_DELAY;
            if !self.back.is_some_and(is_coming) {
                self.begin();
            }
            return;
        }
        if self.is_isolated {
            self.back(now);
        }
        // `last` never decreases, because messages that are older than an earlier lag have arrived.
        self.last = self.last.max(now.checked_sub(lag)).or(Some(now));
    }

    fn begin(&mut self) {
        if self.last.is_some() && !self.is_isolated {
            self.is_isolated = true;
            self.count += 1;
            tracing::warn!("this server is isolated from its peers and misses their messages");
        }
    }

    /// Records that the peers are reachable again, or for the first time, and that earlier messages
    /// may be missing.
    pub(super) fn back(&mut self, now: Instant) {
        // An outage between two checks also counts as a gap. At the start, nothing was missed.
        self.begin();
        self.back = Some(now);
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let time = now.saturating_duration_since(last);
        tracing::warn!(
            ?time,
            "this server was isolated from its peers, their messages may be missing"
        );
        self.time += time;
        self.is_isolated = false;
    }

    pub(super) fn gaps(&self, now: Instant) -> Gaps {
        let since = self.last.filter(|_| self.is_isolated);
        let open = since.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        Gaps {
            count: self.count,
            time: self.time + open,
            is_isolated: self.is_isolated,
        }
    }
}

/// Shorter than the default interval between heartbeats, which call `record`.
const READY_DELAY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn each_outage_counts_once_and_lasts_until_peers_are_reachable() {
        let start = Instant::now();
        let at = |seconds: u32| start + SECOND * seconds;
        let mut reach = Isolation::default();
        reach.record(false, Duration::ZERO, at(0));
        reach.back(at(1));
        assert_eq!(
            reach.gaps(at(2)),
            Gaps::default(),
            "it was never reached before"
        );
        reach.record(true, Duration::ZERO, at(2));
        reach.record(true, Duration::ZERO, at(3));
        for seconds in [5, 6, 7] {
            reach.record(false, Duration::ZERO, at(seconds));
            let gaps = reach.gaps(at(seconds));
            assert_eq!((gaps.count, gaps.is_isolated), (1, true));
            assert_eq!(gaps.time, SECOND * (seconds - 3));
        }
        reach.back(at(8));
        reach.record(true, Duration::ZERO, at(9));
        let gaps = reach.gaps(at(20));
        assert_eq!(
            (gaps.count, gaps.time, gaps.is_isolated),
            (1, SECOND * 5, false)
        );
        // An outage starts and ends between two checks.
        reach.back(at(10));
        let gaps = reach.gaps(at(20));
        assert_eq!(
            (gaps.count, gaps.time, gaps.is_isolated),
            (2, SECOND * 6, false)
        );
    }

    #[test]
    fn lag_before_an_outage_was_detected_counts_as_gap_time() {
        let start = Instant::now() + SECOND * 60;
        let at = |seconds: u32| start + SECOND * seconds;
        let mut reach = Isolation::default();
        reach.record(true, Duration::ZERO, at(0));
        for seconds in 1..=5 {
            reach.record(true, SECOND * seconds, at(seconds));
        }
        reach.record(false, Duration::ZERO, at(6));
        reach.back(at(7));
        let gaps = reach.gaps(at(7));
        assert_eq!((gaps.count, gaps.time), (1, SECOND * 7));
    }

    #[test]
    fn unreachable_check_right_after_recovery_is_no_new_gap() {
        let start = Instant::now();
        let mut reach = Isolation::default();
        reach.record(true, Duration::ZERO, start);
        reach.record(false, Duration::ZERO, start + SECOND);
        reach.back(start + 2 * SECOND);
        reach.record(false, Duration::ZERO, start + 2 * SECOND);
        let gaps = reach.gaps(start + 2 * SECOND);
        assert_eq!((gaps.count, gaps.is_isolated), (1, false));
        assert_eq!(gaps.time, 2 * SECOND);
        // The peers are still unreachable after all.
        reach.record(false, Duration::ZERO, start + 3 * SECOND);
        let gaps = reach.gaps(start + 3 * SECOND);
        assert_eq!((gaps.count, gaps.is_isolated), (2, true));
    }
}
