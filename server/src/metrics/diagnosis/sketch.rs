//! The most frequent keys of a stream in a fixed amount of memory: space-saving sketches (Metwally,
//! Agrawal, El Abbadi, 2005).

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::Hash;

/// Counts of the most frequent keys.
///
/// A new key replaces the key with the lowest count, and inherits that count as its error. A key
/// with more than `1 / MAX_KEYS` of all weight is therefore never missing.
#[derive(Debug)]
pub(super) struct Sketch<K> {
    index: HashMap<K, usize>,
    entries: Vec<Entry<K>>,
    /// No count is lower.
    least: u64,
    /// Where the search for the lowest count continues.
    cursor: usize,
}

#[derive(Debug)]
struct Entry<K> {
    key: K,
    count: u64,
    /// The part of the count that may belong to other keys.
    error: u64,
}

impl<K> Default for Sketch<K> {
    fn default() -> Self {
        Self {
            index: HashMap::new(),
            entries: Vec::new(),
            least: 0,
            cursor: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Sketch<K> {
    /// Adds weight to a key. `own` creates the key if the sketch does not have it yet.
    pub(super) fn add<Q>(&mut self, key: &Q, own: impl FnOnce() -> K, weight: u64)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let known = self.index.get(key);
        if let Some(entry) = known.and_then(|at| self.entries.get_mut(*at)) {
            entry.count = entry.count.saturating_add(weight);
            return;
        }
        let key = own();
        if self.entries.len() < MAX_KEYS {
            self.index.insert(key.clone(), self.entries.len());
            self.least = 0;
            self.entries.push(Entry {
                key,
                count: weight,
                error: 0,
            });
            return;
        }
        let at = self.least();
        if let Some(least) = self.entries.get_mut(at) {
            self.index.remove::<K>(&least.key);
            self.index.insert(key.clone(), at);
            *least = Entry {
                key,
                count: least.count.saturating_add(weight),
                error: least.count,
            };
        }
    }

    /// Returns the position of an entry with the lowest count. The search continues where the last
    /// one ended, so that in a stream of new keys it is short.
    fn least(&mut self) -> usize {
        for _ in 0..self.entries.len() {
            let at = self.cursor;
            self.cursor = (at + 1) % self.entries.len();
            if self
                .entries
                .get(at)
                .is_some_and(|entry| entry.count <= self.least)
            {
                return at;
            }
        }
        let counts = self.entries.iter().map(|entry| entry.count).enumerate();
        let (at, least) = counts.min_by_key(|(_, count)| *count).unwrap_or_default();
        self.least = least;
        at
    }

    /// Removes a key.
    pub(super) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        if let Some(at) = self.index.remove(key) {
            self.entries.swap_remove(at);
            if let Some(moved) = self.entries.get(at) {
                self.index.insert(moved.key.clone(), at);
            }
        }
    }

    /// Returns the keys, each with a weight that it had at least.
    pub(super) fn lower_bounds(&self) -> impl Iterator<Item = (&K, u64)> {
        let bound = |entry: &Entry<K>| entry.count - entry.error;
        self.entries
            .iter()
            .map(move |entry| (&entry.key, bound(entry)))
    }

    /// Returns the keys with the largest weights, the largest first.
    pub(super) fn top(&self, limit: usize) -> Vec<(K, u64)> {
        largest(self.lower_bounds().collect(), limit)
    }

    fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
        self.least = 0;
    }
}

/// The most frequent keys of the last [`SLOTS`] slots of time, of which the newest is in progress.
#[derive(Debug)]
pub(super) struct Window<K> {
    slot_s: u64,
    /// The sketch of each slot, with the number of the slot.
    slots: [(u64, Sketch<K>); SLOTS],
}

impl<K: Clone + Eq + Hash> Window<K> {
    /// Creates a window with slots of this many seconds.
    pub(super) fn new(slot_s: u64) -> Self {
        Self {
            slot_s,
            slots: Default::default(),
        }
    }

    /// Adds weight to a key at a time in seconds.
    pub(super) fn add<Q>(&mut self, now: u64, key: &Q, own: impl FnOnce() -> K, weight: u64)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        let slot = now / self.slot_s;
        let at = usize::try_from(slot).unwrap_or_default() % SLOTS;
        if let Some((number, sketch)) = self.slots.get_mut(at) {
            if *number != slot {
                *number = slot;
                sketch.clear();
            }
            sketch.add(key, own, weight);
        }
    }

    /// Removes a key.
    pub(super) fn remove<Q>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
        Q: Eq + Hash + ?Sized,
    {
        for (_, sketch) in &mut self.slots {
            sketch.remove(key);
        }
    }

    /// Returns the keys with the largest weights, the largest first.
    pub(super) fn top(&self, now: u64, limit: usize) -> Vec<(K, u64)> {
        let slot = now / self.slot_s;
        let is_recent = |number: u64| number <= slot && slot - number < SLOTS as u64;
        let mut sums: HashMap<&K, u64> = HashMap::new();
        let recent = self.slots.iter().filter(|(number, _)| is_recent(*number));
        for (key, weight) in recent.flat_map(|(_, sketch)| sketch.lower_bounds()) {
            *sums.entry(key).or_default() += weight;
        }
        largest(sums.into_iter().collect(), limit)
    }

    /// Returns the seconds that the window covers at a time, if counting began at `started`.
    pub(super) fn covered(&self, now: u64, started: u64) -> u64 {
        let full = (SLOTS as u64 - 1) * self.slot_s + now % self.slot_s;
        full.min(now.saturating_sub(started)).max(1)
    }
}

fn largest<K: Clone>(mut weights: Vec<(&K, u64)>, limit: usize) -> Vec<(K, u64)> {
    weights.retain(|(_, weight)| *weight > 0);
    weights.sort_unstable_by_key(|(_, weight)| Reverse(*weight));
    weights.truncate(limit);
    let owned = |(key, weight): (&K, u64)| (key.clone(), weight);
    weights.into_iter().map(owned).collect()
}

/// Keys of a sketch.
const MAX_KEYS: usize = 128;
/// Slots of a window.
const SLOTS: usize = 6;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(n).into()
    }

    #[test]
    fn a_million_addresses_keep_the_size_and_the_frequent_one() {
        let mut sketch = Sketch::default();
        let flooder = address(u32::MAX);
        for n in 0..1_000_000 {
            sketch.add(&address(n), || address(n), 1);
            if n % 50 == 0 {
                sketch.add(&flooder, || flooder, 1);
            }
        }
        assert_eq!((sketch.entries.len(), sketch.index.len()), (128, 128));
        let top = sketch.lower_bounds().max_by_key(|(_, weight)| *weight);
        let (key, weight) = top.unwrap();
        assert_eq!(*key, flooder);
        assert!((12_000..=20_000).contains(&weight), "{weight}");
        assert!(sketch.index.capacity() < 512);
    }

    #[test]
    fn few_keys_are_counted_exactly_and_removed() {
        let mut sketch: Sketch<String> = Sketch::default();
        for (key, weight) in [("ann", 3), ("bob", 1), ("cat", 5), ("ann", 4)] {
            sketch.add(key, || key.to_owned(), weight);
        }
        sketch.remove("bob");
        sketch.remove("dan");
        sketch.add("cat", || unreachable!("known"), 1);
        let mut counts: Vec<_> = sketch.lower_bounds().collect();
        counts.sort_unstable();
        assert_eq!(counts, [(&"ann".to_owned(), 7), (&"cat".to_owned(), 6)]);
    }

    #[test]
    fn a_window_forgets_what_is_older_than_its_slots() {
        let mut window: Window<String> = Window::new(10);
        for second in 0..120 {
            window.add(second, "ann", || "ann".to_owned(), 2);
        }
        window.add(60, "bob", || "bob".to_owned(), 5);
        let both = [("ann".to_owned(), 120), ("bob".to_owned(), 5)];
        assert_eq!(window.top(119, 9), both);
        assert_eq!(window.covered(119, 0), 59);
        assert_eq!(window.covered(119, 100), 19);
        assert_eq!(window.top(165, 9), [("ann".to_owned(), 20)]);
        assert!(window.top(500, 9).is_empty());
    }
}
