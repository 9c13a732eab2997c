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

use std::{thread, time::Duration};

use support::{Polling, TestServer};

/// The server that both suites expect.
fn server() -> TestServer {
    TestServer::start("conformance")
}

/// Lets `pingInterval` and `pingTimeout` of that server pass without a sign of life.
fn outlive_the_ping_timeout() {
    thread::sleep(Duration::from_millis(300 + 200 + 250));
}

/// `session` is gone: its sid is unknown.
fn assert_unknown(session: &Polling) {
    let answer = session.poll();
    assert_eq!(
        answer.parts(),
        (400, r#"{"code":1,"message":"Session ID unknown"}"#)
    );
}
