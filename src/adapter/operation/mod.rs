//! Operations as plain data: the target, the action and the replies.
//!
//! `socket` creates operations and applies them. The rest of `adapter` transports them to other
//! servers. It uses the names of sockets and rooms from `names`. It must not depend on sockets or
//! on transports.

mod answers;
mod node_id;
mod position;

use std::{sync::Arc, time::Duration};

use roomcast_protocol::socket::{Args, Arguments, Nsp};

pub use self::{
    answers::{AdapterError, Item, Unanswered},
    node_id::NodeId,
    position::Position,
};
use crate::names::{Room, RoomName, SocketId};

/// The action on the sockets of a target, or on other servers. Local operations borrow their parts;
/// an `Envelope` owns them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind<E = Arc<str>, A = Args, R = Vec<Room>> {
    /// An event for every socket.
    Broadcast {
        /// The name of the event.
        event: E,
        /// The arguments of the event, without a recovery offset.
        args: A,
    },
    /// An event that every socket acknowledges. Each server assigns its own acknowledgement id.
    BroadcastWithAck {
        /// The name of the event.
        event: E,
        /// The arguments of the event.
        args: A,
    },
    /// All sockets join these rooms.
    Join(R),
    /// All sockets leave these rooms.
    Leave(R),
    /// All sockets leave the namespace.
    Disconnect {
        /// Whether to close their connections, with all namespaces on them.
        close: bool,
    },
    /// Requests the data of every socket.
    FetchSockets,
    /// An event for the other servers.
    ServerSide {
        /// The name of the event.
        event: E,
        /// The arguments of the event.
        args: A,
    },
    /// An event that every other server answers.
    ServerSideWithAck {
        /// The name of the event.
        event: E,
        /// The arguments of the event.
        args: A,
    },
}

impl<E, A, R> Kind<E, A, R> {
    /// Converts the parts of this kind.
    pub(super) fn map<E2, A2, R2, X>(
        self,
        event: impl FnOnce(E) -> E2,
        args: impl FnOnce(A) -> Result<A2, X>,
        rooms: impl FnOnce(R) -> R2,
    ) -> Result<Kind<E2, A2, R2>, X> {
        let both = |name, value| Ok((event(name), args(value)?));
        Ok(match self {
            Self::Broadcast { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::Broadcast { event, args }
            }
            Self::BroadcastWithAck { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::BroadcastWithAck { event, args }
            }
            Self::Join(value) => Kind::Join(rooms(value)),
            Self::Leave(value) => Kind::Leave(rooms(value)),
            Self::Disconnect { close } => Kind::Disconnect { close },
            Self::FetchSockets => Kind::FetchSockets,
            Self::ServerSide { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::ServerSide { event, args }
            }
            Self::ServerSideWithAck { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::ServerSideWithAck { event, args }
            }
        })
    }
}

/// The delivery of an event to slow clients. `S` identifies the stream of the event. In an
/// `Envelope`, it is the name of the stream, and streams with different names are independent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery<S = Arc<str>> {
    /// The event is queued.
    #[default]
    Reliable,
    /// The event is dropped unless it can be sent immediately; see
    /// [`Broadcast::volatile`](crate::Broadcast::volatile).
    Volatile,
    /// Only the newest event of its key is queued; see
    /// [`Broadcast::conflate`](crate::Broadcast::conflate).
    Newest(S),
    /// Only this number of the last events of its stream is queued; see
    /// [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
    Last(S, u16),
}

impl<S> Delivery<S> {
    /// Replaces the name of the stream. If `stream` returns `None`, the delivery becomes
    /// `Reliable`.
    pub(super) fn map<T>(self, stream: impl FnOnce(S) -> Option<T>) -> Delivery<T> {
        match self {
            Self::Reliable => Delivery::Reliable,
            Self::Volatile => Delivery::Volatile,
            Self::Newest(name) => stream(name).map_or(Delivery::Reliable, Delivery::Newest),
            Self::Last(name, keep) => {
                stream(name).map_or(Delivery::Reliable, |name| Delivery::Last(name, keep))
            }
        }
    }
}

/// The options of an event. The stream is a number here, because a name would borrow from the
/// sender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) delivery: Delivery<u64>,
    pub(crate) compress: bool,
    /// The time limit for acknowledgements and answers.
    pub(crate) timeout: Option<Duration>,
    /// The position of the event in the journal.
    pub(crate) position: Option<Position>,
    /// The stream whose queued events this event replaces.
    pub(crate) replaces: Option<u64>,
}

impl Default for Flags {
    #[inline]
    fn default() -> Self {
        Self {
            delivery: Delivery::Reliable,
            compress: true,
            timeout: None,
            position: None,
            replaces: None,
        }
    }
}

/// The rooms of a target.
#[derive(Clone, Debug)]
pub(crate) enum Audience<'a> {
    /// The whole namespace.
    All,
    One(RoomName<'a>),
    /// A list of rooms. An empty list targets no socket.
    Many(Vec<RoomName<'a>>),
}

impl<'a> Audience<'a> {
    #[inline]
    pub(crate) fn add(self, room: RoomName<'a>) -> Self {
        match self {
            Self::All => Self::One(room),
            Self::One(first) => Self::Many(vec![first, room]),
            Self::Many(mut rooms) => {
                rooms.push(room);
                Self::Many(rooms)
            }
        }
    }

    pub(crate) fn has_no_target(&self) -> bool {
        matches!(self, Self::Many(rooms) if rooms.is_empty())
    }

    /// Returns the rooms, or `None` for the whole namespace.
    pub(super) fn names(&self) -> Option<Vec<Room>> {
        let room = |name: &RoomName<'_>| name.clone().into_room();
        match self {
            Self::All => None,
            Self::One(name) => Some(vec![room(name)]),
            Self::Many(names) => Some(names.iter().map(room).collect()),
        }
    }
}

/// The sockets that an operation targets, and its options.
#[derive(Clone, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) namespace: &'a Nsp,
    pub(crate) rooms: &'a Audience<'a>,
    /// Rooms whose members are excluded.
    pub(crate) except: &'a [RoomName<'a>],
    /// The sending socket, which is also excluded.
    pub(crate) sender: Option<SocketId>,
    /// Whether to apply the operation on this server only.
    pub(crate) local: bool,
    pub(crate) flags: Flags,
    /// The name of the stream in `flags`, if other servers may need it.
    pub(crate) stream: Option<&'a str>,
}

/// An operation on sockets. An application creates it. The server applies it to its own sockets and
/// publishes it for the sockets of other servers.
///
/// The arguments are a trait object, so that what follows is compiled once and not for each type.
#[derive(Clone)]
pub(crate) struct Operation<'a> {
    pub(crate) target: Target<'a>,
    pub(crate) kind: OperationKind<'a>,
}

/// The kind of an [`Operation`].
pub(crate) type OperationKind<'a> = Kind<&'a str, &'a dyn Arguments, &'a [Room]>;

/// The namespace of heartbeats. Clients cannot connect to it.
pub(crate) const NAMESPACE: &str = "/.roomcast";
