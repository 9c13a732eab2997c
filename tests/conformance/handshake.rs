//! Handshake, heartbeat and close cases, which both suites share; each instantiates them for its
//! path.

use super::{
    assert_unknown, hurried, patient, server,
    support::{Frame, Polling, RawClient, http::sid_of},
    until_unknown,
};

/// Asserts that an open packet is as expected, except for its random id.
fn assert_open(open: &str, upgrades: &str) {
    let sid = sid_of(open);
    assert_eq!(sid.len(), 20);
    let expected = format!(
        r#"0{{"sid":"{sid}","upgrades":{upgrades},"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}}"#
    );
    assert_eq!(open, expected);
}

/// Asserts that this WebSocket handshake opens no session: it is refused, or closed right after the
/// 101.
pub(crate) fn assert_refused(client: &mut RawClient, target: &str) {
    let accepted = client.upgrade(target).status == 101;
    if !client.is_at_end() {
        // A close frame. The official server may also send an HTTP response after the 101.
        let first = client.take(1)[0];
        assert!(accepted && (first == 0x88 || first == b'H'), "{first:#04x}");
    }
}

pub(crate) fn polling_opens(path: &str) {
    let answer = hurried().get(&format!("{path}?EIO=4&transport=polling"));
    assert_eq!(answer.status, 200);
    assert_open(&answer.body, r#"["websocket"]"#);
}

pub(crate) fn polling_invalid_eio(path: &str) {
    let server = server();
    for query in ["transport=polling", "EIO=abc&transport=polling"] {
        let answer = server.get(&format!("{path}?{query}"));
        assert_eq!(
            answer.parts(),
            (
                400,
                r#"{"code":5,"message":"Unsupported protocol version"}"#
            )
        );
    }
}

pub(crate) fn polling_invalid_transport(path: &str) {
    let server = server();
    for query in ["EIO=4", "EIO=4&transport=abc"] {
        let answer = server.get(&format!("{path}?{query}"));
        assert_eq!(
            answer.parts(),
            (400, r#"{"code":0,"message":"Transport unknown"}"#)
        );
    }
}

pub(crate) fn polling_invalid_method(path: &str) {
    let server = server();
    for method in ["POST", "PUT"] {
        let target = format!("{path}?EIO=4&transport=polling");
        let answer = server.connect().request(method, &target, "");
        assert_eq!(
            answer.parts(),
            (400, r#"{"code":2,"message":"Bad handshake method"}"#)
        );
    }
}

pub(crate) fn websocket_opens(path: &str) {
    let server = hurried();
    let open = server.connect().open_websocket(path);
    assert_open(&open, "[]");
}

pub(crate) fn websocket_invalid_eio(path: &str) {
    let server = server();
    assert_refused(
        &mut server.connect(),
        &format!("{path}?transport=websocket"),
    );
    assert_refused(
        &mut server.connect(),
        &format!("{path}?EIO=abc&transport=websocket"),
    );
}

pub(crate) fn websocket_invalid_transport(path: &str) {
    let server = server();
    assert_refused(&mut server.connect(), &format!("{path}?EIO=4"));
    assert_refused(
        &mut server.connect(),
        &format!("{path}?EIO=4&transport=abc"),
    );
}

pub(crate) fn polling_heartbeat(path: &str) {
    let server = patient();
    let session = Polling::open(server.address(), path);
    for _ in 0..3 {
        assert_eq!(session.poll().parts(), (200, "2"));
        assert_eq!(session.post("3").parts(), (200, "ok"));
    }
}

pub(crate) fn polling_ping_timeout(path: &str) {
    let server = hurried();
    let session = Polling::open(server.address(), path);
    until_unknown(&server, &session);
}

pub(crate) fn websocket_heartbeat(path: &str) {
    let server = patient();
    let mut client = server.connect();
    client.open_websocket(path);
    for _ in 0..3 {
        assert_eq!(client.frame(), Frame::Text("2".to_owned()));
        client.send_text("3");
    }
}

pub(crate) fn websocket_ping_timeout(path: &str) {
    let server = hurried();
    let mut client = server.connect();
    client.open_websocket(path);
    assert_eq!(client.frame(), Frame::Text("2".to_owned()));
    client.expect_unanswered_close();
}

pub(crate) fn polling_close(path: &str) {
    let server = server();
    let session = Polling::open(server.address(), path);
    let mut poll = session.start_poll();
    server.until_polls_wait(1);
    assert_eq!(session.post("1").parts(), (200, "ok"));
    assert_eq!(poll.response().parts(), (200, "6"));
    assert_unknown(&session);
}

pub(crate) fn websocket_close(path: &str) {
    let server = server();
    let mut client = server.connect();
    client.open_websocket(path);
    client.send_text("1");
    client.expect_close();
}
