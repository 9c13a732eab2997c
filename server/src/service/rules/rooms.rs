//! The names of rooms.

use std::time::SystemTime;

use roomcast::{Room, SocketId};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::metrics::hex;

/// The kinds of rooms that the server creates itself and sends events to. Rooms that clients of the
/// HTTP API name are not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomKind {
    /// All sockets that joined a conversation.
    Conversation,
    /// All sockets of a user.
    User,
    /// All sockets that follow the trades of a user.
    Trades,
    /// All sockets that follow the portfolio of a user.
    Portfolio,
    /// All sockets that follow all signals.
    Signals,
    /// All sockets that follow the signals of a channel.
    Channel,
    /// All sockets that follow the price of a symbol.
    Prices,
    /// All sockets that follow the notifications of a user.
    Notifications,
    /// All sockets that follow a channel of a declared kind.
    Declared,
    /// All sockets in `/admin`.
    Admin,
}

impl RoomKind {
    const ALL: [Self; 10] = [
        Self::Conversation,
        Self::User,
        Self::Trades,
        Self::Portfolio,
        Self::Signals,
        Self::Channel,
        Self::Prices,
        Self::Notifications,
        Self::Declared,
        Self::Admin,
    ];

    /// Returns the prefix of the room names. A colon and an id follow, or `#` and a hash. The names
    /// of `Signals` and `Admin` are the prefix alone.
    pub(in crate::service) const fn prefix(self) -> &'static str {
        match self {
            Self::Conversation => "conversation",
            Self::User => "user",
            Self::Trades => "trades",
            Self::Portfolio => "portfolio",
            Self::Signals | Self::Channel => "signals",
            Self::Prices => "prices",
            Self::Notifications => "notifications",
            Self::Declared => "channel",
            Self::Admin => "admin",
        }
    }

    /// Returns the patterns of all kinds.
    pub(in crate::service) fn patterns() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::pattern)
    }

    /// Returns the pattern of the room names, with variable parts in angle brackets.
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
            Self::Declared => "channel:<channel>",
            Self::Admin => "admin",
        }
    }
}

/// A room or channel that a socket follows, other than a conversation. A server sends it to the
/// server that takes over the client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Followed {
    /// A room whose name identifies what the socket follows.
    Room(String),
    /// A channel of signals whose room name has only a hash.
    Channel {
        /// The channel.
        signals: String,
    },
    /// A channel of a declared kind.
    Declared {
        /// The name of the channel.
        channel: String,
        /// The position of the last event that was sent to the socket. `None` if the subscription
        /// cannot continue.
        #[serde(skip_serializing_if = "Option::is_none")]
        position: Option<String>,
        /// The right that the socket has besides the rules of the kind.
        #[serde(skip_serializing_if = "Option::is_none")]
        grant: Option<MovedGrant>,
    },
}

/// The right to follow a channel that a socket takes to another server. Answers of a backend are
/// not taken along: the other server asks the backend itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum MovedGrant {
    /// From a token of the user.
    #[serde(rename_all = "camelCase")]
    Token {
        /// When the token ends.
        until: SystemTime,
        /// The roles in the token. These and the ids can be revoked.
        roles: Vec<String>,
        /// The id of the token.
        token_id: Option<String>,
        /// The identifier of the login session.
        session: Option<String>,
    },
    /// From a service that has subscribed the user.
    Service,
}

/// Returns whether only the server adds sockets to a room and removes them: the room belongs to a
/// [`RoomKind`], or is named after a socket.
///
/// The room of a socket receives what is sent to this socket alone. Every name with the form of a
/// socket id counts, because the socket may be at any server and may connect later.
pub(in crate::service) fn is_managed(room: &str) -> bool {
    let is_of_socket = SocketId::parse(room).is_some();
    is_of_socket || is_of_kind(room)
}

/// Returns whether a room belongs to a [`RoomKind`].
fn is_of_kind(room: &str) -> bool {
    RoomKind::ALL.into_iter().any(|kind| {
        let rest = room.strip_prefix(kind.prefix());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '#']))
    })
}

/// Returns the room `KIND:ID`, such as `user:ann`.
///
/// Room names are limited in bytes and ids in characters. If the name would be too long, the room
/// is `KIND#` and the SHA-256 hash of the id.
pub(in crate::service) fn room_named(kind: &str, id: &str) -> Room {
    if kind.len() + 1 + id.len() <= Room::MAX_BYTES {
        return Room::from(format!("{kind}:{id}"));
    }
    let hash = hex(Sha256::digest(id));
    Room::from(format!("{kind}#{hash}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::service::rules::policy;

    #[test]
    fn each_kind_is_in_a_row_of_an_event_and_matches_its_names() {
        use RoomKind::{
            Admin, Channel, Conversation, Declared, Notifications, Portfolio, Prices, Signals,
            Trades, User,
        };
        let named: Vec<_> = policy::emissions().flat_map(|row| row.rooms).collect();
        let all = RoomKind::ALL;
        for kind in all {
            // The events in declared channels are those of an application.
            let is_named = named.contains(&&kind) || kind == Declared;
            assert!(is_named, "{kind:?} is in no row");
            let room = match kind {
                Signals | Admin => Room::from(kind.prefix()),
                Conversation | User | Trades | Portfolio | Channel | Prices | Notifications
                | Declared => room_named(kind.prefix(), "ID"),
            };
            let pattern = kind.pattern();
            let prefix = match pattern.split_once('<') {
                Some((before, _)) => format!("{before}ID"),
                None => pattern.to_owned(),
            };
            assert_eq!(room.as_str(), prefix);
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
    fn rooms_of_all_kinds_are_managed_and_other_rooms_are_not() {
        for kind in RoomKind::ALL {
            let prefix = kind.prefix();
            assert!(is_managed(prefix) && is_managed(room_named(prefix, "ID").as_str()));
            let long = "ü".repeat(128);
            assert!(is_managed(room_named(prefix, &long).as_str()), "{kind:?}");
        }
        for free in [
            "",
            "vip",
            "users",
            "user-ann",
            "administrators",
            "a:user:ann",
        ] {
            assert!(!is_managed(free), "{free}");
        }
    }

    #[test]
    fn rooms_with_the_form_of_a_socket_id_are_managed() {
        for id in ["AAAAAAAAAAAAAAAAAAAA", "zZ09-_zZ09-_zZ09-_zZ"] {
            assert!(is_managed(id), "{id}");
        }
        for free in [
            "AAAAAAAAAAAAAAAAAAA",
            "AAAAAAAAAAAAAAAAAAAAA",
            "twenty characters...",
        ] {
            assert!(!is_managed(free), "{free}");
        }
    }

    #[test]
    fn room_of_a_long_id_contains_its_hash() {
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
