//! Notifications about the lifecycle of servers and sockets.

use std::sync::{Arc, Mutex};

use roomcast::{Config, Connect, Event, Io, Lifecycle, Refusal};

use crate::local::{Local, join, until};

type Log = Arc<Mutex<Vec<String>>>;

fn watch(io: roomcast::Builder) -> (roomcast::Builder, Log) {
    let log = Log::default();
    let lines = Arc::clone(&log);
    let io = io.on_event(move |event: &Lifecycle<'_>| {
        let line = match event {
            Lifecycle::Connected { socket } => format!("+{}", socket.namespace().name()),
            Lifecycle::Disconnected { socket, reason, .. } => {
                assert!(socket.rooms().is_empty());
                format!("-{} {reason}", socket.namespace().name())
            }
            Lifecycle::Refused {
                namespace, refusal, ..
            } => format!("!{namespace} {refusal}"),
            Lifecycle::NamespaceCreated { namespace } => format!("new {}", namespace.name()),
            Lifecycle::NamespaceRemoved { namespace } => format!("gone {namespace}"),
            Lifecycle::RoomCreated { namespace, room } => format!("create {namespace} {room}"),
            Lifecycle::RoomDeleted { namespace, room } => format!("delete {namespace} {room}"),
            Lifecycle::RoomJoined { room, .. } => format!("join {room}"),
            Lifecycle::RoomLeft { room, .. } => format!("leave {room}"),
            Lifecycle::Upgraded { handshake } => {
                format!("upgraded {}", handshake.address().ip())
            }
            Lifecycle::SlowClient { .. } => "slow".to_owned(),
            other => format!("{other:?}"),
        };
        lines.lock().unwrap().push(line);
    });
    (io, log)
}

fn lines(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

#[test]
fn connects_and_disconnects_are_reported_in_order() {
    let (mut io, log) = watch(Io::builder());
    io = io
        .namespace("/", |namespace| {
            namespace.on_connect(async |event: Event| {
                event.socket.join(["lobby", "other"])?;
                event.socket.join("lobby")?;
                event.socket.leave(["other", "never joined"]);
                Ok::<_, roomcast::errors::JoinError>(())
            })
        })
        .namespace("/closed", |namespace| {
            namespace.middleware(async |_: Connect| Err::<(), _>(Refusal::new("", "closed")))
        });
    let server = Local::serve(io);
    assert_eq!(lines(&log), ["new /closed"]);
    let (mut first, _) = server.connect();
    let (mut second, _) = server.connect();
    assert_eq!(
        lines(&log),
        [
            "+/",
            "create / lobby",
            "join lobby",
            "create / other",
            "join other",
            "leave other",
            "delete / other",
            "+/",
            "join lobby",
            "create / other",
            "join other",
            "leave other",
            "delete / other",
        ]
    );
    first.send_text("40/closed,");
    first.expect_text("44/closed,{\"message\":\"closed\"}");
    first.send_text("40/none,");
    first.expect_text("44/none,{\"message\":\"Invalid namespace\"}");
    first.send_text("41");
    until(|| log.lock().unwrap().len() == 4);
    assert_eq!(
        lines(&log),
        [
            "!/closed closed",
            "!/none Invalid namespace",
            "leave lobby",
            "-/ client namespace disconnect",
        ]
    );
    second.send_text("1");
    until(|| log.lock().unwrap().len() == 3);
    assert_eq!(
        lines(&log),
        ["leave lobby", "delete / lobby", "-/ transport close"]
    );
}

#[test]
fn on_demand_namespace_is_reported_on_creation_and_removal() {
    for cleanup in [true, false] {
        let config = match cleanup {
            true => Config::default(),
            false => Config::default().keep_empty_child_namespaces(),
        };
        let (mut io, log) = watch(Io::builder().config(config));
        io = io.namespaces(|name| name.starts_with("/tenant-"), |namespace| namespace);
        let server = Local::serve(io);
        let mut client = server.open();
        join(&mut client, "/tenant-1,");
        let names = || -> Vec<String> {
            let namespaces = server.io.namespaces();
            namespaces.iter().map(|n| n.name().to_owned()).collect()
        };
        assert_eq!(names(), ["/tenant-1"]);
        client.send_text("41/tenant-1,");
        join(&mut client, "/tenant-2,");
        client.send_text("41/tenant-2,");
        let ended = if cleanup { 8 } else { 6 };
        until(|| log.lock().unwrap().len() == ended);
        let mut expected = Vec::new();
        for name in ["/tenant-1", "/tenant-2"] {
            expected.extend([format!("new {name}"), format!("+{name}")]);
            expected.extend(cleanup.then(|| format!("gone {name}")));
            expected.push(format!("-{name} client namespace disconnect"));
        }
        assert_eq!(lines(&log), expected);
        assert_eq!(names().len(), if cleanup { 0 } else { 2 });
    }
}

#[test]
fn panicking_watcher_affects_no_client() {
    let (mut io, log) = watch(
        Io::builder()
            .on_event(|event| assert!(!matches!(event, Lifecycle::Connected { .. }), "a fault")),
    );
    io = io.namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (_client, _) = server.connect();
    assert_eq!(lines(&log), ["+/"]);
}

#[test]
fn flooding_client_is_reported_before_its_disconnect() {
    let (mut io, log) =
        watch(Io::builder().config(Config::default().max_in_flight(1).max_parked_events(1)));
    io = io.namespace("/", |namespace| {
        namespace.on("x", async |_: Event| std::future::pending::<()>().await)
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for _ in 0..3 {
        client.send_text("42[\"x\"]");
    }
    client.expect_close();
    until(|| log.lock().unwrap().len() == 3);
    assert_eq!(lines(&log), ["+/", "slow", "-/ overflow"]);
}

#[test]
fn upgrade_is_reported() {
    let (mut io, log) = watch(Io::builder());
    io = io.namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let polling = crate::support::Polling::open(server.address(), "/socket.io/");
    let _socket = polling.upgraded();
    until(|| log.lock().unwrap().len() == 1);
    assert_eq!(lines(&log), ["upgraded 127.0.0.1"]);
}
