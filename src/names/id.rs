use std::{
    collections::{HashMap, HashSet},
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    sync::Arc,
};

use roomcast_protocol::{SessionId, Sid};
use serde::{Deserialize, Deserializer, Serialize, de};

/// Id of a socket: one client in one namespace.
///
/// A new id of 20 characters is generated for each namespace. It does not reveal the Engine.IO
/// session id, so it may be shown to other clients. Every socket is in the room named after its id.
///
/// Clients of Engine.IO v3 (`socket.io-client` 2) compute their id instead: the session id in `/`,
/// and `/chat#` followed by the session id in `/chat`. Such an id allows whoever knows it to
/// receive and send in place of the client.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SocketId(Repr);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Repr {
    Sid(Sid),
    /// A computed id that is not just a [`Sid`].
    Computed(Arc<str>),
}

impl SocketId {
    /// Wraps an unguessable session id.
    pub(crate) const fn new(sid: Sid) -> Self {
        Self(Repr::Sid(sid))
    }

    /// Returns the id that a client of Engine.IO v3 computes in this namespace.
    pub(crate) fn computed(namespace: &str, session: SessionId) -> Self {
        match (namespace, session.tag) {
            ("/", None) => Self::new(session.sid),
            ("/", Some(_)) => Self(Repr::Computed(session.to_string().into())),
            _ => Self(Repr::Computed(format!("{namespace}#{session}").into())),
        }
    }

    /// Parses the text form of an id; `None` unless it has exactly that form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(sid) = Sid::parse(text) {
            return Some(Self::new(sid));
        }
        // All other forms contain a session id, which has as many bytes as its text.
        if text.len() <= size_of::<Sid>() {
            return None;
        }
        let session = match text.rsplit_once('#') {
            Some((namespace, session)) if namespace.len() > 1 && namespace.starts_with('/') => {
                session
            }
            Some(_) => return None,
            None => text,
        };
        SessionId::parse(session)?;
        Some(Self(Repr::Computed(text.into())))
    }

    /// Returns the text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Sid(sid) => sid.as_str(),
            Repr::Computed(text) => text,
        }
    }
}

impl Hash for SocketId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.as_str().as_bytes());
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

/// A hasher for socket ids. Each id ends with characters that the server draws at random, so
/// clients cannot aim for collisions.
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

    fn finish(&self) -> u64 {
        // The high bits of a product are the well-mixed ones, but a hash table also uses the low
        // bits.
        self.0.rotate_left(26)
    }
}

const ODD: u64 = 0xf135_7aea_2e62_a9c5;

#[cfg(test)]
mod tests {
    use roomcast_protocol::Tag;

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
        // 4,096 balls in 4,096 bins fill about 63% of the bins.
        assert!(low.len() > 2300, "{}", low.len());
        assert!(high.len() > 2300, "{}", high.len());
    }

    #[test]
    fn computed_ids_are_read_back_in_their_only_form() {
        let sid = Sid::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
        let tag = Tag::parse("BBBBBBBB");
        let computed = |namespace, tag| SocketId::computed(namespace, SessionId { sid, tag });
        for (id, text) in [
            (computed("/", None), "AAAAAAAAAAAAAAAAAAAA"),
            (computed("/", tag), "AAAAAAAAAAAAAAAAAAAABBBBBBBB"),
            (computed("/chat", None), "/chat#AAAAAAAAAAAAAAAAAAAA"),
            (computed("/a#b", tag), "/a#b#AAAAAAAAAAAAAAAAAAAABBBBBBBB"),
        ] {
            assert_eq!(id.as_str(), text);
            assert_eq!(SocketId::parse(text), Some(id));
        }
        assert_eq!(computed("/", None), SocketId::new(sid));
        for text in [
            "/#AAAAAAAAAAAAAAAAAAAA",
            "chat#AAAAAAAAAAAAAAAAAAAA",
            "/chat#",
            "/chat#AAAA",
        ] {
            assert_eq!(SocketId::parse(text), None, "{text}");
        }
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
