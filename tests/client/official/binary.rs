use bytes::Bytes;
use serde::Serialize;

use crate::suite::{Suite, next, value};

#[derive(Serialize)]
struct Greeting {
    hello: &'static str,
    message: Bytes,
    goodbye: &'static str,
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
}

#[tokio::test]
async fn should_send_binary_data_mixed_with_json() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut acks = socket.stream("jsonbuff-ack");
    let greeting = Greeting {
        hello: "lol",
        message: Bytes::from_static(b"howdy"),
        goodbye: "gotcha",
    };
    socket.emit("jsonbuff", greeting).unwrap();
    next(&mut acks).await;
}

#[tokio::test]
async fn should_send_events_with_binary_data_in_the_correct_order() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let mut acks = socket.stream("abuff2-ack");
    socket
        .emit("abuff1", Bytes::from_static(b"abuff1"))
        .unwrap();
    socket.emit("abuff2", "please arrive second").unwrap();
    next(&mut acks).await;
}
