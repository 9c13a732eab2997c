use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hasher},
};

use roomcast_protocol::Sid;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Id of a socket: one client in one namespace.
///
/// An id is drawn anew for every namespace and says nothing about the Engine.IO session, so it may be
/// shown to other clients. Every socket can be reached through the room of its own id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(Sid);

impl SocketId {
    /// The id made of an id that nobody can guess.
    pub(crate) const fn new(sid: Sid) -> Self {
        Self(sid)
    }

    /// Reads an id that was written out before; `None` unless it has exactly the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Sid::parse(text).map(Self)
    }

    /// The 20 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for SocketId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketId({})", self.as_str())
    }
}

impl Serialize for SocketId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for SocketId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = SocketId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a socket id")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<SocketId, E> {
                SocketId::parse(text).ok_or_else(|| E::custom("not a socket id"))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

/// A map by socket id.
pub(crate) type IdMap<V> = HashMap<SocketId, V, BuildHasherDefault<IdHasher>>;
/// A set of socket ids.
pub(crate) type IdSet = HashSet<SocketId, BuildHasherDefault<IdHasher>>;

/// Folds the bytes of an id. Ids are random and ours, so nobody can aim for collisions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(ODD);
        }
    }

    fn write_usize(&mut self, _: usize) {
        // The length, which is the same for all ids.
    }

    fn finish(&self) -> u64 {
        // The high bits of a product are the mixed ones, a table looks at the low ones too.
        self.0.rotate_left(26)
    }
}

const ODD: u64 = 0xf135_7aea_2e62_a9c5;

#[cfg(test)]
mod tests {
    use super::*;

    fn random() -> SocketId {
        let mut bytes = [0; 15];
        getrandom::fill(&mut bytes).unwrap();
        SocketId::new(Sid::from_random(bytes))
    }

    #[test]
    fn ids_spread_over_the_low_and_the_high_bits_of_the_hash() {
        use std::hash::BuildHasher as _;
        let build = BuildHasherDefault::<IdHasher>::default();
        let hashes: Vec<_> = (0..4096).map(|_| build.hash_one(random())).collect();
        let low: HashSet<_> = hashes.iter().map(|hash| hash & 0xfff).collect();
        let high: HashSet<_> = hashes.iter().map(|hash| hash >> 52).collect();
        // 4,096 balls in 4,096 bins fill about 63 % of them.
        assert!(low.len() > 2300, "{}", low.len());
        assert!(high.len() > 2300, "{}", high.len());
    }

    #[test]
    fn an_id_is_read_back_from_json_and_nothing_else_is() {
        let id = random();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::from_str::<SocketId>(&json).unwrap(), id);
        assert!(serde_json::from_str::<SocketId>("\"x\"").is_err());
        assert!(serde_json::from_str::<SocketId>("7").is_err());
    }
}
