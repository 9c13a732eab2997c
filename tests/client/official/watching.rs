use std::sync::{Arc, Mutex};

use bytes::Bytes;
use roomcast::client::{Incoming, Socket};
use serde_json::Value;

use crate::suite::{Suite, next, within};

type Seen = Arc<Mutex<Vec<String>>>;

/// Returns a handler that records a word.
fn noting(seen: &Seen, word: &str) -> impl Fn() -> std::future::Ready<()> + Send + Sync + 'static {
    let (seen, word) = (Arc::clone(seen), word.to_owned());
    move || {
        seen.lock().unwrap().push(word.clone());
        std::future::ready(())
    }
}

#[tokio::test]
async fn on_any_should_call_listener() {
    let suite = Suite::start().await;
    let socket = suite.client("/abc").socket().unwrap();
    let mut all = socket.stream_any();
    within(socket.connect()).await.unwrap();
    let event = next(&mut all).await;
    assert_eq!(event.name, "handshake");
    assert!(event.args.get::<Value>(0).unwrap().is_object());
}

#[tokio::test]
async fn on_any_should_prepend_listener() {
    let suite = Suite::start().await;
    let socket = suite.client("/abc").socket().unwrap();
    let seen = Seen::default();
    socket.on_any(noting(&seen, "last"));
    socket.prepend_any(noting(&seen, "second"));
    socket.prepend_any(noting(&seen, "first"));
    let mut handshakes = socket.stream("handshake");
    within(socket.connect()).await.unwrap();
    next(&mut handshakes).await;
    assert_eq!(*seen.lock().unwrap(), ["first", "second", "last"]);
}

#[tokio::test]
async fn on_any_should_remove_listener() {
    let suite = Suite::start().await;
    let socket = suite.client("/abc").socket().unwrap();
    let seen = Seen::default();
    let removed = socket.on_any(noting(&seen, "removed"));
    socket.off(removed);
    socket.on_any(noting(&seen, "kept"));
    let mut handshakes = socket.stream("handshake");
    within(socket.connect()).await.unwrap();
    next(&mut handshakes).await;
    assert_eq!(*seen.lock().unwrap(), ["kept"]);
}

/// Returns what watchers of outgoing events have recorded when this event has been answered.
async fn answered(socket: &Socket, seen: &Seen) -> Vec<String> {
    let _: Vec<Value> = within(socket.emit_with_ack("echo", "123"))
        .await
        .unwrap_or_default();
    std::mem::take(&mut *seen.lock().unwrap())
}

#[tokio::test]
async fn on_any_outgoing_should_call_listener() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    socket.on_any_outgoing(move |event: Incoming| {
        let text: String = event.args.get(0).unwrap();
        noted.lock().unwrap().push(format!("{} {text}", event.name));
        async {}
    });
    assert_eq!(answered(&socket, &seen).await, ["echo 123"]);
}

#[tokio::test]
async fn on_any_outgoing_should_call_listener_with_binary_data() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let seen = Arc::new(Mutex::new(Bytes::new()));
    let noted = Arc::clone(&seen);
    socket.on_any_outgoing(move |bytes: Bytes| {
        *noted.lock().unwrap() = bytes;
        async {}
    });
    let mut acks = socket.stream("buffack");
    socket
        .emit("buffa", Bytes::from_static(&[1, 2, 3]))
        .unwrap();
    next(&mut acks).await;
    assert_eq!(*seen.lock().unwrap(), &[1, 2, 3][..]);
}

#[tokio::test]
async fn on_any_outgoing_should_prepend_listener() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let seen = Seen::default();
    socket.on_any_outgoing(noting(&seen, "last"));
    socket.prepend_any_outgoing(noting(&seen, "second"));
    socket.prepend_any_outgoing(noting(&seen, "first"));
    assert_eq!(answered(&socket, &seen).await, ["first", "second", "last"]);
}

#[tokio::test]
async fn on_any_outgoing_should_remove_listener() {
    let suite = Suite::start().await;
    let socket = suite.connect("").await;
    let seen = Seen::default();
    let removed = socket.on_any_outgoing(noting(&seen, "removed"));
    socket.off(removed);
    socket.on_any_outgoing(noting(&seen, "kept"));
    assert_eq!(answered(&socket, &seen).await, ["kept"]);
}
