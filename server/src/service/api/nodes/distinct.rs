//! Counts the distinct names of several servers without sending the names.
//!
//! Each server sends the smallest hashes of its names. The union of these is again a sample of the
//! smallest hashes of all names, from whose density the number of names follows.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The number of names of one server, and the smallest of their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NameSample {
    count: usize,
    /// At most [`MAX_HASHES`], in ascending order. All hashes if there are fewer names.
    hashes: Vec<u32>,
}

impl NameSample {
    /// Samples names, of which none occurs twice.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut smallest = BTreeSet::new();
        let mut count = 0;
        for name in names {
            count += 1;
            let hash = hash(name);
            if smallest.len() < MAX_HASHES {
                smallest.insert(hash);
            } else if smallest.last().is_some_and(|last| hash < *last) && smallest.insert(hash) {
                smallest.pop_last();
            }
        }
        Self {
            count,
            hashes: smallest.into_iter().collect(),
        }
    }

    fn is_complete(&self) -> bool {
        self.count <= MAX_HASHES
    }
}

/// Returns the number of distinct names of all servers: exact if each has at most [`MAX_HASHES`],
/// else an estimate, which is never below the largest number nor above the sum.
pub(super) fn distinct(samples: &[&NameSample]) -> usize {
    let counts = || samples.iter().map(|sample| sample.count);
    // Reports of other servers can have any numbers.
    let sum = counts().fold(0, usize::saturating_add);
    let largest = counts().max().unwrap_or(0);
    // Up to this hash, all servers have sent all of theirs.
    let partial = samples.iter().filter(|sample| !sample.is_complete());
    let bound = partial.filter_map(|sample| sample.hashes.last()).min();
    let all = samples.iter().flat_map(|sample| &sample.hashes);
    let union: BTreeSet<u32> = all.copied().collect();
    let Some(bound) = bound else {
        // Two names with one hash count once.
        return union.len().clamp(largest, sum);
    };
    let within = union.range(..bound).count();
    let share = f64::from(*bound) / HASHES;
    let estimate = within as f64 / share;
    (estimate.round() as usize).clamp(largest, sum)
}

/// Returns a hash that is the same at all servers: FNV-1a, whose bits are mixed afterwards.
fn hash(name: &str) -> u32 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
    let mut mixed = name.bytes().fold(FNV_OFFSET, step);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (mixed >> 32) as u32
}

/// The maximum number of hashes of a sample. The standard error of an estimate is about 3%.
const MAX_HASHES: usize = 1024;
/// The number of possible hashes.
const HASHES: f64 = 4_294_967_296.0;
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(range: std::ops::Range<usize>) -> NameSample {
        let names: Vec<_> = range.map(|n| format!("user:u{n}")).collect();
        NameSample::of(names.iter().map(String::as_str))
    }

    #[test]
    fn names_of_several_servers_are_counted_once() {
        let none = sample(0..0);
        let (one, two) = (sample(0..600), sample(400..1000));
        assert_eq!(distinct(&[]), 0);
        assert_eq!(distinct(&[&none, &none]), 0);
        assert_eq!(distinct(&[&one, &none]), 600);
        assert_eq!(distinct(&[&one, &one]), 600);
        assert_eq!(distinct(&[&one, &two]), 1000);
        assert_eq!(distinct(&[&sample(0..1024), &sample(512..1536)]), 1536);
    }

    #[test]
    fn many_names_are_estimated_within_a_tenth_and_their_bounds() {
        let (one, two) = (sample(0..20_000), sample(10_000..30_000));
        assert_eq!(one.hashes.len(), MAX_HASHES);
        let estimate = distinct(&[&one, &two, &sample(0..100)]);
        assert!((27_000..33_000).contains(&estimate), "{estimate}");
        let same = distinct(&[&one, &one]);
        assert!((20_000..22_000).contains(&same), "{same}");
        let apart = distinct(&[&one, &sample(20_000..40_000)]);
        assert!((36_000..=40_000).contains(&apart), "{apart}");
        assert!(serde_json::to_string(&one).unwrap().len() < 12_000);
    }
}
