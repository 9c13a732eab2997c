//! Users who lost a connection a moment ago. Those who connect again are counted, whether or not
//! sessions can be recovered.

use std::{
    collections::{HashMap, VecDeque, hash_map::RandomState},
    fmt,
    hash::BuildHasher as _,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::metrics::{Counter, Inventoried, Inventory, Metrics};

pub(in crate::service) struct Losses {
    hasher: RandomState,
    recent: Mutex<Recent>,
    metrics: Arc<Metrics>,
}

/// The last losses. A user is the hash of its id.
#[derive(Default)]
struct Recent {
    /// When each user has last lost a connection.
    times: HashMap<u64, Instant>,
    /// The losses, from the oldest to the newest. It may contain earlier losses of a user.
    order: VecDeque<(u64, Instant)>,
}

impl Losses {
    pub(in crate::service) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            hasher: RandomState::new(),
            recent: Mutex::default(),
            metrics,
        }
    }

    /// Records that a user has lost a connection.
    pub(in crate::service) fn lost(&self, user: &str, now: Instant) {
        let user = self.hasher.hash_one(user);
        let mut recent = self.recent.lock();
        recent.forget(now);
        recent.times.insert(user, now);
        recent.order.push_back((user, now));
    }

    /// Counts a new connection of a user who has lost one within [`WINDOW`].
    pub(in crate::service) fn returned(&self, user: &str, is_recovered: bool, now: Instant) {
        let user = self.hasher.hash_one(user);
        let mut recent = self.recent.lock();
        recent.forget(now);
        if recent.times.remove(&user).is_some() {
            self.metrics.count(match is_recovered {
                true => Counter::ReconnectionsRecovered,
                false => Counter::ReconnectionsFresh,
            });
        }
    }
}

impl Recent {
    /// Removes losses that are too old, and the oldest losses if there are too many.
    fn forget(&mut self, now: Instant) {
        while let Some(&(user, time)) = self.order.front() {
            let is_recent = now.saturating_duration_since(time) < WINDOW;
            if is_recent && self.order.len() < MAX_LOSSES {
                break;
            }
            self.order.pop_front();
            if self.times.get(&user) == Some(&time) {
                self.times.remove(&user);
            }
        }
    }
}

impl Inventoried for Losses {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("users who lost a connection", &self.recent.lock().times);
    }
}

impl fmt::Debug for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Losses").finish_non_exhaustive()
    }
}

/// The time after a loss within which a new connection counts as its continuation. Stock clients
/// try for the first time within 1.5 s, and then at least each 7.5 s.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of losses that are stored; about 1 MiB. More are not counted.
const MAX_LOSSES: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn counts(losses: &Losses) -> (u64, u64) {
        let count = |counter| losses.metrics.counter(counter);
        let recovered = count(Counter::ReconnectionsRecovered);
        (recovered, count(Counter::ReconnectionsFresh))
    }

    #[test]
    fn a_user_who_returns_within_a_minute_counts_once() {
        let (losses, start) = (Losses::new(Arc::default()), Instant::now());
        losses.returned("ann", false, start);
        assert_eq!(counts(&losses), (0, 0));
        for after in [0, 10] {
            losses.lost("ann", start + after * SECOND);
        }
        losses.lost("bob", start + 11 * SECOND);
        losses.returned("ann", false, start + 69 * SECOND);
        losses.returned("ann", false, start + 69 * SECOND);
        assert_eq!(counts(&losses), (0, 1));
        losses.returned("bob", true, start + 70 * SECOND);
        assert_eq!(counts(&losses), (1, 1));
        losses.lost("ann", start + 80 * SECOND);
        losses.returned("ann", false, start + 140 * SECOND);
        assert_eq!(counts(&losses), (1, 1), "after a minute");
        let recent = losses.recent.lock();
        assert!(recent.times.is_empty() && recent.order.is_empty());
    }

    #[test]
    fn the_number_of_stored_losses_is_bounded() {
        let (losses, now) = (Losses::new(Arc::default()), Instant::now());
        for user in 0..MAX_LOSSES + 10 {
            losses.lost(&user.to_string(), now);
        }
        for _ in 0..MAX_LOSSES * 2 {
            losses.lost("ann", now);
        }
        let recent = losses.recent.lock();
        assert!(recent.order.len() <= MAX_LOSSES);
        assert_eq!(recent.times.len(), 1);
    }
}
