use std::time::Duration;

use roomcast::client::{Auth, Change, Client, ClientError, ConnectError, Transports};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    suite::{Suite, change, changes, next, value, within},
};

#[tokio::test]
async fn should_have_an_accessible_socket_id_equal_to_the_server_side_socket_id_default_namespace()
{
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let id: String = within(socket.emit_with_ack("getId", ())).await.unwrap();
    assert_eq!(Some(id), socket.id());
}

#[tokio::test]
async fn should_have_an_accessible_socket_id_equal_to_the_server_side_socket_id_custom_namespace() {
    let suite = Suite::start().await;
    let socket = suite.connect("/foo").await;
    let id: String = within(socket.emit_with_ack("getId", ())).await.unwrap();
    assert_eq!(Some(id), socket.id());
}

#[tokio::test]
async fn clears_socket_id_upon_disconnection() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut ends = socket.stream("disconnect");
    within(socket.disconnect()).await;
    assert_eq!(value::<String>(&mut ends).await, "io client disconnect");
    assert_eq!(socket.id(), None);
}

#[tokio::test]
async fn does_not_fire_an_error_event_if_we_force_disconnect_in_opening_state() {
    let suite = Suite::start().await;
    let client = suite.client("").connect_timeout(Duration::from_secs(20));
    let socket = client.socket().unwrap();
    let mut changes = changes(socket.client());
    socket.open();
    within(socket.disconnect()).await;
    // The next connection starts after the first attempt has ended.
    within(socket.connect()).await.unwrap();
    assert_eq!(change(&mut changes, |_| true).await, Change::Open);
}

#[tokio::test]
async fn fire_a_connect_error_event_when_the_connection_cannot_be_established() {
    let suite = Suite::start().await;
    let socket = suite.client("").path("/none/").socket().unwrap();
    let mut errors = socket.stream("connect_error");
    let error = within(socket.connect()).await.unwrap_err();
    let reported: ConnectError = value(&mut errors).await;
    assert_eq!(reported.message, error.to_string());
}

#[tokio::test]
async fn fire_a_connect_error_event_on_open_timeout() {
    let suite = Suite::start().await;
    for transports in [Transports::Polling, Transports::WebSocket] {
        let client = suite.client("").transports(transports);
        let socket = client.connect_timeout(Duration::ZERO).socket().unwrap();
        let mut errors = socket.stream("connect_error");
        socket.open();
        let reported: ConnectError = value(&mut errors).await;
        assert_eq!(reported.message, "timeout");
    }
}

#[tokio::test]
async fn does_not_fire_a_connect_error_event_when_the_connection_is_already_established() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut events = socket.stream("connect_error");
    let mut connects = socket.stream("connect");
    suite.proxy.cut();
    next(&mut connects).await;
    let error = tokio::time::timeout(Duration::ZERO, events.next()).await;
    assert!(error.is_err(), "{error:?}");
}

#[tokio::test]
async fn should_change_socket_id_upon_reconnection() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut connects = socket.stream("connect");
    let mut ends = socket.stream("disconnect");
    let id = socket.id();
    suite.proxy.cut();
    next(&mut ends).await;
    next(&mut connects).await;
    assert!(socket.id().is_some());
    assert_ne!(socket.id(), id);
}

async fn handshake(suite: &Suite, path: &str, name: &str, value: &str) -> Value {
    let socket = suite.client(path).query(name, value).socket().unwrap();
    let mut handshakes = socket.stream("handshake");
    within(socket.connect()).await.unwrap();
    self::value(&mut handshakes).await
}

#[tokio::test]
async fn query_option_should_accept_an_object_default_namespace() {
    let suite = Suite::start().await;
    let client = suite.client("/").query("e", "f");
    let socket = within(client.connect()).await.unwrap();
    let handshake: Value = within(socket.emit_with_ack("getHandshake", ()))
        .await
        .unwrap();
    assert_eq!(handshake["query"]["e"], "f");
}

#[tokio::test]
async fn query_option_should_accept_a_query_string_default_namespace() {
    let suite = Suite::start().await;
    let socket = suite.connect("/?c=d").await;
    let handshake: Value = within(socket.emit_with_ack("getHandshake", ()))
        .await
        .unwrap();
    assert_eq!(handshake["query"]["c"], "d");
}

#[tokio::test]
async fn query_option_should_accept_an_object() {
    let suite = Suite::start().await;
    let handshake = handshake(&suite, "/abc", "a", "b").await;
    assert_eq!(handshake["query"]["a"], "b");
}

#[tokio::test]
async fn query_option_should_accept_a_query_string() {
    let suite = Suite::start().await;
    let handshake = handshake(&suite, "/abc?b=c&d=e", "x", "y").await;
    assert_eq!(handshake["query"]["b"], "c");
    assert_eq!(handshake["query"]["d"], "e");
}

#[tokio::test]
async fn query_option_should_properly_encode_the_parameters() {
    let suite = Suite::start().await;
    let handshake = handshake(&suite, "/abc", "&a", "&=?a").await;
    assert_eq!(handshake["query"]["&a"], "&=?a");
}

async fn auth(suite: &Suite, auth: impl Into<Auth>) -> Value {
    let socket = suite.client("/abc").auth(auth).socket().unwrap();
    let mut handshakes = socket.stream("handshake");
    within(socket.connect()).await.unwrap();
    value(&mut handshakes).await
}

#[tokio::test]
async fn auth_option_should_accept_an_object() {
    let suite = Suite::start().await;
    let handshake = auth(&suite, json!({"a": "b", "c": "d"})).await;
    assert_eq!(handshake["auth"], json!({"a": "b", "c": "d"}));
    assert_eq!(handshake["query"]["a"], Value::Null);
}

#[tokio::test]
async fn auth_option_should_accept_a_function() {
    let suite = Suite::start().await;
    let function = Auth::with(async || Ok::<_, String>(json!({"e": "f"})));
    let handshake = auth(&suite, function).await;
    assert_eq!(handshake["auth"]["e"], "f");
    assert_eq!(handshake["query"]["e"], Value::Null);
}

#[tokio::test]
async fn should_fire_an_error_event_on_middleware_failure_from_custom_namespace() {
    let suite = Suite::start().await;
    let socket = suite.client("/no").socket().unwrap();
    let mut errors = socket.stream("connect_error");
    let error = within(socket.connect()).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }), "{error:?}");
    let reported: ConnectError = value(&mut errors).await;
    assert_eq!(reported.message, "Auth failed (custom namespace)");
}

#[tokio::test]
async fn should_not_try_to_reconnect_after_a_middleware_failure() {
    let suite = Suite::start().await;
    let socket = suite.client("/no").socket().unwrap();
    let mut errors = socket.stream("connect_error");
    let other = socket.client().socket("/").unwrap();
    within(other.connect()).await.unwrap();
    within(socket.connect()).await.unwrap_err();
    next(&mut errors).await;
    assert!(!socket.is_active());
    let mut connects = other.stream("connect");
    suite.proxy.cut();
    next(&mut connects).await;
    // This answer follows everything that the session of `/` has received for `/no`.
    let _: u8 = within(other.emit_with_ack("echo", 1)).await.unwrap();
    let error = tokio::time::timeout(Duration::ZERO, errors.next()).await;
    assert!(error.is_err(), "{error:?}");
}

#[tokio::test]
async fn should_properly_disconnect_then_reconnect() {
    let suite = Suite::start().await;
    let socket = suite.connect("/").await;
    let mut ends = socket.stream("disconnect");
    let (connected, ()) = within(async {
        let disconnected = socket.disconnect();
        tokio::pin!(disconnected);
        // Disconnect, and connect again before the disconnect has happened.
        tokio::select! {
            biased;
            () = &mut disconnected => {}
            () = async {} => {}
        }
        tokio::join!(socket.connect(), disconnected)
    })
    .await;
    connected.unwrap();
    next(&mut ends).await;
    let _: u8 = within(socket.emit_with_ack("echo", 1)).await.unwrap();
    let more = tokio::time::timeout(Duration::ZERO, ends.next()).await;
    assert!(more.is_err(), "{more:?}");
}

#[tokio::test]
async fn should_throw_on_reserved_event() {
    let suite = Suite::start().await;
    let socket = suite.client("/no").socket().unwrap();
    let error = socket.emit("disconnecting", "goodbye").unwrap_err();
    assert!(matches!(error, ClientError::Encode(_)), "{error:?}");
}

#[tokio::test]
async fn should_emit_events_in_order() {
    let suite = Suite::start().await;
    let socket = suite.client("").socket().unwrap();
    let order = std::sync::Mutex::new(Vec::new());
    let echo = async |text: &str| {
        let answer: String = socket.emit_with_ack("echo", text).await.unwrap();
        order.lock().unwrap().push(answer);
    };
    within(async {
        tokio::join!(echo("first"), async {
            socket.connect().await.unwrap();
            echo("second").await;
        })
    })
    .await;
    assert_eq!(*order.lock().unwrap(), ["first", "second"]);
}

#[tokio::test]
async fn should_emit_an_event_and_wait_for_the_acknowledgement() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let answer: u8 = within(socket.emit_with_ack("echo", 123)).await.unwrap();
    assert_eq!(answer, 123);
}

#[tokio::test]
async fn volatile_should_discard_a_packet_when_the_socket_is_not_connected() {
    let suite = Suite::start().await;
    let socket = suite.client("").socket().unwrap();
    let mut sent = socket.stream("got it");
    socket.on("ack", async || roomcast::Ack((5, json!({"test": true}))));
    socket.volatile().emit("ack", ()).unwrap();
    within(socket.connect()).await.unwrap();
    let _: u8 = within(socket.emit_with_ack("echo", 1)).await.unwrap();
    let _: u8 = within(socket.emit_with_ack("echo", 2)).await.unwrap();
    let got = tokio::time::timeout(Duration::ZERO, sent.next()).await;
    assert!(got.is_err(), "{got:?}");
}

#[tokio::test]
async fn volatile_should_discard_a_packet_when_the_pipe_is_not_ready() {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).max_buffered(32 << 20);
    let socket = client.socket().unwrap();
    socket.open();
    let mut session = fake.connected().await;
    within(socket.connect()).await.unwrap();
    // More than the kernel buffers at both ends of a connection.
    socket.emit("large", "x".repeat(15 << 20)).unwrap();
    socket.volatile().emit("lost", ()).unwrap();
    socket.emit("kept", ()).unwrap();
    assert!(session.next().await.starts_with("42[\"large\","));
    assert_eq!(session.next().await, "42[\"kept\"]");
}

#[tokio::test]
async fn volatile_should_send_a_packet_when_the_socket_is_connected_and_the_pipe_is_ready() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let answer = socket.volatile().emit_with_ack::<u8>("echo", 1);
    assert_eq!(within(answer).await.unwrap(), 1);
}
