//! The cases of the two official protocol test suites, under their names, against the `conformance`
//! example.
//!
//! `engine` is the Engine.IO suite (revision 4), `socket` the Socket.IO suite (revision 5). The
//! first half of `socket` repeats Engine.IO on the Socket.IO path.

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

use support::{DEADLINE, Polling, ServerProcess};

/// Starts the server that both suites expect. It waits 200 ms for a pong and a second for a
/// namespace, too little for lasting clients on a slow machine.
fn hurried() -> ServerProcess {
    ServerProcess::example("conformance")
}

/// Starts the same server with long timeouts.
fn patient() -> ServerProcess {
    let times = [
        ("PING_TIMEOUT_MS", "20000"),
        ("CONNECT_TIMEOUT_MS", "45000"),
    ];
    ServerProcess::example_with("conformance", &times)
}

/// Starts the same server with long timeouts and without pings.
fn server() -> ServerProcess {
    let times = [
        ("PING_INTERVAL_MS", "3600000"),
        ("CONNECT_TIMEOUT_MS", "45000"),
    ];
    ServerProcess::example_with("conformance", &times)
}

/// Waits until the server has closed `session`. It polls with a request that is refused for its
/// transport and so does not keep the session alive.
fn until_unknown(server: &ServerProcess, session: &Polling) {
    let start = Instant::now();
    while server
        .get(&session.upgrade)
        .body
        .starts_with(r#"{"code":3"#)
    {
        assert!(start.elapsed() < DEADLINE, "the session lives on");
        thread::sleep(Duration::from_millis(5)); // Poll interval.
    }
    assert_unknown(session);
}

/// Asserts that the sid of `session` is unknown.
fn assert_unknown(session: &Polling) {
    let answer = session.poll();
    assert_eq!(
        answer.parts(),
        (400, r#"{"code":1,"message":"Session ID unknown"}"#)
    );
}
