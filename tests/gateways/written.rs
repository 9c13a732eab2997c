//! Streamed messages that the Rust client writes, as their readers receive them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use roomcast::client::chat::{
    Appended, Correction, MessageKind, MessageWriter, NewMessage, WriteError,
};
use roomcast::client::{Client as Author, ClientError, Socket};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::client::Client;
use crate::proxy::Proxy;
use crate::server::{LOBBY, Server};

/// Connects a guest with the Rust client.
async fn author(address: std::net::SocketAddr) -> Socket {
    let auth = json!({"name": "Ada", "guestKey": "the key of an author"});
    let client = Author::builder(format!("http://{address}")).auth(auth);
    let client = client.reconnection_delay(Duration::from_millis(50));
    client.connect().await.unwrap()
}

/// Texts whose boundaries separate the parts of an emoji.
fn words(count: usize) -> Vec<String> {
    let words = ["grün ", "€", "👩\u{200d}", "👧😀", "\n- item ", "word "];
    (0..count).map(|n| words[n % words.len()].into()).collect()
}

/// Returns the texts at the pace of a language model.
fn paced(words: Vec<String>) -> impl Stream<Item = String> + Send {
    stream::iter(words).then(async |word| {
        tokio::time::sleep(Duration::from_millis(5)).await;
        word
    })
}

/// Follows a message to its end. Returns the texts that were appended, and the stored message. Each
/// text must begin where the one before ended.
async fn follow(reader: &mut Client) -> (Vec<String>, Value) {
    let begun = reader.event("message").await;
    assert_eq!(
        (&begun["content"], &begun["streaming"]),
        (&json!(""), &json!(true))
    );
    let end = reader.event("message_edited").await;
    assert_eq!(end["id"], begun["id"]);
    let (mut texts, mut length) = (Vec::new(), 0);
    for appended in reader.events_until_now("message_appended").await {
        let text = appended["text"].as_str().unwrap();
        assert_eq!(appended["offset"], length, "{appended}");
        length += text.chars().count();
        texts.push(text.to_owned());
    }
    (texts, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn text_of_a_rust_author_grows_at_its_readers_and_is_stored() {
    let server = Server::start();
    let mut reader = server.in_lobby("bob").await;
    let socket = author(server.address()).await;
    let words = words(200);
    let text = words.concat();
    let new = NewMessage::new(LOBBY).metadata(json!({"of": 1}));
    let mut writer = MessageWriter::begin(&socket, new).await.unwrap();
    assert_eq!(
        writer.append_from(paced(words)).await.unwrap(),
        Appended::All
    );
    assert_eq!(writer.offset(), text.chars().count() as u64);
    let stored = writer.finish().await.unwrap();
    assert_eq!((&stored.content, stored.kind), (&text, MessageKind::User));
    assert_eq!(
        (stored.version, stored.streaming, stored.interrupted),
        (2, false, false)
    );
    assert_eq!(stored.metadata, json!({"of": 1}));

    let (texts, end) = follow(&mut reader).await;
    assert_eq!(
        (end["content"].as_str(), end["id"].as_str()),
        (Some(&*text), Some(&*stored.id))
    );
    // The end has the whole text, also what no event has appended before.
    assert!(text.starts_with(&texts.concat()), "{texts:?}");
    // The server sends readers one event every 40 ms, so texts arrive together, and not all at once.
    assert!((5..200).contains(&texts.len()), "{}", texts.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn text_is_whole_and_sent_once_if_connections_break_in_the_middle() {
    let server = Server::start();
    let proxy = Proxy::start(server.address()).await;
    let mut reader = server.in_lobby("bob").await;
    let socket = author(proxy.address()).await;
    let words = words(300);
    let text = words.concat();
    let breaking = proxy.clone();
    let source = paced(words).enumerate().map(move |(n, word)| {
        if n % 60 == 30 {
            breaking.cut();
        }
        word
    });
    let mut writer = MessageWriter::begin(&socket, NewMessage::new(LOBBY))
        .await
        .unwrap();
    assert_eq!(writer.append_from(source).await.unwrap(), Appended::All);
    proxy.cut();
    let correction = Correction::new().metadata(json!({"tokens": 300}));
    let stored = writer.finish_with(correction).await.unwrap();
    assert_eq!(
        (&stored.content, stored.metadata),
        (&text, json!({"tokens": 300}))
    );
    assert!(proxy.accepted() > 3, "{}", proxy.accepted());
    let (texts, end) = follow(&mut reader).await;
    assert!(text.starts_with(&texts.concat()), "{texts:?}");
    assert_eq!(end["content"], text);
    // No repetition has begun another message.
    assert_eq!(reader.events_until_now("message").await, [] as [Value; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_request_of_a_member_ends_the_text_with_the_members_id() {
    let server = Server::start();
    let mut reader = server.in_lobby("bob").await;
    let socket = author(server.address()).await;
    let mut writer = MessageWriter::begin(&socket, NewMessage::new(LOBBY))
        .await
        .unwrap();
    let id = writer.message().id.clone();
    let half = Arc::new(Notify::new());
    let first = stream::iter(["half"]);
    let source = first.chain(stream::once({
        let half = Arc::clone(&half);
        async move {
            half.notify_one();
            std::future::pending().await
        }
    }));
    let (appended, ()) = tokio::join!(writer.append_from(source), async {
        half.notified().await;
        reader.event("message_appended").await;
        reader.must("stop_message", json!({"messageId": id})).await;
    });
    let Appended::StopRequested(by) = appended.unwrap() else {
        panic!("the source has not ended");
    };
    assert_eq!((by.message_id, by.user_id), (id, reader.user_id()));
    let stored = writer.abort(Some("stopped by a member")).await.unwrap();
    assert_eq!((&*stored.content, stored.interrupted), ("half", true));
    assert_eq!(
        stored.interrupted_reason.as_deref(),
        Some("stopped by a member")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_the_server_are_returned_with_their_codes() {
    let limit = ("ROOMCAST_CHAT__STREAMS__MAX_CHARS", "20");
    let server = Server::with(&[limit, ("ROOMCAST_CHAT__STREAMS__TIMEOUT", "1s")]);
    let mut reader = server.in_lobby("bob").await;
    let socket = author(server.address()).await;
    let code = |error: WriteError| {
        let WriteError::Request(ClientError::Refused { code, .. }) = error else {
            panic!("{error:?}");
        };
        code
    };
    let unknown = NewMessage::new("00000000-0000-4000-8000-00000000000f");
    let refused = MessageWriter::begin(&socket, unknown).await.map(drop);
    assert_eq!(code(refused.unwrap_err()), "NOT_FOUND");
    let ai = NewMessage::new(LOBBY).kind(MessageKind::Ai);
    let refused = MessageWriter::begin(&socket, ai).await.map(drop);
    assert_eq!(code(refused.unwrap_err()), "FORBIDDEN");

    let begin = async || {
        MessageWriter::begin(&socket, NewMessage::new(LOBBY))
            .await
            .unwrap()
    };
    let mut writer = begin().await;
    let refused = writer.append("twenty-one characters").await;
    assert_eq!(code(refused.unwrap_err()), "INVALID_PAYLOAD");
    drop(writer);
    let dropped = reader.event("message_edited").await;
    assert_eq!(
        (&dropped["interrupted"], &dropped["content"]),
        (&json!(true), &json!(""))
    );

    assert_eq!(
        code(begin().await.finish().await.unwrap_err()),
        "INVALID_PAYLOAD"
    );
    reader.event("message_edited").await;

    // The server ends a message to which nothing is added.
    let mut writer = begin().await;
    let _ = writer.append("half").await.unwrap();
    reader.event("message_edited").await;
    assert_eq!(code(writer.append("more").await.unwrap_err()), "CONFLICT");
    let mut writer = begin().await;
    let _ = writer.append("half").await.unwrap();
    reader.event("message_edited").await;
    let WriteError::Interrupted(stored) = writer.finish().await.unwrap_err() else {
        panic!("the message was finished");
    };
    assert_eq!(stored.content, "half");

    let mut writer = begin().await;
    let _ = writer.append("half").await.unwrap();
    let id = json!({"messageId": writer.message().id});
    let deleted: Value = socket.emit_with_ack("delete_message", id).await.unwrap();
    assert_eq!(deleted["success"], true, "{deleted}");
    assert_eq!(code(writer.append("more").await.unwrap_err()), "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn long_text_without_pauses_stays_within_the_servers_limits() {
    let server = Server::start();
    let socket = author(server.address()).await;
    let text = words(40_000).concat();
    let pieces: Vec<String> = text.chars().map(String::from).collect();
    let mut writer = MessageWriter::begin(&socket, NewMessage::new(LOBBY))
        .await
        .unwrap();
    let pieces = stream::iter(pieces).take(60_000);
    assert_eq!(writer.append_from(pieces).await.unwrap(), Appended::All);
    let stored = writer.finish().await.unwrap();
    let expected: String = text.chars().take(60_000).collect();
    assert_eq!(stored.content, expected);
    let limited = server
        .metric("roomcast_errors_total{code=\"rate_limited\"}")
        .await;
    assert_eq!(limited, 0);
}
