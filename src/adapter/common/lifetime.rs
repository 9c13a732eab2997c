//! How long an adapter keeps its connection, and the pauses before it connects anew.

use std::{pin::Pin, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::queue::STALE;

/// The life of an adapter, from when it is made until it is closed. It is a watch and no `Notify`, so that
/// whoever begins to wait after a change still sees it.
pub(super) struct Lifetime(watch::Sender<Phase>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The task was not started yet.
    New,
    Open,
    /// What is queued is still being sent.
    Closing,
    Closed,
}

impl Lifetime {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Phase::New))
    }

    /// Says that the task is about to be started.
    pub(super) fn open(&self) {
        self.0.send_if_modified(|phase| {
            // An adapter that was closed before its task has started stays closed.
            let is_new = *phase == Phase::New;
            if is_new {
                *phase = Phase::Open;
            }
            is_new
        });
    }

    /// Asks the task to send what is queued, if the broker can be reached, and to end.
    pub(super) fn close(&self) {
        self.0.send_if_modified(|phase| {
            let next = match *phase {
                // Without a task nothing is ever sent.
                Phase::New => Phase::Closed,
                Phase::Open => Phase::Closing,
                Phase::Closing | Phase::Closed => return false,
            };
            *phase = next;
            true
        });
    }

    /// Ends at once.
    pub(super) fn end(&self) {
        self.0.send_replace(Phase::Closed);
    }

    /// Whether nothing more is taken.
    pub(super) fn is_closing(&self) -> bool {
        *self.0.borrow() >= Phase::Closing
    }

    /// Resolves when the adapter is closed.
    pub(super) async fn ended(&self) {
        let mut phase = self.0.subscribe();
        let _ = phase.wait_for(|phase| *phase == Phase::Closed).await;
    }

    /// Resolves when the adapter is to be closed and nothing is queued, or what is queued has waited for as
    /// long as it may.
    pub(super) async fn given_up(&self, is_empty: impl Fn() -> bool) {
        let mut phase = self.0.subscribe();
        let _ = phase.wait_for(|phase| *phase >= Phase::Closing).await;
        if !is_empty() {
            let closed = phase.wait_for(|phase| *phase == Phase::Closed);
            // What has waited for this long would not be sent any more in any case.
            let _ = timeout(STALE, closed).await;
        }
    }
}

/// The pauses between connections that fail: each is twice as long as the one before, up to 2 s.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) const fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Begins with the shortest pause again, after a connection that worked.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Waits. Returns `false` if the wait was given up.
    pub(super) async fn wait(&mut self, given_up: Pin<&mut impl Future<Output = ()>>) -> bool {
        // Servers that have lost the broker together must not come back together, so each draws its own pause.
        let jitter = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        let pausing = timeout(self.0.mul_f64(0.5 + jitter / 2.0), given_up);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pausing.await.is_err()
    }
}

/// The turns in which a link looks whether it still hears what it says to itself.
#[derive(Default)]
pub(in crate::adapter) struct Turns {
    was_late: bool,
}

impl Turns {
    /// Waits for the next turn. Returns whether it tells anything that nothing was heard: a server that has stood still
    /// itself has not read yet what has come meanwhile. Two late turns in a row do not excuse each other.
    pub(in crate::adapter) async fn next(&mut self, pause: Duration) -> bool {
        let begin = Instant::now();
        sleep(pause).await;
        let is_late = begin.elapsed() > 2 * pause;
        let tells = !is_late || self.was_late;
        self.was_late = is_late;
        tells
    }
}

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long what waits is held back after a connection that broke: so long other servers may pause until they connect
/// to the same broker again, and as long as that may take on a busy machine.
pub(super) const HOLD: Duration = Duration::from_millis(3500);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_has_stood_still_itself_does_not_count_as_deaf_for_that() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut turns = Turns::default();
        assert!(turns.next(SECOND).await);
        for expected in [false, true, true] {
            let turn = turns.next(SECOND);
            tokio::pin!(turn);
            assert!(timeout(Duration::ZERO, turn.as_mut()).await.is_err());
            tokio::time::advance(6 * SECOND).await;
            assert_eq!(turn.await, expected);
        }
        assert!(turns.next(SECOND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_two_seconds_each_drawn_anew_and_begin_again_after_success() {
        let mut drawn = Vec::new();
        for _ in 0..20 {
            let mut pauses = Pauses::new();
            for longest in [100, 200, 400, 800, 1600, 2000, 2000, 100, 200] {
                if drawn.len() % 9 == 7 {
                    pauses.reset();
                }
                let begin = Instant::now();
                assert!(pauses.wait(pin!(std::future::pending())).await);
                let pause = begin.elapsed();
                let longest = Duration::from_millis(longest);
                // The clock of these tests has whole milliseconds.
                let margin = Duration::from_millis(2);
                assert!(
                    pause + margin >= longest / 2 && pause <= longest + margin,
                    "{pause:?}"
                );
                drawn.push(pause);
            }
        }
        let mut longest = drawn.iter().skip(5).step_by(9).collect::<Vec<_>>();
        longest.sort_unstable();
        longest.dedup();
        assert!(longest.len() > 10, "{longest:?}");
        assert!(!Pauses::new().wait(pin!(std::future::ready(()))).await);
    }
}
