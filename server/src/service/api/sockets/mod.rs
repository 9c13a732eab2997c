//! Lists, searches and disconnects the sockets of all servers.

mod details;
mod search;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::details::{
    DescribeSocket, Direction, MoveSocket, MovedSocket, describe_socket, move_socket,
};
pub(super) use self::details::{MoveOutcome, move_local};
use self::search::Search;
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
    /// Only sockets whose id, user id or address begins with this, or a word of whose user's name
    /// or `User-Agent`: 1 to 256 characters in any case. A server checks at most 20,000 sockets for
    /// a page, so a page can have few sockets, or none, although there are more.
    #[schemars(length(min = 1, max = 256))]
    pub(crate) search: Option<String>,
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
    pub(super) id: SocketId,
    /// The id of its user.
    pub(super) user_id: String,
    /// The user's name.
    pub(super) name: String,
    /// The rooms that it is in, at most 100 of them.
    #[schemars(with = "Vec<String>")]
    pub(super) rooms: Vec<Room>,
    /// The total number of its rooms.
    room_count: usize,
    /// The current transport of its connection.
    #[schemars(extend("enum" = ["polling", "websocket"]))]
    pub(super) transport: String,
    /// The client's address, as reported by trusted proxies.
    pub(super) address: String,
    /// The client's `User-Agent`, at most 256 bytes of it. Empty if it sent none.
    agent: String,
    /// Bytes queued for its connection: its frames, and 256 bytes for each.
    queued_bytes: usize,
    /// Whether the client recovered its session after a broken connection.
    recovered: bool,
    /// When the connection was opened.
    pub(super) connection_time: Time,
    /// When the client last sent something other than a heartbeat, to within a second.
    last_activity: Time,
    /// The name of the server that it is connected to.
    pub(super) node: String,
}

/// A page of sockets, ordered by id.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SocketList {
    pub(super) sockets: Vec<SocketInfo>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(super) cursor: Option<SocketId>,
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
    #[serde(skip_serializing_if = "Option::is_none")]
    search: Option<String>,
    /// Only this socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<SocketId>,
}

impl SocketQuery {
    /// Selects one socket.
    const fn one(id: SocketId) -> Self {
        Self {
            user_id: None,
            room: None,
            after: None,
            limit: 1,
            search: None,
            id: Some(id),
        }
    }
}

/// The answer of a server.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SocketPage {
    sockets: Vec<SocketInfo>,
    has_more: bool,
    /// The last socket that the server has searched, if it has more. Absent without a search.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<SocketId>,
}

impl SocketPage {
    /// Returns up to where the page is complete, or `None` if it is the last one.
    fn complete_until(&self) -> Option<SocketId> {
        let last = self.sockets.last().map(|socket| socket.id.clone());
        self.checked.clone().or(last).filter(|_| self.has_more)
    }
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
    let search = Search::of(&command)?;
    let query = SocketQuery {
        user_id: command.user_id,
        room: command.room,
        after: command.cursor,
        limit,
        search: search.map(|search| search.text().to_owned()),
        id: None,
    };
    let (answers, UnansweredServers(missing)) = request_all(io, &NodeRequest::Sockets(query)).await;
    let pages = pages_of(answers).collect();
    Ok(merge(pages, limit, missing))
}

fn pages_of(answers: Vec<NodeAnswer>) -> impl Iterator<Item = SocketPage> {
    answers.into_iter().filter_map(NodeAnswer::sockets)
}

/// Merges the pages of all servers. The result ends where the first of them ends, because that
/// server has not checked its later sockets yet.
fn merge(pages: Vec<SocketPage>, limit: usize, missing: usize) -> SocketList {
    let ends = pages.iter().filter_map(SocketPage::complete_until);
    let mut end = ends.min_by(|a, b| a.as_str().cmp(b.as_str()));
    let mut sockets: Vec<SocketInfo> = pages.into_iter().flat_map(|page| page.sockets).collect();
    if let Some(end) = &end {
        sockets.retain(|socket| socket.id.as_str() <= end.as_str());
    }
    sockets.sort_unstable_by(|a, b| a.id.as_str().cmp(b.id.as_str()));
    if sockets.len() > limit {
        sockets.truncate(limit);
        end = sockets.last().map(|last| last.id.clone());
    }
    SocketList {
        cursor: end.clone(),
        has_more: end.is_some(),
        sockets,
        missing,
    }
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
    let disconnected: usize = answers
        .into_iter()
        .filter_map(NodeAnswer::disconnected)
        .sum();
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
    let node = node_of(io);
    if let Some(id) = &query.id {
        let socket = namespace.socket(id.clone());
        let sockets = socket.iter().map(|socket| describe(socket, &node));
        return SocketPage {
            sockets: sockets.collect(),
            ..SocketPage::default()
        };
    }
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
    // Only the checked sockets are sorted, of possibly a hundred thousand.
    let checked = if query.search.is_some() {
        MAX_CHECKED
    } else {
        limit
    };
    let mut has_more = sockets.len() > checked;
    if has_more {
        sockets.select_nth_unstable_by(checked, by_id);
        sockets.truncate(checked);
    }
    sockets.sort_unstable_by(by_id);
    if let Some(text) = &query.search {
        let search = Search::new(text);
        let mut matching = Vec::new();
        let mut checked = None;
        for (at, socket) in sockets.iter().enumerate() {
            checked = Some(socket.id());
            if search.matches(socket) {
                matching.push(socket.clone());
            }
            if matching.len() == limit {
                // The rest of the sockets is checked for the next page.
                has_more |= at + 1 < sockets.len();
                break;
            }
        }
        let checked = checked.filter(|_| has_more);
        return page(&matching, has_more, checked, &node);
    }
    page(&sockets, has_more, None, &node)
}

fn page(sockets: &[Socket], has_more: bool, checked: Option<SocketId>, node: &str) -> SocketPage {
    SocketPage {
        sockets: sockets
            .iter()
            .map(|socket| describe(socket, node))
            .collect(),
        has_more,
        checked,
    }
}

/// Describes a socket of this server, whose name is `node`.
pub(super) fn describe(socket: &Socket, node: &str) -> SocketInfo {
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
        address: address_of(socket),
        agent: agent_of(socket),
        queued_bytes: socket.conn().queued_bytes(),
        recovered: socket.recovered(),
        connection_time: opened.into(),
        last_activity: socket.last_active().max(opened).into(),
        node: node.to_owned(),
    }
}

fn address_of(socket: &Socket) -> String {
    let address = socket.handshake().address();
    address.ip().to_canonical().to_string()
}

/// Returns the beginning of the client's `User-Agent`.
fn agent_of(socket: &Socket) -> String {
    let agent = socket.handshake().header("user-agent").unwrap_or_default();
    let end = agent.floor_char_boundary(MAX_AGENT_BYTES);
    agent[..end].to_owned()
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
/// Maximum bytes of a listed `User-Agent`.
const MAX_AGENT_BYTES: usize = 256;
/// Maximum number of sockets that a server checks for a page of a search.
const MAX_CHECKED: usize = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a page of sockets of these users. Their ids have the order of the letters.
    fn page(letters: &str, has_more: bool, checked: Option<char>) -> SocketPage {
        let sockets = letters.chars().map(|letter| SocketInfo {
            id: id(letter),
            user_id: format!("user-{letter}"),
            name: String::new(),
            rooms: Vec::new(),
            room_count: 0,
            transport: "websocket".to_owned(),
            address: "127.0.0.1".to_owned(),
            agent: String::new(),
            queued_bytes: 0,
            recovered: false,
            connection_time: Time::now(),
            last_activity: Time::now(),
            node: String::new(),
        });
        SocketPage {
            sockets: sockets.collect(),
            has_more,
            checked: checked.map(id),
        }
    }

    fn id(letter: char) -> SocketId {
        SocketId::parse(&format!("{letter}AAAAAAAAAAAAAAAAAAA")).unwrap()
    }

    fn shown(list: &SocketList) -> (String, Option<SocketId>) {
        let users = list.sockets.iter().map(|socket| &socket.user_id[5..]);
        (users.collect(), list.cursor.clone())
    }

    #[test]
    fn merged_pages_end_where_the_first_server_stopped_checking() {
        let pages = vec![page("BF", true, Some('M')), page("AQZ", false, None)];
        let list = merge(pages, 50, 0);
        assert_eq!(shown(&list), ("ABF".to_owned(), Some(id('M'))));
        // A server that has checked many sockets without a match still continues.
        let list = merge(
            vec![page("", true, Some('C')), page("D", false, None)],
            50,
            1,
        );
        assert_eq!(
            (shown(&list), list.missing),
            ((String::new(), Some(id('C'))), 1)
        );
        assert!(list.has_more);
        let list = merge(vec![page("CA", false, None)], 50, 0);
        assert_eq!(shown(&list), ("AC".to_owned(), None));
    }

    #[test]
    fn a_full_merged_page_ends_at_its_last_socket() {
        let pages = vec![page("BD", true, None), page("AC", true, Some('X'))];
        let list = merge(pages, 3, 0);
        assert_eq!(shown(&list), ("ABC".to_owned(), Some(id('C'))));
    }
}
