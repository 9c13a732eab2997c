//! The client library against Roomcast servers and against other programs.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::Duration,
};

use bytes::Bytes;
use roomcast::{
    Ack, Connect, Event, Io, Refusal,
    client::{Client, ClientError, Connection, DisconnectReason, Options, Transports},
    options::Transport,
};
use serde_json::{Value, json};

use crate::{
    local::{Local, until},
    support::{DEADLINE, UnusedAddress},
};

const ALL: [Transports; 3] = [
    Transports::WebSocket,
    Transports::Polling,
    Transports::Upgrade,
];

fn server() -> Local {
    let mut io =
        Io::builder().config(roomcast::Config::default().ping_interval(Duration::from_millis(50)));
    io = io
        .namespace("/", |namespace| {
            namespace
                .on("echo", async |_: Event, text: Value| Ack(text))
                .on("bytes", async |event: Event, data: Bytes| {
                    event.socket.emit("bytes", data);
                })
                .on("ask", async |event: Event| {
                    let answer = event.socket.emit_with_ack::<Value>("question", "?");
                    let answer = answer.await.unwrap_or_default();
                    event.socket.emit("answered", answer);
                })
                .on("bye", async |event: Event| event.socket.disconnect())
        })
        .namespace("/closed", |namespace| {
            namespace.authenticate(|connect: Connect| async move {
                match connect.auth::<Value>() {
                    Ok(auth) if auth["token"] == "right" => Ok(roomcast::Principal::anonymous()),
                    _ => Err(Refusal::new("no", "not you").data(json!({"retry": false}))),
                }
            })
        });
    Local::serve(io)
}

fn url(server: &Local) -> String {
    format!("http://{}", server.address())
}

#[test]
fn every_transport_carries_events_acknowledgements_and_bytes() {
    let server = server();
    server.runtime.block_on(async {
        for transports in ALL {
            let client = Client::builder(url(&server)).transports(transports);
            let socket = client.connect().await.unwrap();
            let mut events = socket.stream_any();
            let sent = json!({"text": "ü\u{2028}\"", "n": [1, null]});
            let echoed: Value = socket.emit_with_ack("echo", &sent).await.unwrap();
            assert_eq!(echoed, sent, "{transports:?}");

            let bytes = Bytes::from_static(&[0, 1, 255]);
            socket.emit("bytes", &bytes).unwrap();
            let event = events.next().await.unwrap();
            assert_eq!(event.name, "bytes");
            assert_eq!(event.args.get::<Bytes>(0).unwrap(), bytes);

            socket.emit("ask", ()).unwrap();
            let question = events.next().await.unwrap();
            assert_eq!((&*question.name, question.wants_ack()), ("question", true));
            question.ack("42").unwrap();
            let answered = events.next().await.unwrap();
            assert_eq!(answered.args.get::<String>(0).unwrap(), "42");
            socket.disconnect().await;
        }
    });
    until(|| server.io.of("/").count() == 0);
}

#[test]
fn an_upgrade_ends_on_the_websocket_and_loses_nothing() {
    let server = server();
    server.runtime.block_on(async {
        let mut options = Options::new(url(&server));
        options.transports = Transports::Upgrade;
        let mut connection = Connection::open(&options).await.unwrap();
        let mut answered = 0;
        let mut requests = 0;
        while connection.is_upgrading() || answered < requests {
            if connection.is_upgrading() {
                connection.request("echo", &requests).unwrap();
                requests += 1;
            }
            let packet = connection.next().await.unwrap();
            assert_eq!(packet.args.get::<u64>(0).unwrap(), answered);
            answered += 1;
        }
        assert_eq!(connection.transport(), Transport::WebSocket);
        connection.close().await.unwrap();
    });
}

#[test]
fn pings_are_answered_by_waiting_for_the_next_packet() {
    let server = server();
    server.runtime.block_on(async {
        for transports in ALL {
            let mut options = Options::new(url(&server));
            options.transports = transports;
            let mut connection = Connection::open(&options).await.unwrap();
            while connection.pings() < 3 {
                let wait = tokio::time::timeout(Duration::from_millis(50), connection.next());
                assert!(wait.await.is_err(), "nothing is sent but pings");
            }
        }
    });
}

#[test]
fn a_refused_namespace_is_an_error_with_its_reason() {
    let server = server();
    server.runtime.block_on(async {
        let closed = format!("{}/closed", url(&server));
        let error = Client::builder(&closed).connect().await.unwrap_err();
        let ClientError::Refused { message, data, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(message, "not you");
        assert_eq!(data.as_ref().unwrap()["retry"], false);
        let client = Client::builder(&closed).auth(json!({"token": "right"}));
        assert!(client.connect().await.is_ok());
        let error = Client::builder(format!("{}/none", url(&server))).connect();
        let error = error.await.unwrap_err().to_string();
        assert_eq!(error, "the server refuses: Invalid namespace");
    });
}

#[test]
fn the_end_of_a_connection_ends_its_client() {
    let server = server();
    server.runtime.block_on(async {
        for transports in ALL {
            let mut options = Options::new(url(&server));
            options.transports = transports;
            let mut connection = Connection::open(&options).await.unwrap();
            connection.emit("bye", &()).unwrap();
            let error = connection.next().await.unwrap_err();
            let expected = DisconnectReason::ServerDisconnect;
            assert!(
                matches!(error, ClientError::Disconnected(reason) if reason == expected),
                "{error:?}"
            );

            let client = Client::builder(url(&server)).transports(transports);
            let socket = client.connect().await.unwrap();
            let mut ends = socket.stream("disconnect");
            socket.emit("bye", ()).unwrap();
            let reason: DisconnectReason = ends.next().await.unwrap().args.get(0).unwrap();
            assert_eq!(reason, DisconnectReason::ServerDisconnect, "{transports:?}");
            assert!(!socket.is_active());
        }
    });
}

#[test]
fn emit_beyond_the_queue_limit_is_refused() {
    let server = server();
    server.runtime.block_on(async {
        let mut options = Options::new(url(&server));
        options.max_queued = 1000;
        let mut connection = Connection::open(&options).await.unwrap();
        let error = connection.emit("echo", &"x".repeat(1000)).unwrap_err();
        assert!(matches!(error, ClientError::Full), "{error:?}");
    });
}

/// Listens and answers every connection with these bytes.
fn other_server(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer);
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn other_server_is_reported_in_one_line() {
    let cases: [(&[u8], &str); 6] = [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope",
            "status 404",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", ""),
        (b"SSH-2.0-OpenSSH_9.2\r\n", ""),
        (b"", "without an answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", ""),
        (b"\x00\x01\x02\xff", ""),
    ];
    for transports in [Transports::WebSocket, Transports::Polling] {
        for (answer, reason) in cases {
            let client = Client::builder(other_server(answer)).transports(transports);
            let error = client.connect().await.unwrap_err();
            assert!(
                matches!(error, ClientError::NotSocketIo(_)),
                "{transports:?} {error:?}"
            );
            let line = error.to_string();
            assert!(
                line.contains(reason) && !line.contains(char::is_control),
                "{line:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_refusal_of_engine_io_has_its_words() {
    let url = other_server(
        b"HTTP/1.1 403 Forbidden\r\nContent-Length: 39\r\n\r\n{\"code\":4,\"message\":\"Forbidden, sorry\"}",
    );
    for transports in [Transports::WebSocket, Transports::Polling] {
        let error = Client::builder(&url).transports(transports).connect().await;
        let error = error.unwrap_err();
        assert!(
            matches!(error, ClientError::Status { status: 403, .. }),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn unreachable_and_silent_server_have_distinct_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let silent = Client::builder(format!("http://{address}"));
    let silent = silent.connect_timeout(Duration::from_millis(100));
    let error = silent.connect().await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    let unheard = UnusedAddress::new();
    let nowhere = Client::builder(format!("http://{}", unheard.address()));
    let error = nowhere.connect().await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error:?}");
}
