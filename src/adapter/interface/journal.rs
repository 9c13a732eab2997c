//! The interface of journals, with which clients can reconnect to another server.

use std::time::Duration;

use roomcast_protocol::socket::{Nsp, Value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

pub(in crate::adapter) use crate::adapter::operation::Position;
use crate::adapter::{
    envelope::{NodeId, Publication},
    interface::{AdapterError, BoxFuture},
};
use crate::names::{Room, SocketId};

/// Stores what an adapter transports, in one order for all servers, and the state of disconnected
/// clients; see [`Adapter::journal`](super::Adapter::journal).
///
/// The sending server also applies an operation only when the journal returns it with its
/// [`position`](Publication::position). All clients therefore receive events in the order of the
/// journal.
pub trait Journal: Send + Sync + 'static {
    /// Returns whether the journal is reachable, as far as is known. While it is not, events reach
    /// the clients of the sending server immediately.
    fn is_up(&self) -> bool;

    /// Returns a position up to which everything was delivered, or `None` before the first
    /// connection to the journal.
    fn position(&self) -> Option<Position>;

    /// Stores a state for the time `window`. Calls of `keep`, `replace`, `forget` and `take` take
    /// effect in the order of the calls.
    fn keep(&self, saved: &SavedState, window: Duration);

    /// Replaces a state that is still stored. Does not extend its lifetime, which was `window` when
    /// it was stored.
    fn replace(&self, saved: &SavedState, window: Duration);

    /// Deletes the state of a client that must not recover its session.
    fn forget(&self, pid: &str);

    /// Removes and returns a state. Of several concurrent callers, one gets it.
    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedState>, AdapterError>>;

    /// Returns the events of a namespace from a place on, in order. Returns `None` if some are no
    /// longer stored, or if there are too many.
    fn since(
        &self,
        namespace: &Nsp,
        start: JournalStart,
    ) -> BoxFuture<Result<Option<Missed>, AdapterError>>;
}

/// The place in a journal where the events begin that a client has missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a place is at a position or after it"
)]
pub enum JournalStart {
    /// The event at this position.
    At(Position),
    /// The first event after this position.
    After(Position),
}

impl JournalStart {
    /// Returns the position, which must still be stored.
    #[must_use]
    pub const fn position(self) -> Position {
        match self {
            Self::At(position) | Self::After(position) => position,
        }
    }
}

/// The events that a client has missed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Missed {
    /// The events, each with its [`position`](Publication::position).
    pub events: Vec<Publication>,
    /// The position up to which the journal was searched.
    pub last: Position,
}

impl Missed {
    /// Creates the result of a search up to the position `last`.
    #[must_use]
    pub const fn new(events: Vec<Publication>, last: Position) -> Self {
        Self { events, last }
    }
}

/// The state of a disconnected client: the fields that Node servers store, and one field that they
/// ignore.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SavedState {
    /// The id of the socket.
    pub sid: SocketId,
    /// The secret with which the client proves that the state belongs to it.
    pub pid: String,
    /// The rooms of the socket, including the room of its own id.
    #[serde(deserialize_with = "rooms")]
    pub rooms: Vec<Room>,
    /// The data that the socket [shares](crate::Socket::share), with binary at any depth.
    #[serde(default)]
    pub data: Value,
    /// The origin of the state, if a server of this library stored it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roomcast: Option<Origin>,
}

/// The origin of a state.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The server that stored the state.
    pub node: NodeId,
    /// The namespace of the socket.
    pub namespace: String,
    /// The subject of the client's principal.
    pub subject: String,
    /// The roles of the principal.
    pub roles: Vec<String>,
    /// Whether the principal was a guest.
    pub guest: bool,
    /// The [rights](crate::Authenticate::rights) of the principal besides its roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rights: Option<String>,
    /// What a client that has received no event has missed; `None` if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<JournalStart>,
}

/// Reads the names of rooms, which are strings or, from Node servers, also numbers.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Room>, D::Error> {
    let names = Vec::<Json>::deserialize(deserializer)?;
    let room = |name: &Json| match name.as_str() {
        Some(name) => Room::from(name),
        None => Room::from(name.to_string()),
    };
    Ok(names.iter().map(room).collect())
}
