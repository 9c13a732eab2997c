//! Every known attack on servers of this kind, one test each, named by its row: `a` HTTP and
//! polling, `b` WebSocket handshake and upgrade, `c` Socket.IO packets, `d` WebSocket frames.
//!
//! Whatever a row sends, the same invariants hold afterwards: the process runs, nothing panicked,
//! other connections were served all the time, and every gauge is back where it was.
//!
//! D12 is not here, because the server does not offer compression of WebSocket messages.

mod a;
mod b;
mod c;
mod d;
mod quotas;
mod storms;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Resource, getrlimit, setrlimit};

use crate::support::{
    DEADLINE, Frame, POLLS_WAITING, POSTS_WAITING, Polling, RawClient, Response, TestServer,
    http::metric,
};

/// Connections that use the server while a row attacks it.
const BYSTANDERS: usize = 8;
/// Connections of rows whose point is their number.
const MANY: usize = 5000;
/// Memory that may come and go whatever a row does: buffers of the bystanders, of the allocator.
const SLACK: usize = 16 << 20;

/// Gauges with nobody there but the bystanders and the one who asks.
const QUIET: [(&str, usize); 10] = [
    ("roomcast_connections", BYSTANDERS + 1),
    ("roomcast_sessions{transport=\"polling\"}", 0),
    ("roomcast_sessions{transport=\"websocket\"}", BYSTANDERS + 1),
    ("roomcast_sockets", BYSTANDERS + 1),
    ("roomcast_rooms", 0),
    (POLLS_WAITING, 0),
    (POSTS_WAITING, 0),
    ("roomcast_outbox_bytes", 0),
    ("roomcast_acks_pending", 0),
    ("roomcast_handlers_detached", 0),
];

/// Runs an attack against a server with default options.
fn attack(act: impl FnOnce(&TestServer)) {
    attack_with("{}", act);
}

/// Runs an attack against a server with these options (JSON), and checks the invariants.
fn attack_with(config: &str, act: impl FnOnce(&TestServer)) {
    attack_on(&[("CONFIG", config)], true, act);
}

/// Runs an attack against a server with a guard of these limits (JSON), and checks the invariants
/// but those for which further connections would have to be let in.
fn attack_limited(limits: &str, act: impl FnOnce(&TestServer)) {
    attack_on(&[("LIMITS", limits)], false, act);
}

fn attack_on(variables: &[(&str, &str)], settles: bool, act: impl FnOnce(&TestServer)) {
    let mut server = TestServer::start_with("hostile", variables);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..BYSTANDERS {
            let mut client = server.connect();
            client.open_socket();
            scope.spawn(|| stand_by(client, &over));
        }
        // However the attack ends, the bystanders must learn of it, or the scope would wait.
        let _ending = Ending(&over);
        act(&server);
        if settles {
            settle(&server);
        }
    });
    assert!(server.is_running(), "the process has ended");
    let errors = server.errors();
    assert!(!errors.contains("panicked"), "{errors}");
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks for an echo again and again until `over`.
fn stand_by(mut client: RawClient, over: &AtomicBool) {
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        client.send_text(format!(r#"42{round}["echo","bystander"]"#));
        client.expect_text(&format!(r#"43{round}["bystander"]"#));
        round += 1;
        thread::sleep(Duration::from_millis(20)); // Pace, not a wait for anything.
    }
}

/// Waits until every gauge says that nothing of the attack is left.
fn settle(server: &TestServer) {
    let start = Instant::now();
    loop {
        let metrics = metrics(server);
        let wrong: Vec<_> = QUIET
            .iter()
            .map(|&(name, expected)| (name, expected, metric(&metrics, name)))
            .filter(|&(_, expected, value)| value != expected as i64)
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(
            start.elapsed() < DEADLINE,
            "gauges (expected, found): {wrong:?}"
        );
        thread::sleep(Duration::from_millis(20)); // The pace of asking.
    }
}

/// The metrics as text, asked for by a connection of their own.
fn metrics(server: &TestServer) -> String {
    let mut client = server.connect();
    client.open_socket();
    client.send_text(r#"420["metrics"]"#);
    let Frame::Text(answer) = client.message() else {
        panic!("no metrics")
    };
    let text = answer
        .strip_prefix("430[\"")
        .and_then(|rest| rest.strip_suffix("\"]"));
    text.unwrap_or_else(|| panic!("{answer}"))
        .replace("\\n", "\n")
        .replace("\\\"", "\"")
}

/// Checks that resident memory did not grow by more than `limit` since `before`.
fn assert_growth(server: &TestServer, before: usize, limit: usize) {
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(
        growth <= limit + SLACK,
        "{growth} bytes more than before, {limit} allowed"
    );
}

/// Waits for its turn to open many connections, and raises the limit of open files for them; the
/// servers started afterwards inherit it.
fn crowd() -> MutexGuard<'static, ()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    assert!(
        limit.current.is_none_or(|files| files > MANY as u64 + 1000),
        "the system's limit of open files is too low: {limit:?}"
    );
    guard
}

/// A polling session at `/socket.io/`.
fn polling(server: &TestServer) -> Polling {
    Polling::open(server.address(), "/socket.io/")
}

/// A polling session that has joined `/`.
fn joined(server: &TestServer) -> Polling {
    let session = polling(server);
    assert_eq!(session.post("40").parts(), (200, "ok"));
    let answer = session.poll();
    assert!(answer.body.starts_with("40{\"sid\":\""), "{answer:?}");
    session
}

/// A WebSocket session that has joined `/`.
fn socket(server: &TestServer) -> RawClient {
    let mut client = server.connect();
    client.open_socket();
    client
}

/// A WebSocket session that has joined no namespace.
fn opened(server: &TestServer) -> RawClient {
    let mut client = server.connect();
    client.open_websocket("/socket.io/");
    client
}

/// The session works: an event is answered.
fn assert_alive(client: &mut RawClient) {
    client.send_text(r#"4277["echo","alive"]"#);
    client.expect_text(r#"4377["alive"]"#);
}

/// The polling session works: an event is answered by the next poll.
fn assert_polling_alive(session: &Polling) {
    assert_eq!(session.post(r#"4277["echo","alive"]"#).parts(), (200, "ok"));
    assert_eq!(session.poll().parts(), (200, r#"4377["alive"]"#));
}

/// The session is gone: its id is unknown.
fn assert_gone(session: &Polling) {
    assert_unknown(&session.poll());
}

fn assert_unknown(answer: &Response) {
    let body = r#"{"code":1,"message":"Session ID unknown"}"#;
    assert_eq!(answer.parts(), (400, body));
}

/// The session is closed by the server, which may tell the next poll so.
fn assert_closed(session: &Polling) {
    let answer = session.poll();
    if answer.status == 400 {
        return assert_unknown(&answer);
    }
    assert_eq!(answer.parts(), (200, "1"));
    assert_gone(session);
}
