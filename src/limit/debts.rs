//! A bounded table of debts: how much each client has used of a budget that refills over time.
//!
//! An entry without debt is redundant, because a new entry has the same state. When the table is
//! full, such entries are evicted first, then the entries with the smallest debts. An entry that
//! owes more than [`MAX_EVICTABLE_DEBT`] of its budget is never evicted. Otherwise a client could
//! clear its debt by filling the table. If no entry can be evicted, new clients share one entry.

use std::{collections::hash_map, time::Duration};

use super::hashed::ByHash;

/// Entries by the hash of the client's name. The caller passes the time.
#[derive(Debug)]
pub struct Debts<T> {
    entries: ByHash<T>,
    /// A full table is not searched for evictable entries before this time.
    retry_at: Duration,
}

/// The table is full of entries that owe too much to be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The largest fraction of its budget that an evictable entry may owe.
pub const MAX_EVICTABLE_DEBT: f64 = 0.5;
/// The interval between two searches when little could be evicted.
const RETRY: Duration = Duration::from_millis(50);
/// One search frees an eighth of the capacity, so that insertions seldom search.
const FREED: usize = 8;
/// The capacity up to which an empty table keeps its allocation.
const RETAINED_CAPACITY: usize = 256;

impl<T> Default for Debts<T> {
    fn default() -> Self {
        Self {
            entries: ByHash::default(),
            retry_at: Duration::ZERO,
        }
    }
}

impl<T> Debts<T> {
    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the number of entries that fit without an allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Returns an entry.
    pub fn get_mut(&mut self, key: u64) -> Option<&mut T> {
        self.entries.get_mut(&key)
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: u64) -> Option<T> {
        self.entries.remove(&key)
    }

    /// Adds an entry that is not in the table, after [`make_room`](Self::make_room).
    pub fn insert(&mut self, key: u64, entry: T) -> &mut T {
        match self.entries.entry(key) {
            hash_map::Entry::Occupied(mut slot) => {
                slot.insert(entry);
                slot.into_mut()
            }
            hash_map::Entry::Vacant(slot) => slot.insert(entry),
        }
    }

    /// Makes room for one more entry. `debt` returns the fraction of its budget that an entry owes,
    /// 0 for none. Returns the number of evicted entries that had debts.
    ///
    /// # Errors
    ///
    /// If the table is full of entries that must not be evicted.
    pub fn make_room(
        &mut self,
        capacity: usize,
        now: Duration,
        debt: impl Fn(&T) -> f64,
    ) -> Result<usize, Full> {
        if self.entries.len() < capacity {
            return Ok(0);
        }
        if now < self.retry_at {
            return Err(Full);
        }
        self.entries.retain(|_, entry| debt(entry) > 0.0);
        let target = capacity - (capacity / FREED).clamp(1, capacity.max(1));
        let surplus = self.entries.len().saturating_sub(target);
        let mut small: Vec<(f64, u64)> = Vec::new();
        if surplus > 0 {
            let debts = self.entries.iter().map(|(key, entry)| (debt(entry), *key));
            small.extend(debts.filter(|(debt, _)| *debt <= MAX_EVICTABLE_DEBT));
            if small.len() > surplus {
                small.select_nth_unstable_by(surplus, |(one, _), (other, _)| one.total_cmp(other));
                small.truncate(surplus);
            }
            for (_, key) in &small {
                self.entries.remove(key);
            }
        }
        if self.entries.len() > target {
            // A search visits all entries, so it must not run for each new client.
            self.retry_at = now + RETRY;
        }
        if self.entries.len() < capacity {
            Ok(small.len())
        } else {
            Err(Full)
        }
    }

    /// Removes the entries that owe nothing.
    pub fn sweep(&mut self, debt: impl Fn(&T) -> f64) {
        self.entries.retain(|_, entry| debt(entry) > 0.0);
        if self.entries.is_empty() && self.entries.capacity() > RETAINED_CAPACITY {
            self.entries = ByHash::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn table(debts: &[f64]) -> Debts<f64> {
        let mut table = Debts::default();
        for (key, debt) in (0..).zip(debts) {
            table.insert(key, *debt);
        }
        table
    }

    #[test]
    fn full_table_evicts_rested_then_smallest_debts() {
        let mut table = table(&[0.4, 0.9, 0.0, 0.1]);
        assert_eq!(table.make_room(5, NOW, |debt| *debt), Ok(0));
        assert_eq!(table.len(), 4);
        assert_eq!(table.make_room(4, NOW, |debt| *debt), Ok(0));
        assert_eq!(table.remove(2), None);
        assert_eq!(table.make_room(3, NOW, |debt| *debt), Ok(1));
        assert_eq!(table.remove(3), None);
        assert_eq!(table.make_room(2, NOW, |debt| *debt), Ok(1));
        assert_eq!(table.remove(0), None);
        assert_eq!(table.get_mut(1), Some(&mut 0.9));
    }

    #[test]
    fn large_debts_are_never_evicted() {
        let mut table = table(&[0.9, 0.51, 1.0]);
        assert_eq!(table.make_room(3, NOW, |debt| *debt), Err(Full));
        assert_eq!(table.len(), 3);
        // The debts are paid, and the next search evicts the entries.
        assert_eq!(
            table.make_room(3, NOW, |_| 0.0),
            Err(Full),
            "searched again at once"
        );
        assert_eq!(table.make_room(3, RETRY, |_| 0.0), Ok(0));
        assert!(table.is_empty());
    }
}
