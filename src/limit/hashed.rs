//! Maps keyed by a 64-bit hash with a secret key.
//!
//! They store the hash instead of the hashed value and do not hash it again. Because the key is
//! secret, clients cannot aim for collisions.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
};

use parking_lot::Mutex;

/// Values by the hash of their name.
pub type ByHash<T> = HashMap<u64, T, BuildHasherDefault<PrehashedHasher>>;

/// A hasher for values that already are hashes.
#[derive(Debug, Default)]
pub struct PrehashedHasher(u64);

impl Hasher for PrehashedHasher {
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

/// A table split into parts by hash, each with its own lock.
#[derive(Debug)]
pub struct Shards<S> {
    hasher: RandomState,
    shards: Box<[Mutex<S>]>,
}

/// The number of parts.
pub const SHARDS: usize = 16;

impl<S: Default> Default for Shards<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Default> Shards<S> {
    /// Creates all parts with their defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Iterates over all parts.
    pub fn iter(&self) -> std::slice::Iter<'_, Mutex<S>> {
        self.shards.iter()
    }

    /// Calls `act` with the part for a name and the name's hash.
    pub fn with<T>(&self, name: impl Hash, act: impl FnOnce(&mut S, u64) -> T) -> T {
        let hash = self.hasher.hash_one(name);
        // The maps inside the parts use the lowest and highest bits of a hash, so the part is
        // selected by the middle bits.
        let at = (hash >> 32) as usize % self.shards.len().max(1);
        match self.shards.get(at) {
            Some(shard) => act(&mut shard.lock(), hash),
            None => act(&mut S::default(), hash),
        }
    }
}
