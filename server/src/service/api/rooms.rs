//! The rooms of all servers, and their members.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nodes::requests::{NodeAnswer, NodeRequest, UnansweredServers, request_all};
use super::sockets::node_of;
use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::{MAX_PAGE, page_limit};
use crate::service::rules::event::Command;
use roomcast::{Io, Room, options::Transport};

/// `GET /api/v1/rooms`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListRooms {
    /// Only rooms whose names start with this.
    pub(crate) prefix: Option<String>,
    /// `name` returns pages ordered by name. `size` returns one page with the largest rooms first.
    /// Default: `name`.
    #[serde(default)]
    pub(crate) order: RoomOrder,
    /// The `cursor` of the previous page. Without it, the first page. Not with `order=size`.
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

/// The order of a list of rooms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum RoomOrder {
    #[default]
    Name,
    Size,
}

impl Command for ListRooms {
    const PERMISSION: Option<Permission> = Some(Permission::ApiRooms);
}

/// `GET /api/v1/rooms/{room}`
#[derive(Debug)]
pub(crate) struct DescribeRoom {
    pub(crate) room: String,
}

impl Command for DescribeRoom {
    const PERMISSION: Option<Permission> = Some(Permission::ApiRooms);
}

/// A room and the number of its sockets.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RoomSize {
    /// The name of the room.
    room: String,
    /// Sockets in it.
    sockets: usize,
}

/// A page of rooms, in the requested order.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomList {
    rooms: Vec<RoomSize>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    /// Whether there are more.
    has_more: bool,
    /// Servers that have not answered. Their sockets are not counted.
    missing: usize,
}

/// The members of a room.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomStatistics {
    /// The name of the room.
    room: String,
    /// Sockets in it, on all servers.
    sockets: usize,
    /// These sockets by transport.
    transports: Transports,
    /// Each server with such sockets.
    nodes: Vec<RoomPart>,
    /// Servers that have not answered.
    missing: usize,
}

/// The number of sockets by transport.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) struct Transports {
    polling: usize,
    websocket: usize,
}

/// The members of a room on one server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RoomPart {
    /// The name of the server.
    node: String,
    /// Sockets in the room.
    sockets: usize,
    /// The number of their users.
    users: usize,
    transports: Transports,
}

/// The request to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoomQuery {
    prefix: Option<String>,
    after: Option<String>,
    limit: usize,
    /// Whether the largest rooms are requested, instead of the first by name.
    by_size: bool,
}

/// The answer of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RoomPage {
    rooms: Vec<RoomSize>,
    has_more: bool,
}

/// Lists the rooms of all servers.
pub(crate) async fn list_rooms(
    io: &Io,
    allowed: Allowed<ListRooms>,
) -> Result<RoomList, ServiceError> {
    let (_, command) = allowed.into_parts();
    let limit = page_limit(command.limit)?;
    let by_size = command.order == RoomOrder::Size;
    if by_size && command.cursor.is_some() {
        // A schema cannot express that query parameters exclude each other, so this is not an
        // invalid field.
        let problem = "cursor is for lists by name: by size there is one page";
        return Err(ServiceError::Conflict(problem));
    }
    let query = RoomQuery {
        prefix: command.prefix,
        after: command.cursor,
        // A room that is small on one server may be the largest on all servers together.
        limit: if by_size { MAX_PAGE } else { limit },
        by_size,
    };
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Rooms(query)).await;
    let mut sizes = BTreeMap::<String, usize>::new();
    let mut has_more = false;
    for answer in answers {
        if let NodeAnswer::Rooms(page) = answer {
            has_more |= page.has_more;
            for RoomSize { room, sockets } in page.rooms {
                *sizes.entry(room).or_default() += sockets;
            }
        }
    }
    // Each server returns its own first page, so the first names of all of them are complete.
    has_more |= sizes.len() > limit;
    let mut rooms: Vec<_> = sizes
        .into_iter()
        .map(|(room, sockets)| RoomSize { room, sockets })
        .collect();
    if by_size {
        // Rooms of the same size stay ordered by name.
        rooms.sort_by_key(|room| Reverse(room.sockets));
    }
    rooms.truncate(limit);
    Ok(RoomList {
        cursor: rooms
            .last()
            .filter(|_| has_more && !by_size)
            .map(|last| last.room.clone()),
        rooms,
        has_more,
        missing,
    })
}

/// Returns the members of a room on all servers.
pub(crate) async fn describe_room(
    io: &Io,
    allowed: Allowed<DescribeRoom>,
) -> Result<RoomStatistics, ServiceError> {
    let (_, DescribeRoom { room }) = allowed.into_parts();
    let (answers, UnansweredServers(missing)) =
        request_all(io, &NodeRequest::Room(room.clone())).await;
    let mut nodes = Vec::new();
    for answer in answers {
        if let NodeAnswer::Room(part) = answer
            && part.sockets > 0
        {
            nodes.push(part);
        }
    }
    if nodes.is_empty() && missing == 0 {
        return Err(ServiceError::NotFound("no socket is in the room"));
    }
    let mut transports = Transports::default();
    for part in &nodes {
        transports.polling += part.transports.polling;
        transports.websocket += part.transports.websocket;
    }
    Ok(RoomStatistics {
        room,
        sockets: nodes.iter().map(|part| part.sockets).sum(),
        transports,
        nodes,
        missing,
    })
}

/// Returns the requested rooms of this server, in the requested order.
pub(super) fn local_page(io: &Io, query: &RoomQuery) -> RoomPage {
    let mut rooms = io.of("/").rooms();
    let prefix = query.prefix.as_deref().unwrap_or_default();
    rooms.retain(|(room, _)| {
        let after = query.after.as_deref();
        room.as_str().starts_with(prefix) && after.is_none_or(|after| room.as_str() > after)
    });
    // The request may come from another server of another version, so its limit is not trusted.
    let limit = query.limit.min(MAX_PAGE);
    let has_more = rooms.len() > limit;
    let order = |one: &(Room, usize), other: &(Room, usize)| {
        let by_name = one.0.cmp(&other.0);
        if query.by_size {
            other.1.cmp(&one.1).then(by_name)
        } else {
            by_name
        }
    };
    if has_more {
        // Only the first page is sorted: a server may have a room for every user.
        rooms.select_nth_unstable_by(limit, order);
        rooms.truncate(limit);
    }
    rooms.sort_unstable_by(order);
    let size = |(room, sockets): (Room, usize)| RoomSize {
        room: room.to_string(),
        sockets,
    };
    RoomPage {
        rooms: rooms.into_iter().map(size).collect(),
        has_more,
    }
}

/// Returns the members of a room on this server.
pub(super) fn local_room(io: &Io, room: &str) -> RoomPart {
    let sockets = io.of("/").local().in_(room).sockets();
    let mut transports = Transports::default();
    let mut users = HashSet::new();
    for socket in &sockets {
        match socket.transport() {
            Transport::Polling => transports.polling += 1,
            Transport::WebSocket => transports.websocket += 1,
        }
        users.insert(socket.principal().subject.clone());
    }
    RoomPart {
        node: node_of(io),
        sockets: sockets.len(),
        users: users.len(),
        transports,
    }
}
