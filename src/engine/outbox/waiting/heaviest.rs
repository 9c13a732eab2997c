//! Finds the holder of the most memory without querying all of them.
//!
//! Holders of a significant amount are filed by its size class. Filing takes a lock only when a
//! holder changes its class, which is rare, and costs nothing for small amounts. A holder that has
//! shrunk is found in too high a class, and is then filed again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

/// A holder of memory that can give it up.
pub(in crate::engine) trait Sheddable: Send + Sync {
    /// Frees the frames queued for a client and disconnects it, if it is still in this class.
    /// Otherwise it is filed again.
    fn shed_waiting(self: Arc<Self>, class: Class);

    /// Frees the frames retained for a client that may reconnect.
    fn shed_replay(self: Arc<Self>, class: Class);
}

/// A size class: four per doubling, starting at [`MIN_FILED_LOG2`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::engine) struct Class(u8);

/// Holders of less are not filed: 4 KiB, as the exponent of a power of two.
const MIN_FILED_LOG2: u32 = 12;

impl Class {
    /// Returns the size class of a number of bytes, or `None` for insignificant sizes.
    fn of(bytes: usize) -> Option<Self> {
        let doublings = bytes.checked_ilog2()?.checked_sub(MIN_FILED_LOG2)?;
        // The two bits after the leading one are the quarter.
        let quarter = bytes >> (doublings + MIN_FILED_LOG2 - 2) & 3;
        // Sizes have at most 64 bits, so four classes per doubling fit into a byte.
        Some(Self((doublings * 4) as u8 + quarter as u8))
    }
}

/// The holders of one kind of memory, by size class.
#[derive(Default)]
pub(in crate::engine) struct Heaviest(Mutex<Classes>);

#[derive(Default)]
struct Classes {
    filed: BTreeMap<(Class, u64), Weak<dyn Sheddable>>,
    /// The id of the last filed holder. Ids distinguish holders of one class.
    id: u64,
}

/// The entry of a filed holder. Dropping it removes the holder.
pub(in crate::engine::outbox) struct HeaviestEntry {
    heaviest: Arc<Heaviest>,
    key: (Class, u64),
}

impl Heaviest {
    /// Files a holder by its current number of bytes.
    pub(in crate::engine::outbox) fn file(
        self: &Arc<Self>,
        filed: &mut Option<Box<HeaviestEntry>>,
        bytes: usize,
        owner: impl FnOnce() -> Weak<dyn Sheddable>,
    ) {
        let class = Class::of(bytes);
        if class == filed.as_ref().map(|filed| filed.key.0) {
            return;
        }
        *filed = None;
        *filed = class.map(|class| {
            let mut state = self.0.lock();
            state.id += 1;
            let key = (class, state.id);
            state.filed.insert(key, owner());
            Box::new(HeaviestEntry {
                heaviest: Arc::clone(self),
                key,
            })
        });
    }

    /// Returns the holder of the most memory, and the class in which it was last filed.
    pub(in crate::engine) fn top(&self) -> Option<(Class, Arc<dyn Sheddable>)> {
        // This lock is ordered after that of an outbox. It is released before the caller locks or
        // drops the holder, because both may take this lock again.
        let state = self.0.lock();
        let mut filed = state.filed.iter().rev();
        // A holder that is being dropped is about to remove itself.
        filed.find_map(|(key, owner)| Some((key.0, owner.upgrade()?)))
    }
}

impl HeaviestEntry {
    pub(in crate::engine::outbox) fn class(&self) -> Class {
        self.key.0
    }
}

impl Drop for HeaviestEntry {
    fn drop(&mut self) {
        self.heaviest.0.lock().filed.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Holder(usize);

    impl Sheddable for Holder {
        fn shed_waiting(self: Arc<Self>, _: Class) {}

        fn shed_replay(self: Arc<Self>, _: Class) {}
    }

    #[test]
    fn a_class_is_a_quarter_of_a_doubling() {
        assert_eq!(Class::of(0), None);
        assert_eq!(Class::of(4095), None);
        let classes = [4096, 5120, 6144, 7168, 8192, 10_240].map(Class::of);
        for (number, class) in (0..).zip(classes) {
            assert_eq!(class, Some(Class(number)));
        }
        assert_eq!(Class::of(8191), Class::of(7168));
        assert_eq!(Class::of(usize::MAX), Some(Class(207)));
    }

    #[test]
    fn largest_holder_is_on_top_until_dropped() {
        let heaviest = Arc::new(Heaviest::default());
        let holders: Vec<_> = [50_000, 1000, 90_000, 20_000]
            .into_iter()
            .map(|bytes| {
                let (holder, mut filed) = (Arc::new(Holder(bytes)), None);
                let weak = Arc::downgrade(&holder);
                heaviest.file(&mut filed, bytes, || weak);
                (holder, filed)
            })
            .collect();
        let mut left: Vec<_> = holders
            .iter()
            .filter(|(_, filed)| filed.is_some())
            .collect();
        left.sort_by_key(|(holder, _)| holder.0);
        assert_eq!(left.len(), 3);
        let on_top = |bytes| heaviest.top().map(|top| top.0) == Class::of(bytes);
        assert!(on_top(90_000));
        let mut holders = holders;
        let no_owner = || -> Weak<dyn Sheddable> { Weak::<Holder>::new() };
        // It holds less now, and is filed again.
        heaviest.file(&mut holders[2].1, 30_000, no_owner);
        assert!(on_top(50_000));
        holders.remove(0);
        assert!(on_top(20_000), "one that cannot be found is passed over");
        holders.clear();
        assert!(heaviest.top().is_none() && heaviest.0.lock().filed.is_empty());
    }
}
