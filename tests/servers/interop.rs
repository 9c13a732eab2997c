//! The server for official clients of several languages and major versions.
//!
//! `CLIENT_PACKAGE` is the folder of the npm package `socket.io-client` whose builds are served, if
//! any. `ADAPTER` connects several of these servers, and Node servers: see `support/adapters.rs`
//! and `support/clustered.rs`. `OUTBOX_BYTES` is the outbound budget of a connection (256 MiB).
//!
//! This repository's tests need more than clients may rely on:
//!
//! - `PING_TIMEOUT_MS` is the time that a client has for its pong (2000).
//! - `SLOW_MS` is the time after which `/slow` admits a client (300).
//! - `PACKED_RECOVERY=1` adds a listener at `PORT` + 3, for MessagePack with recovery.
//! - `PER_MESSAGE_DEFLATE=0` switches permessage-deflate off, which otherwise compresses messages
//!   of any size.
//! - `ALLOW_EIO3=0` refuses clients of Engine.IO v3.

#[path = "support/adapters.rs"]
mod adapters;
#[path = "support/clustered.rs"]
mod clustered;
#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use bytes::Bytes;
use clustered::Rooms;
use roomcast::{
    Ack, AckError, Args, Config, Connect, DisconnectReason, Event, Io, NamespaceBuilder, Parser,
    Refusal, Server, SocketId, State, Value as Anything,
    errors::JoinError,
    options::{Cors, PerMessageDeflate, Recovery},
    service::ClientFiles,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let json = build(Config::default(), "")?;
    if let Ok(how) = std::env::var("MOUNT") {
        return mounted::run(json, &how).await;
    }
    let messagepack = build(Config::default().parser(Parser::MessagePack), "-msgpack")?;
    let recovery = |parser, key| {
        let recovery = Recovery::default().window(Duration::from_secs(10));
        // Long enough that a slow machine does not change the outcome.
        let recovery = recovery.claim_timeout(Duration::from_secs(20));
        build(Config::default().parser(parser).recovery(recovery), key)
    };
    let mut servers = vec![
        ("", Server::new(json)),
        ("messagepack", Server::new(messagepack)),
        (
            "recovery",
            Server::new(recovery(Parser::Json, "-recovery")?),
        ),
    ];
    if support::number("PACKED_RECOVERY") == Some(1) {
        let packed = recovery(Parser::MessagePack, "-msgpack-recovery")?;
        servers.push(("messagepack with recovery", Server::new(packed)));
    }
    support::run_all(servers).await
}

/// Builds a server with the options that all listeners share; each joins the cluster of its
/// counterparts.
fn build(config: Config, key: &str) -> Result<Io, roomcast::BuildError> {
    let config = match support::number("ALLOW_EIO3") {
        Some(0) => config,
        Some(_) | None => config.allow_eio3(),
    };
    let is_deflated = support::number("PER_MESSAGE_DEFLATE") != Some(0);
    let deflate = is_deflated.then(|| PerMessageDeflate::default().threshold(0));
    let mut io = adapters::join(Io::builder(), key)
        .state(Reasons::default())
        .config(
            config
                .ping_interval(Duration::from_millis(1000))
                .ping_timeout(millis("PING_TIMEOUT_MS", 2000))
                .max_payload(1_000_000)
                .per_message_deflate(deflate)
                .max_attachments(10)
                .cors(
                    Cors::default()
                        .origins(["http://allowed.example"])
                        .allow_credentials(),
                )
                // By default, a handler may queue any amount, as in the Node server.
                .outbox_bytes(support::number("OUTBOX_BYTES").unwrap_or(256 << 20)),
        );
    if let Ok(package) = std::env::var("CLIENT_PACKAGE") {
        let files = ClientFiles::from_package(&package);
        io = io.client_files(files.unwrap_or_else(|error| panic!("{package}: {error}")));
    }
    io.namespace("/", handle)
        .namespace("/chat", handle)
        .namespace("/auth", |namespace| {
            handle(namespace.middleware(only_good_tokens))
        })
        .namespace("/slow", |namespace| handle(namespace.middleware(slow)))
        .namespaces(
            |name| {
                let digits = name.strip_prefix("/dyn-").unwrap_or_default();
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            },
            handle,
        )
        .build()
}

/// Returns a number of milliseconds from the environment.
fn millis(variable: &str, default: u64) -> Duration {
    Duration::from_millis(support::number(variable).unwrap_or(default))
}

/// Admits every client after a delay.
async fn slow(_: Connect) -> Result<(), Refusal> {
    // The other namespaces can answer before this one does.
    tokio::time::sleep(millis("SLOW_MS", 300)).await;
    Ok(())
}

async fn only_good_tokens(connect: Connect) -> Result<(), Refusal> {
    #[derive(Deserialize)]
    struct Auth {
        token: String,
    }
    match connect.auth::<Auth>() {
        Ok(auth) if auth.token == "good" => Ok(()),
        Ok(_) | Err(_) => Err(Refusal::new("E_AUTH", "not authorized").data(json!({"retry": 5}))),
    }
}

fn handle(namespace: NamespaceBuilder) -> NamespaceBuilder {
    clustered::handle(namespace)
        .on("echo", echo)
        .on("inspect", inspect)
        .on("ask", ask)
        .on("ask-timeout", ask_timeout)
        .on("stream", stream)
        .on("bin", binary)
        .on("join", join)
        .on("leave", leave)
        .on(
            "to",
            async |event: Event, rooms: Rooms, name: String, rest: Args| {
                event.socket.to(rooms.list()).emit(&name, rest);
            },
        )
        .on(
            "in",
            async |event: Event, rooms: Rooms, name: String, rest: Args| {
                event.namespace().in_(rooms.list()).emit(&name, rest);
            },
        )
        .on(
            "except",
            async |event: Event, rooms: Rooms, name: String, rest: Args| {
                event.namespace().except(rooms.list()).emit(&name, rest);
            },
        )
        .on("bcast-ack", ask_room)
        .on(
            "volatile",
            async |event: Event, name: String, rest: Args| {
                event.socket.volatile().emit(&name, rest);
            },
        )
        .on("plain", async |event: Event, name: String, rest: Args| {
            event.socket.without_compression().emit(&name, rest);
        })
        .on("packed", async |event: Event, name: String, rest: Args| {
            event.socket.emit(&name, rest);
        })
        .on("whoami", who_am_i)
        .on("kick", async |event: Event, close: bool| {
            if close {
                event.socket.close_connection();
            } else {
                event.socket.disconnect();
            }
        })
        .on("drop", async |event: Event| event.socket.drop_connection())
        .on("disconnect", keep_reason)
        .on("last-reason", last_reason)
}

async fn echo(event: Event, rest: Args) -> Ack<Args> {
    if !event.wants_ack() {
        event.socket.emit("echo", rest.clone());
    }
    Ack(rest)
}

/// Returns the arguments as the server understood them.
async fn inspect(_: Event, rest: Args) -> Result<Ack<Vec<Value>>, Refusal> {
    let values = rest
        .to_values()
        .map_err(|error| Refusal::new("", error.to_string()))?;
    Ok(Ack(values.iter().map(describe).collect()))
}

fn describe(value: &Anything) -> Value {
    match value {
        Anything::Null => json!({"t": "null"}),
        Anything::Bool(value) => json!({"t": "bool", "v": value}),
        Anything::Number(value) => json!({"t": "num", "v": value}),
        Anything::String(text) => {
            let sum: u64 = text.chars().map(|c| u64::from(u32::from(c))).sum();
            json!({"t": "str", "n": text.len(), "sum": sum})
        }
        Anything::Binary(bytes) => {
            let sum: u64 = bytes.iter().copied().map(u64::from).sum();
            json!({"t": "bin", "n": bytes.len(), "sum": sum})
        }
        Anything::Array(values) => {
            let described: Vec<_> = values.iter().map(describe).collect();
            json!({"t": "arr", "v": described})
        }
        Anything::Object(fields) => {
            let described = fields
                .iter()
                .map(|(name, value)| (name.clone(), describe(value)));
            json!({"t": "obj", "v": described.collect::<Map<_, _>>()})
        }
    }
}

async fn ask(event: Event, name: String, rest: Args) -> Result<Ack<Args>, Refusal> {
    let answer = event.socket.emit_with_ack(&name, rest).await;
    answer
        .map(Ack)
        .map_err(|error| Refusal::new("ACK", error.to_string()))
}

async fn ask_timeout(event: Event, name: String, millis: u64) -> Ack<&'static str> {
    let asking = event.socket.timeout(Duration::from_millis(millis));
    match asking.emit_with_ack::<Args>(&name, ()).await {
        Err(AckError::Timeout) => Ack("timeout"),
        Ok(_) | Err(_) => Ack("answered"),
    }
}

async fn stream(event: Event, count: u32, size: usize) {
    let item = "x".repeat(size);
    for i in 0..count {
        event.socket.emit("item", (i, &item));
    }
    event.socket.emit("done", count);
}

async fn binary(_: Event, size: usize) -> Ack<Bytes> {
    Ack((0..=u8::MAX).cycle().take(size).collect())
}

async fn join(event: Event, room: String) -> Result<Ack<Vec<String>>, JoinError> {
    event.socket.join(room)?;
    event.namespace().io().rooms_followed().await;
    Ok(Ack(rooms(&event)))
}

async fn leave(event: Event, room: String) -> Ack<Vec<String>> {
    event.socket.leave(room);
    Ack(rooms(&event))
}

fn rooms(event: &Event) -> Vec<String> {
    let mut rooms: Vec<_> = event
        .socket
        .rooms()
        .iter()
        .map(ToString::to_string)
        .collect();
    rooms.sort();
    rooms
}

async fn ask_room(
    event: Event,
    room: String,
    millis: u64,
    name: String,
    rest: Args,
) -> Ack<(bool, Vec<Anything>)> {
    let namespace = event.namespace();
    let asking = namespace.in_(&room).timeout(Duration::from_millis(millis));
    let mut answers = asking.emit_with_acks::<Anything>(&name, rest);
    let mut firsts = Vec::new();
    while let Some((_, answer)) = answers.next().await {
        firsts.extend(answer);
    }
    let have_all = answers.missing().is_empty() && firsts.len() == answers.expected();
    Ack((have_all, firsts))
}

async fn who_am_i(event: Event) -> Ack<Value> {
    let socket = &event.socket;
    let query: Map<_, _> = socket
        .handshake()
        .query()
        .map(|(k, v)| (k, v.into()))
        .collect();
    let auth: Option<Anything> = socket.auth().ok();
    Ack(json!({
        "id": socket.id(),
        "nsp": socket.namespace().name(),
        "auth": auth.filter(|auth| *auth != Anything::Null).unwrap_or_else(|| json!({}).into()),
        "query": query,
        "transport": socket.transport().to_string(),
        "recovered": socket.recovered(),
        "eio": socket.conn().protocol(),
    }))
}

/// Reasons for disconnects, by namespace and id.
#[derive(Default)]
struct Reasons(Mutex<HashMap<(String, SocketId), DisconnectReason>>);

async fn keep_reason(event: Event, reason: DisconnectReason, reasons: State<Reasons>) {
    let key = (event.namespace().name().to_owned(), event.socket.id());
    reasons
        .0
        .lock()
        .expect("nothing panics under it")
        .insert(key, reason);
}

async fn last_reason(
    event: Event,
    id: SocketId,
    reasons: State<Reasons>,
) -> Ack<Option<DisconnectReason>> {
    let key = (event.namespace().name().to_owned(), id);
    Ack(reasons
        .0
        .lock()
        .expect("nothing panics under it")
        .get(&key)
        .copied())
}
