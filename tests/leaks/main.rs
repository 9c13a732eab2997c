//! The leak matrix: clients end in every way that there is, again and again, and afterwards nothing
//! of them is left: every gauge is exactly zero, no file is open, and memory is back.
//!
//! Ten thousand cycles in all. `LEAK_CYCLES=10000 cargo test --release --test leaks` plays as many of
//! each ending. Endings of what is not there yet are added with it.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use support::{DEADLINE, Frame, Polling, RawClient, TestServer, websocket::masked};

/// How a client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    CloseFrame,
    EndOfStream,
    Reset,
    Silence,
    PollingAbandoned,
    PollingGoodbye,
    UpgradeNotProbed,
    UpgradeNotFinished,
    UpgradedThenGone,
    NoNamespace,
    Refused,
    ConnectHandlerPanics,
    EventHandlerPanics,
    DisconnectedByHandler,
    LeavesNamespace,
    AckTimesOut,
    GoneBeforeAck,
    RoomAckOfAbsentees,
    AttachmentsMissing,
    BrokenPacket,
    TooSlow,
}

const ENDINGS: [Ending; 21] = [
    Ending::CloseFrame,
    Ending::EndOfStream,
    Ending::Reset,
    Ending::Silence,
    Ending::PollingAbandoned,
    Ending::PollingGoodbye,
    Ending::UpgradeNotProbed,
    Ending::UpgradeNotFinished,
    Ending::UpgradedThenGone,
    Ending::NoNamespace,
    Ending::Refused,
    Ending::ConnectHandlerPanics,
    Ending::EventHandlerPanics,
    Ending::DisconnectedByHandler,
    Ending::LeavesNamespace,
    Ending::AckTimesOut,
    Ending::GoneBeforeAck,
    Ending::RoomAckOfAbsentees,
    Ending::AttachmentsMissing,
    Ending::BrokenPacket,
    Ending::TooSlow,
];

impl Ending {
    /// How many clients end at the same time.
    fn batch(self) -> usize {
        match self {
            // The kernel keeps megabytes for each.
            Self::TooSlow => 10,
            _ => 250,
        }
    }
}

/// What may keep a connection open while its client waits for its end.
#[derive(Default)]
struct Kept {
    sockets: Vec<RawClient>,
    sessions: Vec<Polling>,
}

impl Kept {
    /// A client in `/` that is in a room.
    fn enter(&mut self, server: &TestServer) -> &mut RawClient {
        let mut client = server.connect();
        client.open_socket();
        client.send_text(r#"420["join","room"]"#);
        assert_eq!(message(&mut client), "430[true]");
        self.sockets.push(client);
        self.sockets.last_mut().unwrap()
    }

    fn poll(&mut self, server: &TestServer) -> &Polling {
        let session = Polling::open(server.address(), "/socket.io/");
        assert_eq!(session.post("40").status, 200);
        assert!(session.poll().body.contains("40{\"sid\""));
        self.sessions.push(session);
        self.sessions.last().unwrap()
    }
}

/// The next message that is no ping; those are answered.
fn message(client: &mut RawClient) -> String {
    loop {
        match client.message() {
            Frame::Text(text) if text == "2" => client.send_text("3"),
            Frame::Text(text) => return text,
            frame => panic!("{frame:?}"),
        }
    }
}

/// One client's life up to its end, or to where the server has to end it.
fn live(server: &TestServer, ending: Ending, kept: &mut Kept) {
    match ending {
        Ending::CloseFrame => kept.enter(server).send(masked(0x88, [0x03, 0xe8])),
        Ending::EndOfStream => kept.enter(server).shutdown_write(),
        Ending::Reset => {
            // Unread input makes the kernel reset the connection.
            let client = kept.enter(server);
            client.send_text(r#"421["join","room"]"#);
            assert!(client.has_unread_input());
            kept.sockets.pop();
        }
        // To a server it makes no difference whether a client or the way to it is dead.
        Ending::Silence => {
            kept.enter(server);
        }
        Ending::PollingAbandoned => {
            kept.poll(server);
        }
        Ending::PollingGoodbye => {
            kept.poll(server);
            kept.sessions.pop().unwrap().leave();
        }
        Ending::UpgradeNotProbed => {
            let socket = kept.poll(server).attach();
            kept.sockets.push(socket);
        }
        Ending::UpgradeNotFinished => {
            let mut socket = kept.poll(server).attach();
            socket.send_text("2probe");
            socket.expect_text("3probe");
            kept.sockets.push(socket);
        }
        Ending::UpgradedThenGone => drop(kept.poll(server).upgraded()),
        Ending::NoNamespace => {
            let mut client = server.connect();
            client.open_websocket("/socket.io/");
            kept.sockets.push(client);
        }
        Ending::Refused => {
            let mut client = server.connect();
            client.open_websocket("/socket.io/");
            client.send_text("40/refused,");
            let answer = message(&mut client);
            assert!(answer.starts_with("44/refused,"), "{answer}");
        }
        Ending::ConnectHandlerPanics => {
            let mut client = server.connect();
            client.open_websocket("/socket.io/");
            client.send_text("40/panics,");
            kept.sockets.push(client);
        }
        Ending::EventHandlerPanics => {
            kept.enter(server).send_text(r#"42["panic"]"#);
        }
        Ending::DisconnectedByHandler => kept.enter(server).send_text(r#"42["bye",true]"#),
        Ending::LeavesNamespace => kept.enter(server).send_text("41"),
        Ending::AckTimesOut => kept.enter(server).send_text(r#"42["ask",50]"#),
        Ending::GoneBeforeAck => {
            let client = kept.enter(server);
            client.send_text(r#"42["ask",60000]"#);
            let question = message(client);
            assert!(question.ends_with(r#"["question"]"#), "{question}");
            kept.sockets.pop();
        }
        Ending::RoomAckOfAbsentees => {
            kept.enter(server).send_text(r#"42["ask_room","room"]"#);
        }
        Ending::AttachmentsMissing => {
            let client = kept.enter(server);
            client.send_text(r#"451-["x",{"_placeholder":true,"num":0}]"#);
        }
        Ending::BrokenPacket => kept.enter(server).send_text("42[nonsense"),
        Ending::TooSlow => kept.enter(server).send_text(r#"42["flood"]"#),
    }
}

/// Plays an ending at least `cycles` times.
fn play(server: &TestServer, ending: Ending, cycles: usize) {
    for _ in 0..cycles.div_ceil(ending.batch()) {
        let mut kept = Kept::default();
        for _ in 0..ending.batch() {
            live(server, ending, &mut kept);
        }
        // The clients stay until the server itself has let go of every one of them.
        settle(server, &format!("{ending:?}"));
    }
}

/// Plays all endings at the same time, each a few times.
fn play_mixed(server: &TestServer) {
    let mut kept = Kept::default();
    for ending in ENDINGS.iter().cycle().take(4 * ENDINGS.len()) {
        live(server, *ending, &mut kept);
    }
    settle(server, "a mixture");
}

/// Waits until every gauge is that of a server with one client, who asks.
fn settle(server: &TestServer, what: &str) {
    let start = Instant::now();
    loop {
        let metrics = metrics(server);
        let left: Vec<_> = metrics
            .lines()
            .filter(|row| NOTHING.iter().any(|gauge| row.starts_with(gauge)))
            .filter(|row| !ASKING.contains(row) && !row.ends_with(" 0"))
            .collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < 3 * DEADLINE, "{what} leaves {left:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The metrics, asked for by a client of its own.
fn metrics(server: &TestServer) -> String {
    let mut client = server.connect();
    client.open_socket();
    client.send_text(r#"420["metrics"]"#);
    let text = message(&mut client);
    // Or it would be waited for, to be recovered.
    client.send_text("41");
    text.replace("\\n", "\n").replace("\\\"", "\"")
}

/// Gauges of what belongs to clients.
const NOTHING: [&str; 8] = [
    "roomcast_connections ",
    "roomcast_sessions{",
    "roomcast_sockets ",
    "roomcast_rooms ",
    "roomcast_acks_pending ",
    "roomcast_handlers_detached ",
    "roomcast_recovery_sessions ",
    "roomcast_recovery_bytes ",
];
/// What the one who asks adds.
const ASKING: [&str; 3] = [
    "roomcast_connections 1",
    "roomcast_sessions{transport=\"websocket\"} 1",
    "roomcast_sockets 1",
];

fn cycles() -> usize {
    match env::var("LEAK_CYCLES") {
        Ok(cycles) => cycles.parse().unwrap(),
        Err(_) => 10_000 / (2 * ENDINGS.len()),
    }
}

/// Waits until there are so many files again, and memory is back within a tenth.
fn back(server: &TestServer, files: usize, memory: usize) {
    let start = Instant::now();
    loop {
        let (now, left) = (server.resident_bytes(), server.open_files());
        if now <= memory + memory / 10 && left <= files {
            return;
        }
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "{left} files open, {files} before; {now} bytes resident, {memory} before"
        );
        thread::sleep(Duration::from_millis(100));
    }
}

fn matrix(variables: &[(&str, &str)]) {
    // Panics are part of the matrix; a line for each is enough.
    let variables = [variables, &[("RUST_BACKTRACE", "0")]].concat();
    let mut server = TestServer::start_with("leaks", &variables);
    let files = server.open_files();
    // What the first clients make is there for all that follow.
    for _ in 0..3 {
        play_mixed(&server);
    }
    thread::sleep(Duration::from_secs(1)); // The allocator gives back what the warm-up freed.
    let memory = server.resident_bytes();
    for ending in ENDINGS {
        play(&server, ending, cycles());
    }
    for _ in 0..cycles().div_ceil(100) {
        play_mixed(&server);
    }
    back(&server, files, memory);
    assert!(server.is_running(), "{}", server.errors());
}

#[test]
fn nothing_is_left_of_clients_however_they_end() {
    matrix(&[]);
}

#[test]
fn nothing_is_left_of_sessions_that_nobody_recovers() {
    matrix(&[("RECOVERY", "1")]);
}
