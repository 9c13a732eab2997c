//! Changes of alerts that wait to be stored, or sent.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::StoredAlert;

/// Changes that wait for a task. Each stays until the task has finished it, so that a restarted
/// task continues with it.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<VecDeque<AlertChange>>,
    added: Notify,
    /// The number of finished changes. Changes only under the lock of `waiting`.
    finished: AtomicU64,
}

/// A change of an alert, and the journal that has the alert.
#[derive(Clone)]
pub(super) struct AlertChange {
    pub(super) journal: &'static str,
    pub(super) alert: StoredAlert,
}

impl Queue {
    /// Adds a change. Returns `false` if it is dropped because there is no room.
    pub(super) fn push(&self, change: AlertChange) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.len() < MAX_WAITING;
        if fits {
            waiting.push_back(change);
            drop(waiting);
            self.added.notify_one();
        } else {
            tracing::warn!("too many alerts wait to be stored or sent, one is dropped");
        }
        fits
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Returns whether a change of an alert waits.
    pub(super) fn has(&self, alert: &StoredAlert) -> bool {
        let waiting = self.waiting.lock();
        waiting.iter().any(|change| change.alert.id == alert.id)
    }

    /// Waits for the first change, which stays in the queue.
    pub(super) async fn first(&self) -> AlertChange {
        loop {
            let first = self.waiting.lock().front().cloned();
            match first {
                Some(change) => return change,
                None => self.added.notified().await,
            }
        }
    }

    /// Removes the first change.
    pub(super) fn finish_first(&self) {
        let mut waiting = self.waiting.lock();
        waiting.pop_front();
        self.finished.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of finished changes.
    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    /// Returns the changes that wait, and the number of finished ones.
    pub(super) fn snapshot(&self) -> (Vec<AlertChange>, u64) {
        let waiting = self.waiting.lock();
        (waiting.iter().cloned().collect(), self.finished())
    }
}

/// Maximum number of changes that wait to be stored, and to be sent.
pub(super) const MAX_WAITING: usize = 256;
