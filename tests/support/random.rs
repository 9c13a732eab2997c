//! Random numbers for tests of many cases: the seed of a case reproduces it.

#![allow(dead_code, unreachable_pub, reason = "a module of several binaries")]

/// A generator of Marsaglia's xorshift family.
#[derive(Clone, Copy, Debug)]
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Random {
    /// Returns a generator that repeats the same numbers for the same seed.
    pub const fn new(seed: u64) -> Self {
        // The state of a generator of this kind must not be 0.
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }
}
