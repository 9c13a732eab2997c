use roomcast::{
    Ack,
    client::{Change, Client, DisconnectReason},
};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    suite::{Suite, change, changes, next, value, within},
};

#[tokio::test]
async fn should_connect_to_localhost() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut hi = socket.stream("hi");
    socket.emit("hi", ()).unwrap();
    next(&mut hi).await;
}

#[tokio::test]
async fn should_not_connect_when_auto_connect_option_set_to_false() {
    let suite = Suite::start().await;
    let idle = suite.client("").socket().unwrap();
    assert!(!idle.is_active());
    let _other = suite.connect("").await;
    assert_eq!(suite.proxy.accepted(), 1);
}

#[tokio::test]
async fn should_start_a_single_connection_with_different_namespaces() {
    let suite = Suite::start().await;
    let foo = suite.connect("/foo").await;
    let asd = foo.client().socket("/asd").unwrap();
    within(asd.connect()).await.unwrap();
    assert_ne!(foo.id(), asd.id());
    assert_eq!(suite.proxy.accepted(), 1);
}

#[tokio::test]
async fn should_work_with_acks() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    socket.on("ack", async || Ack((5, json!({"test": true}))));
    let mut got = socket.stream("got it");
    socket.emit("ack", ()).unwrap();
    next(&mut got).await;
}

#[tokio::test]
async fn should_receive_date_with_ack() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let request = socket.emit_with_ack::<String>("getAckDate", json!({"test": true}));
    assert!(within(request).await.unwrap().contains('T'));
}

#[tokio::test]
async fn should_work_with_false() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut answers = socket.stream("false");
    socket.emit("false", ()).unwrap();
    assert!(!value::<bool>(&mut answers).await);
}

#[tokio::test]
async fn should_receive_utf8_multibyte_characters() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut texts = socket.stream("takeUtf8");
    socket.emit("getUtf8", ()).unwrap();
    for correct in [
        "てすと",
        "Я Б Г Д Ж Й",
        "Ä ä Ü ü ß",
        "utf8 — string",
        "utf8 — string",
    ] {
        assert_eq!(value::<String>(&mut texts).await, correct);
    }
}

#[tokio::test]
async fn should_connect_to_a_namespace_after_connection_established() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let foo = socket.client().socket("foo").unwrap();
    assert_eq!(foo.namespace(), "/foo");
    within(foo.connect()).await.unwrap();
    let id: String = within(foo.emit_with_ack("getId", ())).await.unwrap();
    assert_eq!(Some(id), foo.id());
}

#[tokio::test]
async fn should_open_a_new_namespace_after_connection_gets_closed() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    within(socket.disconnect()).await;
    let foo = socket.client().socket("/foo").unwrap();
    within(foo.connect()).await.unwrap();
    assert_eq!(suite.proxy.accepted(), 2);
}

#[tokio::test]
async fn should_connect_while_disconnecting_another_socket() {
    let suite = Suite::start().await;
    let foo = suite.connect("/foo").await;
    let asd = foo.client().socket("/asd").unwrap();
    asd.open();
    let (connected, ()) = within(async { tokio::join!(asd.connect(), foo.disconnect()) }).await;
    connected.unwrap();
    assert!(asd.is_connected() && !foo.is_connected());
}

#[tokio::test]
async fn should_emit_a_connect_error_event_when_reaching_a_socket_io_server_in_v2_x() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    let mut errors = socket.stream("connect_error");
    socket.open();
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    session.send("40").await;
    let error: Value = value(&mut errors).await;
    assert!(
        error["message"].as_str().unwrap().contains("protocol 5"),
        "{error}"
    );
    assert!(!socket.is_active());
}

#[tokio::test]
async fn should_not_close_the_connection_when_disconnecting_a_single_socket() {
    let suite = Suite::start().await;
    let foo = suite.connect("/foo").await;
    let main = foo.client().socket("/").unwrap();
    within(main.connect()).await.unwrap();
    let mut changes = changes(foo.client());
    within(foo.disconnect()).await;
    let echoed: u8 = within(main.emit_with_ack("echo", 1)).await.unwrap();
    assert_eq!(echoed, 1);
    assert!(changes.try_recv().is_err());
    within(main.disconnect()).await;
    let closed = change(&mut changes, |_| true).await;
    assert_eq!(closed, Change::Close(DisconnectReason::ForcedClose));
}

#[tokio::test]
async fn should_emit_date_as_string() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut dates = socket.stream("takeDate");
    socket.emit("getDate", ()).unwrap();
    assert!(value::<String>(&mut dates).await.contains('T'));
}

#[tokio::test]
async fn should_emit_date_in_object() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut dates = socket.stream("takeDateObj");
    socket.emit("getDateObj", ()).unwrap();
    assert!(value::<Value>(&mut dates).await["date"].is_string());
}

#[tokio::test]
async fn should_reopen_a_cached_socket() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    within(socket.disconnect()).await;
    let again = socket.client().socket("/").unwrap();
    within(again.connect()).await.unwrap();
    assert!(again.id().is_some());
    assert_eq!(again.id(), socket.id());
}

#[tokio::test]
async fn should_not_reopen_a_cached_but_active_socket() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    let again = socket.client().socket("/").unwrap();
    socket.open();
    again.open();
    let session = fake.connected().await;
    within(again.connect()).await.unwrap();
    let (texts, ()) = tokio::join!(session.end(), within(socket.disconnect()));
    assert_eq!(texts, ["41"]);
}

#[tokio::test]
async fn should_not_reopen_an_already_active_socket() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    let foo = socket.client().socket("/foo").unwrap();
    socket.open();
    foo.open();
    let mut session = fake.accept().await;
    assert_eq!(session.next().await, "40");
    assert_eq!(session.next().await, "40/foo,");
    session.send("40{\"sid\":\"a\"}").await;
    session.send("40/foo,{\"sid\":\"b\"}").await;
    within(socket.connect()).await.unwrap();
    within(foo.connect()).await.unwrap();
    let leave = async {
        within(socket.disconnect()).await;
        within(foo.disconnect()).await;
    };
    let (texts, ()) = tokio::join!(session.end(), leave);
    assert_eq!(texts, ["41", "41/foo,"]);
}

#[tokio::test]
async fn should_close_the_engine_upon_decoding_exception() {
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url())
        .reconnection_delay(std::time::Duration::from_millis(1))
        .socket()
        .unwrap();
    let mut ends = socket.stream("disconnect");
    socket.open();
    let mut session = fake.connected().await;
    session.send("4bad").await;
    assert_eq!(value::<String>(&mut ends).await, "parse error");
    session.end().await;
    let _session = fake.connected().await;
    within(socket.connect()).await.unwrap();
}
