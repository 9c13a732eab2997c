//! A handler sees and sends the same with all parsers.

use std::time::Duration;

use bytes::Bytes;
use roomcast::{
    Ack, Args, Config, Connect, Event, Io, Parser, Refusal,
    metrics::Gauge,
    options::Recovery,
    testing::{Client, ClientError, TestServer, serve},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::custom_parsers::Bundles;

const PARSERS: [Parser; 3] = [Parser::Json, Parser::MessagePack, Parser::custom(&Bundles)];

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Upload {
    file_name: String,
    size: u64,
    ratio: f64,
    parts: Vec<Part>,
    comment: Option<String>,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Part {
    data: Bytes,
    tags: std::collections::BTreeMap<u8, String>,
}

fn upload() -> Upload {
    let part = |data: &'static [u8]| Part {
        data: Bytes::from_static(data),
        tags: [(1, "a".to_owned()), (200, "é".to_owned())].into(),
    };
    Upload {
        file_name: "x.png".into(),
        size: u64::from(u32::MAX) + 1,
        ratio: -0.25,
        parts: vec![part(&[1, 2, 3]), part(&[])],
        comment: None,
    }
}

async fn server(parser: Parser) -> TestServer {
    let io = Io::builder()
        .config(Config::default().parser(parser))
        .recovery(Recovery::default())
        .namespace("/auth", |namespace| {
            namespace.middleware(async |connect: Connect| {
                let token: Result<Bytes, _> = connect.auth::<Part>().map(|auth| auth.data);
                match token {
                    Ok(token) if token == b"secret"[..] => Ok(()),
                    _ => Err(Refusal::new("E", "no").data(json!({"retry": [1, null]}))),
                }
            })
        })
        .namespace("/", |namespace| {
            namespace
                .on(
                    "typed",
                    async |_: Event, mut upload: Upload, last: Option<u8>| {
                        upload.parts.reverse();
                        upload.comment = last.map(|last| last.to_string());
                        Ack(upload)
                    },
                )
                .on("values", async |event: Event, values: Vec<Value>| {
                    Ack((values, event.args().len()))
                })
                .on("echo", async |event: Event, rest: Args| {
                    event.socket.emit("echo", rest.clone());
                    Ack(rest)
                })
                .on(
                    "second",
                    async |_: Event, _: roomcast::Value, rest: Args| Ack(rest),
                )
                .on("ask", async |event: Event| {
                    let answer = event.socket.emit_with_ack::<Upload>("question", upload());
                    answer
                        .await
                        .map(Ack)
                        .map_err(|error| Refusal::new("ASK", error.to_string()))
                })
                .on("tell", async |event: Event, room: String| {
                    event.socket.join(&room)?;
                    event.io().to(&room).emit("told", (upload(), 1));
                    Ok::<_, roomcast::errors::JoinError>(())
                })
        });
    serve(io).await
}

#[tokio::test]
async fn typed_arguments_mean_the_same() {
    for parser in PARSERS {
        let server = server(parser).await;
        let client = server.client().connect().await.unwrap();
        let mut expected = upload();
        expected.parts.reverse();
        let answer: Upload = client.emit_with_ack("typed", upload()).await.unwrap();
        assert_eq!(answer, expected, "{parser:?}");
        expected.comment = Some("7".into());
        let answer: Upload = client.emit_with_ack("typed", (upload(), 7)).await.unwrap();
        assert_eq!(answer, expected, "{parser:?}");
    }
}

#[tokio::test]
async fn invalid_argument_is_refused_with_the_same_text() {
    let wrong = [
        json!({"fileName": 1}),
        json!({"fileName": "x", "size": -1}),
        json!({"fileName": "x", "size": 1, "ratio": 1, "parts": [{"data": [1], "tags": {}}]}),
        json!({"fileName": "x", "other": 1}),
        json!("text"),
        json!(null),
    ];
    for value in wrong {
        let mut answers = Vec::new();
        for parser in PARSERS {
            let server = server(parser).await;
            let client = server.client().connect().await.unwrap();
            let answer: Value = client.emit_with_ack("typed", (&value,)).await.unwrap();
            assert_eq!(answer["error"]["code"], "INVALID_PAYLOAD", "{parser:?}");
            answers.push(answer);
        }
        assert!(answers.iter().all(|answer| *answer == answers[0]));
    }
}

#[tokio::test]
async fn values_and_raw_arguments_mean_the_same() {
    let list =
        json!([1, -1, 0.5, "é", null, true, {"a": [{"b": {}}]}, 18_446_744_073_709_551_615_u64]);
    for parser in PARSERS {
        let server = server(parser).await;
        let mut client = server.client().connect().await.unwrap();
        let (values, count): (Value, usize) = {
            let answer: Args = client.emit_with_ack("values", (&list,)).await.unwrap();
            (answer.get(0).unwrap(), answer.get(1).unwrap())
        };
        assert_eq!((&values, count), (&list, 1), "{parser:?}");

        let sent = (upload(), &list, Bytes::from_static(&[9; 300]));
        let echoed: Args = client.emit_with_ack("echo", &sent).await.unwrap();
        // Recovery adds an offset to emitted events only.
        let event = client.event::<Args>("echo").await.unwrap();
        for args in [&echoed, &event] {
            let inside = match parser {
                // Arguments of a custom parser are JSON inside the server.
                Parser::Custom(_) => Parser::Json,
                parser => parser,
            };
            assert_eq!(args.parser(), inside);
            assert_eq!(args.get(0), Ok(upload()));
            assert_eq!(args.get(1), Ok(list.clone()));
            assert_eq!(args.get(2), Ok(sent.2.clone()));
            assert_eq!(args.get(2), Ok(roomcast::Value::from(sent.2.clone())));
            assert!(args.get::<Value>(2).is_err(), "JSON has no binary");
        }
        assert_eq!((echoed.len(), event.len()), (3, 4));

        let rest: Args = client.emit_with_ack("second", &sent).await.unwrap();
        assert_eq!(rest.len(), 2, "{rest:?}");
        assert_eq!(rest.get(1), Ok(sent.2.clone()));
    }
}

#[tokio::test]
async fn requests_and_broadcasts_reach_both_parsers() {
    for parser in PARSERS {
        let server = server(parser).await;
        let mut ann = server.client().connect().await.unwrap();
        let mut bob = server.client().connect().await.unwrap();
        for client in [&mut ann, &mut bob] {
            client.emit("ask", ()).await.unwrap();
            let question = client.next().await.unwrap();
            assert_eq!(question.args.get(0), Ok(upload()));
            client.ack(&question, upload()).await.unwrap();
        }
        let _: Args = bob.emit_with_ack("tell", "room").await.unwrap();
        assert_eq!(bob.event::<Upload>("told").await.unwrap(), upload());
        let _: Args = ann.emit_with_ack("tell", "room").await.unwrap();
        for client in [&mut ann, &mut bob] {
            assert_eq!(client.event::<Upload>("told").await.unwrap(), upload());
        }
        let with_timeout = server.io().timeout(Duration::from_secs(10));
        let mut answers = with_timeout.emit_with_acks::<u8>("number?", ());
        for client in [&mut ann, &mut bob] {
            let question = client.next().await.unwrap();
            client.ack(&question, 5).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(answers.next().await.unwrap().1.unwrap(), 5);
        }
        assert!(answers.next().await.is_none());
    }
}

#[tokio::test]
async fn connect_refusal_has_its_data() {
    for parser in PARSERS {
        let server = server(parser).await;
        let client = server.client().namespace("/auth").auth(json!({"data": 1}));
        match client.connect().await {
            Err(ClientError::Refused {
                code,
                message,
                data,
            }) => {
                assert_eq!((&*code, &*message), ("E", "no"));
                assert_eq!(data, Some(json!({"code": "E", "retry": [1, null]})));
            }
            other => panic!("{other:?}"),
        }
        let client = server.client().namespace("/nowhere").connect().await;
        assert!(
            matches!(client, Err(ClientError::Refused { .. })),
            "{parser:?}"
        );
    }
}

/// Connects a client in the room that has received an event, and returns that event's offset.
async fn received(server: &TestServer) -> (Client, String) {
    let mut client = server.client().connect().await.unwrap();
    let _: Args = client.emit_with_ack("tell", "room").await.unwrap();
    let received: Args = client.event("told").await.unwrap();
    assert_eq!(received.len(), 3);
    (client, received.get(2).unwrap())
}

#[tokio::test]
async fn reconnecting_client_gets_missed_events() {
    for parser in PARSERS {
        let server = server(parser).await;
        let (client, offset) = received(&server).await;
        let (id, pid) = (client.id(), client.pid().unwrap().to_owned());
        drop(client);
        let recoverable = || server.io().metrics().gauge(Gauge::RecoverySessions);
        let disconnecting = async {
            while recoverable() == 0 {
                tokio::task::yield_now().await;
            }
        };
        let disconnecting = tokio::time::timeout(Duration::from_secs(20), disconnecting).await;
        disconnecting.expect("the client is away");

        let room = server.io().to("room");
        let bytes = Bytes::from_static(&[7; 300]);
        room.emit("missed", (1, upload(), &bytes));
        room.clone().volatile().emit("lost", 2);
        room.emit("missed", ());
        let back = server.client().auth(json!({"pid": pid, "offset": offset}));
        let mut client = back.connect().await.unwrap();
        assert_eq!((client.id(), client.pid()), (id, Some(&*pid)));
        let missed: Args = client.event("missed").await.unwrap();
        assert_eq!(missed.get(1), Ok(upload()), "{parser:?}");
        assert_eq!(missed.get(2), Ok(bytes.clone()), "{parser:?}");
        let first: String = missed.get(3).unwrap();
        let last = client.next().await.unwrap();
        assert_eq!((last.name.as_str(), last.args.len()), ("missed", 1));
        let last: String = last.args.get(0).unwrap();
        room.emit("after", &bytes);
        let after: Args = client.event("after").await.unwrap();
        assert_eq!(after.get(0), Ok(bytes), "{parser:?}");
        let offsets = [offset, first, last, after.get(1).unwrap()];
        let unlike = |i: usize| !offsets[..i].contains(&offsets[i]);
        assert!((0..4).all(unlike), "{offsets:?}");
    }
}

#[tokio::test]
async fn invalid_offer_starts_a_new_session() {
    for parser in PARSERS {
        let server = server(parser).await;
        let (client, offset) = received(&server).await;
        let (id, pid) = (client.id(), client.pid().unwrap().to_owned());
        for offer in [
            json!({}),
            json!({"offset": offset}),
            json!({"pid": pid, "offset": 7}),
            json!({"pid": pid, "offset": -1.5}),
            json!({"pid": pid, "offset": true}),
            json!({"pid": pid, "offset": [offset]}),
            json!({"pid": {"pid": pid}, "offset": offset}),
            json!({"pid": pid, "offset": "x".repeat(1000)}),
            json!({"pid": id, "offset": offset}),
        ] {
            let other = server.client().auth(offer.clone()).connect().await.unwrap();
            assert_ne!(other.id(), id, "{parser:?} {offer}");
            assert_ne!(other.pid(), Some(&*pid), "{parser:?} {offer}");
        }
        assert_eq!(client.emit_with_ack::<u8>("echo", 1).await.unwrap(), 1);
    }
}
