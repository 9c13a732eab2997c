//! Lists and disconnects the sockets of all servers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::nodes::requests::{NodeAnswer, NodeRequest, UnansweredServers, request_all};
use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::chat::user_room;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::UserId;
use crate::service::rules::commands::form::whole_in_query;
use crate::service::rules::content::{self, MAX_PAGE, page_limit};
use crate::service::rules::event::Command;
use crate::store::Time;
use roomcast::{Io, Room, Socket, SocketId, options::Transport};

/// `GET /api/v1/sockets`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ListSockets {
    /// Only sockets of this user.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// Only sockets in this room.
    pub(crate) room: Option<String>,
    /// The `cursor` of the previous page. Without it, the first page.
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

impl Command for ListSockets {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// `DELETE /api/v1/sockets/{id}` and `DELETE /api/v1/users/{id}/sockets`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Disconnect {
    Socket(String),
    User(String),
}

impl Command for Disconnect {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// One socket.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SocketInfo {
    /// The id of the socket.
    #[schemars(with = "String")]
    id: SocketId,
    /// The id of its user.
    user_id: String,
    /// The user's name.
    name: String,
    /// The rooms that it is in, at most 100 of them.
    #[schemars(with = "Vec<String>")]
    rooms: Vec<Room>,
    /// The total number of its rooms.
    room_count: usize,
    /// The current transport of its connection.
    #[schemars(extend("enum" = ["polling", "websocket"]))]
    transport: String,
    /// The client's address, as reported by trusted proxies.
    address: String,
    /// When the connection was opened.
    connection_time: Time,
    /// When the client last sent something other than a heartbeat, to within a second.
    last_activity: Time,
    /// The name of the server that it is connected to.
    node: String,
}

/// A page of sockets, ordered by id.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SocketList {
    sockets: Vec<SocketInfo>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    cursor: Option<SocketId>,
    /// Whether there are more.
    has_more: bool,
    /// Servers that have not answered. Their sockets are missing from the list.
    missing: usize,
}

/// The request to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SocketQuery {
    user_id: Option<String>,
    room: Option<String>,
    after: Option<String>,
    limit: usize,
}

/// The answer of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SocketPage {
    sockets: Vec<SocketInfo>,
    has_more: bool,
}

/// The number of closed connections.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Disconnected {
    pub(crate) disconnected: usize,
    /// Servers that have not answered.
    pub(super) missing: usize,
}

/// Lists sockets of all servers.
pub(crate) async fn list_sockets(
    io: &Io,
    allowed: Allowed<ListSockets>,
) -> Result<SocketList, ServiceError> {
    let (_, command) = allowed.into_parts();
    let limit = page_limit(command.limit)?;
    if let Some(user) = &command.user_id {
        content::check_user_id("userId", user)?;
    }
    let query = SocketQuery {
        user_id: command.user_id,
        room: command.room,
        after: command.cursor,
        limit,
    };
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Sockets(query)).await;
    let mut all = SocketPage::default();
    for answer in answers {
        if let NodeAnswer::Sockets(page) = answer {
            all.sockets.extend(page.sockets);
            all.has_more |= page.has_more;
        }
    }
    all.sockets
        .sort_unstable_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    let has_more = all.has_more || all.sockets.len() > limit;
    all.sockets.truncate(limit);
    Ok(SocketList {
        cursor: all.sockets.last().filter(|_| has_more).map(|last| last.id),
        sockets: all.sockets,
        has_more,
        missing,
    })
}

/// Closes the connections of a socket or a user, on any server.
pub(crate) async fn disconnect(
    io: &Io,
    allowed: Allowed<Disconnect>,
) -> Result<Disconnected, ServiceError> {
    let (by, target) = allowed.into_parts();
    if let Disconnect::User(user) = &target {
        content::check_user_id("userId", user)?;
    }
    let (answers, UnansweredServers(missing)) =
        request_all(io, &NodeRequest::Disconnect(target.clone())).await;
    let counts = answers.iter().map(|answer| match answer {
        NodeAnswer::Disconnected(count) => *count,
        NodeAnswer::Sockets(_)
        | NodeAnswer::Rooms(_)
        | NodeAnswer::Room(_)
        | NodeAnswer::User(_) => 0,
    });
    let disconnected = counts.sum();
    tracing::info!(
        by = by.subject,
        whom = ?target,
        disconnected,
        "disconnected over HTTP"
    );
    match target {
        Disconnect::Socket(_) if disconnected == 0 && missing == 0 => {
            Err(ServiceError::NotFound("no such socket"))
        }
        Disconnect::Socket(_) | Disconnect::User(_) => Ok(Disconnected {
            disconnected,
            missing,
        }),
    }
}

/// Returns the first of this server's requested sockets, ordered by id.
pub(super) fn local_page(io: &Io, query: &SocketQuery) -> SocketPage {
    let namespace = io.of("/");
    let all = match (&query.user_id, &query.room) {
        (Some(user), _) => namespace.in_(user_room(user)),
        (None, Some(room)) => namespace.in_(room),
        (None, None) => namespace.local(),
    };
    let mut sockets = all.sockets();
    if let (Some(_), Some(room)) = (&query.user_id, &query.room) {
        sockets.retain(|socket| socket.is_in(room));
    }
    if let Some(after) = &query.after {
        sockets.retain(|socket| socket.id().as_str() > after.as_str());
    }
    let by_id = |a: &Socket, b: &Socket| a.id().as_str().cmp(b.id().as_str());
    let limit = query.limit.min(MAX_PAGE);
    let has_more = sockets.len() > limit;
    if has_more {
        // Only the first page is sorted, of possibly a hundred thousand sockets.
        sockets.select_nth_unstable_by(limit, by_id);
        sockets.truncate(limit);
    }
    sockets.sort_unstable_by(by_id);
    let node = node_of(io);
    SocketPage {
        sockets: sockets
            .iter()
            .map(|socket| describe(socket, &node))
            .collect(),
        has_more,
    }
}

fn describe(socket: &Socket, node: &str) -> SocketInfo {
    let principal = socket.principal();
    let mut rooms = socket.rooms();
    let room_count = rooms.len();
    // Clients decide the number of their rooms, so a page would otherwise be unbounded.
    rooms.truncate(MAX_ROOMS);
    let opened = socket.handshake().time();
    SocketInfo {
        id: socket.id(),
        user_id: principal.subject.clone(),
        name: principal.name.clone(),
        rooms,
        room_count,
        transport: transport_of(socket.transport()).to_owned(),
        address: socket.handshake().address().ip().to_canonical().to_string(),
        connection_time: opened.into(),
        last_activity: socket.last_active().max(opened).into(),
        node: node.to_owned(),
    }
}

/// Closes connections of this server, and returns their number.
pub(super) fn disconnect_local(io: &Io, target: &Disconnect) -> usize {
    let namespace = io.of("/");
    match target {
        Disconnect::Socket(id) => {
            // An invalid id belongs to no socket.
            let socket = SocketId::parse(id).and_then(|id| namespace.socket(id));
            socket.map_or(0, |socket| {
                socket.close_connection();
                1
            })
        }
        Disconnect::User(user) => {
            let own = namespace.local().in_(user_room(user));
            let count = own.count();
            // This also ends the sessions of recoverable clients.
            own.close_connections();
            count
        }
    }
}

/// Returns the name of this server.
pub(super) fn node_of(io: &Io) -> String {
    let this = io.nodes().into_iter().find(|node| node.is_this);
    this.map_or_else(String::new, |node| node.name.to_string())
}

pub(super) const fn transport_of(transport: Transport) -> &'static str {
    match transport {
        Transport::Polling => "polling",
        Transport::WebSocket => "websocket",
    }
}

/// The maximum number of rooms listed per socket.
const MAX_ROOMS: usize = 100;
