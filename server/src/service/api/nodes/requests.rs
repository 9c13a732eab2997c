//! Requests about sockets and rooms that every server of the cluster answers for itself.
//!
//! No server knows the sockets of its peers. Each server returns its first entries after the
//! cursor, and the answers are merged. So a page costs what it contains, however many sockets
//! exist.

use std::future::ready;

use serde::{Deserialize, Serialize};

use super::channels::LocalChannels;
use super::findings::{Findings, SeenClients};
use super::report::{Reports, ServerReport};
use crate::metrics::diagnosis::Diagnosis;
use crate::service::api::rooms::{self, RoomPage, RoomPart};
use crate::service::api::sockets::{self, MoveSocket, SocketPage};
use crate::service::chat::{Chat, UserLocations};
use crate::service::cluster::{Announcer, answer_requests, request_peers};

use roomcast::{Builder, Io};

/// A request to a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) enum NodeRequest {
    Sockets(sockets::SocketQuery),
    Disconnect(sockets::Disconnect),
    Rooms(rooms::RoomQuery),
    Room(String),
    User(String),
    Statistics,
    Move(MoveSocket),
    Diagnosis,
    /// Clients seen recently that begin with a text.
    SeenClients(String),
    /// A user that is erased.
    Forget(String),
    /// The channels with the most followers and events.
    Channels,
}

/// The answer of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) enum NodeAnswer {
    Sockets(SocketPage),
    Disconnected(usize),
    Rooms(RoomPage),
    Room(RoomPart),
    User(UserLocations),
    Statistics(Box<ServerReport>),
    Moved(sockets::MoveOutcome),
    Diagnosis(Box<Findings>),
    SeenClients(SeenClients),
    Forgotten,
    Channels(LocalChannels),
}

impl NodeAnswer {
    pub(in crate::service::api) fn sockets(self) -> Option<SocketPage> {
        if let Self::Sockets(page) = self {
            Some(page)
        } else {
            None
        }
    }

    pub(in crate::service::api) fn disconnected(self) -> Option<usize> {
        if let Self::Disconnected(count) = self {
            Some(count)
        } else {
            None
        }
    }

    pub(super) fn channels(self) -> Option<LocalChannels> {
        if let Self::Channels(channels) = self {
            Some(channels)
        } else {
            None
        }
    }

    pub(in crate::service::api) fn moved(self) -> Option<sockets::MoveOutcome> {
        if let Self::Moved(outcome) = self {
            Some(outcome)
        } else {
            None
        }
    }
}

/// The number of servers that have not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct UnansweredServers(pub(crate) usize);

/// Registers the handler for requests of other servers of the store.
///
/// Must be called only in a cluster.
pub(crate) fn answer_peers(io: Builder, announcer: &Announcer) -> Builder {
    answer_requests(io, announcer, EVENT, |io, request| {
        ready(answer(&io, &request))
    })
}

/// Returns the answers of all servers, this server's first.
pub(in crate::service::api) async fn request_all(
    io: &Io,
    request: &NodeRequest,
) -> (Vec<NodeAnswer>, UnansweredServers) {
    let mut answers: Vec<_> = answer(io, request).into_iter().collect();
    let chat = io.state::<Chat>();
    let (others, missing) = request_peers(io, chat.announcer(), EVENT, request).await;
    answers.extend(others);
    (answers, UnansweredServers(missing))
}

/// Returns the answer of this server, or `None` while it starts and cannot answer yet.
fn answer(io: &Io, request: &NodeRequest) -> Option<NodeAnswer> {
    Some(match request {
        NodeRequest::Sockets(query) => NodeAnswer::Sockets(sockets::local_page(io, query)),
        NodeRequest::Disconnect(target) => {
            NodeAnswer::Disconnected(sockets::disconnect_local(io, target))
        }
        NodeRequest::Rooms(query) => NodeAnswer::Rooms(rooms::local_page(io, query)),
        NodeRequest::Room(name) => NodeAnswer::Room(rooms::local_room(io, name)),
        NodeRequest::User(user) => NodeAnswer::User(io.state::<Chat>().local_locations(io, user)),
        NodeRequest::Statistics => {
            let report = io.state::<Reports>().report(io)?;
            NodeAnswer::Statistics(Box::new(report))
        }
        NodeRequest::Move(command) => NodeAnswer::Moved(sockets::move_local(io, command)),
        NodeRequest::Diagnosis => NodeAnswer::Diagnosis(Box::new(Findings::of(io))),
        NodeRequest::SeenClients(search) => NodeAnswer::SeenClients(SeenClients::of(io, search)),
        NodeRequest::Forget(user) => {
            io.state::<Diagnosis>().forget(user);
            NodeAnswer::Forgotten
        }
        NodeRequest::Channels => NodeAnswer::Channels(LocalChannels::of(io)),
    })
}

/// The name of the event between servers.
const EVENT: &str = "api";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::cluster::Ignored;
    use crate::service::cluster::corpus::{STORE, read_back};
    use crate::service::cluster::{read, write};

    #[test]
    fn requests_and_answers_of_all_versions_are_read() {
        const FILE: &str = "questions.txt";
        assert_eq!(read_back::<NodeRequest>(FILE, "question"), 14);
        assert_eq!(read_back::<NodeAnswer>(FILE, "answer"), 11);
    }

    #[test]
    fn node_messages_of_other_stores_are_ignored() {
        let text = write(STORE, &NodeRequest::User("ann".into())).unwrap();
        let other = uuid::Uuid::from_u128(9);
        assert!(matches!(
            read::<NodeRequest>(other, &text),
            Err(Ignored::Foreign)
        ));
        let foreign = write(other, &()).unwrap();
        assert!(matches!(
            read::<NodeAnswer>(STORE, &foreign),
            Err(Ignored::Foreign)
        ));
        let bare = r#"{"disconnect":{"user":"ann"}}"#;
        assert!(matches!(
            read::<NodeRequest>(STORE, bare),
            Err(Ignored::Malformed)
        ));
    }
}
