//! A map whose values expire.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hash},
    sync::Weak,
};

use tokio::time::{Instant, sleep_until};

/// Values by key, each with its own deadline.
///
/// Values are not removed automatically. When [`must_sweep`](Self::must_sweep) returns `true`, the
/// owner spawns a [`sweep`] task.
pub(crate) struct Expiring<K, V> {
    values: HashMap<K, (Expiry, V)>,
    order: BTreeMap<Expiry, K>,
    last: u64,
    is_swept: bool,
}

/// A deadline, and a number that makes it unique.
type Expiry = (Instant, u64);

impl<K, V> Default for Expiring<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: BTreeMap::new(),
            last: 0,
            is_swept: false,
        }
    }
}

impl<K: Copy + Eq + Hash, V> Expiring<K, V> {
    /// Inserts a value with a deadline. Returns the previous value of the key.
    pub(crate) fn insert(&mut self, key: K, value: V, until: Instant) -> Option<V> {
        let before = self.remove(&key);
        self.last += 1;
        let expiry = (until, self.last);
        self.values.insert(key, (expiry, value));
        self.order.insert(expiry, key);
        before.map(|(_, value)| value)
    }

    /// Returns all values, unordered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &V)> {
        self.values.iter().map(|(key, (_, value))| (*key, value))
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|(_, value)| value)
    }

    /// Removes a value. Returns it with its deadline.
    pub(crate) fn remove(&mut self, key: &K) -> Option<(Instant, V)> {
        let (expiry, value) = self.values.remove(key)?;
        self.order.remove(&expiry);
        shrink_map(&mut self.values);
        Some((expiry.0, value))
    }

    /// Removes and returns the value with the earliest deadline.
    pub(crate) fn pop(&mut self) -> Option<(K, V)> {
        let key = *self.order.first_key_value()?.1;
        let (_, value) = self.remove(&key)?;
        Some((key, value))
    }

    /// Removes and returns an expired value, if any.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(K, V)> {
        let is_due = self.next().is_some_and(|next| next <= now);
        is_due.then(|| self.pop()).flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns whether the caller must spawn a [`sweep`] task.
    pub(crate) fn must_sweep(&mut self) -> bool {
        // The flag changes under the lock of the table's owner. So there is at most one task, and a
        // value inserted right after the task has ended starts a new one.
        !self.values.is_empty() && !std::mem::replace(&mut self.is_swept, true)
    }

    /// Returns when the sweep task must check again. It ends on `None`.
    pub(crate) fn next_sweep(&mut self) -> Option<Instant> {
        let next = self.next();
        self.is_swept = next.is_some();
        next
    }

    fn next(&self) -> Option<Instant> {
        self.order.first_key_value().map(|((at, _), _)| *at)
    }
}

/// Calls `expire` repeatedly, each time at the deadline that it returned, until it returns `None`.
pub(crate) async fn sweep<T>(of: Weak<T>, expire: impl Fn(&T) -> Option<Instant>) {
    while let Some(strong) = of.upgrade() {
        let Some(next) = expire(&strong) else { return };
        // The task holds only a weak reference while it sleeps, so that it ends with the table.
        drop(strong);
        sleep_until(next).await;
    }
}

/// Shrinks a map that has capacity for many more entries.
pub(crate) fn shrink_map<K: Eq + Hash, V, S: BuildHasher>(map: &mut HashMap<K, V, S>) {
    if map.len() < map.capacity() / 4 {
        map.shrink_to(map.len() * 2);
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn values_expire_by_deadline_then_insertion_order() {
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        let mut table = Expiring::default();
        for (key, millis) in [(1, 20), (2, 10), (3, 10), (4, 30)] {
            assert_eq!(table.insert(key, key * 10, at(millis)), None);
        }
        assert_eq!(table.insert(1, 11, at(40)), Some(10));
        assert_eq!(table.pop_due(at(9)), None);
        assert_eq!(table.pop_due(at(10)), Some((2, 20)));
        assert_eq!(table.pop_due(at(10)), Some((3, 30)));
        assert_eq!(table.pop_due(at(10)), None);
        assert_eq!(table.get(&1), Some(&11));
        assert_eq!(table.remove(&4), Some((at(30), 40)));
        assert_eq!(
            (table.pop(), table.pop(), table.len()),
            (Some((1, 11)), None, 0)
        );
    }

    #[test]
    fn memory_is_released() {
        let mut table = Expiring::default();
        let now = Instant::now();
        (0..10_000).for_each(|key| assert_eq!(table.insert(key, (), now), None));
        while table.pop().is_some() {}
        assert!(table.values.capacity() < 100);
    }

    #[tokio::test(start_paused = true)]
    async fn single_sweep_task_runs_until_the_map_is_empty() {
        type Table = Mutex<Expiring<u8, ()>>;
        let table = Arc::new(Table::default());
        let expire = |table: &Table| {
            let mut table = table.lock();
            while table.pop_due(Instant::now()).is_some() {}
            table.next_sweep()
        };
        assert!(!table.lock().must_sweep());
        for round in 0..2 {
            let end = Instant::now() + Duration::from_secs(10);
            table.lock().insert(1, (), end);
            table.lock().insert(2, (), end + Duration::from_secs(5));
            assert!(table.lock().must_sweep(), "{round}");
            assert!(!table.lock().must_sweep(), "{round}");
            sweep(Arc::downgrade(&table), expire).await;
            assert_eq!(table.lock().len(), 0);
            assert_eq!(Instant::now(), end + Duration::from_secs(5));
        }
    }
}
