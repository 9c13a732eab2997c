//! Floods of each kind of refusal, and the log lines that they cause.

#[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
mod brokers;
mod refusals;

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::guard::until;
use crate::server::{LOBBY, Server};
use crate::support::{Polling, RawClient};

/// Number of times that each refusal is caused.
const FLOOD: usize = 400;
/// A conversation that does not exist.
const UNKNOWN_CONVERSATION: &str = "00000000-0000-4000-8000-0000000000ff";

/// Events whose refusal is logged: a part of the line, the event and its payload.
fn refused_events() -> Vec<(&'static str, &'static str, Value)> {
    let message = json!({"conversationId": UNKNOWN_CONVERSATION, "content": "hi"});
    let history = json!({"conversationId": UNKNOWN_CONVERSATION});
    let rename = json!({"conversationId": LOBBY, "title": "mine"});
    let executes = json!({"tradeId": "t", "symbol": "X", "side": "buy", "quantity": 1});
    vec![
        (
            "denied: the conversation does not exist",
            "message",
            message,
        ),
        (
            "denied: the conversation does not exist",
            "message_history",
            history,
        ),
        ("denied: ", "update_conversation", rename),
        ("denied: ", "execute_trade", executes),
    ]
}

/// Returns the number of lines with this part.
fn lines_of(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

fn lines(server: &Server, part: &str) -> usize {
    lines_of(&server.binary.log(), part)
}

/// Checks that there are lines, but at most the burst and one per second.
fn assert_few(server: &Server, part: &str, burst: usize, start: Instant) {
    until(|| lines(server, part) > 0);
    let most = burst + start.elapsed().as_secs() as usize + 2;
    let written = lines(server, part);
    assert!(written <= most, "{part}: {written} lines, {most} at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_refused_events_write_few_lines() {
    let start = Instant::now();
    let server = Server::start();
    let mut guest: Client = server.guest("Ann").await;
    for (part, event, payload) in refused_events() {
        for _ in 0..FLOOD {
            let answer = guest.ask(event, payload.clone()).await;
            assert_ne!(answer["success"], true, "{event}: {answer}");
        }
        // Several code paths write lines that start like this.
        assert!(lines(&server, part) <= 4 * 20 + start.elapsed().as_secs() as usize * 4);
    }
    assert_few(
        &server,
        "denied: the conversation does not exist",
        20,
        start,
    );
}

#[test]
fn floods_of_refused_requests_and_connections_write_few_lines() {
    let start = Instant::now();
    let server = crate::guard::Server::start(&crate::server::UNLIMITED);
    let address = server.binary.address();
    let targets = ["/socket.io/?EIO=4&transport=polling", "/api/v1/rooms"];
    for target in targets {
        for _ in 0..FLOOD {
            let mut client = RawClient::connect(address);
            client.send(format!(
                "GET {target} HTTP/1.1\r\nHost: chat.example\r\n\
                 Origin: https://foreign.example\r\n\r\n"
            ));
            assert!(matches!(client.response().status, 401 | 403));
        }
    }
    // The admin namespace refuses guests.
    let mut guest = crate::credentials::open(&server, "127.0.0.1", "");
    for _ in 0..FLOOD {
        guest.send_text("40/admin,");
        let _ = guest.message();
    }
    let pause = Duration::from_millis(300);
    std::thread::sleep(pause); // Lines that are on their way arrive.
    let seconds = start.elapsed().as_secs() as usize + 2;
    let log = server.binary.log();
    for (part, burst) in [
        ("request refused", 100),
        ("api call refused", 100),
        ("denied: no role of the user grants it", 20),
        (": refused ", 100),
    ] {
        let written = log.lines().filter(|line| line.contains(part)).count();
        assert!(written > 0, "no line has {part}");
        let most = burst + 4 * seconds;
        assert!(written <= most, "{part}: {written} lines, {most} at most");
    }
}

/// Number of clients that are disconnected.
const CLIENTS: usize = 100;

/// Connects a guest to `/`, which then stops polling.
fn polling_guest(server: &crate::guard::Server) -> Polling {
    let session = Polling::open(server.binary.address(), "/socket.io/");
    assert_eq!(session.post("40").status, 200);
    while !session.poll().body.contains("40{\"sid\"") {}
    session
}

/// Checks that the lines about disconnected clients are at most a burst and one per second.
fn assert_disconnected(server: &crate::guard::Server, part: &str, metric: &str, start: Instant) {
    until(|| server.metric(metric) == CLIENTS as i64);
    until(|| lines_of(&server.binary.log(), part) > 0);
    let most = 20 + start.elapsed().as_secs() as usize + 2;
    let written = lines_of(&server.binary.log(), part);
    assert!(written <= most, "{part}: {written} lines, {most} at most");
}

#[test]
fn floods_of_slow_clients_write_few_lines() {
    let start = Instant::now();
    let own = [
        ("ROOMCAST_ENGINE__OUTBOX_BYTES", "20000"),
        ("ROOMCAST_RECOVERY__MAX_BYTES", "20000"),
    ];
    let server = crate::guard::Server::start(&[crate::server::UNLIMITED.as_slice(), &own].concat());
    // The answers wait for a poll that is never sent, and exceed the budget.
    let requests: Vec<_> = (1..100)
        .map(|n| format!("42{n}[\"message_history\",null]"))
        .collect();
    for _ in 0..CLIENTS {
        let session = polling_guest(&server);
        // The session may end before this is answered.
        session.post(requests.join("\x1e"));
    }
    let metric = "roomcast_slow_clients_disconnected_total{budget=\"connection\"}";
    assert_disconnected(
        &server,
        "session closed: the client receives too slowly",
        metric,
        start,
    );
}

#[test]
fn floods_of_clients_that_send_too_fast_write_few_lines() {
    let start = Instant::now();
    let own = [
        ("ROOMCAST_ENGINE__PACKETS_PER_SECOND", "5"),
        ("ROOMCAST_ENGINE__THROTTLE_TIMEOUT", "1s"),
    ];
    let server = crate::guard::Server::start(&[crate::server::UNLIMITED.as_slice(), &own].concat());
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| crate::credentials::open(&server, "127.0.0.1", ""))
        .collect();
    for client in &mut clients {
        // Sending may fail after the end of the connection.
        let _ = client.try_send(crate::support::websocket::masked(0x81, "3").repeat(200));
    }
    let metric = "roomcast_violations_total{limit=\"flood\"}";
    assert_disconnected(
        &server,
        "session closed: the client sends too fast",
        metric,
        start,
    );
}
