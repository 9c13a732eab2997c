//! The server that the test suite of the official client expects.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use roomcast::{
    Ack, Args, Config, Connect, DisconnectReason, Event, Io, NamespaceBuilder, NoAck, Refusal,
    Server, Socket, SocketId, connection::EngineRequest, options::Recovery,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[tokio::main]
async fn main() -> Result<(), roomcast::Error> {
    let mut io = Io::builder()
        .config(Config::default().ping_interval(Duration::from_millis(2000)))
        .recovery(Recovery::default().only_with_offset())
        .allow_request(async |_: EngineRequest| {
            // Clients with a timeout of 0 ms must time out before they connect.
            tokio::time::sleep(Duration::from_millis(10)).await;
            Ok::<_, ()>(())
        });
    let notes = Arc::new(Mutex::new(Notes::default()));
    io = io
        .namespace("/", |namespace| {
            let namespace = namespace
                .middleware(async |connect: Connect| {
                    match connect.handshake().query_value("fail") {
                        Some(fail) if !fail.is_empty() => {
                            Err(Refusal::new("", "Auth failed (main namespace)"))
                        }
                        Some(_) | None => Ok(()),
                    }
                })
                .on_connect(async |event: Event| {
                    event.socket.set_data(Seen::default());
                });
            let namespace = take_binary(emit(answer(namespace)));
            report_marks(take_marks(namespace, &notes), &notes)
        })
        .namespace("/foo", |namespace| {
            take_marks(namespace.on("getId", get_id), &notes)
        })
        .namespace("/abc", |namespace| {
            namespace.on_connect(async |event: Event| {
                event.socket.emit("handshake", handshake(&event.socket));
            })
        })
        .namespace("/no", |namespace| {
            namespace.middleware(async |_: Connect| {
                Err::<(), _>(Refusal::new("", "Auth failed (custom namespace)"))
            })
        });
    for name in ["/timeout_socket", "/valid", "/asd"] {
        io = io.namespace(name, |namespace| namespace);
    }
    support::run(Server::new(io.build()?)).await
}

/// Adds events that are acknowledged, or that request an acknowledgement from the client.
fn answer(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on("echo", async |_: Event, value: Args| Ack(value))
        .on("ack", async |event: Event| {
            let answer = event.socket.emit_with_ack::<Args>("ack", ()).await;
            if answer.is_ok_and(|args| {
                args.get::<Value>(0).ok() == Some(json!(5))
                    && args.get::<Value>(1).ok() == Some(json!({"test": true}))
            }) {
                event.socket.emit("got it", ());
            }
            NoAck
        })
        .on("getAckDate", async |_: Event, _: Args| Ack(now()))
        .on("getHandshake", async |event: Event| {
            Ack(handshake(&event.socket))
        })
        .on("getId", get_id)
}

/// The marks that sockets have sent, and the reasons why those sockets were disconnected.
#[derive(Clone, Default, Serialize)]
struct Notes {
    marks: Vec<u32>,
    reasons: Vec<String>,
}

struct Marked;

fn take_marks(namespace: NamespaceBuilder, notes: &Arc<Mutex<Notes>>) -> NamespaceBuilder {
    let (marks, reasons) = (Arc::clone(notes), Arc::clone(notes));
    namespace
        .on("mark", move |event: Event, number: u32| {
            event.socket.set_data(Marked);
            marks.lock().expect("no step panics").marks.push(number);
            async {}
        })
        .on(
            "disconnect",
            move |event: Event, reason: DisconnectReason| {
                if event.socket.data::<Marked>().is_some() {
                    let mut notes = reasons.lock().expect("no step panics");
                    notes.reasons.push(reason.to_string());
                }
                async {}
            },
        )
}

fn report_marks(namespace: NamespaceBuilder, notes: &Arc<Mutex<Notes>>) -> NamespaceBuilder {
    let (read, cleared) = (Arc::clone(notes), Arc::clone(notes));
    namespace
        .on("marks", move |_: Event| {
            let notes = read.lock().expect("no step panics").clone();
            async { Ack(notes) }
        })
        .on("clear marks", move |_: Event| {
            *cleared.lock().expect("no step panics") = Notes::default();
            async { Ack(()) }
        })
}

/// Adds events that are answered with events.
fn emit(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on("hi", async |event: Event| {
            event.socket.emit("hi", ());
        })
        .on("getDate", async |event: Event| {
            event.socket.emit("takeDate", now());
        })
        .on("getDateObj", async |event: Event| {
            event.socket.emit("takeDateObj", json!({"date": now()}));
        })
        .on("getUtf8", async |event: Event| {
            for text in UTF8 {
                event.socket.emit("takeUtf8", text);
            }
        })
        .on("false", async |event: Event| {
            event.socket.emit("false", false);
        })
        .on("doge", async |event: Event| {
            event.socket.emit("doge", DOGE);
        })
        .on("getbin", async |event: Event| {
            event.socket.emit("takebin", DOGE);
        })
}

/// Adds events with binary arguments; other events of these names are ignored.
fn take_binary(namespace: NamespaceBuilder) -> NamespaceBuilder {
    namespace
        .on("buffa", async |event: Event, _: Bytes| {
            event.socket.emit("buffack", ());
        })
        .on("jsonbuff", async |event: Event, object: Greeting| {
            object.acknowledge(&event, "jsonbuff-ack");
        })
        .on("jsonblob", async |event: Event, object: Greeting| {
            object.acknowledge(&event, "jsonblob-ack");
        })
        .on("abuff1", async |event: Event, _: Bytes| {
            seen(&event, |seen| seen.buffer = true)
        })
        .on("abuff2", async |event: Event, _: String| {
            seen(&event, |seen| {
                if seen.buffer {
                    event.socket.emit("abuff2-ack", ());
                }
            });
        })
        .on("blob", async |event: Event, _: Bytes| {
            event.socket.emit("back", ());
        })
        .on("blob1", async |event: Event, _: Bytes| {
            seen(&event, |seen| seen.blobs = 1)
        })
        .on("blob2", async |event: Event, text: String| {
            seen(&event, |seen| {
                if seen.blobs == 1 && text == "second" {
                    seen.blobs = 2;
                }
            });
        })
        .on("blob3", async |event: Event, _: Bytes| {
            seen(&event, |seen| {
                if seen.blobs == 2 {
                    event.socket.emit("blob3-ack", ());
                }
            });
        })
}

/// The steps of a sequence that a socket has completed.
type Seen = Mutex<Steps>;

#[derive(Default)]
struct Steps {
    buffer: bool,
    blobs: u8,
}

fn seen(event: &Event, step: impl FnOnce(&mut Steps)) {
    if let Some(seen) = event.socket.data::<Seen>() {
        step(&mut seen.lock().expect("no step panics"));
    }
}

#[derive(Deserialize)]
struct Greeting {
    hello: String,
    #[expect(dead_code, reason = "that it is binary is all that counts")]
    message: Bytes,
    goodbye: String,
}

impl Greeting {
    fn acknowledge(&self, event: &Event, with: &str) {
        if self.hello == "lol" && self.goodbye == "gotcha" {
            event.socket.emit(with, ());
        }
    }
}

async fn get_id(event: Event) -> Ack<SocketId> {
    Ack(event.socket.id())
}

fn handshake(socket: &Socket) -> Value {
    let mut handshake = serde_json::to_value(socket.handshake()).unwrap_or_default();
    let auth: Option<Value> = socket.auth().ok().flatten();
    if let Some(fields) = handshake.as_object_mut() {
        fields.insert("auth".into(), auth.unwrap_or_else(|| json!({})));
    }
    handshake
}

fn now() -> String {
    humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string()
}

const DOGE: Bytes = Bytes::from_static(b"asdfasdf");
const UTF8: [&str; 5] = [
    "\u{3066}\u{3059}\u{3068}",
    "\u{42f} \u{411} \u{413} \u{414} \u{416} \u{419}",
    "\u{c4} \u{e4} \u{dc} \u{fc} \u{df}",
    "utf8 \u{2014} string",
    "utf8 \u{2014} string",
];
