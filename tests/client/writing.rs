//! Messages of the chat whose text arrives in pieces, against literal answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{Stream, future, stream};
use roomcast::client::{
    Client, ClientError, Socket,
    chat::{Appended, Correction, MessageKind, MessageWriter, NewMessage, WriteError},
};
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    fake::{Fake, Session},
    suite::within,
};

/// An author whose message has begun, and the server's end of its connection.
struct Author {
    fake: Fake,
    session: Session,
    socket: Socket,
    writer: MessageWriter,
}

async fn begun(new: NewMessage) -> Author {
    let fake = Fake::start().await;
    let client = Client::builder(fake.url()).reconnection_delay(Duration::from_millis(1));
    let socket = client.socket().unwrap();
    socket.open();
    let mut session = fake.connected().await;
    let beginning = {
        let socket = socket.clone();
        tokio::spawn(async move { MessageWriter::begin(&socket, new).await })
    };
    let (id, payload) = request(&mut session, "begin_message").await;
    assert_eq!(
        payload["clientMessageId"].as_str().unwrap().len(),
        32,
        "{payload}"
    );
    answer(
        &mut session,
        id,
        json!({"message": message(""), "offset": 0}),
    )
    .await;
    let writer = within(beginning).await.unwrap().unwrap();
    Author {
        fake,
        session,
        socket,
        writer,
    }
}

fn plain() -> NewMessage {
    NewMessage::new("c")
}

/// A message as the server sends it, which is being written if it has no text.
fn message(content: &str) -> Value {
    let mut message = json!({
        "id": "m", "conversationId": "c", "seq": 7, "userId": "ada", "userName": "Ada",
        "content": content, "type": "user", "metadata": {}, "version": 2,
        "createdAt": "2026-01-02T03:04:05.678Z",
    });
    if content.is_empty() {
        message["streaming"] = json!(true);
    }
    message
}

/// Returns the id of the next acknowledgement, and the payload of its event.
async fn request(session: &mut Session, event: &str) -> (u64, Value) {
    let packet = session.next().await;
    let start = packet.find('[').unwrap();
    let (name, payload): (String, Value) = serde_json::from_str(&packet[start..]).unwrap();
    assert_eq!(name, event, "{packet}");
    (packet[2..start].parse().unwrap(), payload)
}

async fn answer(session: &mut Session, id: u64, mut answer: Value) {
    answer["success"] = json!(true);
    session.send(&format!("43{id}[{answer}]")).await;
}

async fn grown(session: &mut Session, id: u64, offset: u64) {
    answer(session, id, json!({"offset": offset, "stored": 0})).await;
}

async fn refuse(session: &mut Session, id: u64, mut error: Value) {
    error["message"] = json!("refused");
    let answer = json!({"success": false, "error": error});
    session.send(&format!("43{id}[{answer}]")).await;
}

/// Returns a stream, and its sender. After `reserve` the writer has read all that was sent.
fn texts() -> (mpsc::Sender<String>, impl Stream<Item = String> + Send) {
    let (sender, mut texts) = mpsc::channel::<String>(1);
    (sender, stream::poll_fn(move |cx| texts.poll_recv(cx)))
}

/// Appends one text in a task, which returns the writer as well.
fn append(
    mut writer: MessageWriter,
    text: &'static str,
) -> JoinHandle<(MessageWriter, Result<Appended, WriteError>)> {
    tokio::spawn(async move {
        let appended = writer.append(text).await;
        (writer, appended)
    })
}

fn code(error: &WriteError) -> &str {
    match error {
        WriteError::Request(ClientError::Refused { code, .. }) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn begin_sends_the_options_and_returns_the_message() {
    let new = NewMessage::new("c").kind(MessageKind::Ai).reply_to("r");
    let new = new.mentions(["bob"]).metadata(json!({"of": 1}));
    let fake = Fake::start().await;
    let socket = Client::builder(fake.url()).socket().unwrap();
    // The request waits for the connection.
    let begin = async { MessageWriter::begin(&socket, new).await };
    let serve = async {
        socket.open();
        let mut session = fake.connected().await;
        let (id, mut payload) = request(&mut session, "begin_message").await;
        payload["clientMessageId"].take();
        assert_eq!(
            payload,
            json!({
                "clientMessageId": null, "conversationId": "c", "type": "ai",
                "metadata": {"of": 1}, "replyTo": "r", "mentions": ["bob"],
            })
        );
        answer(
            &mut session,
            id,
            json!({"message": message(""), "offset": 0}),
        )
        .await;
        session
    };
    let (writer, _session) = within(future::join(begin, serve)).await;
    let writer = writer.unwrap();
    assert_eq!((&*writer.message().id, writer.message().seq), ("m", 7));
    assert_eq!(writer.offset(), 0);
}

#[tokio::test]
async fn texts_that_arrive_during_a_request_are_sent_together() {
    let Author {
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let (sender, source) = texts();
    let writing = tokio::spawn(async move {
        let appended = writer.append_from(source).await?;
        assert_eq!(appended, Appended::All);
        let correction = Correction::new().content("corrected");
        writer
            .finish_with(correction.metadata(json!({"of": 1})))
            .await
    });
    sender.send("grün ".into()).await.unwrap();
    assert_eq!(
        session.next().await,
        r#"421["append_message",{"messageId":"m","offset":0,"text":"grün "}]"#
    );
    for text in ["😀", "👩\u{200d}", "👧 end"] {
        sender.send(text.into()).await.unwrap();
    }
    drop(sender.reserve().await.unwrap());
    grown(&mut session, 1, 5).await;
    assert_eq!(
        session.next().await,
        "422[\"append_message\",{\"messageId\":\"m\",\"offset\":5,\"text\":\"😀👩\u{200d}👧 end\"}]"
    );
    grown(&mut session, 2, 13).await;
    drop(sender);
    assert_eq!(
        session.next().await,
        r#"423["finish_message",{"messageId":"m","offset":13,"content":"corrected","metadata":{"of":1}}]"#
    );
    answer(&mut session, 3, json!({"message": message("corrected")})).await;
    let stored = within(writing).await.unwrap().unwrap();
    assert_eq!((&*stored.content, stored.version), ("corrected", 2));
}

#[tokio::test]
async fn lost_answer_is_requested_again_at_the_same_position() {
    let Author {
        fake,
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let (sender, source) = texts();
    let writing = tokio::spawn(async move {
        let _ = writer.append_from(source).await?;
        writer.finish().await
    });
    sender.send("one ".into()).await.unwrap();
    request(&mut session, "append_message").await;
    sender.send("two".into()).await.unwrap();
    drop(sender.reserve().await.unwrap());
    drop(session);
    let mut session = fake.connected().await;
    let (id, payload) = request(&mut session, "append_message").await;
    assert_eq!(
        payload,
        json!({"messageId": "m", "offset": 0, "text": "one two"})
    );
    grown(&mut session, id, 7).await;
    drop(sender);
    request(&mut session, "finish_message").await;
    drop(session);
    let mut session = fake.connected().await;
    let (id, payload) = request(&mut session, "finish_message").await;
    assert_eq!(payload, json!({"messageId": "m", "offset": 7}));
    answer(&mut session, id, json!({"message": message("one two")})).await;
    assert_eq!(within(writing).await.unwrap().unwrap().content, "one two");
}

#[tokio::test]
async fn text_continues_where_a_server_that_lost_some_names_it() {
    let Author {
        mut session,
        writer,
        ..
    } = begun(plain()).await;
    let appending = append(writer, "one 😀 two");
    let (id, _) = request(&mut session, "append_message").await;
    answer(&mut session, id, json!({"offset": 9, "stored": 4})).await;
    let (writer, appended) = within(appending).await.unwrap();
    assert_eq!(appended.unwrap(), Appended::All);
    let finishing = tokio::spawn(writer.finish());
    for (offset, text) in [(4, "😀 two"), (5, " two")] {
        let (id, _) = request(&mut session, "finish_message").await;
        let moved = json!({"code": "CONFLICT", "details": {"offset": offset}});
        refuse(&mut session, id, moved).await;
        let (id, payload) = request(&mut session, "append_message").await;
        assert_eq!(
            payload,
            json!({"messageId": "m", "offset": offset, "text": text})
        );
        grown(&mut session, id, 9).await;
    }
    // What was stored cannot be lost, and is not retained.
    let (id, _) = request(&mut session, "finish_message").await;
    let lost = json!({"code": "CONFLICT", "details": {"offset": 3}});
    refuse(&mut session, id, lost).await;
    let error = within(finishing).await.unwrap().unwrap_err();
    assert_eq!(code(&error), "CONFLICT");
    // A writer that fails aborts its message.
    let abort = r#"42["abort_message",{"messageId":"m"}]"#;
    assert_eq!(session.next().await, abort);
}

#[tokio::test]
async fn stop_request_for_this_message_names_the_member_and_keeps_the_rest() {
    let Author {
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let (sender, mut source) = texts();
    let writing = tokio::spawn(async move {
        let appended = writer.append_from(&mut source).await;
        (writer, source, appended)
    });
    sender.send("one".into()).await.unwrap();
    request(&mut session, "append_message").await;
    let stop = |id, user| {
        let request = json!({"conversationId": "c", "messageId": id, "userId": user});
        format!("42[\"message_stop_requested\",{request}]")
    };
    session.send(&stop("another", "eve")).await;
    session.send(&stop("m", "bob")).await;
    let (writer, _source, appended) = within(writing).await.unwrap();
    let Appended::StopRequested(by) = appended.unwrap() else {
        panic!("the stream has not ended");
    };
    assert_eq!(
        (&*by.conversation_id, &*by.message_id, &*by.user_id),
        ("c", "m", "bob")
    );
    // The sender is open, so the caller still has the stream.
    assert!(!sender.is_closed());
    let aborting = tokio::spawn(async move { writer.abort(Some("stopped")).await });
    let (id, payload) = request(&mut session, "abort_message").await;
    assert_eq!(payload, json!({"messageId": "m", "reason": "stopped"}));
    let mut interrupted = message("one");
    interrupted["interrupted"] = json!(true);
    interrupted["interruptedReason"] = json!("stopped");
    answer(&mut session, id, json!({"message": interrupted})).await;
    let stored = within(aborting).await.unwrap().unwrap();
    assert_eq!(stored.interrupted_reason.as_deref(), Some("stopped"));
}

#[tokio::test]
async fn word_is_sent_although_a_stop_request_waits() {
    let Author {
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let stop = json!({"conversationId": "c", "messageId": "m", "userId": "bob"});
    session
        .send(&format!("42[\"message_stop_requested\",{stop}]"))
        .await;
    // Time for the request to reach the writer. The outcome is the same without.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let finishing = tokio::spawn(async move {
        let _: Appended = writer.append("word").await.unwrap();
        writer.finish().await
    });
    let (id, payload) = request(&mut session, "append_message").await;
    assert_eq!(
        (&payload["offset"], &payload["text"]),
        (&json!(0), &json!("word"))
    );
    grown(&mut session, id, 4).await;
    let (id, payload) = request(&mut session, "finish_message").await;
    assert_eq!(payload["offset"], 4);
    answer(&mut session, id, json!({"message": message("word")})).await;
    within(finishing).await.unwrap().unwrap();
}

#[tokio::test]
async fn refusal_is_returned_and_an_open_message_is_aborted_on_drop() {
    for (error, is_open) in [
        (json!({"code": "FORBIDDEN"}), true),
        (json!({"code": "INVALID_PAYLOAD"}), true),
        (json!({"code": "CONFLICT", "details": {"offset": 9}}), true),
        (json!({"code": "CONFLICT"}), false),
        (json!({"code": "NOT_FOUND"}), false),
    ] {
        let Author {
            mut session,
            socket,
            writer,
            ..
        } = begun(plain()).await;
        let appending = append(writer, "x");
        let (id, _) = request(&mut session, "append_message").await;
        refuse(&mut session, id, error.clone()).await;
        let (writer, appended) = within(appending).await.unwrap();
        assert_eq!(code(&appended.unwrap_err()), error["code"]);
        drop(writer);
        socket.emit("next", ()).unwrap();
        if is_open {
            let abort = r#"42["abort_message",{"messageId":"m"}]"#;
            assert_eq!(session.next().await, abort, "{error}");
        }
        assert_eq!(session.next().await, r#"42["next"]"#, "{error}");
    }
}

#[tokio::test]
async fn answers_outside_the_text_are_errors() {
    for wrong in [
        json!({"offset": 2, "stored": 0}),
        json!({"offset": 4, "stored": 0}),
        json!({"offset": 3, "stored": 4}),
        json!({"offset": -1, "stored": 0}),
        json!({"offset": 3}),
    ] {
        let Author {
            mut session,
            writer,
            ..
        } = begun(plain()).await;
        let appending = append(writer, "abc");
        let (id, _) = request(&mut session, "append_message").await;
        answer(&mut session, id, wrong.clone()).await;
        match within(appending).await.unwrap().1.unwrap_err() {
            WriteError::Answer(_) | WriteError::Request(ClientError::Answer(_)) => {}
            other => panic!("{wrong}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn source_that_fails_aborts_the_message_and_its_error_is_returned() {
    let Author {
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let source = stream::iter([Ok("half"), Err("https://secret@model failed")]);
    let writing = tokio::spawn(async move { writer.try_append_from(source).await });
    let (_, payload) = request(&mut session, "append_message").await;
    assert_eq!(payload["text"], "half");
    let (id, payload) = request(&mut session, "abort_message").await;
    assert_eq!(
        payload,
        json!({"messageId": "m", "reason": "the text could not be read"})
    );
    answer(&mut session, id, json!({"message": message("half")})).await;
    let error = within(writing).await.unwrap().unwrap_err();
    assert!(matches!(&error, WriteError::Source(_)), "{error:?}");
    let shown = "the text could not be read: https://secret@model failed";
    assert_eq!(error.to_string(), shown);
}

#[tokio::test]
async fn stream_is_not_read_while_64_kib_are_unsent() {
    let Author {
        mut session,
        mut writer,
        ..
    } = begun(plain()).await;
    let count = Arc::new(AtomicUsize::new(0));
    let read = Arc::clone(&count);
    let source = stream::repeat_with(move || {
        read.fetch_add(1, Ordering::Relaxed);
        "x".repeat(1000)
    });
    let writing = tokio::spawn(async move { writer.append_from(source).await });
    let (id, _) = request(&mut session, "append_message").await;
    // The writer reads until it has to wait for the answer, in the time of a round trip.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 66);
    grown(&mut session, id, 1000).await;
    request(&mut session, "append_message").await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 67);
    writing.abort();
}

#[tokio::test]
async fn large_text_is_sent_in_pieces_within_the_limit_per_second() {
    let Author {
        mut session,
        writer,
        ..
    } = begun(plain()).await;
    let text: &str = Box::leak("€".repeat(6000).into_boxed_str());
    let appending = append(writer, text);
    let (start, mut offset) = (Instant::now(), 0);
    for expected in [2730, 2730, 540] {
        let (id, payload) = request(&mut session, "append_message").await;
        assert_eq!(payload["offset"], offset);
        let chars = payload["text"].as_str().unwrap().chars().count();
        assert_eq!(chars, expected);
        offset += chars as u64;
        grown(&mut session, id, offset).await;
    }
    // Two delays of 8,190 bytes at 56 KiB per second.
    assert!(start.elapsed() >= Duration::from_millis(280));
    assert_eq!(within(appending).await.unwrap().1.unwrap(), Appended::All);
}

#[tokio::test]
async fn refused_piece_is_repeated_after_the_time_that_the_server_names() {
    let Author {
        mut session,
        writer,
        ..
    } = begun(plain()).await;
    let appending = append(writer, "x");
    let (id, first) = request(&mut session, "append_message").await;
    let start = Instant::now();
    let limited = json!({"code": "RATE_LIMITED", "retryAfter": 150});
    refuse(&mut session, id, limited).await;
    let (id, again) = request(&mut session, "append_message").await;
    assert!(start.elapsed() >= Duration::from_millis(150));
    assert_eq!(first, again);
    grown(&mut session, id, 1).await;
    assert_eq!(within(appending).await.unwrap().1.unwrap(), Appended::All);
}

#[tokio::test]
async fn writer_gives_up_when_nothing_moves_within_its_timeout() {
    let timeout = Duration::from_millis(200);
    // Without an answer, and without a connection.
    for is_connected in [true, false] {
        let author = begun(plain().timeout(timeout)).await;
        let (fake, mut session) = (author.fake, author.session);
        let appending = append(author.writer, "x");
        request(&mut session, "append_message").await;
        if !is_connected {
            drop((fake, session));
        }
        let error = within(appending).await.unwrap().1.unwrap_err();
        let WriteError::Request(ClientError::Timeout(_)) = error else {
            panic!("{error:?}");
        };
    }
}

#[tokio::test]
async fn finish_of_a_message_that_the_server_ended_is_an_error() {
    let Author {
        mut session,
        writer,
        ..
    } = begun(plain()).await;
    let finishing = tokio::spawn(writer.finish());
    let (id, _) = request(&mut session, "finish_message").await;
    let mut interrupted = message("half");
    interrupted["interrupted"] = json!(true);
    answer(&mut session, id, json!({"message": interrupted})).await;
    let error = within(finishing).await.unwrap().unwrap_err();
    let WriteError::Interrupted(stored) = error else {
        panic!("{error:?}");
    };
    assert_eq!(stored.content, "half");
}
