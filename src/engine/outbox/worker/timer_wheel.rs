//! A coarse timer wheel: entries to be checked, in slots of one tick.
//!
//! The wheel reads no clock. Entries are stored in one slab and linked into the slot of their time,
//! so that putting them back needs no allocation. No entry is returned before its time, and at most
//! one tick plus the caller's delay after it. The exception are entries beyond the reach of the
//! wheel: they are returned early and must be put back.

use std::time::{Duration, Instant};

/// Entries by slot.
pub(super) struct TimerWheel<T> {
    origin: Instant,
    /// The tick in nanoseconds.
    tick: u64,
    /// All entries up to this tick have been taken out.
    done: u64,
    /// The first entry of each slot. The slots cover the ticks after `done`.
    slots: Box<[u32]>,
    entries: Vec<TimerEntry<T>>,
    /// The first free entry.
    spare: u32,
    /// The number of used entries: linked into a slot, or taken out and not put back yet.
    used: usize,
}

struct TimerEntry<T> {
    /// The item; `None` if it was removed. Such an entry is freed when its slot is reached.
    item: Option<T>,
    next: u32,
}

/// The position of an entry until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct TimerId(u32);

/// An entry that was taken out.
pub(super) struct DueEntry<T> {
    timer: TimerId,
    pub(super) item: T,
    /// When it is due again.
    pub(super) again: Instant,
}

/// The end of a list.
const NONE: u32 = u32::MAX;

impl<T: Clone> TimerWheel<T> {
    /// Creates a wheel with this number of slots; the first starts now.
    pub(super) fn new(now: Instant, tick: Duration, slots: usize) -> Self {
        Self {
            origin: now,
            tick: u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX).max(1),
            done: 0,
            slots: vec![NONE; slots.max(1)].into(),
            entries: Vec::new(),
            spare: NONE,
            used: 0,
        }
    }

    /// Adds an item that is due at a time. Returns `None` if the wheel is full.
    pub(super) fn add(&mut self, item: T, at: Instant) -> Option<TimerId> {
        let item = Some(item);
        let index = if let Some(entry) = self.entries.get_mut(self.spare as usize) {
            entry.item = item;
            std::mem::replace(&mut self.spare, entry.next)
        } else {
            let index = u32::try_from(self.entries.len()).ok()?;
            if index == NONE {
                return None;
            }
            self.entries.push(TimerEntry { item, next: NONE });
            index
        };
        self.used += 1;
        self.link(index, at);
        Some(TimerId(index))
    }

    /// Removes an entry. The id must not be used again.
    pub(super) fn remove(&mut self, timer: TimerId) -> Option<T> {
        // Slots are singly linked lists, so the entry stays in its list until its slot is reached.
        self.entries.get_mut(timer.0 as usize)?.item.take()
    }

    /// Takes out due entries until `taken` has `limit` entries. All of them must be put back.
    pub(super) fn take_due(&mut self, now: Instant, taken: &mut Vec<DueEntry<T>>, limit: usize) {
        let current = self.nanoseconds(now) / self.tick;
        let slots = self.slots.len() as u64;
        if self.used == 0 {
            // An empty wheel has nothing to take out, so it skips to the current tick.
            self.done = self.done.max(current);
        }
        // After a long sleep, each slot is checked once.
        self.done = self.done.max(current.saturating_sub(slots));
        while self.done < current && taken.len() < limit {
            let index = ((self.done + 1) % slots) as usize;
            let first = self.slots.get(index).copied().unwrap_or(NONE);
            let Some(entry) = self.entries.get(first as usize) else {
                self.done += 1;
                continue;
            };
            if let Some(slot) = self.slots.get_mut(index) {
                *slot = entry.next;
            }
            let timer = TimerId(first);
            match &entry.item {
                Some(item) => taken.push(DueEntry {
                    timer,
                    item: item.clone(),
                    again: now,
                }),
                None => self.release(first),
            }
        }
    }

    /// Puts a taken entry back with its next time, unless it was removed in the meantime.
    pub(super) fn put_back(&mut self, taken: &DueEntry<T>) {
        let TimerId(index) = taken.timer;
        match self.entries.get(index as usize) {
            Some(TimerEntry { item: Some(_), .. }) => self.link(index, taken.again),
            Some(TimerEntry { item: None, .. }) => self.release(index),
            None => {}
        }
    }

    /// Returns when the next entry is due.
    pub(super) fn next(&self) -> Option<Instant> {
        if self.used == 0 {
            return None;
        }
        let slots = self.slots.len() as u64;
        let is_used = |tick: &u64| self.slots.get((tick % slots) as usize) != Some(&NONE);
        let tick = (self.done + 1..=self.done + slots).find(is_used)?;
        Some(self.origin + Duration::from_nanos(tick.saturating_mul(self.tick)))
    }

    fn link(&mut self, index: u32, at: Instant) {
        let slots = self.slots.len() as u64;
        let tick = self.nanoseconds(at).div_ceil(self.tick);
        // A time in the past is put into the next slot, and a time beyond the reach of the wheel
        // into the last.
        let slot = tick.clamp(self.done + 1, self.done + slots) % slots;
        let slot = self.slots.get_mut(slot as usize);
        if let (Some(slot), Some(entry)) = (slot, self.entries.get_mut(index as usize)) {
            entry.next = std::mem::replace(slot, index);
        }
    }

    fn release(&mut self, index: u32) {
        self.used -= 1;
        if self.used == 0 {
            // No ids are in use any more, so the memory of a peak load is freed.
            self.entries = Vec::new();
            self.spare = NONE;
        } else if let Some(entry) = self.entries.get_mut(index as usize) {
            entry.next = std::mem::replace(&mut self.spare, index);
        }
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.origin).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use super::*;
    use crate::engine::primitives::now;

    const TICK: Duration = Duration::from_millis(100);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Returns a wheel of 16 slots, and its start.
    fn wheel<T: Clone>() -> (TimerWheel<T>, Instant) {
        let start = now();
        (TimerWheel::new(start, TICK, 16), start)
    }

    fn take<T: Clone>(wheel: &mut TimerWheel<T>, now: Instant) -> Vec<DueEntry<T>> {
        let mut taken = Vec::new();
        wheel.take_due(now, &mut taken, usize::MAX);
        taken
    }

    #[test]
    fn entries_are_due_in_time_and_never_early() {
        let (mut wheel, start) = wheel();
        let times = [0, 1, 99, 100, 101, 199, 200, 730, 1599, 1600];
        for at in times {
            wheel.add(at, start + ms(at)).unwrap();
        }
        let mut out = BTreeMap::new();
        for now in (0..=1700).step_by(10) {
            for taken in take(&mut wheel, start + ms(now)) {
                out.insert(taken.item, now);
                wheel.remove(taken.timer);
                wheel.put_back(&taken);
            }
        }
        let expected = [100, 100, 100, 100, 200, 200, 200, 800, 1600, 1600];
        assert_eq!(out, times.into_iter().zip(expected).collect());
        assert_eq!(wheel.next(), None);
        assert_eq!(wheel.entries.capacity(), 0);
    }

    #[test]
    fn entries_beyond_the_wheel_are_returned_for_insertion() {
        let (mut wheel, start) = wheel();
        let far = start + ms(100_000);
        wheel.add((), far).unwrap();
        let mut checks = 0;
        loop {
            let now = wheel.next().unwrap();
            let mut taken = take(&mut wheel, now).remove(0);
            checks += 1;
            if now >= far {
                assert_eq!(now, far);
                break;
            }
            taken.again = far;
            wheel.put_back(&taken);
        }
        assert_eq!(checks, 100_000_u32.div_ceil(1600));
    }

    #[test]
    fn entries_wrap_around_without_an_allocation() {
        let (mut wheel, start) = wheel();
        for at in 0..1000 {
            wheel.add(at, start + ms(at)).unwrap();
        }
        let capacity = wheel.entries.capacity();
        let mut taken = Vec::new();
        for round in 1..=10_000 {
            let now = start + ms(round * 10);
            wheel.take_due(now, &mut taken, 64);
            for mut taken in taken.drain(..) {
                taken.again = now + ms(1000);
                wheel.put_back(&taken);
            }
        }
        assert_eq!(wheel.entries.capacity(), capacity);
        assert_eq!(wheel.entries.len(), 1000);
        assert_eq!(wheel.used, 1000);
    }

    #[test]
    fn a_batch_is_limited_and_the_rest_follows() {
        let (mut wheel, start) = wheel();
        for number in 0..10 {
            wheel.add(number, start + ms(50)).unwrap();
        }
        let (now, mut all) = (start + ms(100), Vec::new());
        loop {
            let mut taken = Vec::new();
            wheel.take_due(now, &mut taken, 4);
            if taken.is_empty() {
                break;
            }
            assert!(taken.len() <= 4);
            for mut taken in taken {
                all.push(taken.item);
                taken.again = now + ms(1);
                wheel.put_back(&taken);
            }
            assert!(all.len() <= 10);
        }
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        assert_eq!(wheel.next(), Some(start + ms(200)));
    }

    #[test]
    fn removed_entry_is_dropped_immediately_and_never_due() {
        let (mut wheel, start) = wheel();
        let item = Arc::new(());
        let first = wheel.add(Arc::clone(&item), start + ms(100)).unwrap();
        let second = wheel.add(Arc::clone(&item), start + ms(100)).unwrap();
        assert!(wheel.remove(first).is_some());
        assert_eq!(Arc::strong_count(&item), 2);
        let taken = take(&mut wheel, start + ms(100));
        assert_eq!(taken.len(), 1);
        // Its owner removes it while it is taken out.
        assert!(wheel.remove(second).is_some());
        wheel.put_back(&taken[0]);
        drop(taken);
        assert_eq!(Arc::strong_count(&item), 1);
        assert!(take(&mut wheel, start + ms(10_000)).is_empty());
        assert_eq!(wheel.used, 0);
    }

    #[test]
    fn slots_are_reused() {
        let (mut wheel, start) = wheel();
        let remaining = wheel.add(0, start + ms(500)).unwrap();
        for round in 1..=100 {
            let now = start + ms(round * 100);
            let timer = wheel.add(round, now + ms(100)).unwrap();
            assert_eq!(wheel.remove(timer), Some(round));
            for mut taken in take(&mut wheel, now) {
                taken.again = now + ms(500);
                wheel.put_back(&taken);
            }
        }
        assert!(wheel.entries.len() <= 3, "{}", wheel.entries.len());
        assert_eq!(wheel.remove(remaining), Some(0));
    }

    #[test]
    fn after_a_long_sleep_all_entries_are_due_immediately() {
        let (mut wheel, start) = wheel();
        for number in 0..16 {
            wheel.add(number, start + ms(number * 100)).unwrap();
        }
        let now = start + Duration::from_secs(100_000_000);
        assert_eq!(take(&mut wheel, now).len(), 16);
    }

    #[test]
    fn empty_wheel_does_not_advance() {
        let (mut wheel, start) = wheel();
        assert_eq!(wheel.next(), None);
        let now = start + ms(123_456);
        assert!(take(&mut wheel, now).is_empty());
        wheel.add((), now + ms(10)).unwrap();
        assert_eq!(wheel.next(), Some(start + ms(123_500)));
    }
}
