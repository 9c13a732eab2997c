//! What an adapter may keep of what it carries, so that clients can come back to another server.

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

/// Keeps what an adapter carries, in one order for all servers, and the state of clients that are away; see
/// [`Adapter::journal`](super::Adapter::journal).
///
/// What a journal keeps is applied also on the server that has sent it, when it comes back with its
/// [`position`](Publication::position), so that every client hears of it in that order.
pub trait Journal: Send + Sync + 'static {
    /// Whether the journal is reached, as far as is known. Where it is not, events reach the clients of the server
    /// that sends them at once.
    fn is_up(&self) -> bool;

    /// The position up to which at least everything was delivered; `None` before the journal was first reached.
    fn position(&self) -> Option<Position>;

    /// Keeps a state for so long. Unless it `is_new`, it only replaces one that is still kept, and the time goes on.
    /// Calls of `keep`, `forget` and `take` have their effects in the order in which they are made.
    fn keep(&self, saved: &SavedState, window: Duration, is_new: bool);

    /// Forgets the state of a client that must not come back.
    fn forget(&self, pid: &str);

    /// Takes a state: of several who ask for it, one gets it.
    fn take(&self, pid: &str) -> BoxFuture<Result<Option<SavedState>, AdapterError>>;

    /// The events of a namespace behind a position, in their order; `None` if some are gone, or if there are too many.
    fn since(
        &self,
        namespace: &Nsp,
        position: Position,
    ) -> BoxFuture<Result<Option<Missed>, AdapterError>>;
}

/// The events that a client has missed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Missed {
    /// Events, each with its [`position`](Publication::position).
    pub events: Vec<Publication>,
    /// The position up to which events were looked for.
    pub last: Position,
}

impl Missed {
    /// These events, found by looking up to the position `last`.
    #[must_use]
    pub const fn new(events: Vec<Publication>, last: Position) -> Self {
        Self { events, last }
    }
}

/// The state of a client that is away: what Node servers keep, and one field that they ignore.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SavedState {
    /// The id of the socket.
    pub sid: SocketId,
    /// The secret by which the client proves that the state is its own.
    pub pid: String,
    /// The rooms of the socket, with that of its own id.
    #[serde(deserialize_with = "rooms")]
    pub rooms: Vec<Room>,
    /// What the socket [shares](crate::Socket::share), with binary at any depth.
    #[serde(default)]
    pub data: Value,
    /// Where the state comes from, if a server of this library has kept it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roomcast: Option<Origin>,
}

/// Where a state comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The server that has kept the state.
    pub node: NodeId,
    /// The namespace of the socket.
    pub namespace: String,
    /// The subject of the client's principal.
    pub subject: String,
    /// The roles of the principal.
    pub roles: Vec<String>,
    /// Whether the principal was a guest.
    pub guest: bool,
}

/// Reads the names of rooms, which are texts or, from Node servers, numbers.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Room>, D::Error> {
    let names = Vec::<Json>::deserialize(deserializer)?;
    let room = |name: &Json| match name.as_str() {
        Some(name) => Room::from(name),
        None => Room::from(name.to_string()),
    };
    Ok(names.iter().map(room).collect())
}
