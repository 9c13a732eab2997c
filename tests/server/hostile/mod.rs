//! Every known attack on servers of this kind, one test each, named by its row. `a` is HTTP and
//! polling, `b` WebSocket handshake and upgrade, `c` Socket.IO packets, `d` WebSocket frames.
//!
//! The same invariants hold after each row. The process runs, nothing panicked, other connections
//! were served all the time, and every gauge is back at its value.
//!
//! D12 is missing, because the server does not offer compression of WebSocket messages.

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
    DEADLINE, Frame, POLLS_WAITING, POSTS_WAITING, Polling, RawClient, Response, ServerProcess,
    http::metric,
};

/// Number of connections that use the server while a row attacks it.
const BYSTANDERS: usize = 8;
/// Number of connections in rows that test large numbers.
const MANY: usize = 5000;
/// Tolerance for memory of bystanders and the allocator, in bytes.
const SLACK: usize = 16 << 20;

/// Gauges with only the bystanders and the client that reads the metrics.
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
fn attack(act: impl FnOnce(&ServerProcess)) {
    attack_with("{}", act);
}

/// Runs an attack against a server with these options (JSON), and checks the invariants.
fn attack_with(config: &str, act: impl FnOnce(&ServerProcess)) {
    attack_on(&[("CONFIG", config)], true, act);
}

/// Runs an attack against a server with a guard of these limits (JSON). Checks the invariants,
/// except those that need further connections.
fn attack_limited(limits: &str, act: impl FnOnce(&ServerProcess)) {
    attack_on(&[("LIMITS", limits)], false, act);
}

fn attack_on(variables: &[(&str, &str)], settles: bool, act: impl FnOnce(&ServerProcess)) {
    let mut server = ServerProcess::example_with("hostile", variables);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..BYSTANDERS {
            let mut client = server.connect();
            client.open_socket();
            scope.spawn(|| stand_by(client, &over));
        }
        // The bystanders stop however the attack ends; otherwise the scope would wait for them.
        let _ending = Ending(&over);
        act(&server);
        if settles {
            settle(&server);
        }
    });
    assert!(server.is_running(), "the process has ended");
    let errors = server.log();
    assert!(!errors.contains("panicked"), "{errors}");
}

struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Requests echoes until `over`.
fn stand_by(mut client: RawClient, over: &AtomicBool) {
    let mut round = 0;
    while !over.load(Ordering::Relaxed) {
        client.send_text(format!(r#"42{round}["echo","bystander"]"#));
        client.expect_text(&format!(r#"43{round}["bystander"]"#));
        round += 1;
        thread::sleep(Duration::from_millis(20)); // Pace of requests.
    }
}

/// Waits until every gauge shows that nothing of the attack is left.
fn settle(server: &ServerProcess) {
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
        thread::sleep(Duration::from_millis(20)); // Poll interval.
    }
}

/// Returns the metrics as text, read on a new connection.
fn metrics(server: &ServerProcess) -> String {
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

/// Checks that resident memory grew by at most `limit` since `before`.
fn assert_growth(server: &ServerProcess, before: usize, limit: usize) {
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(
        growth <= limit + SLACK,
        "{growth} bytes more than before, {limit} allowed"
    );
}

/// Waits until this test may open many connections, and raises the limit of open files, which
/// servers started afterwards inherit.
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

/// Opens a polling session at `/socket.io/`.
fn polling(server: &ServerProcess) -> Polling {
    Polling::open(server.address(), "/socket.io/")
}

/// Opens a polling session that has joined `/`.
fn joined(server: &ServerProcess) -> Polling {
    let session = polling(server);
    assert_eq!(session.post("40").parts(), (200, "ok"));
    let answer = session.poll();
    assert!(answer.body.starts_with("40{\"sid\":\""), "{answer:?}");
    session
}

/// Opens a WebSocket session that has joined `/`.
fn socket(server: &ServerProcess) -> RawClient {
    let mut client = server.connect();
    client.open_socket();
    client
}

/// Opens a WebSocket session that has joined no namespace.
fn opened(server: &ServerProcess) -> RawClient {
    let mut client = server.connect();
    client.open_websocket("/socket.io/");
    client
}

/// Asserts that the session works: an event is answered.
fn assert_alive(client: &mut RawClient) {
    client.send_text(r#"4277["echo","alive"]"#);
    client.expect_text(r#"4377["alive"]"#);
}

/// Asserts that the polling session works: the next poll answers an event.
fn assert_polling_alive(session: &Polling) {
    assert_eq!(session.post(r#"4277["echo","alive"]"#).parts(), (200, "ok"));
    assert_eq!(session.poll().parts(), (200, r#"4377["alive"]"#));
}

/// Asserts that the id of the session is unknown.
fn assert_gone(session: &Polling) {
    assert_unknown(&session.poll());
}

fn assert_unknown(answer: &Response) {
    let body = r#"{"code":1,"message":"Session ID unknown"}"#;
    assert_eq!(answer.parts(), (400, body));
}

/// Asserts that the server closes the session, possibly with a last answer to a poll.
fn assert_closed(session: &Polling) {
    let answer = session.poll();
    if answer.status == 400 {
        return assert_unknown(&answer);
    }
    assert_eq!(answer.parts(), (200, "1"));
    assert_gone(session);
}
