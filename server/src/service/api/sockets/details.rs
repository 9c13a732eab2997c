//! One socket: its details, and the rooms that an operator adds it to or removes it from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SocketInfo, SocketQuery, pages_of};
use crate::auth::Permission;
use crate::service::api::nodes::requests::{
    NodeAnswer, NodeRequest, UnansweredServers, request_all,
};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::event::Command;
use crate::service::rules::rooms::is_managed;
use roomcast::{Io, Room, SocketId};

/// `GET /api/v1/sockets/{id}`
#[derive(Debug)]
pub(crate) struct DescribeSocket {
    pub(crate) id: String,
}

impl Command for DescribeSocket {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// `PUT` and `DELETE /api/v1/sockets/{id}/rooms/{room}`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MoveSocket {
    pub(crate) id: String,
    pub(crate) room: String,
    pub(crate) direction: Direction,
}

/// Whether a socket joins or leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Direction {
    Join,
    Leave,
}

impl Command for MoveSocket {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// What a server did with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) enum MoveOutcome {
    /// The socket is in the room, or left it.
    Done,
    /// The socket was in the room already, or was not in it.
    Unchanged,
    /// The socket is in as many rooms as it may be in.
    Full,
    /// The socket is not connected to this server, or the server manages the room itself.
    Absent,
}

/// The result of a join or leave.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct MovedSocket {
    /// Whether the rooms of the socket have changed.
    changed: bool,
}

/// Returns the details of a socket on any server.
pub(crate) async fn describe_socket(
    io: &Io,
    allowed: Allowed<DescribeSocket>,
) -> Result<SocketInfo, ServiceError> {
    let (_, DescribeSocket { id }) = allowed.into_parts();
    // An invalid id belongs to no socket.
    let Some(id) = SocketId::parse(&id) else {
        return Err(ServiceError::NotFound(NO_SOCKET));
    };
    let query = SocketQuery::one(id.clone());
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Sockets(query)).await;
    let found = pages_of(answers)
        .flat_map(|page| page.sockets)
        .find(|socket| socket.id == id);
    found.ok_or_else(|| not_found(missing))
}

/// Adds a socket to a room or removes it, on any server.
pub(crate) async fn move_socket(
    io: &Io,
    allowed: Allowed<MoveSocket>,
) -> Result<MovedSocket, ServiceError> {
    let (by, command) = allowed.into_parts();
    if command.room.is_empty() || command.room.len() > Room::MAX_BYTES {
        let problem = format!("must have 1 to {} bytes", Room::MAX_BYTES);
        return Err(ServiceError::invalid("room", problem));
    }
    if is_managed(&command.room) {
        return Err(ServiceError::Conflict(
            "the server manages this room: it is a socket's own room, or its sockets follow from \
             memberships and subscriptions",
        ));
    }
    if SocketId::parse(&command.id).is_none() {
        return Err(ServiceError::NotFound(NO_SOCKET));
    }
    let request = NodeRequest::Move(command.clone());
    let (answers, UnansweredServers(missing)) = request_all(io, &request).await;
    let is_there = |outcome: &MoveOutcome| *outcome != MoveOutcome::Absent;
    let outcome = answers
        .into_iter()
        .filter_map(NodeAnswer::moved)
        .find(is_there);
    tracing::info!(
        by = by.subject,
        ?command,
        ?outcome,
        "handled a request over HTTP to move a socket"
    );
    match outcome {
        Some(MoveOutcome::Done) => Ok(MovedSocket { changed: true }),
        Some(MoveOutcome::Unchanged) => Ok(MovedSocket { changed: false }),
        Some(MoveOutcome::Full) => Err(ServiceError::Conflict(
            "the socket is in as many rooms as it may be in",
        )),
        Some(MoveOutcome::Absent) | None => Err(not_found(missing)),
    }
}

/// Adds a socket of this server to a room, or removes it from the room.
pub(in crate::service::api) fn move_local(io: &Io, command: &MoveSocket) -> MoveOutcome {
    // The request may come from a server of another version, so the room is checked again.
    let id = SocketId::parse(&command.id).filter(|_| !is_managed(&command.room));
    let Some(socket) = id.and_then(|id| io.of("/").socket(id)) else {
        return MoveOutcome::Absent;
    };
    let room = command.room.as_str();
    match (command.direction, socket.is_in(room)) {
        (Direction::Join, true) | (Direction::Leave, false) => MoveOutcome::Unchanged,
        (Direction::Join, false) => match socket.join(room) {
            Ok(()) => MoveOutcome::Done,
            Err(_) if socket.is_connected() => MoveOutcome::Full,
            Err(_) => MoveOutcome::Absent,
        },
        (Direction::Leave, true) => {
            socket.leave(room);
            MoveOutcome::Done
        }
    }
}

fn not_found(missing: usize) -> ServiceError {
    ServiceError::NotFound(if missing == 0 {
        NO_SOCKET
    } else {
        "no such socket on the servers that have answered, and some have not"
    })
}

const NO_SOCKET: &str = "no such socket";
