//! What reaches other sockets, as plain data: whom it is about, what is done, and what comes of it. It is there without
//! other servers as well.
//!
//! `socket` makes operations and applies them; the rest of `adapter` carries them to other servers. Without the feature
//! `cluster` this folder is all of `adapter` that is compiled, with `alone` in the place of what is missing. It takes
//! names of sockets and rooms from `names`, and must know neither sockets nor what carries an operation.

mod answers;
mod node_id;
mod position;

use std::{sync::Arc, time::Duration};

use roomcast_protocol::socket::{Args, Nsp};

pub use self::{
    answers::{AdapterError, Item, Missing},
    node_id::NodeId,
    position::Position,
};
use crate::names::{Room, RoomName, SocketId};

/// What is done to the sockets of a target, or on other servers. Locally its parts are borrowed; in an
/// `Envelope` they are owned.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind<E = Arc<str>, A = Args, R = Vec<Room>> {
    /// An event for every socket.
    Broadcast {
        /// The name of the event.
        event: E,
        /// The arguments of the event, without an offset of recovery.
        args: A,
    },
    /// An event that every socket acknowledges. Each server gives it an id of its own.
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
        /// Whether their connections are closed, with all namespaces on them.
        close: bool,
    },
    /// What is known of every socket.
    FetchSockets,
    /// An event for the other servers themselves.
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

#[cfg(feature = "cluster")]
impl<E, A, R> Kind<E, A, R> {
    /// This kind with other parts.
    pub(super) fn map<E2, A2, R2, X>(
        self,
        event: impl FnOnce(E) -> E2,
        args: impl FnOnce(A) -> Result<A2, X>,
        rooms: impl FnOnce(R) -> R2,
    ) -> Result<Kind<E2, A2, R2>, X> {
        let both = |name, given| Ok((event(name), args(given)?));
        Ok(match self {
            Self::Broadcast { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::Broadcast { event, args }
            }
            Self::BroadcastWithAck { event, args } => {
                let (event, args) = both(event, args)?;
                Kind::BroadcastWithAck { event, args }
            }
            Self::Join(given) => Kind::Join(rooms(given)),
            Self::Leave(given) => Kind::Leave(rooms(given)),
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

/// What may become of an event for a client that is too slow. `S` says which stream it belongs to:
/// its name in an `Envelope`, where events of other streams never meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Delivery<S = Arc<str>> {
    /// The event waits.
    #[default]
    Reliable,
    /// The event is lost unless it can leave at once; see [`Broadcast::volatile`](crate::Broadcast::volatile).
    Volatile,
    /// Only the newest event of its key waits; see [`Broadcast::conflate`](crate::Broadcast::conflate).
    Newest(S),
    /// Only so many of the last events of its stream wait; see
    /// [`Broadcast::drop_oldest`](crate::Broadcast::drop_oldest).
    Last(S, u16),
}

#[cfg(feature = "cluster")]
impl<S> Delivery<S> {
    /// This delivery with another name of its stream; without a name the event is an ordinary one.
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

/// How an event is sent. A stream is a number in here: borrowed names would be kept by who sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flags {
    pub(crate) delivery: Delivery<u64>,
    pub(crate) compress: bool,
    /// How long answers may take.
    pub(crate) timeout: Option<Duration>,
    /// Where the journal has the event.
    pub(crate) position: Option<Position>,
}

impl Default for Flags {
    #[inline]
    fn default() -> Self {
        Self {
            delivery: Delivery::Reliable,
            compress: true,
            timeout: None,
            position: None,
        }
    }
}

/// The rooms of a target.
#[derive(Clone, Debug)]
pub(crate) enum Audience<'a> {
    /// The whole namespace.
    All,
    One(RoomName<'a>),
    /// An empty list reaches nobody.
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

    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Many(rooms) if rooms.is_empty())
    }

    /// The rooms, or `None` for the whole namespace.
    #[cfg(feature = "cluster")]
    pub(super) fn names(&self) -> Option<Vec<Room>> {
        let room = |name: &RoomName<'_>| name.clone().into_room();
        match self {
            Self::All => None,
            Self::One(name) => Some(vec![room(name)]),
            Self::Many(names) => Some(names.iter().map(room).collect()),
        }
    }
}

/// Whom an operation is about, and how it is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) namespace: &'a Nsp,
    pub(crate) rooms: &'a Audience<'a>,
    /// Members of these are left out.
    pub(crate) except: &'a [RoomName<'a>],
    /// The socket that sends, which is left out as well.
    pub(crate) sender: Option<SocketId>,
    /// Whether the operation is for this server and no other.
    pub(crate) local: bool,
    pub(crate) flags: Flags,
    /// The name of the stream of `flags`, if other servers may have to know it.
    pub(crate) stream: Option<&'a str>,
}

/// What reaches other sockets: built where an application asks for it, applied to the sockets of this
/// server, and published for those of the others.
#[derive(Clone, Debug)]
pub(crate) struct Operation<'a, A> {
    pub(crate) target: Target<'a>,
    pub(crate) kind: Kind<&'a str, &'a A, &'a [Room]>,
}

/// The namespace of heartbeats, which no client gets into.
pub(crate) const NAMESPACE: &str = "/.roomcast";
