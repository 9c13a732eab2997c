//! Questions about sockets and rooms that every server of the cluster answers for itself.

use serde::{Deserialize, Serialize};

use super::rooms::{self, RoomPage, RoomPart};
use super::sockets::{self, SocketPage};
use crate::service::chat::{Chat, Whereabouts};
use crate::service::cluster::NAMESPACE;
use roomcast::{Ack, Builder, Io, ServerSide, ServerSideError};

/// What a server is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Question {
    Sockets(sockets::Wanted),
    Disconnect(sockets::Disconnect),
    Rooms(rooms::Wanted),
    Room(String),
    User(String),
}

/// What a server answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum NodeAnswer {
    Sockets(SocketPage),
    Disconnected(usize),
    Rooms(RoomPage),
    Room(RoomPart),
    User(Whereabouts),
}

/// How many servers have not answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) usize);

/// Has this server answer what others ask. To be called only in a cluster: there no client gets into the namespace in
/// which servers talk.
pub(crate) fn answer_others(io: &mut Builder) {
    io.namespace(NAMESPACE)
        .on_server_side(EVENT, async |event: ServerSide| {
            let asked: String = event.arg(0).unwrap_or_default();
            // A server of another version may ask what this server does not know, and gets no answer.
            let question = serde_json::from_str(&asked).ok();
            let answer = match question {
                Some(question) => Some(answer(event.io(), &question).await),
                None => None,
            };
            let text = answer.and_then(|answer| serde_json::to_string(&answer).ok());
            Ack(text.unwrap_or_default())
        });
}

/// The answers of all servers, this one's first.
pub(super) async fn ask(io: &Io, question: &Question) -> (Vec<NodeAnswer>, Missing) {
    let mut answers = vec![answer(io, question).await];
    let missing = ask_others(io, question, &mut answers).await;
    (answers, missing)
}

async fn ask_others(io: &Io, question: &Question, answers: &mut Vec<NodeAnswer>) -> Missing {
    // A server that is alone would wait for the whole timeout of a question that nobody answers.
    if io.nodes().len() < 2 {
        return Missing::default();
    }
    let Ok(text) = serde_json::to_string(question) else {
        return Missing::default();
    };
    let namespace = io.of(NAMESPACE);
    let asked = namespace.server_side_emit_with_acks::<String>(EVENT, text);
    let (texts, missing) = match asked.await {
        Ok(texts) => (texts, 0),
        Err(ServerSideError::Timeout(partial)) => {
            let missing = partial.missing();
            (partial.answers(), missing.nodes.len() + missing.unnamed)
        }
        Err(error) => {
            tracing::warn!(%error, "other servers cannot be asked");
            (Vec::new(), io.nodes().len() - 1)
        }
    };
    let count = texts.len();
    answers.extend(
        texts
            .iter()
            .filter_map(|text| serde_json::from_str(text).ok()),
    );
    // A server of another version, or one that answered nothing, counts as missing: a list must not
    // pass for whole.
    let unread = count + 1 - answers.len();
    Missing(missing + unread)
}

async fn answer(io: &Io, question: &Question) -> NodeAnswer {
    match question {
        Question::Sockets(wanted) => NodeAnswer::Sockets(sockets::here(io, wanted).await),
        Question::Disconnect(whom) => NodeAnswer::Disconnected(sockets::disconnect_here(io, whom)),
        Question::Rooms(wanted) => NodeAnswer::Rooms(rooms::here(io, wanted)),
        Question::Room(name) => NodeAnswer::Room(rooms::look_here(io, name).await),
        Question::User(user) => NodeAnswer::User(io.state::<Chat>().where_here(io, user).await),
    }
}

/// The name of the event between servers.
const EVENT: &str = "api";
