use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::suite::{Suite, next, value, within};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Greeting {
    hello: String,
    message: Bytes,
    goodbye: String,
}

/// Returns every byte value, which is not valid UTF-8.
fn all_bytes() -> Bytes {
    (0..=u8::MAX).collect()
}

#[tokio::test]
async fn should_get_binary_data() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut doges = socket.stream("doge");
    socket.emit("doge", ()).unwrap();
    assert_eq!(value::<Bytes>(&mut doges).await, "asdfasdf");
}

#[tokio::test]
async fn should_send_binary_data() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut acks = socket.stream("buffack");
    socket
        .emit("buffa", Bytes::from_static(b"asdfasdf"))
        .unwrap();
    next(&mut acks).await;
    // The server acknowledges all binary arguments, so `echo` checks their contents.
    for bytes in [all_bytes(), Bytes::from_static(b"asdfasdf"), Bytes::new()] {
        let echoed = socket.emit_with_ack::<Bytes>("echo", bytes.clone());
        assert_eq!(within(echoed).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn should_send_binary_data_mixed_with_json() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut acks = socket.stream("jsonbuff-ack");
    let greeting = Greeting {
        hello: "lol".to_owned(),
        message: Bytes::from_static(b"howdy"),
        goodbye: "gotcha".to_owned(),
    };
    socket.emit("jsonbuff", &greeting).unwrap();
    next(&mut acks).await;
    for message in [greeting.message.clone(), all_bytes(), Bytes::new()] {
        let sent = Greeting {
            message,
            ..greeting.clone()
        };
        let echoed = socket.emit_with_ack::<Greeting>("echo", &sent);
        assert_eq!(within(echoed).await.unwrap(), sent);
    }
}

#[tokio::test]
async fn should_send_events_with_binary_data_in_the_correct_order() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut acks = socket.stream("abuff2-ack");
    // Without the first event the server does not answer the second.
    socket.emit("abuff2", "too early").unwrap();
    let _: u8 = within(socket.emit_with_ack("echo", 1)).await.unwrap();
    socket
        .emit("abuff1", Bytes::from_static(b"abuff1"))
        .unwrap();
    socket.emit("abuff2", "please arrive second").unwrap();
    next(&mut acks).await;
    let _: u8 = within(socket.emit_with_ack("echo", 1)).await.unwrap();
    let more = tokio::time::timeout(std::time::Duration::ZERO, acks.next()).await;
    assert!(more.is_err(), "{more:?}");
}
