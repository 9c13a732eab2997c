//! Tracks the changes in progress: a store in which a change takes too long is unhealthy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The changes in progress.
#[derive(Debug, Default)]
pub(super) struct InProgress(Mutex<StartTimes>);

#[derive(Debug, Default)]
struct StartTimes {
    /// The start times by number, in ascending order.
    times: BTreeMap<u64, Instant>,
    next: u64,
}

/// A change in progress, until this is dropped.
#[derive(Debug)]
#[must_use = "the change is in progress until this is dropped"]
pub(super) struct Step {
    changes: Arc<InProgress>,
    number: u64,
}

/// The time after which a change counts as stuck.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(2);

impl InProgress {
    /// Registers the start of a change.
    pub(super) fn begin(self: &Arc<Self>) -> Step {
        let mut begun = self.0.lock();
        let number = begun.next;
        begun.next += 1;
        begun.times.insert(number, Instant::now());
        Step {
            changes: Arc::clone(self),
            number,
        }
    }

    /// Returns whether a change has been in progress for too long.
    pub(super) fn is_stuck(&self) -> bool {
        let begun = self.0.lock();
        let oldest = begun.times.first_key_value();
        oldest.is_some_and(|(_, began)| began.elapsed() >= STUCK_AFTER)
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.changes.0.lock().times.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_change_decides_whether_the_store_is_stuck() {
        let changes = Arc::<InProgress>::default();
        let first = changes.begin();
        let second = changes.begin();
        assert!(!changes.is_stuck());
        for began in changes.0.lock().times.values_mut().take(1) {
            *began -= STUCK_AFTER;
        }
        assert!(changes.is_stuck());
        drop(first);
        assert!(!changes.is_stuck());
        drop(second);
        assert!(changes.0.lock().times.is_empty());
    }
}
