//! Traces of clients that come back, and of HTTP calls with a key.

use serde_json::{Value, json};

use crate::guard::{KEY, Server, token};
use crate::server::{GUESTS_AS_USERS, LOBBY};
use crate::support::{Frame, RawClient, Response};
use crate::trace::Trace;

const FIRST: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SECOND: &str = "5bf92f3577b34da6a3ce929d0e0e4737";

fn text(client: &mut RawClient) -> String {
    match client.message() {
        Frame::Text(text) => text,
        other @ (Frame::Binary(_) | Frame::Close(_) | Frame::Ping(_) | Frame::Pong(_)) => {
            panic!("{other:?}")
        }
    }
}

/// Enters with this payload, and returns the answer and the arguments of the event `session`.
fn enter(client: &mut RawClient, auth: &Value) -> (Value, Value) {
    client.send_text(format!("40{auth}"));
    let answer = text(client);
    let answer = serde_json::from_str(answer.strip_prefix("40").expect(&answer)).unwrap();
    let event = text(client);
    let event = serde_json::from_str(event.strip_prefix("42").expect(&event)).unwrap();
    (answer, event)
}

/// Sends an event, and expects its steps in a trace of this socket.
fn assert_traced(client: &mut RawClient, trace: &mut Trace, socket: &Value, id: u64) {
    client.send_text(format!("42{id}[\"conversations\",{{}}]"));
    for step in [
        "received",
        "handler_started",
        "handler_ended",
        "acknowledged",
    ] {
        trace.until(step, |line| {
            let is_event = line["event"] == "conversations" || step == "acknowledged";
            let has_id = line["ackId"].is_null() || line["ackId"] == id;
            line["socket"] == *socket && is_event && has_id
        });
    }
}

#[test]
fn socket_that_recovers_or_enters_again_stays_in_the_trace() {
    let server = Server::start(&[
        KEY,
        GUESTS_AS_USERS,
        ("ROOMCAST_RECOVERY__ENABLED", "true"),
        ("ROOMCAST_LIMITS__CONNECTS", "0"),
    ]);
    let auth = json!({"name": "ann", "guestKey": "the key of ann and more"});
    let mut client = RawClient::connect(server.binary.address());
    client.open_websocket("/socket.io/");
    let (answer, session) = enter(&mut client, &auth);
    let (socket, user) = (answer["sid"].clone(), session[1]["userId"].clone());
    let mut by_user = Trace::start(&server.binary, &["--user", user.as_str().unwrap()]);
    let mut by_socket = Trace::start(&server.binary, &["--socket", socket.as_str().unwrap()]);
    for trace in [&mut by_user, &mut by_socket] {
        trace.until("found", |line| line["socket"] == socket);
        assert_traced(&mut client, trace, &socket, 1);
    }
    // The connection is lost, and the client continues its session.
    drop(client);
    for trace in [&mut by_user, &mut by_socket] {
        trace.until("closed", |_| true);
    }
    let mut client = RawClient::connect(server.binary.address());
    client.open_websocket("/socket.io/");
    let mut again = auth.clone();
    again["pid"] = answer["pid"].clone();
    again["offset"] = session.as_array().unwrap().last().unwrap().clone();
    client.send_text(format!("40{again}"));
    let recovered = text(&mut client);
    assert!(recovered.contains(socket.as_str().unwrap()), "{recovered}");
    for trace in [&mut by_user, &mut by_socket] {
        trace.until("connected", |line| {
            line["recovered"] == true && line["socket"] == socket
        });
        assert_traced(&mut client, trace, &socket, 2);
    }
    // It leaves on the same connection, and enters as another socket of the user.
    client.send_text("41");
    for trace in [&mut by_user, &mut by_socket] {
        trace.until("disconnected", |line| {
            line["reason"] == "client namespace disconnect"
        });
    }
    client.send_text(format!("40{auth}"));
    let answer = loop {
        if let Some(answer) = text(&mut client).strip_prefix("40") {
            break serde_json::from_str::<Value>(answer).unwrap();
        }
    };
    let rejoined = answer["sid"].clone();
    assert_ne!(rejoined, socket);
    by_user.until("connected", |line| line["socket"] == rejoined);
    assert_traced(&mut client, &mut by_user, &rejoined, 3);
}

/// Sends a message to the Lobby with an `Idempotency-Key` as part of this trace.
fn send(server: &Server, key: &str, trace: &str) -> Response {
    let body = json!({"content": "hello"}).to_string();
    let mut client = RawClient::connect(server.binary.address());
    client.send(format!(
        "POST /api/v1/conversations/{LOBBY}/messages HTTP/1.1\r\nHost: localhost\r\n\
         Authorization: Bearer {}\r\nIdempotency-Key: {key}\r\n\
         traceparent: 00-{trace}-00f067aa0ba902b7-01\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        token("admin"),
        body.len()
    ));
    client.response()
}

#[test]
fn repeated_call_with_a_key_is_traced_as_one_act_of_the_first() {
    let server = Server::start(&[KEY, ("ROOMCAST_LOG__LEVEL", "info,roomcast_server=debug")]);
    let mut trace = Trace::start(&server.binary, &["--conversation", LOBBY]);
    let first = send(&server, "a-key", FIRST);
    assert_eq!(first.status, 201, "{first:?}");
    let again = send(&server, "a-key", SECOND);
    assert_eq!((again.status, &again.body), (201, &first.body));
    let is_step = ["step of a traced event", "step=\"stored\"", FIRST];
    server.binary.expect_log(&is_step);
    let other = send(&server, "another-key", SECOND);
    assert_eq!(other.status, 201, "{other:?}");
    let is_step = ["step of a traced event", "step=\"stored\"", SECOND];
    server.binary.expect_log(&is_step);
    let stored: Value = serde_json::from_str(&other.body).unwrap();
    trace.until("stored", |line| line["seq"] == stored["message"]["seq"]);
    let steps = trace.seen.iter().filter(|line| line["step"] == "stored");
    assert_eq!(steps.count(), 2, "{:#?}", trace.seen);
    // The repeated call did nothing, so its trace is only that of the third call.
    let log = server.binary.log();
    let of = |trace: &str| {
        let lines = log.lines().filter(|line| line.contains(trace));
        lines
            .filter(|line| line.contains("step=\"stored\""))
            .count()
    };
    assert_eq!((of(FIRST), of(SECOND)), (1, 1), "{log}");
}
