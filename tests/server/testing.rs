//! Tests of the module for testing applications.

use std::time::Duration;

use bytes::Bytes;
use roomcast::{
    Ack, Args, Config, Connect, Event, Io, Refusal,
    metrics::Size,
    testing::{ClientError, Transports, serve},
};
use serde_json::{Value, json};

fn echo() -> roomcast::Builder {
    Io::builder()
        .config(Config::default().ping_interval(Duration::from_millis(20)))
        .namespace("/", |namespace| {
            namespace
                .on("echo", async |_: Event, args: Args| Ack(args))
                .on("ask", async |event: Event, n: u8| {
                    let answer = event.socket.emit_with_ack::<Value>("question", n).await;
                    Ack(answer.ok())
                })
                .on("flood", async |event: Event, n: u32| {
                    for i in 0..n {
                        event.socket.emit("drop", i);
                    }
                })
                .on("silent", async |_: Event| roomcast::NoAck)
                .on("out", async |event: Event| event.socket.disconnect())
                .on("lost", async |event: Event| event.socket.conn().close())
        })
}

#[tokio::test]
async fn events_acknowledgements_and_binary_go_both_ways() {
    let server = serve(echo()).await;
    let mut client = server.client().connect().await.unwrap();
    assert!(server.io().of("/").socket(client.id()).is_some());
    let bytes = Bytes::from_static(&[1, 2, 3]);
    let args: Args = client
        .emit_with_ack("echo", ("a", json!({"b": null}), &bytes))
        .await
        .unwrap();
    assert_eq!(args.get::<Value>(1).unwrap(), json!({"b": null}));
    assert_eq!(args.get::<Bytes>(2).unwrap(), bytes);
    let sent = server.io().emit("big", "x".repeat(100_000));
    assert_eq!(sent.queued, 1);
    assert_eq!(client.event::<String>("big").await.unwrap().len(), 100_000);
    client.emit("ask", 3).await.unwrap();
    let question = client.next().await.unwrap();
    assert_eq!(question.name, "question");
    assert!(question.ack.is_some());
    client.ack(&question, "three").await.unwrap();
    // The client answers pings in the meantime: each ping is sent only after the answer to the
    // previous.
    while server.io().metrics().sized(Size::Queued) < 5 {
        assert_eq!(client.emit_with_ack::<u8>("echo", 7).await.unwrap(), 7);
    }
    client.disconnect().await;
    assert_eq!(server.io().count(), 0);
}

#[tokio::test]
async fn client_sends_credentials_and_gets_the_refusal() {
    let io = Io::builder().namespace("/staff", |namespace| {
        namespace
            .middleware(async |connect: Connect| {
                let auth: Option<Value> = connect.auth().ok();
                let handshake = connect.handshake();
                let all = (
                    auth == Some(json!({"token": "t"})),
                    handshake.query_value("a b").as_deref() == Some("c&d"),
                    handshake.header("x-test") == Some("yes"),
                );
                if all == (true, true, true) {
                    return Ok(());
                }
                Err(Refusal::new("NO", "no").data(json!({"why": 1})))
            })
            .on("where", async |event: Event| {
                Ack(event.namespace().name().to_owned())
            })
    });
    let server = serve(io).await;
    let client = server
        .client()
        .namespace("staff")
        .auth(json!({"token": "t"}));
    let refused = client.clone().connect().await.unwrap_err();
    assert_eq!(refused.to_string(), "the server refuses: no (NO)");
    let ClientError::Refused {
        code,
        message,
        data,
    } = refused
    else {
        panic!("{refused}")
    };
    assert_eq!(
        (code.as_str(), message.as_str(), data),
        ("NO", "no", Some(json!({"code": "NO", "why": 1})))
    );
    let client = client.query("a b", "c&d").header("x-test", "yes");
    let client = client.connect().await.unwrap();
    assert_eq!(
        client.emit_with_ack::<String>("where", ()).await.unwrap(),
        "/staff"
    );
    let unsendable = server.client().header("x", "a\r\nb").connect().await;
    assert!(matches!(unsendable, Err(ClientError::Options(_))));
}

#[tokio::test]
async fn client_gets_its_disconnect_reason() {
    let server = serve(echo()).await;
    for (event, goodbye) in [("out", true), ("lost", false)] {
        let mut client = server.client().connect().await.unwrap();
        client.emit(event, ()).await.unwrap();
        assert_eq!(client.closed().await.unwrap(), goodbye);
        let late = client.emit_with_ack::<()>("echo", ()).await.unwrap_err();
        let next = client.next().await.unwrap_err();
        for error in [late, next] {
            // Only a server that has sent a close packet is named as the cause.
            let is_named = error.to_string() == "io server disconnect";
            assert_eq!(is_named, goodbye, "{event}: {error:?}");
        }
    }
    let mut client = server.client().connect().await.unwrap();
    drop(server);
    assert!(client.closed().await.is_ok());
}

#[tokio::test]
async fn test_client_has_timeouts_and_bounded_queues() {
    let server = serve(echo()).await;
    let client = server.client().deadline(Duration::from_secs(5));
    let mut client = client.connect().await.unwrap();
    let late = client.emit_with_ack::<()>("silent", ()).await;
    assert!(matches!(late, Err(ClientError::Timeout(_))));
    assert!(matches!(
        client.event::<()>("never").await,
        Err(ClientError::Timeout(_))
    ));
    let mut client = server.client().connect().await.unwrap();
    let wrong = client.emit_with_ack::<u8>("echo", "text").await;
    assert!(matches!(wrong, Err(ClientError::Answer(_))));
    client.emit("flood", 2000).await.unwrap();
    // The client queues a limited number; the rest waits at the server, and none is lost.
    for i in 0..2000 {
        assert_eq!(client.event::<u32>("drop").await.unwrap(), i);
    }
}

#[tokio::test]
async fn a_client_may_use_any_transport() {
    let server = serve(echo()).await;
    for transports in [Transports::Polling, Transports::Upgrade] {
        let client = server.client().transports(transports);
        let mut client = client.connect().await.unwrap();
        let echoed: Args = client.emit_with_ack("echo", ("a", 1)).await.unwrap();
        assert_eq!(echoed.len(), 2);
        server.io().to(client.id()).emit("told", 7);
        assert_eq!(client.event::<u8>("told").await.unwrap(), 7);
        client.disconnect().await;
        assert_eq!(server.io().count(), 0);
    }
}

#[tokio::test]
async fn a_refused_event_is_an_error_with_its_code() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace.on("close", async |_: Event, room: String| {
            Err::<(), _>(Refusal::new("FORBIDDEN", format!("{room} stays")))
        })
    });
    let server = serve(io).await;
    let client = server.client().connect().await.unwrap();
    for (sent, code, message) in [
        (json!("lobby"), "FORBIDDEN", "lobby stays"),
        (
            json!(7),
            "INVALID_PAYLOAD",
            "argument 0: invalid type: expected a string, found an integer",
        ),
    ] {
        let refused = client.emit_with_ack::<()>("close", &sent).await;
        let Err(ClientError::Refused {
            code: got,
            message: said,
            data,
        }) = refused
        else {
            panic!("{refused:?}")
        };
        assert_eq!((&*got, &*said), (code, message));
        assert_eq!(data.unwrap()["code"], code);
    }
    // A request for any type returns the answer as received.
    let answer: Value = client.emit_with_ack("close", "lobby").await.unwrap();
    assert_eq!(answer["success"], false);
}

#[tokio::test]
async fn tuples_are_received_as_they_are_sent_in_both_directions() {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("two", async |_: Event| Ack((7_u8, "b")))
            .on("list", async |_: Event| Ack(vec![1_u8, 2]))
            .on("one", async |_: Event| Ack(((1_u8, 2_u8),)))
    });
    let server = serve(io).await;
    let mut client = server.client().connect().await.unwrap();
    let two: (u8, String) = client.emit_with_ack("two", ()).await.unwrap();
    assert_eq!(two, (7, "b".to_owned()));
    let all: Args = client.emit_with_ack("two", ()).await.unwrap();
    assert_eq!(all.len(), 2);
    let list: Vec<u8> = client.emit_with_ack("list", ()).await.unwrap();
    assert_eq!(list, [1, 2]);
    let ((first, second),) = client.emit_with_ack("one", ()).await.unwrap();
    assert_eq!((first, second), (1_u8, 2_u8));
    let wrong = client.emit_with_ack::<(u8, u8)>("two", ()).await;
    let wrong = wrong.unwrap_err().to_string();
    assert_eq!(
        wrong,
        "argument 1: invalid type: expected u8, found a string"
    );

    let socket = server.io().of("/").socket(client.id()).unwrap();
    let request = socket.emit_with_ack::<(u8, String)>("question", ());
    let question = client.next().await.unwrap();
    client.ack(&question, (5, "x")).await.unwrap();
    assert_eq!(request.await.unwrap(), (5, "x".to_owned()));
    let mut request = server.io().emit_with_acks::<(u8, Vec<u8>)>("all", ());
    let question = client.next().await.unwrap();
    client.ack(&question, (5, [1, 2].as_slice())).await.unwrap();
    let (_, answer) = request.next().await.unwrap();
    assert_eq!(answer.unwrap(), (5, vec![1, 2]));
    socket.emit("place", (3, 4));
    assert_eq!(client.event::<(i32, i32)>("place").await.unwrap(), (3, 4));
}

#[tokio::test]
async fn absence_of_events_can_be_asserted() {
    let server = serve(echo()).await;
    let mut client = server.client().connect().await.unwrap();
    client.nothing_within(Duration::ZERO).await.unwrap();
    server.io().emit("surprise", 1);
    let result = client.nothing_within(Duration::from_secs(10)).await;
    assert_eq!(
        result.unwrap_err().to_string(),
        "the unexpected event `surprise` arrived"
    );
    client.emit("out", ()).await.unwrap();
    let ended = client.nothing_within(Duration::from_secs(10)).await;
    assert!(matches!(ended, Err(ClientError::Disconnected(_))));
}

#[tokio::test]
async fn client_reconnects_on_request() {
    let io = Io::builder()
        .recovery(roomcast::options::Recovery::default())
        .namespace("/", |namespace| {
            namespace
                .middleware(async |connect: Connect| match connect.auth::<Value>() {
                    Ok(auth) if auth["token"] == "t" => Ok(()),
                    _ => Err(Refusal::new("NO", "no")),
                })
                .on("recovered", async |event: Event| {
                    Ack(event.socket.recovered())
                })
        });
    let server = serve(io).await;
    let client = server.client().auth(json!({"token": "t"}));
    let client = client.connect().await.unwrap();
    let id = client.id();
    let mut client = client.reconnect().await.unwrap();
    for n in 0..3 {
        server.io().emit("n", n);
    }
    assert_eq!(client.event::<u8>("n").await.unwrap(), 0);
    // Events that the test has taken count as received.
    for missed in [1, 2] {
        client = client.reconnect().await.unwrap();
        assert_eq!(client.id(), id);
        assert!(client.emit_with_ack::<bool>("recovered", ()).await.unwrap());
        assert_eq!(client.event::<u8>("n").await.unwrap(), missed);
    }

    // Without recovery it gets a new session.
    let server = serve(echo()).await;
    let client = server.client().connect().await.unwrap();
    let id = client.id();
    let again = client.reconnect().await.unwrap();
    assert_ne!(again.id(), id);
}
