//! The names of rooms.

use roomcast::Room;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// What a socket follows beside conversations, as one server tells another to which its client goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Followed {
    /// A room whose name says what it is.
    Room(String),
    /// A channel of signals whose room has only a hash in its name. A server of a version before this does not understand it, and
    /// has the client start afresh.
    Channel {
        /// The channel.
        signals: String,
    },
}

/// The room `KIND:ID`, such as `user:ann`. Names of rooms are limited in bytes and ids in characters, so that a long id is in
/// it as `KIND#` and its hash.
pub(in crate::service) fn room_named(kind: &str, id: &str) -> Room {
    if kind.len() + 1 + id.len() <= Room::MAX_BYTES {
        return Room::from(format!("{kind}:{id}"));
    }
    let hash: String = Sha256::digest(id)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Room::from(format!("{kind}#{hash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_id_is_in_the_name_of_its_room_as_a_hash() {
        assert_eq!(room_named("trades", "ann").as_str(), "trades:ann");
        let long = "ü".repeat(128);
        let room = room_named("trades", &long);
        assert!(room.as_str().starts_with("trades#") && room.as_str().len() == 7 + 64);
        assert_ne!(room, room_named("trades", &"ö".repeat(128)));
        let longest = "a".repeat(Room::MAX_BYTES - "trades:".len());
        assert_eq!(
            room_named("trades", &longest).as_str().len(),
            Room::MAX_BYTES
        );
    }
}
