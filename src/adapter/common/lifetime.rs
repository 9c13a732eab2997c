//! The lifetime of an adapter, and the delays before it reconnects.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::queue::MESSAGE_TIMEOUT;

/// The lifetime of an adapter, from its creation until it is closed. It is a `watch` instead of a
/// `Notify`, so that a task that starts to wait after a change still observes it.
pub(super) struct Lifetime(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The task has not started yet.
    New,
    Open,
    /// Queued messages are still being sent.
    Closing,
    Closed,
}

impl Lifetime {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::New))
    }

    /// Records that the task is about to start.
    pub(super) fn open(&self) {
        self.0.send_if_modified(|phase| {
            // An adapter that was closed before its task started stays closed.
            let is_new = *phase == Phase::New;
            if is_new {
                *phase = Phase::Open;
            }
            is_new
        });
    }

    /// Requests that the task sends the queued messages, if the broker can be reached, and ends.
    pub(super) fn close(&self) {
        self.0.send_if_modified(|phase| {
            let next = match *phase {
                // Without a task, nothing is ever sent.
                Phase::New => Phase::Closed,
                Phase::Open => Phase::Closing,
                Phase::Closing | Phase::Closed => return false,
            };
            *phase = next;
            true
        });
    }

    /// Ends immediately.
    pub(super) fn end(&self) {
        self.0.send_replace(Phase::Closed);
    }

    /// Returns whether the adapter no longer accepts messages.
    pub(super) fn is_closing(&self) -> bool {
        *self.0.borrow() >= Phase::Closing
    }

    /// Completes when the adapter is closed.
    pub(super) async fn ended(&self) {
        let mut phase = self.0.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Closed).await;
    }

    /// Completes when the adapter is closing and nothing is queued, or when queued messages have
    /// waited for the maximum time.
    pub(super) async fn given_up(&self, is_empty: impl Fn() -> bool) {
        let mut phase = self.0.subscribe();
        let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await;
        if !is_empty() {
            let closed = phase.wait_for(|phase| *phase == Phase::Closed);
            // Messages that have waited this long expire anyway.
            let _ = timeout(MESSAGE_TIMEOUT, closed).await;
        }
    }
}

/// The delays between failed connections. Each is twice as long as the previous delay, up to 2 s.
pub(super) struct RetryDelays(Duration);

impl RetryDelays {
    pub(super) const fn new() -> Self {
        Self(MIN_RETRY_DELAY)
    }

    /// Resets to the shortest delay after a connection that worked.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Waits. Returns `false` if `given_up` completes first.
    pub(super) async fn wait(&mut self, given_up: Pin<&mut impl Future<Output = ()>>) -> bool {
        // Servers that lost the broker together must not reconnect together, so each delay is
        // random.
        let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        let waiting = timeout(self.0.mul_f64(0.5 + jitter / 2.0), given_up);
        self.0 = (self.0 * 2).min(MAX_RETRY_DELAY);
        waiting.await.is_err()
    }
}

/// The intervals at which a broker link checks that its loopback probe returns.
#[derive(Default)]
pub(in crate::adapter) struct ProbeTimer {
    /// The time for which this server stalled before the last check, or zero.
    stall: Duration,
}

impl ProbeTimer {
    /// Waits for the next check. Returns whether a missing probe is significant. If this server
    /// itself stalled, it has not read the messages of that time yet. Two late checks in a row are
    /// significant nevertheless.
    pub(in crate::adapter) async fn next(&mut self, delay: Duration) -> bool {
        let begin = Instant::now();
        sleep(delay).await;
        let late = begin.elapsed().saturating_sub(delay);
        let is_late = late > delay;
        let is_significant = !is_late || !self.stall.is_zero();
        self.stall = if is_late { late } else { Duration::ZERO };
        is_significant
    }

    /// Returns the time for which this server stalled before the last check, or zero.
    #[cfg(any(feature = "nats", feature = "postgres"))]
    pub(in crate::adapter) const fn stall(&self) -> Duration {
        self.stall
    }
}

/// The first delay.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(100);
/// The maximum delay.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);
/// Maximum time to hold messages after a disconnect. Other servers may wait this long before
/// they reconnect to the same broker, including the time that a connection takes on a busy machine.
pub(super) const HOLD_TIMEOUT: Duration = Duration::from_millis(3500);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn stalled_server_ignores_a_missing_probe_once() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut timer = ProbeTimer::default();
        assert!(timer.next(SECOND).await);
        for expected in [false, true, true] {
            let check = timer.next(SECOND);
            tokio::pin!(check);
            assert!(timeout(Duration::ZERO, check.as_mut()).await.is_err());
            tokio::time::advance(6 * SECOND).await;
            assert_eq!(check.await, expected);
        }
        assert!(timer.next(SECOND).await);
    }

    #[cfg(any(feature = "nats", feature = "postgres"))]
    #[tokio::test(start_paused = true)]
    async fn late_check_reports_the_stall_and_a_punctual_one_none() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut timer = ProbeTimer::default();
        for (elapsed, stall) in [(1_u32, 0_u32), (13, 12), (1, 0)] {
            {
                let check = timer.next(SECOND);
                tokio::pin!(check);
                assert!(timeout(Duration::ZERO, check.as_mut()).await.is_err());
                tokio::time::advance(elapsed * SECOND).await;
                check.await;
            }
            // The clock of these tests has a resolution of one millisecond.
            let measured = timer.stall();
            let difference = measured.abs_diff(stall * SECOND);
            assert!(difference <= Duration::from_millis(2), "{measured:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn reconnect_delays_double_up_to_2s_with_jitter_and_reset_on_success() {
        let mut drawn = Vec::new();
        for _ in 0..20 {
            let mut delays = RetryDelays::new();
            for longest in [100, 200, 400, 800, 1600, 2000, 2000, 100, 200] {
                if drawn.len() % 9 == 7 {
                    delays.reset();
                }
                let begin = Instant::now();
                assert!(delays.wait(pin!(std::future::pending())).await);
                let delay = begin.elapsed();
                let longest = Duration::from_millis(longest);
                // The clock of these tests has a resolution of one millisecond.
                let margin = Duration::from_millis(2);
                assert!(
                    delay + margin >= longest / 2 && delay <= longest + margin,
                    "{delay:?}"
                );
                drawn.push(delay);
            }
        }
        let mut longest = drawn.iter().skip(5).step_by(9).collect::<Vec<_>>();
        longest.sort_unstable();
        longest.dedup();
        assert!(longest.len() > 10, "{longest:?}");
        assert!(!RetryDelays::new().wait(pin!(std::future::ready(()))).await);
    }
}
