//! Events of a connection, and why connections end.

use std::sync::{Arc, Mutex};

use roomcast::{
    Ack, Config, DisconnectReason, Event, Io, connection::EngineConnectionEvent,
    errors::ListenError, metrics::Gauge,
};
use tokio::sync::mpsc;

use crate::{
    local::{Local, join, until},
    support::Polling,
};

type Log = Arc<Mutex<Vec<String>>>;

/// Starts a server that records the events of connections to `/`.
fn server(config: Config) -> (Local, Log) {
    let log = Log::default();
    let mut io = Io::builder().config(config);
    let lines = Arc::clone(&log);
    io = io
        .namespace("/", |namespace| {
            namespace
                .on_connect(move |event: Event| {
                    let lines = Arc::clone(&lines);
                    let watching = event.socket.conn().on_event(move |event| {
                        let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
                        let line = match *event {
                            EngineConnectionEvent::Packet { data } => {
                                format!("packet {}", text(data))
                            }
                            EngineConnectionEvent::PacketCreate { data } => {
                                format!("create {}", text(data))
                            }
                            EngineConnectionEvent::Heartbeat => "heartbeat".to_owned(),
                            EngineConnectionEvent::Upgrade { transport } => {
                                format!("upgrade {transport}")
                            }
                            EngineConnectionEvent::Drain => "drain".to_owned(),
                            EngineConnectionEvent::Close {
                                reason,
                                description,
                            } => format!("close {reason} {description:?}"),
                            _ => "?".to_owned(),
                        };
                        lines.lock().unwrap().push(line);
                    });
                    async move { watching.map(drop) }
                })
                .on("echo", async |_: Event, n: u8| Ack(n))
        })
        .namespace("/other", |namespace| namespace);
    (Local::serve(io), log)
}

#[test]
fn packets_of_a_connection_are_seen_in_both_directions() {
    let (server, log) = server(Config::default());
    let (mut client, id) = server.connect();
    client.send_text("421[\"echo\",7]");
    client.expect_text("431[7]");
    join(&mut client, "/other,");
    server.io.emit("all", 1);
    server.io.of("/other").to("nobody").emit("x", ());
    server.io.of("/other").emit("other", ());
    client.expect_text("42[\"all\",1]");
    client.expect_text("42/other,[\"other\"]");
    let mut lines = log.lock().unwrap().clone();
    lines.retain(|line| line.starts_with("packet") || line.starts_with("create"));
    let connected = lines.remove(3);
    assert!(connected.starts_with("create 40/other,{\"sid\":"));
    assert!(!connected.contains(&id));
    assert_eq!(
        lines,
        [
            "packet 21[\"echo\",7]",
            "create 431[7]",
            "packet 0/other,",
            "create 42[\"all\",1]",
            "create 42/other,[\"other\"]",
        ]
    );
}

#[test]
fn connection_reports_when_everything_was_sent() {
    let (server, log) = server(Config::default());
    let (mut client, _) = server.connect();
    let drains = || log.lock().unwrap().iter().filter(|l| *l == "drain").count();
    until(|| drains() > 0);
    let before = drains();
    server.io.emit("x", "y".repeat(300_000));
    client.message();
    until(|| drains() > before);

    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    polling.poll();
    let before = drains();
    server.io.emit("x", ());
    until(|| polling.poll().body.contains("42[\"x\"]"));
    until(|| drains() > before);
}

#[test]
fn heartbeats_upgrades_and_close_are_reported() {
    let (server, log) =
        server(Config::default().ping_interval(std::time::Duration::from_millis(50)));
    let polling = Polling::open(server.address(), "/socket.io/");
    polling.post("40");
    // A ping may arrive before it.
    let mut polled = String::new();
    while !polled.contains("40{") {
        let body = polling.poll().body;
        if body.split('\x1e').any(|packet| packet == "2") {
            polling.post("3");
        }
        polled += &body;
    }
    let mut client = polling.upgraded();
    while client.frame() != crate::support::Frame::Text("2".into()) {}
    client.send_text("3");
    client.send_text("1");
    until(|| {
        log.lock()
            .unwrap()
            .iter()
            .any(|line| line.starts_with("close"))
    });
    let mut lines = log.lock().unwrap().clone();
    lines.retain(|line| line != "drain");
    let last_heartbeat = lines.iter().rposition(|line| line == "heartbeat");
    assert_eq!(last_heartbeat, Some(lines.len() - 2), "{lines:?}");
    lines.retain(|line| line != "heartbeat");
    assert_eq!(lines, ["upgrade websocket", "close transport close None"]);
}

#[test]
fn connection_watchers_can_be_removed_and_end_with_it() {
    let io = Io::builder().namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, id) = server.connect();
    let socket = server
        .io
        .of("/")
        .socket(roomcast::SocketId::parse(&id).unwrap());
    let conn = socket.unwrap().conn();
    let (held, own) = (Arc::new(()), conn.clone());
    let alive = Arc::clone(&held);
    let first = conn
        .on_event(move |_| assert_eq!((&alive, own.sockets().len()).1, 1))
        .unwrap();
    let log = Log::default();
    let lines = Arc::clone(&log);
    let second = conn.on_event(move |event| {
        lines.lock().unwrap().push(format!("{event:?}"));
    });
    assert!(second.is_ok());
    assert_eq!(conn.sockets().len(), 1);
    assert!(conn.off(first) && !conn.off(first));
    assert_eq!(Arc::strong_count(&held), 1);
    conn.close();
    client.expect_close();
    until(|| conn.sockets().is_empty());
    assert_eq!(conn.on_event(|_| {}), Err(ListenError::Disconnected));
}

#[test]
fn the_end_of_a_connection_is_described() {
    let (sender, mut receiver) = mpsc::channel(16);
    let mut io = Io::builder();
    for event in ["disconnecting", "disconnect"] {
        let sender = sender.clone();
        let handler = move |_: Event, reason: DisconnectReason, description: Option<String>| {
            let sent = sender.try_send((reason, description));
            async move { assert!(sent.is_ok()) }
        };
        io = io.namespace("/", |namespace| namespace.on(event, handler));
    }
    let server = Local::serve(io);
    let mut ended = |expected: (DisconnectReason, Option<&str>)| {
        for _ in 0..2 {
            let (reason, description) = server.runtime.block_on(receiver.recv()).unwrap();
            assert_eq!((reason, description.as_deref()), expected);
        }
    };
    let joined = || {
        let polling = Polling::open(server.address(), "/socket.io/");
        polling.post("40");
        polling.poll();
        polling
    };
    let polling = joined();
    let first = polling.start_poll();
    until(|| server.io.metrics().gauge(Gauge::PollsWaiting) == 1);
    polling.poll();
    ended((
        DisconnectReason::TransportError,
        Some("overlap from client"),
    ));
    drop(first);
    until(|| server.io.metrics().gauge(Gauge::PollsWaiting) == 0);

    let polling = joined();
    let poll = polling.start_poll();
    until(|| server.io.metrics().gauge(Gauge::PollsWaiting) == 1);
    drop(poll);
    ended((
        DisconnectReason::TransportError,
        Some("poll connection closed prematurely"),
    ));

    let (mut client, _) = server.connect();
    client.send([0x81, 0x00]);
    ended((DisconnectReason::TransportError, Some("invalid frame")));

    let (client, _) = server.connect();
    drop(client);
    ended((DisconnectReason::TransportClose, None));
}
