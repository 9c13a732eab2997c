//! The id of a connection in logs.

use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::LazyLock,
};

use roomcast_protocol::Sid;

/// The id of a client's connection in the log.
///
/// It is a keyed hash of the session id, which is a secret: it allows posting as the client. The
/// key is random and new in each process, so the id reveals nothing about the session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn of(session: Sid) -> Self {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(KEY.hash_one(session))
    }
}

/// Writes 16 hexadecimal digits.
impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_stable_within_a_process_and_shows_no_part_of_the_session() {
        let session = Sid::from_random([7; 15]);
        let other = Sid::from_random([8; 15]);
        let id = ConnectionId::of(session).to_string();
        assert_eq!(id, ConnectionId::of(session).to_string());
        assert_ne!(id, ConnectionId::of(other).to_string());
        assert!(id.len() == 16 && !id.contains(&session.as_str()[..6]));
    }
}
