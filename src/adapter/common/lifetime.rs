//! How long an adapter keeps its connection, and the pauses before it connects anew.

use std::{pin::Pin, time::Duration};

use tokio::{sync::watch, time::timeout};

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

/// The pauses between connections that fail: each is twice as long as the one before, up to 3 s.
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

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long what waits is held back after a connection that broke: so long other servers may pause until they connect
/// to the same broker again, and a little more to do so.
pub(super) const HOLD: Duration = Duration::from_millis(3500);
