//! What an adapter may keep of what it carries, so that clients can come back to another server.

use std::time::Duration;

use roomcast_protocol::socket::Nsp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

pub(super) use super::operation::Position;
use super::{
    envelope::{NodeId, Publication},
    interface::{AdapterError, BoxFuture},
};
use crate::names::{Room, SocketId};

/// Keeps what an adapter carries, in one order for all servers, and the sessions of clients that are away; see
/// [`Adapter::journal`](super::Adapter::journal).
///
/// What it keeps is applied on the server that sends it as well when it comes back with its
/// [`position`](Publication::position), so that every client hears of it in that order.
pub trait Journal: Send + Sync + 'static {
    /// Whether it is reached, as far as is known. Where it is not, events reach the clients of the server that
    /// sends them at once.
    fn is_up(&self) -> bool;

    /// Up to where everything was delivered, at least; `None` before it was first reached.
    fn position(&self) -> Option<Position>;

    /// Keeps a session for so long; only if it is kept still unless it `is_new`. In the order in which these methods are called.
    fn keep(&self, session: &Session, window: Duration, is_new: bool);

    /// Forgets a session, whose client must not come back.
    fn forget(&self, pid: &str);

    /// Takes a session: of several who ask, one gets it.
    fn take(&self, pid: &str) -> BoxFuture<Result<Option<Session>, AdapterError>>;

    /// The events of a namespace behind a position, in their order; `None` if they are not all there, or too many.
    fn since(
        &self,
        namespace: &Nsp,
        position: Position,
    ) -> BoxFuture<Result<Option<Missed>, AdapterError>>;
}

/// What was missed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Missed {
    /// Events, each with its [`position`](Publication::position).
    pub events: Vec<Publication>,
    /// Up to where it was looked.
    pub last: Position,
}

impl Missed {
    /// These events, after it was looked up to `last`.
    #[must_use]
    pub const fn new(events: Vec<Publication>, last: Position) -> Self {
        Self { events, last }
    }
}

/// What is kept of a client that is away: what Node servers keep, and what they ignore.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Session {
    /// The id of the socket.
    pub sid: SocketId,
    /// The secret of the session.
    pub pid: String,
    /// The rooms, with that of the socket's own id.
    #[serde(deserialize_with = "rooms")]
    pub rooms: Vec<Room>,
    /// What the socket [shares](crate::Socket::share).
    #[serde(default)]
    pub data: Value,
    /// Of servers of this library alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roomcast: Option<Origin>,
}

/// Where a session comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    /// The server that has kept it.
    pub node: NodeId,
    /// Its namespace.
    pub namespace: String,
    /// Who the client was: the subject, the roles, and whether it was a guest.
    pub subject: String,
    /// See there.
    pub roles: Vec<String>,
    /// See there.
    pub guest: bool,
}

/// Rooms of Node servers may be numbers.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Room>, D::Error> {
    let names = Vec::<Value>::deserialize(deserializer)?;
    let room = |name: &Value| match name.as_str() {
        Some(name) => Room::from(name),
        None => Room::from(name.to_string()),
    };
    Ok(names.iter().map(room).collect())
}
