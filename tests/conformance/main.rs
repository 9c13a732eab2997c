//! The cases of the two official protocol test-suites, by their names, against the `conformance`
//! example. `engine` is the Engine.IO suite (revision 4), `socket` the Socket.IO suite (revision 5),
//! whose first half repeats Engine.IO on the Socket.IO path.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod handshake;
mod socket;

use std::{
    thread,
    time::{Duration, Instant},
};

use support::{DEADLINE, Polling, TestServer};

/// The server that both suites expect.
fn server() -> TestServer {
    TestServer::start("conformance")
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
