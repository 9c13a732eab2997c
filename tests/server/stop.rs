//! SIGTERM with sessions in every state: each is notified, and the process ends by itself and soon.

use rustix::process::Signal;

use crate::support::{Frame, Polling, RawClient, ServerProcess, websocket::masked};

/// The server must not wait for its grace or any other deadline: each is so long that the test
/// would time out.
const LONG_TIMEOUTS: [(&str, &str); 2] = [
    ("GRACE", "3600"),
    (
        "CONFIG",
        r#"{"upgrade_timeout":"1h","ping_interval":"1h","header_timeout":"1h","write_timeout":"1h"}"#,
    ),
];

/// Starts a server, lets `prepare` bring a session into some state, and stops the server. Then
/// `finish` continues with the session.
fn stop_with<T>(prepare: impl FnOnce(&ServerProcess) -> T, finish: impl FnOnce(T)) {
    let mut server = ServerProcess::example_with("hostile", &LONG_TIMEOUTS);
    let session = prepare(&server);
    server.signal(Signal::TERM);
    finish(session);
    assert_eq!(server.exit_code(), Some(0));
}

/// Connects a client in the middle of its upgrade, and another that notices when the server begins
/// to stop.
fn probed(server: &ServerProcess) -> (RawClient, RawClient) {
    let mut candidate = joined(server).attach();
    candidate.send_text("2probe");
    candidate.expect_text("3probe");
    let mut witness = server.connect();
    witness.open_socket();
    (candidate, witness)
}

/// Opens a polling session that has joined `/`.
fn joined(server: &ServerProcess) -> Polling {
    let session = Polling::open(server.address(), "/socket.io/");
    assert_eq!(session.post("40").status, 200);
    assert!(session.poll().body.starts_with("40{"));
    session
}

#[test]
fn a_websocket_gets_a_close_frame() {
    let prepare = |server: &ServerProcess| {
        let mut client = server.connect();
        client.open_socket();
        client
    };
    stop_with(prepare, |mut client| {
        assert!(matches!(client.message(), Frame::Close(_)));
        client.send(masked(0x88, [3, 0xe8]));
        assert!(client.is_at_end());
    });
}

#[test]
fn a_parked_poll_is_answered() {
    let prepare = |server: &ServerProcess| {
        let poll = joined(server).start_poll();
        server.until_polls_wait(1);
        poll
    };
    stop_with(prepare, |mut poll| {
        assert_eq!(poll.response().parts(), (200, "1"));
    });
}

#[test]
fn stop_during_an_upgrade_is_reported_on_the_websocket() {
    stop_with(probed, |(mut candidate, mut witness)| {
        witness.expect_close();
        candidate.send_text("5");
        candidate.expect_close();
    });
}

#[test]
fn stop_before_the_probe_is_reported_on_the_poll() {
    let prepare = |server: &ServerProcess| {
        let session = joined(server);
        let candidate = session.attach();
        let poll = session.start_poll();
        server.until_polls_wait(1);
        (candidate, poll)
    };
    stop_with(prepare, |(mut candidate, mut poll)| {
        candidate.expect_close();
        assert_eq!(poll.response().parts(), (200, "1"));
    });
}

#[test]
fn connections_without_a_request_do_not_delay_stop() {
    let prepare = |server: &ServerProcess| {
        let mut idle = server.connect();
        assert_eq!(idle.get("/nothing").status, 404);
        (server.connect(), idle)
    };
    stop_with(prepare, |(mut silent, mut idle)| {
        assert!(silent.is_at_end());
        assert!(idle.is_at_end());
    });
}

#[test]
fn abandoned_upgrade_does_not_delay_stop() {
    // Like a stock client that its namespace refuses during the upgrade.
    stop_with(probed, |(candidate, mut witness)| {
        witness.expect_close();
        drop(candidate);
    });
}

#[test]
fn stalled_upgrade_does_not_delay_stop() {
    stop_with(probed, |(mut candidate, mut witness)| {
        witness.expect_close();
        candidate.expect_unanswered_close();
    });
}

#[test]
fn closed_session_without_a_poll_does_not_delay_stop() {
    let config = r#"{"connect_timeout":"200ms","ping_interval":"1h"}"#;
    let mut server =
        ServerProcess::example_with("hostile", &[("GRACE", "3600"), ("CONFIG", config)]);
    let session = Polling::open(server.address(), "/socket.io/");
    // Closed by the server, which waits for a poll to report it.
    server.until(
        "roomcast_sessions_closed_total{reason=\"forced_close\"}",
        |sessions| sessions == 1,
    );
    server.signal(Signal::TERM);
    assert_eq!(server.exit_code(), Some(0));
    drop(session);
}
