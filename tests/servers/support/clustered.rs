//! The contract server as one node of a cluster.
//!
//! `NODE_NAME` is the answer to `whereami`; the default is the port.

use std::{collections::BTreeMap, env, time::Duration};

use roomcast::{
    Ack, Args, Event, NamespaceBuilder, Value as Anything, errors::ServerSideError,
    handler::ServerSide,
};
use serde::Deserialize;
use serde_json::json;

fn name() -> String {
    let port = env::var("PORT").unwrap_or_default();
    env::var("NODE_NAME").unwrap_or(port)
}

/// One room or several.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Rooms {
    One(String),
    Many(Vec<String>),
}

impl Rooms {
    pub(crate) fn list(self) -> Vec<String> {
        match self {
            Self::One(room) => vec![room],
            Self::Many(rooms) => rooms,
        }
    }
}

pub(crate) fn handle(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on("whereami", async |_: Event| Ack(name()))
        .on(
            "local",
            async |event: Event, room: String, name: String, rest: Args| {
                let namespace = event.namespace();
                namespace.local().in_(&room).emit(&name, rest);
            },
        )
        .on("all", async |event: Event, name: String, rest: Args| {
            event.namespace().emit(&name, rest);
        })
        .on(
            "volatile-in",
            async |event: Event, room: String, name: String, rest: Args| {
                let namespace = event.namespace();
                namespace.in_(&room).volatile().emit(&name, rest);
            },
        )
        .on("fetch", fetch)
        .on("set-data", async |event: Event, value: Anything| {
            drop(event.socket.share(BTreeMap::from([("value", value)])));
        })
        .on(
            "sockets-join",
            async |event: Event, room: String, rooms: Rooms| {
                event.namespace().in_(&room).join(rooms.list());
            },
        )
        .on(
            "sockets-leave",
            async |event: Event, room: String, rooms: Rooms| {
                event.namespace().in_(&room).leave(rooms.list());
            },
        )
        .on(
            "sockets-disconnect",
            async |event: Event, room: String, close: bool| {
                if close {
                    event.namespace().in_(&room).close_connections();
                } else {
                    event.namespace().in_(&room).disconnect();
                }
            },
        )
        .on(
            "server-side",
            async |event: Event, name: String, rest: Args| {
                drop(event.namespace().server_side_emit(&name, rest));
            },
        )
        .on("server-side-ack", ask_servers)
        .on("count", async |event: Event, room: String| {
            let found = event.namespace().in_(&room).timeout(ANSWER_TIMEOUT);
            Ack(found.fetch_sockets().await.sockets.len())
        })
        .on("servers", async |event: Event| {
            let (Ok(answers) | Err(answers)) = answers(&event, Args::default()).await;
            Ack(answers.len() + 1)
        })
        .on_server_side("note", async |event: ServerSide| {
            event
                .namespace()
                .local()
                .emit("noted", event.args().clone());
        })
        .on_server_side("question", async |event: ServerSide| {
            let mut answer = vec![Anything::String(name())];
            answer.extend(event.args().to_values().unwrap_or_default());
            Ack(answer)
        })
}

async fn fetch(event: Event, room: String) -> Ack<Anything> {
    let found = event.namespace().in_(&room).timeout(ANSWER_TIMEOUT);
    let mut found = found.fetch_sockets().await;
    if !found.missing.is_empty() {
        return Ack(Anything::String("timeout".to_owned()));
    }
    found.sockets.sort_by_key(|socket| socket.id());
    let sockets = found.sockets.iter().map(|socket| {
        let mut rooms: Vec<_> = socket.rooms().iter().map(|room| room.as_str()).collect();
        rooms.sort_unstable();
        let mut socket_json =
            Anything::from(json!({"id": socket.id(), "rooms": rooms, "data": {}}));
        if let (Anything::Object(socket_json), Some(data)) = (&mut socket_json, socket.data()) {
            socket_json.insert("data".to_owned(), data);
        }
        socket_json
    });
    Ack(Anything::Array(sockets.collect()))
}

async fn ask_servers(event: Event, rest: Args) -> Ack<Anything> {
    Ack(match answers(&event, rest).await {
        Ok(mut answers) => {
            answers.sort_by_key(|answer| format!("{answer:?}"));
            Anything::Array(answers)
        }
        Err(_) => Anything::String("timeout".to_owned()),
    })
}

/// Returns the answers of all other servers, or the partial answers as an error.
async fn answers(event: &Event, rest: Args) -> Result<Vec<Anything>, Vec<Anything>> {
    let namespace = event.namespace();
    let acks = namespace.server_side_emit_with_acks("question", rest);
    acks.await.map_err(|error| {
        if let ServerSideError::Timeout(partial) = error {
            partial.answers()
        } else {
            Vec::new()
        }
    })
}

/// Timeout for the answers of other servers.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
