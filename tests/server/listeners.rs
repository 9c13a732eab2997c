//! Listeners that are registered on a single socket while it is connected.

use std::sync::{Arc, Mutex};

use roomcast::{
    Ack, Args, Config, DisconnectReason, Event, Incoming, Io, Refusal, Socket, State,
    errors::ListenError,
    handler::{ListenerId, Outgoing},
};
use tokio::sync::oneshot;

use crate::local::{Local, until};

type Log = Arc<Mutex<Vec<String>>>;

/// A server with one socket, which the test can access.
struct Watched {
    server: Local,
    client: crate::support::RawClient,
    socket: Socket,
}

impl Watched {
    fn new(io: roomcast::Builder) -> Self {
        let server = Local::serve(io);
        let (client, id) = server.connect();
        let socket = server.io.of("/").socket(id.parse_id()).unwrap();
        Self {
            server,
            client,
            socket,
        }
    }
}

trait ParseId {
    fn parse_id(&self) -> roomcast::SocketId;
}

impl ParseId for String {
    fn parse_id(&self) -> roomcast::SocketId {
        roomcast::SocketId::parse(self).unwrap()
    }
}

fn empty() -> roomcast::Builder {
    Io::builder().namespace("/", |namespace| {
        namespace.on("echo", async |_: Event, args: Args| Ack(args))
    })
}

fn note(log: &Log, line: &str) -> impl Fn(Event) -> std::future::Ready<()> + use<> {
    let (log, line) = (Arc::clone(log), line.to_owned());
    move |_| {
        log.lock().unwrap().push(line.clone());
        std::future::ready(())
    }
}

/// Returns the numbers of observers of incoming and of outgoing events.
fn counts(socket: &Socket) -> (usize, usize) {
    let counts = socket.watcher_counts();
    (counts.incoming, counts.outgoing)
}

#[test]
fn listener_gets_its_event_until_removed() {
    let mut it = Watched::new(empty());
    let log = Log::default();
    let first = it.socket.on("x", note(&log, "first")).unwrap();
    let second = it.socket.on("x", note(&log, "second")).unwrap();
    assert_eq!(it.socket.listener_count("x"), 2);
    it.client.send_text("42[\"x\"]");
    it.client.send_text("42[\"y\"]");
    it.client.send_text("421[\"echo\"]");
    it.client.expect_text("431[]");
    assert_eq!(*log.lock().unwrap(), ["first", "second"]);
    assert!(it.socket.off(first));
    assert!(!it.socket.off(first));
    it.client.send_text("421[\"x\"]");
    it.client.expect_text("431[]");
    assert_eq!(*log.lock().unwrap(), ["first", "second", "second"]);
    assert_eq!(it.socket.off_event("x"), 1);
    assert!(!it.socket.off(second));
    it.client.send_text("42[\"x\"]");
    it.client.send_text("422[\"echo\",1]");
    it.client.expect_text("432[1]");
    assert_eq!(log.lock().unwrap().len(), 3);
}

#[test]
fn once_listener_runs_once() {
    let mut it = Watched::new(empty());
    let log = Log::default();
    it.socket.once("x", note(&log, "once")).unwrap();
    for _ in 0..3 {
        it.client.send_text("42[\"x\"]");
    }
    it.client.send_text("421[\"echo\"]");
    it.client.expect_text("431[]");
    assert_eq!(*log.lock().unwrap(), ["once"]);
    assert_eq!(it.socket.listener_count("x"), 0);
}

#[test]
fn namespace_handler_runs_first_and_only_the_first_answer_counts() {
    let mut it = Watched::new(empty());
    let log = Log::default();
    let late = it.socket.on("echo", async |_: Event| Ack("never sent"));
    it.socket.on("echo", note(&log, "heard")).unwrap();
    it.client.send_text("421[\"echo\",5]");
    it.client.expect_text("431[5]");
    assert!(late.is_ok());
    it.socket.on("own", async |_: Event| Ack("one")).unwrap();
    it.socket.on("own", async |_: Event| Ack("two")).unwrap();
    it.client.send_text("422[\"own\"]");
    it.client.expect_text("432[\"one\"]");
    it.client.send_text("423[\"echo\"]");
    it.client.expect_text("433[]");
    assert_eq!(*log.lock().unwrap(), ["heard", "heard"]);
}

#[test]
fn event_with_a_listener_skips_the_fallback() {
    let io = empty().namespace("/", |namespace| {
        namespace.fallback(async |event: Event| Ack(event.name().to_owned()))
    });
    let mut it = Watched::new(io);
    let listener = it.socket.on("x", async |_: Event| Ack("mine")).unwrap();
    it.client.send_text("421[\"x\"]");
    it.client.expect_text("431[\"mine\"]");
    it.socket.off(listener);
    it.client.send_text("422[\"x\"]");
    it.client.expect_text("432[\"x\"]");
}

#[test]
fn watchers_of_all_events_come_before_checks_and_listeners() {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let io = empty().namespace("/", |namespace| {
        namespace
            .on_any(note(&log, "namespace any"))
            .on_packet(move |_: Incoming| {
                seen.lock().unwrap().push("namespace check".into());
                async { Ok::<_, Refusal>(()) }
            })
            .on("x", note(&log, "handler"))
    });
    let mut it = Watched::new(io);
    it.socket.on("x", note(&log, "listener")).unwrap();
    let seen = Arc::clone(&log);
    let stop = move |packet: Incoming| {
        seen.lock().unwrap().push("own check".into());
        let stopped = packet.args().len() > 1;
        async move {
            if stopped {
                Err(Refusal::new("", "no"))
            } else {
                Ok(())
            }
        }
    };
    let check = it.socket.on_packet(stop).unwrap();
    let any = it.socket.on_any(note(&log, "any")).unwrap();
    it.socket.prepend_any(note(&log, "prepended any")).unwrap();
    let mut lines = |packet: &str| {
        log.lock().unwrap().clear();
        it.client.send_text(packet);
        it.client.send_text("429[\"echo\"]");
        it.client.expect_text("439[]");
        let mut lines = log.lock().unwrap().clone();
        let end = lines.iter().rposition(|line| line == "namespace any");
        lines.truncate(end.unwrap());
        lines
    };
    let order = [
        "namespace any",
        "prepended any",
        "any",
        "namespace check",
        "own check",
        "handler",
        "listener",
    ];
    assert_eq!(lines("42[\"x\"]"), order);
    // Watchers of all events see a refused event.
    assert_eq!(lines("42[\"x\",1,2]"), order[..5]);
    assert_eq!(counts(&it.socket), (2, 0));
    assert!(it.socket.off(check));
    assert!(it.socket.off(any));
    assert_eq!(
        lines("42[\"x\",1,2]"),
        [
            "namespace any",
            "prepended any",
            "namespace check",
            "handler",
            "listener"
        ]
    );
}

#[test]
fn client_answering_early_counts_as_expected() {
    let (answered, has_answered) = std::sync::mpsc::channel();
    let (answered, has_answered) = (Mutex::new(answered), Mutex::new(has_answered));
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("answered", move |_: Event| {
            answered.lock().unwrap().send(()).unwrap();
            std::future::ready(())
        })
    });
    let it = Watched::new(io);
    // The watcher runs after the request is sent, and before the caller has its answers.
    it.socket
        .on_any_outgoing(move |_| has_answered.lock().unwrap().recv().unwrap())
        .unwrap();
    let Watched {
        server, mut client, ..
    } = it;
    let client = std::thread::spawn(move || {
        client.expect_text("420[\"ready?\"]");
        client.send_text("430[true]");
        client.send_text("42[\"answered\"]");
        client
    });
    let mut answers = server
        .io
        .except("nobody")
        .emit_with_local_acks::<bool>("ready?", ());
    assert_eq!(answers.expected(), 1);
    let answer = server.runtime.block_on(answers.next()).unwrap().1;
    assert!(answer.unwrap());
    drop(client.join());
}

#[test]
fn watchers_see_every_event_sent_to_their_client() {
    let mut it = Watched::new(empty());
    let (mut other, _) = it.server.connect();
    let log = Log::default();
    let noting = |name: &'static str| {
        let log = Arc::clone(&log);
        move |outgoing: &Outgoing<'_>| {
            let args = serde_json::to_string(&outgoing.args.to_values().unwrap()).unwrap();
            let line = format!("{name} {} {args}", outgoing.event);
            log.lock().unwrap().push(line);
        }
    };
    let id: ListenerId = it.socket.on_any_outgoing(noting("a")).unwrap();
    it.socket.join("room").unwrap();
    it.socket.emit("direct", (1, "x"));
    it.server.io.emit("all", ());
    it.server.io.to("room").except("none").emit("room", true);
    it.socket.broadcast().emit("others", ());
    it.server.io.to("elsewhere").emit("elsewhere", ());
    let pending = it.socket.emit_with_ack::<Args>("asked", 2);
    let acks = it
        .server
        .io
        .to("room")
        .timeout(std::time::Duration::from_secs(5));
    let acks = acks.emit_with_acks::<Args>("ready?", ());
    // Acknowledgements are not events.
    it.client.send_text("427[\"echo\"]");
    assert_eq!(
        *log.lock().unwrap(),
        [
            "a direct [1,\"x\"]",
            "a all []",
            "a room [true]",
            "a asked [2]",
            "a ready? []"
        ]
    );
    for expected in ["42[\"direct\",1,\"x\"]", "42[\"all\"]", "42[\"room\",true]"] {
        it.client.expect_text(expected);
    }
    other.expect_text("42[\"all\"]");
    other.expect_text("42[\"others\"]");
    it.socket.prepend_any_outgoing(noting("b")).unwrap();
    assert_eq!(counts(&it.socket), (0, 2));
    log.lock().unwrap().clear();
    it.server.io.emit("again", ());
    assert_eq!(*log.lock().unwrap(), ["b again []", "a again []"]);
    assert!(it.socket.off(id));
    it.socket.emit("last", ());
    assert_eq!(log.lock().unwrap().last().unwrap(), "b last []");
    assert_eq!(log.lock().unwrap().len(), 3);
    drop((pending, acks));
}

#[test]
fn socket_listeners_get_its_disconnect() {
    let mut io = Io::builder();
    let (sender, receiver) = oneshot::channel::<Vec<String>>();
    let sender = Arc::new(Mutex::new(Some(sender)));
    io = io.namespace("/", |namespace| {
        namespace.on_connect(move |event: Event| {
            let (log, sender) = (Log::default(), Arc::clone(&sender));
            event.socket.join(["a", "b"]).unwrap();
            let seen = Arc::clone(&log);
            let leaving = move |event: Event, reason: DisconnectReason| {
                let line = format!("disconnecting {reason} {}", event.socket.rooms().len());
                seen.lock().unwrap().push(line);
                async {}
            };
            event.socket.on("disconnecting", leaving).unwrap();
            let left = move |event: Event, reason: DisconnectReason| {
                let line = format!("disconnect {reason} {}", event.socket.rooms().len());
                log.lock().unwrap().push(line);
                let done = sender.lock().unwrap().take().unwrap();
                let _ = done.send(log.lock().unwrap().clone());
                async {}
            };
            event.socket.once("disconnect", left).unwrap();
            async {}
        })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("41");
    assert_eq!(
        server.runtime.block_on(receiver).unwrap(),
        [
            "disconnecting client namespace disconnect 2",
            "disconnect client namespace disconnect 0"
        ]
    );
}

#[test]
fn listeners_are_limited_and_end_with_the_socket() {
    let io = empty().config(Config::default().max_listeners_per_socket(2));
    let it = Watched::new(io);
    let socket = &it.socket;
    let held = Arc::new(());
    let alive = Arc::clone(&held);
    let own = socket.clone();
    // A listener that holds its own socket does not keep it alive.
    let listening = socket.on("x", move |_: Event| {
        let _ = (&alive, &own);
        async {}
    });
    assert!(listening.is_ok());
    socket.on_any_outgoing(|_| {}).unwrap();
    assert_eq!(
        socket.on("x", async |_: Event| {}),
        Err(ListenError::TooMany)
    );
    assert_eq!(
        socket.on("connect", async |_: Event| {}),
        Err(ListenError::Reserved)
    );
    let missing = socket.on("x", async |_: Event, _: State<u16>| {});
    assert_eq!(missing, Err(ListenError::MissingState("u16")));
    socket.close_connection();
    until(|| Arc::strong_count(&held) == 1);
    assert_eq!(
        socket.on("x", async |_: Event| {}),
        Err(ListenError::Disconnected)
    );
    assert_eq!(socket.listener_count("x"), 0);
}

#[test]
fn listened_events_are_named_once_and_all_listeners_can_be_removed() {
    let mut watched = Watched::new(empty());
    let socket = watched.socket.clone();
    assert!(socket.event_names().is_empty());
    assert_eq!(socket.off_all(), 0);
    let log = Log::default();
    for event in ["b", "a", "b"] {
        socket.on(event, note(&log, event)).unwrap();
    }
    socket.once("disconnect", note(&log, "gone")).unwrap();
    socket.on_any(note(&log, "any")).unwrap();
    let sent = Arc::clone(&log);
    let hook = move |_: &Outgoing<'_>| sent.lock().unwrap().push("sent".into());
    socket.on_any_outgoing(hook).unwrap();
    assert_eq!(socket.event_names(), ["b", "a", "disconnect"]);
    assert_eq!(socket.off_all(), 6);
    assert!(socket.event_names().is_empty());
    assert_eq!(counts(&socket), (0, 0));
    socket.emit("x", ());
    watched.client.expect_text("42[\"x\"]");
    // The handlers of the namespace stay, and new listeners can be registered.
    socket.on("a", note(&log, "new")).unwrap();
    watched.client.send_text("42[\"a\"]");
    watched.client.send_text("421[\"echo\",1]");
    watched.client.expect_text("431[1]");
    assert_eq!(*log.lock().unwrap(), ["new"]);
}
