//! The names of rooms.

use roomcast::Room;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The rooms that the server has by itself, as far as events go to them. Rooms that services make are not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomKind {
    /// Who has joined a conversation.
    Conversation,
    /// All sockets of a user.
    User,
    /// Who follows the trades of a user.
    Trades,
    /// Who follows the portfolio of a user.
    Portfolio,
    /// Who follows all signals.
    Signals,
    /// Who follows the signals of a channel.
    Channel,
    /// Who follows the price of a symbol.
    Prices,
    /// Who follows the notifications of a user.
    Notifications,
    /// Everybody in `/admin`.
    Admin,
}

impl RoomKind {
    /// What its names begin with. An id follows behind a colon, but for `signals` and `admin`, which are whole names.
    pub(in crate::service) const fn prefix(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::User => "user",
            Self::Trades => "trades",
            Self::Portfolio => "portfolio",
            Self::Signals | Self::Channel => "signals",
            Self::Prices => "prices",
            Self::Notifications => "notifications",
            Self::Admin => "admin",
        }
    }

    /// Its names, with what is variable in angle brackets.
    pub(in crate::service::rules) const fn pattern(self) -> &'static str {
        match self {
            Self::Conversation => "conversation:<conversationId>",
            Self::User => "user:<userId>",
            Self::Trades => "trades:<userId>",
            Self::Portfolio => "portfolio:<userId>",
            Self::Signals => "signals",
            Self::Channel => "signals:<channelId>",
            Self::Prices => "prices:<symbol>",
            Self::Notifications => "notifications:<userId>",
            Self::Admin => "admin",
        }
    }
}

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
    use std::collections::HashSet;

    use super::*;
    use crate::service::rules::policy;

    #[test]
    fn the_rooms_that_the_rows_name_are_those_that_sockets_are_in() {
        use RoomKind::{
            Admin, Channel, Conversation, Notifications, Portfolio, Prices, Signals, Trades, User,
        };
        let named: Vec<_> = policy::emissions().flat_map(|row| row.rooms).collect();
        let all = [
            Conversation,
            User,
            Trades,
            Portfolio,
            Signals,
            Channel,
            Prices,
            Notifications,
            Admin,
        ];
        for kind in all {
            assert!(named.contains(&&kind), "{kind:?} is in no row");
            let room = match kind {
                Signals | Admin => Room::from(kind.prefix()),
                Conversation | User | Trades | Portfolio | Channel | Prices | Notifications => {
                    room_named(kind.prefix(), "ID")
                }
            };
            let pattern = kind.pattern();
            let told = match pattern.split_once('<') {
                Some((before, _)) => format!("{before}ID"),
                None => pattern.to_owned(),
            };
            assert_eq!(room.as_str(), told);
        }
        let patterns: HashSet<_> = all.iter().map(|kind| kind.pattern()).collect();
        assert_eq!(patterns.len(), all.len());
        for row in policy::emissions() {
            let is_alone = row.to.starts_with("the socket") || row.to.starts_with("the sending");
            let rooms = row.rooms;
            assert!(is_alone || !rooms.is_empty(), "{} names no room", row.event);
            let in_admin = row.namespace() == "/admin";
            assert_eq!(rooms.contains(&Admin), in_admin, "{}", row.event);
        }
    }

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
