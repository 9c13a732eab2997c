//! Acknowledgements in both directions.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use roomcast::{
    Ack, AckError, Args, Config, Event, Io, NoAck, Refusal, Socket, SocketId,
    metrics::{Counter, Gauge},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::local::{Local, text, until};

#[derive(Deserialize)]
#[expect(dead_code, reason = "only its shape matters")]
struct Message {
    content: String,
    tags: Vec<u8>,
}

fn server() -> Local {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("nothing", async |_: Event| {})
            .on("one", async |_: Event| Ack(json!({"a": 1})))
            .on("two", async |_: Event| Ack((1, "b")))
            .on("list", async |_: Event| Ack(vec![1, 2]))
            .on("silent", async |_: Event| NoAck)
            .on("optional", async |_: Event, a: u8, b: Option<u8>| {
                Ack((a, b))
            })
            .on("rest", async |_: Event, _: Value, rest: Args| Ack(rest))
            .on("message", async |_: Event, _: Message| {})
            .on("refuse", async |_: Event, yes: bool| {
                if yes {
                    Err(Refusal::new("NO", "not now").data(json!({"retryAfter": 5})))
                } else {
                    Ok(())
                }
            })
            .on("panic", async |event: Event| {
                assert!(event.name() != "panic", "a fault")
            })
            .on("late panic", async |event: Event| {
                tokio::task::yield_now().await;
                assert!(event.name() != "late panic", "a fault");
            })
    });
    Local::serve(io)
}

#[test]
fn return_value_of_a_handler_is_the_acknowledgement() {
    let (mut client, _) = server().connect_with_server();
    for (event, answer) in [
        ("421[\"nothing\"]", "431[]"),
        ("422[\"one\"]", "432[{\"a\":1}]"),
        ("423[\"two\"]", "433[1,\"b\"]"),
        ("424[\"list\"]", "434[[1,2]]"),
        ("425[\"optional\",1]", "435[1,null]"),
        ("426[\"optional\",1,2]", "436[1,2]"),
        (
            "427[\"rest\",1,{\"é\": 2.50},null]",
            "437[{\"é\": 2.50},null]",
        ),
        ("428[\"refuse\",false]", "438[]"),
    ] {
        client.0.send_text(event);
        client.0.expect_text(answer);
    }
}

#[test]
fn events_without_id_or_handler_are_not_answered() {
    let (mut client, _) = server().connect_with_server();
    for event in [
        "42[\"one\"]",
        "421[\"silent\"]",
        "422[\"unknown\"]",
        "423[\"__proto__\",1]",
    ] {
        client.0.send_text(event);
    }
    client.0.send_text("429[\"nothing\"]");
    client.0.expect_text("439[]");
}

#[test]
fn failures_are_error_acknowledgements() {
    let (mut client, _) = server().connect_with_server();
    let error = |code: &str, message: &str| {
        format!("{{\"success\":false,\"error\":{{\"code\":\"{code}\",\"message\":\"{message}\"}}}}")
    };
    let invalid = |field: &str, message: &str| {
        format!(
            "{{\"success\":false,\"error\":{{\"code\":\"INVALID_PAYLOAD\",\"message\":\"{message}\",\
             \"details\":{{\"field\":\"{field}\"}}}}}}"
        )
    };
    for (event, answer) in [
        (
            "421[\"message\"]",
            invalid("[0]", "argument 0: missing: expected an object"),
        ),
        (
            "421[\"message\",7]",
            invalid(
                "[0]",
                "argument 0: invalid type: expected an object, found an integer",
            ),
        ),
        (
            "421[\"message\",{\"content\":[]}]",
            invalid(
                "content",
                "argument 0 at `content`: invalid type: expected a string, found an array",
            ),
        ),
        (
            "421[\"message\",{\"content\":\"\"}]",
            invalid("tags", "argument 0 at `tags`: missing field"),
        ),
        (
            "421[\"message\",{\"content\":\"\",\"tags\":[1,true]}]",
            invalid(
                "tags[1]",
                "argument 0 at `tags[1]`: invalid type: expected u8, found a boolean",
            ),
        ),
        (
            "421[\"optional\",1,\"x\"]",
            invalid(
                "[1]",
                "argument 1: invalid type: expected u8, found a string",
            ),
        ),
        ("421[\"panic\"]", error("INTERNAL", "internal error")),
        ("421[\"late panic\"]", error("INTERNAL", "internal error")),
    ] {
        client.0.send_text(event);
        client.0.expect_text(&format!("431[{answer}]"));
    }
    client.0.send_text("421[\"refuse\",true]");
    client.0.expect_text(
        "431[{\"success\":false,\"error\":{\"code\":\"NO\",\"message\":\"not now\",\"retryAfter\":5}}]",
    );
    let metrics = client.1.io.metrics();
    assert_eq!(metrics.counter(Counter::EventsInvalid), 6);
    assert_eq!(metrics.counter(Counter::HandlerPanics), 2);
}

#[test]
fn failures_of_unacknowledged_events_go_to_the_hook() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("number", async |_: Event, _: f64| {})
            .on("panic", async |event: Event| {
                assert!(event.name() != "panic", "a fault")
            })
            .fallback(async |_: Event| Err::<(), _>(Refusal::new("UNKNOWN", "no such event")))
            .on_error(|failure| {
                assert!(failure.refusal.code() != "INTERNAL", "a fault in the hook");
                if failure.answered {
                    return;
                }
                failure
                    .socket
                    .emit("error", (failure.event, failure.refusal.code()));
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("42[\"number\",\"x\"]");
    client.expect_text("42[\"error\",\"number\",\"INVALID_PAYLOAD\"]");
    client.send_text("42[\"panic\"]");
    client.send_text("42[\"what\",1]");
    client.expect_text("42[\"error\",\"what\",\"UNKNOWN\"]");
    client.send_text("427[\"what\",1]");
    client.expect_text(
        "437[{\"success\":false,\"error\":{\"code\":\"UNKNOWN\",\"message\":\"no such event\"}}]",
    );
}

#[test]
fn watchers_see_every_event_and_answer_none() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("known", async |_: Event| Ack(1))
            .on_any(async |event: Event, args: Args| {
                event.socket.emit("seen", (event.name(), args.len()));
                Ack("never sent")
            })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("425[\"known\"]");
    client.expect_text("42[\"seen\",\"known\",0]");
    client.expect_text("435[1]");
    client.send_text("426[\"unknown\",1,2]");
    client.expect_text("42[\"seen\",\"unknown\",2]");
    // An answer by the watcher would arrive before this.
    client.send_text("427[\"known\"]");
    client.expect_text("42[\"seen\",\"known\",0]");
    client.expect_text("437[1]");
}

/// Starts a server whose sockets send requests as the event `ask` specifies, and report the
/// outcome.
fn requesting_server(config: Config) -> Local {
    let io = Io::builder().config(config).namespace("/", |namespace| {
        namespace.on("ask", async |event: Event, millis: u64| {
            let requesting_server = event.socket.timeout(Duration::from_millis(millis));
            let answer = requesting_server.emit_with_ack::<u8>("question", 42).await;
            let shown = answer.map_or_else(|error| error.to_string(), |answer| answer.to_string());
            event.socket.emit("answer", shown);
        })
    });
    Local::serve(io)
}

#[test]
fn client_acknowledges_an_event_of_the_server() {
    let server = requesting_server(Config::default());
    let (mut client, _) = server.connect();
    client.send_text("42[\"ask\",20000]");
    client.expect_text("420[\"question\",42]");
    client.send_text("430[7]");
    client.expect_text("42[\"answer\",\"7\"]");
    // The next request, answered with a value of the wrong type.
    client.send_text("42[\"ask\",20000]");
    client.expect_text("421[\"question\",42]");
    client.send_text("431[\"seven\"]");
    client.expect_text(
        "42[\"answer\",\"the acknowledgement has an unexpected shape: \
         argument 0: invalid type: expected u8, found a string\"]",
    );
    assert_eq!(server.io.metrics().gauge(Gauge::AcksPending), 0);
}

#[test]
fn late_double_and_foreign_answers_are_ignored_and_counted() {
    let server = requesting_server(Config::default());
    let (mut client, _) = server.connect();
    let (mut stranger, _) = server.connect();
    client.send_text("42[\"ask\",1]");
    client.expect_text("420[\"question\",42]");
    client.expect_text("42[\"answer\",\"operation has timed out\"]");
    client.send_text("430[7]");
    client.send_text("42[\"ask\",20000]");
    client.expect_text("421[\"question\",42]");
    stranger.send_text("431[8]");
    until(|| server.io.metrics().counter(Counter::AcksUnknown) == 2);
    client.send_text("431[9]");
    client.send_text("431[10]");
    client.expect_text("42[\"answer\",\"9\"]");
    until(|| server.io.metrics().counter(Counter::AcksUnknown) == 3);
    assert_eq!(server.io.metrics().counter(Counter::AcksTimedOut), 1);
    assert_eq!(server.io.metrics().gauge(Gauge::AcksPending), 0);
}

#[test]
fn acknowledgement_has_a_default_timeout() {
    let io = Io::builder()
        .config(Config::default().ack_timeout(Duration::from_millis(50)))
        .namespace("/", |namespace| {
            namespace.on("ask", async |event: Event| {
                let answer = event.socket.emit_with_ack::<u8>("question", ()).await;
                Ack(answer.unwrap_err().to_string())
            })
        });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("421[\"ask\"]");
    client.expect_text("420[\"question\"]");
    client.expect_text("431[\"operation has timed out\"]");
    assert_eq!(server.io.metrics().gauge(Gauge::AcksPending), 0);
}

#[test]
fn only_so_many_answers_may_be_outstanding() {
    let server = requesting_server(Config::default().max_pending_acks(1));
    let (mut client, _) = server.connect();
    client.send_text("42[\"ask\",20000]");
    client.expect_text("420[\"question\",42]");
    client.send_text("42[\"ask\",20000]");
    client.expect_text("42[\"answer\",\"too many acknowledgements are outstanding\"]");
    client.send_text("430[7]");
    client.expect_text("42[\"answer\",\"7\"]");
}

#[test]
fn pending_acknowledgement_fails_when_the_client_leaves() {
    let outcome = Arc::new(Mutex::new(None));
    let stored = Arc::clone(&outcome);
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("ask", move |event: Event| {
            let stored = Arc::clone(&stored);
            async move {
                let answer = event.socket.emit_with_ack::<u8>("question", ()).await;
                *stored.lock().unwrap() = Some(answer);
            }
        })
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    client.send_text("42[\"ask\"]");
    client.expect_text("420[\"question\"]");
    client.send_text("41");
    until(|| matches!(*outcome.lock().unwrap(), Some(Err(AckError::Disconnected))));
    assert_eq!(server.io.metrics().gauge(Gauge::AcksPending), 0);
}

#[test]
fn room_request_sends_one_frame_and_returns_partial_results() {
    let server = server();
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    let ids: Vec<SocketId> = clients
        .iter()
        .map(|(_, id)| SocketId::parse(id).unwrap())
        .collect();
    let room = server.io.to(&ids[..3]).timeout(Duration::from_secs(10));
    let mut answers = room.emit_with_acks::<u8>("ready?", ());
    assert_eq!(answers.expected(), 3);
    for (client, _) in &mut clients[..3] {
        client.expect_text("420[\"ready?\"]");
    }
    clients[0].0.send_text("430[1]");
    clients[0].0.send_text("430[2]");
    clients[3].0.send_text("430[3]"); // Has no pending request.
    clients[1].0.send_text("41");
    let mut got = Vec::new();
    server.runtime.block_on(async {
        while let Some((socket, answer)) = answers.next().await {
            got.push((socket.unwrap(), answer.map_err(|error| error.to_string())));
        }
    });
    got.sort_by_key(|(socket, _)| ids.iter().position(|id| id == socket));
    let disconnected = "socket has been disconnected".to_owned();
    let late = "operation has timed out".to_owned();
    assert_eq!(
        got,
        [
            (ids[0].clone(), Ok(1)),
            (ids[1].clone(), Err(disconnected)),
            (ids[2].clone(), Err(late))
        ]
    );
    drop(answers);
    assert_eq!(server.io.metrics().gauge(Gauge::AcksPending), 0);
}

#[test]
fn a_room_without_members_has_answered() {
    let server = server();
    let room = server.io.to("nobody");
    let mut answers = room.emit_with_acks::<u8>("ready?", ());
    assert_eq!(answers.expected(), 0);
    assert!(server.runtime.block_on(answers.next()).is_none());
    assert!(answers.error().is_none());
}

#[test]
fn emit_returns_its_outcome() {
    let server = server();
    let (_client, id) = server.connect();
    let socket: Socket = server
        .io
        .of("/")
        .socket(SocketId::parse(&id).unwrap())
        .unwrap();
    assert_eq!(socket.emit("hi", ()).ok().unwrap().queued, 1);
    assert!(socket.emit("connect", ()).ok().is_err());
    assert!(socket.emit("disconnect", ()).error.is_some());
    socket.disconnect();
    assert_eq!(socket.emit("hi", ()).closed, 1);
    assert!(socket.emit("hi", ()).ok().is_err());
    assert_eq!(server.io.emit("hi", ()).ok().unwrap().queued, 0);
}

impl Local {
    /// Returns a client in `/` together with its server.
    fn connect_with_server(self) -> ((crate::support::RawClient, Self), String) {
        let (client, id) = self.connect();
        ((client, self), id)
    }
}

#[test]
fn escaped_event_name_is_decoded() {
    let (mut client, _) = server().connect_with_server();
    client.0.send_text("421[\"n\\u006fthing\"]");
    assert_eq!(text(&mut client.0), "431[]");
}

#[test]
fn null_is_an_argument_and_unit_is_none() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("emit", async |event: Event| {
                event.socket.emit("null", Value::Null);
                event.socket.emit("none", None::<u8>);
                event.socket.emit("unit", ());
                event.socket.emit("two", ((), Value::Null));
            })
            .on("null", async |_: Event| Ack(Value::Null))
            .on("none", async |_: Event| Ack(None::<u8>))
            .on("unit", async |_: Event| Ack(()))
            .on("echo", async |_: Event, value: Value| Ack(value))
    });
    let server = Local::serve(io);
    let (mut client, _) = server.connect();
    for (packet, answers) in [
        (
            "42[\"emit\"]",
            &[
                "42[\"null\",null]",
                "42[\"none\",null]",
                "42[\"unit\"]",
                "42[\"two\",null,null]",
            ][..],
        ),
        ("421[\"null\"]", &["431[null]"]),
        ("422[\"none\"]", &["432[null]"]),
        ("423[\"unit\"]", &["433[]"]),
        ("424[\"echo\",null]", &["434[null]"]),
    ] {
        client.send_text(packet);
        for answer in answers {
            client.expect_text(answer);
        }
    }
}

#[tokio::test]
async fn early_acknowledgement_is_sent_once_before_the_handler_ends() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("early", async |event: Event| {
                event.ack(("accepted", 1)).unwrap();
                event.ack("again").unwrap();
                // The client has received the acknowledgement, because it answers this request.
                let answer = event.socket.emit_with_ack::<u8>("go on?", ()).await;
                event.socket.emit("done", answer.unwrap());
                Ack("too late")
            })
            .on("fails", async |event: Event| {
                event.ack("accepted").unwrap();
                Err::<(), _>(Refusal::new("NO", "not now"))
            })
            .on_error(|failure| {
                assert!(!failure.answered, "the client has got another answer");
                failure.socket.emit("failed", failure.refusal.code());
            })
    });
    let server = roomcast::testing::serve(io).await;
    let mut client = server.client().connect().await.unwrap();
    let accepted: (String, u8) = client.emit_with_ack("early", ()).await.unwrap();
    assert_eq!(accepted, ("accepted".to_owned(), 1));
    let question = client.next().await.unwrap();
    assert_eq!(question.name, "go on?");
    client.ack(&question, 7).await.unwrap();
    assert_eq!(client.event::<u8>("done").await.unwrap(), 7);
    let accepted: String = client.emit_with_ack("fails", ()).await.unwrap();
    assert_eq!(accepted, "accepted");
    assert_eq!(client.event::<String>("failed").await.unwrap(), "NO");
    // Without a request for an acknowledgement none is sent.
    client.emit("early", ()).await.unwrap();
    let question = client.next().await.unwrap();
    assert_eq!(question.name, "go on?");
}
