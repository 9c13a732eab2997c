//! Maps by a 64-bit hash whose key nobody knows, instead of what was hashed: the maps do not hash it
//! again, and nobody can choose to be taken for another.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
};

use parking_lot::Mutex;

/// Values by the hash of their names.
pub type ByHash<T> = HashMap<u64, T, BuildHasherDefault<Hashed>>;

/// Hashes what is a hash.
#[derive(Debug, Default)]
pub struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Parts of a table, each behind a lock of its own, found by the same hashes.
#[derive(Debug)]
pub struct Shards<S> {
    hasher: RandomState,
    shards: Box<[Mutex<S>]>,
}

/// How many parts there are.
pub const SHARDS: usize = 16;

impl<S: Default> Default for Shards<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Default> Shards<S> {
    /// All parts at their defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// All parts.
    pub fn iter(&self) -> std::slice::Iter<'_, Mutex<S>> {
        self.shards.iter()
    }

    /// Does something with the part of a name, which has this hash.
    pub fn with<T>(&self, name: impl Hash, act: impl FnOnce(&mut S, u64) -> T) -> T {
        let hash = self.hasher.hash_one(name);
        // The maps in the parts look at the lowest and the highest bits of a hash, so the part is
        // found by those in the middle.
        let at = (hash >> 32) as usize % self.shards.len().max(1);
        match self.shards.get(at) {
            Some(shard) => act(&mut shard.lock(), hash),
            None => act(&mut S::default(), hash),
        }
    }
}
