//! A table split into shards, so that tasks with different keys rarely contend for a lock.

use std::hash::{BuildHasher, Hash, RandomState};

/// The shards of a table. Each key belongs to one of them.
#[derive(Debug)]
pub(super) struct Sharded<T> {
    parts: [T; PARTS],
    hasher: RandomState,
}

impl<T: Default> Sharded<T> {
    pub(super) fn new() -> Self {
        Self {
            parts: std::array::from_fn(|_| T::default()),
            hasher: RandomState::new(),
        }
    }

    /// Returns the shard of a key.
    pub(super) fn of(&self, key: impl Hash) -> &T {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "a remainder is below its divisor"
        )]
        &self.parts[self.hasher.hash_one(key) as usize % PARTS]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.parts.iter()
    }
}

/// Far more than the threads that emit or handle events.
const PARTS: usize = 32;
