//! The server for official clients that test what an application can observe, change or refuse.
//!
//! It has no contract: the contracts of the other servers state only that hooks exist.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::HeaderValue;
use parking_lot::Mutex;
use roomcast::{
    Ack, Args, Config, Connect, Event, Incoming, Io, Lifecycle, NamespaceBuilder, NoAck, Refusal,
    Server, State,
    connection::{EngineConnectionEvent, EngineRequest},
    errors::ListenError,
    handler::{Failure, Outgoing},
    options::Cookie,
};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let journal = Arc::new(Journal::default());
    let ids = AtomicU64::new(0);
    let [seen, failed, happened] = [(); 3].map(|()| Arc::clone(&journal));
    let io = Io::builder()
        .config(
            Config::default()
                .path("/live/")
                .optional_trailing_slash()
                .connect_timeout(Duration::from_secs(10))
                .ping_interval(Duration::from_millis(500))
                .cookie(Cookie::default()),
        )
        .allow_request(async |request: EngineRequest| {
            match request.query_value("unwanted").as_deref() {
                Some(reason) => Err(reason.to_owned()),
                None => Ok(()),
            }
        })
        .generate_id(move |request: EngineRequest| {
            let kind = request.query_value("kind").unwrap_or_default();
            let number = ids.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, String>(format!("{kind:_<10.10}{number:010}")) }
        })
        .initial_headers(|headers, _| {
            headers.insert("x-first", HeaderValue::from_static("yes"));
        })
        .headers(move |headers, request| {
            headers.insert("x-every", HeaderValue::from_static("yes"));
            if let Some(sid) = request.query_value("sid") {
                seen.note("cookie", json!([sid, request.header("cookie")]));
            }
        })
        .on_connection_error(move |error| {
            let who = error.request.query_value("who");
            let entry = json!([who, error.code, error.message, error.context]);
            failed.note("connection_error", entry);
        })
        .shared_state(journal)
        .on_event(move |event| happened.note_lifecycle(event))
        .namespace("/", hook)
        .namespace("/strict", |namespace| {
            hook(namespace.middleware(async |connect: Connect| {
                match connect.handshake().query_value("beta") {
                    Some(_) => Ok(()),
                    None => {
                        Err(Refusal::new("NO_BETA", "not in the beta").data(json!({"retry": 5})))
                    }
                }
            }))
        })
        .namespaces_async(
            async |connect: Connect| {
                // Admits a client that names this namespace in its auth data.
                tokio::task::yield_now().await;
                let requested: Option<Value> = connect.auth().ok();
                let tenant = requested
                    .as_ref()
                    .and_then(|auth| auth.get("tenant")?.as_str());
                tenant == Some(connect.namespace())
            },
            hook,
        );
    support::run(Server::new(io.build()?)).await
}

fn hook(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on_packet(check)
        .on_error(|failure: &Failure<'_>| {
            if !failure.answered {
                let journal = failure.socket.io().state::<Journal>();
                journal.note("failure", json!([failure.socket.id(), failure.event]));
            }
        })
        .on_connect(announce)
        .on("disconnecting", async |event: Event| {
            let rooms = event.socket.rooms();
            let left = (event.socket.id(), rooms.clone());
            event.socket.to(rooms).emit("left", left);
        })
        .on("journal", journal)
        .on("echo", async |_: Event, args: Args| Ack(args))
        .on("join", async |event: Event, rooms: Vec<String>| {
            event.socket.join(rooms)
        })
        .on("watch", watch)
        .on("watch-connection", watch_connection)
        .on("listen-once", listen_once)
        .on("scatter", scatter)
        .on("flags", async |event: Event, room: String, args: Args| {
            // Sent first: after a pending message, the volatile event might be dropped.
            let audience = event.namespace().local().volatile().to(&room);
            audience.emit("flags", args.clone());
            let audience = event.io().in_(&room).except(event.socket.id());
            audience.local().without_compression().emit("flags", args);
        })
        .on("fetch", fetch)
        .on("enroll", async |event: Event, of: String, to: String| {
            event.namespace().in_(&of).join(&to);
        })
        .on("dismiss", async |event: Event, of: String, from: String| {
            event.namespace().in_(&of).leave(&from);
        })
        .on("expel", async |event: Event, of: String, close: bool| {
            if close {
                event.namespace().in_(&of).close_connections();
            } else {
                event.namespace().in_(&of).disconnect();
            }
        })
        .on("namespaces", async |event: Event| {
            let all = event.io().namespaces();
            Ack(all
                .iter()
                .map(|one| one.name().to_owned())
                .collect::<Vec<_>>())
        })
        .on("clients", async |event: Event| {
            Ack(event.io().clients_count())
        })
}

/// Refuses one event, changes another, and delays a third.
async fn check(mut packet: Incoming) -> Result<Incoming, Refusal> {
    match packet.name() {
        "forbidden" => return Err(Refusal::new("E_FORBIDDEN", "nobody may")),
        "old name" => packet.set_name("echo"),
        "slow" => {
            // A slow check: later events wait for it.
            tokio::time::sleep(Duration::from_millis(200)).await;
            packet.set_name("echo");
        }
        _ => {}
    }
    Ok(packet)
}

/// Sends a client what it can learn about itself only here.
async fn announce(event: Event, journal: State<Journal>) -> Result<(), ListenError> {
    let socket = &event.socket;
    let auth: Option<Value> = socket.auth().ok();
    socket.set_data(auth.clone().unwrap_or_default());
    socket.emit("welcome", (socket.id(), auth));
    if socket.handshake().query_value("kind").as_deref() == Some("watched") {
        watch_connection(event, journal).await?;
    }
    Ok(())
}

async fn journal(_: Event, kind: String, journal: State<Journal>) -> Ack<Vec<Value>> {
    Ack(journal.of(&kind))
}

/// Records everything that this client sends and receives.
async fn watch(event: Event, journal: State<Journal>) -> Result<(), ListenError> {
    let socket = &event.socket;
    socket.on_any(async |event: Event, journal: State<Journal>| {
        let args = event.args().to_values().unwrap_or_default();
        journal.note("any", json!([event.socket.id(), event.name(), args]));
    })?;
    socket.prepend_any(async |event: Event, journal: State<Journal>| {
        journal.note("any", json!([event.socket.id(), "before", event.name()]));
    })?;
    socket.on_any_outgoing(move |sent: &Outgoing<'_>| {
        let args = sent.args.to_values().unwrap_or_default();
        journal.note("any outgoing", json!([sent.socket.id(), sent.event, args]));
    })?;
    Ok(())
}

/// Records the events of the connection below the socket.
async fn watch_connection(event: Event, journal: State<Journal>) -> Result<(), ListenError> {
    let id = event.socket.id();
    event.socket.conn().on_event(move |event| {
        let what = match event {
            // Events that clients use to read the journal would only make it longer.
            EngineConnectionEvent::Packet { data } if data.len() < 30 => {
                json!(["packet", String::from_utf8_lossy(data)])
            }
            EngineConnectionEvent::PacketCreate { data } if data.len() < 30 => {
                json!(["packetCreate", String::from_utf8_lossy(data)])
            }
            EngineConnectionEvent::Heartbeat => json!(["heartbeat"]),
            EngineConnectionEvent::Upgrade { transport } => {
                json!(["upgrade", transport.to_string()])
            }
            EngineConnectionEvent::Drain => json!(["drain"]),
            EngineConnectionEvent::Close { reason, .. } => json!(["close", reason]),
            EngineConnectionEvent::Packet { .. }
            | EngineConnectionEvent::PacketCreate { .. }
            | _ => return,
        };
        journal.note("conn", json!([id, what]));
    })?;
    Ok(())
}

/// Answers only the next `named` event.
async fn listen_once(event: Event) -> Result<(), ListenError> {
    let greet = async |_: Event, name: String| Ack(format!("hello {name}"));
    event.socket.once("named", greet)?;
    let gone = event.socket.on("gone", async |_: Event| NoAck)?;
    event.socket.off(gone);
    Ok(())
}

async fn scatter(event: Event, rooms: Vec<String>, but: Vec<String>, args: Args) {
    let mut audience = event.socket.broadcast();
    for room in &rooms {
        audience = audience.to(room);
    }
    for room in &but {
        audience = audience.except(room);
    }
    audience.emit("scattered", args);
}

async fn fetch(event: Event, room: String) -> Ack<Vec<Value>> {
    let found = event.namespace().in_(&room).sockets();
    let describe = |socket: &roomcast::Socket| {
        json!({
            "id": socket.id(),
            "rooms": socket.rooms(),
            "data": socket.data::<Value>().as_deref(),
            "query": socket.handshake().query_value("kind"),
        })
    };
    Ack(found.iter().map(describe).collect())
}

/// The journal of events, for clients to read.
#[derive(Default)]
struct Journal(Mutex<Vec<(&'static str, Value)>>);

impl Journal {
    fn note(&self, kind: &'static str, entry: Value) {
        self.0.lock().push((kind, entry));
    }

    fn of(&self, kind: &str) -> Vec<Value> {
        let all = self.0.lock();
        let same_kind = all.iter().filter(|(known, _)| *known == kind);
        same_kind.map(|(_, entry)| entry.clone()).collect()
    }

    fn note_lifecycle(&self, event: &Lifecycle<'_>) {
        let entry = match event {
            Lifecycle::RoomCreated { room, .. } => json!(["create-room", room]),
            Lifecycle::RoomDeleted { room, .. } => json!(["delete-room", room]),
            Lifecycle::RoomJoined { socket, room } => json!(["join-room", room, socket.id()]),
            Lifecycle::RoomLeft { socket, room } => json!(["leave-room", room, socket.id()]),
            Lifecycle::NamespaceCreated { namespace } => json!(["created", namespace.name()]),
            Lifecycle::NamespaceRemoved { namespace } => json!(["removed", namespace]),
            Lifecycle::Disconnected { socket, reason, .. } => {
                json!(["disconnected", socket.id(), reason])
            }
            Lifecycle::Connected { .. }
            | Lifecycle::Refused { .. }
            | Lifecycle::Upgraded { .. }
            | Lifecycle::SlowClient { .. }
            | _ => return,
        };
        self.note("lifecycle", entry);
    }
}
