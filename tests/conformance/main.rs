//! The cases of the two official protocol test-suites, by their names, against the `conformance`
//! example. `engine` is the Engine.IO suite (revision 4), `socket` the Socket.IO suite (revision 5),
//! whose first half repeats Engine.IO on the Socket.IO path.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/port.rs"]
mod port;
#[path = "../support/mod.rs"]
mod support;

mod contracts;
mod engine;
mod handshake;
mod socket;

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{DEADLINE, Polling, TestServer};

/// The server that both suites expect. It waits 200 ms for a pong and a second for a namespace: too little for a client
/// that is to stay, on a machine that stands still.
fn hurried() -> TestServer {
    TestServer::start("conformance")
}

/// The same, which waits for clients.
fn patient() -> TestServer {
    let times = [
        ("PING_TIMEOUT_MS", "20000"),
        ("CONNECT_TIMEOUT_MS", "45000"),
    ];
    TestServer::start_with("conformance", &times)
}

/// The same, which does not send pings either while a test runs.
fn server() -> TestServer {
    let times = [
        ("PING_INTERVAL_MS", "3600000"),
        ("CONNECT_TIMEOUT_MS", "45000"),
    ];
    TestServer::start_with("conformance", &times)
}

/// Waits until `session` is gone. It is asked for by a request that its server refuses in any case, for its transport, and
/// that is no sign of life.
fn until_unknown(server: &TestServer, session: &Polling) {
    let start = Instant::now();
    while server
        .get(&session.upgrade)
        .body
        .starts_with(r#"{"code":3"#)
    {
        assert!(start.elapsed() < DEADLINE, "the session lives on");
        thread::sleep(Duration::from_millis(5)); // The pace of asking.
    }
    assert_unknown(session);
}

/// `session` is gone: its sid is unknown.
fn assert_unknown(session: &Polling) {
    let answer = session.poll();
    assert_eq!(
        answer.parts(),
        (400, r#"{"code":1,"message":"Session ID unknown"}"#)
    );
}
