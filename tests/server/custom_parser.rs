//! Packet formats of an application, and the limits for peers that use them.

use roomcast::{
    Ack, Args, Config, Event, Io, Parser, metrics::Counter, testing::serve, types::Bytes,
};
use serde_json::{Value, json};

use crate::{
    custom_parsers::{Bundles, JsonObjects},
    local::{Local, text, until},
    support::RawClient,
};

fn server(parser: Parser) -> Local {
    let config = Config::default()
        .parser(parser)
        .max_payload(10_000)
        .max_attachments(2);
    let io = Io::builder().config(config).namespace("/", |namespace| {
        namespace.on("echo", async |_: Event, rest: Args| Ack(rest))
    });
    Local::serve(io)
}

/// Sends a text message with the Engine.IO packet type `4`.
fn send(client: &mut RawClient, text: &str) {
    client.send_text(format!("4{text}"));
}

fn packet(client: &mut RawClient) -> Value {
    let text = text(client);
    let packet = text.strip_prefix('4').unwrap();
    serde_json::from_str(packet).unwrap()
}

fn connect(server: &Local) -> RawClient {
    let mut client = RawClient::connect(server.address());
    client.open_websocket("/socket.io/");
    send(&mut client, &json!({"type": 0, "nsp": "/"}).to_string());
    let hello = packet(&mut client);
    assert_eq!((&hello["type"], &hello["nsp"]), (&json!(0), &json!("/")));
    assert_eq!(hello["data"]["sid"].as_str().map(str::len), Some(20));
    client
}

#[test]
fn packets_have_the_format_of_the_custom_parser() {
    let server = server(Parser::custom(&JsonObjects));
    let mut client = connect(&server);
    let event = json!({"type": 2, "nsp": "/", "id": 7, "data": ["echo", {"a": [1, null]}]});
    send(&mut client, &event.to_string());
    let answer = json!({"type": 3, "nsp": "/", "id": 7, "data": [{"a": [1, null]}]});
    assert_eq!(packet(&mut client), answer);
    assert_eq!(server.io.emit("hi", ("é", 1)).queued, 1);
    let event = json!({"type": 2, "nsp": "/", "data": ["hi", "é", 1]});
    assert_eq!(packet(&mut client), event);
    send(&mut client, &json!({"type": 0, "nsp": "/none"}).to_string());
    let refused = json!({"type": 4, "nsp": "/none", "data": {"message": "Invalid namespace"}});
    assert_eq!(packet(&mut client), refused);
    // A value that the format cannot represent is refused by the sender, and nothing else is lost.
    let emitted = server.io.emit("binary", Bytes::from_static(b"x"));
    let error = emitted.error.unwrap().to_string();
    assert!(error.contains("JSON has no binary"), "{error}");
    server.io.disconnect();
    assert_eq!(packet(&mut client), json!({"type": 1, "nsp": "/"}));
}

#[test]
fn malformed_custom_packets_close_the_connection() {
    let server = server(Parser::custom(&Bundles));
    let deep = "[".repeat(120) + &"]".repeat(120);
    let deeper = "[".repeat(200) + &"]".repeat(200);
    let ok = format!(r#"{{"type":2,"nsp":"/","id":1,"data":["echo",{deep}]}}"#);
    let mut client = connect(&server);
    send(&mut client, &ok);
    assert_eq!(packet(&mut client)["id"], 1);
    let long = "x".repeat(300);
    let errors = server.io.metrics();
    for (i, wrong) in [
        "".to_owned(),
        "2[\"echo\"]".to_owned(),
        json!({"type": 7, "nsp": "/"}).to_string(),
        json!({"type": 2, "nsp": "/", "data": {"echo": 1}}).to_string(),
        json!({"type": 2, "nsp": "/", "data": []}).to_string(),
        json!({"type": 2, "nsp": "/", "data": [null]}).to_string(),
        json!({"type": 2, "nsp": "/", "data": ["connect"]}).to_string(),
        json!({"type": 2, "nsp": "x", "data": ["echo"]}).to_string(),
        json!({"type": 2, "nsp": format!("/{long}"), "data": ["echo"]}).to_string(),
        json!({"type": 2, "nsp": "/panic", "data": ["echo"]}).to_string(),
        json!({"type": 2, "nsp": "/", "data": ["echo", {"$binary": 0}]}).to_string(),
        json!({"type": 0, "nsp": "/", "data": [1]}).to_string(),
        json!({"type": 1, "nsp": "/", "data": [1]}).to_string(),
        json!({"type": 3, "nsp": "/", "id": 1}).to_string(),
        format!(r#"{{"type":2,"nsp":"/","data":["echo",{deeper}]}}"#),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = connect(&server);
        let before = errors.counter(Counter::SocketPacketErrors);
        send(&mut client, &wrong);
        client.expect_close();
        let after = errors.counter(Counter::SocketPacketErrors);
        assert_eq!(after, before + 1, "{i}: {wrong}");
    }
    until(|| server.io.clients_count() == 1);
}

#[test]
fn custom_packets_that_wait_for_more_are_bounded() {
    let server = server(Parser::custom(&Bundles));
    let head = |binary: usize, data: Value| {
        json!({"type": 2, "nsp": "/", "id": 1, "data": data, "binary": binary}).to_string()
    };
    let mut client = connect(&server);
    send(
        &mut client,
        &head(2, json!(["echo", {"$binary": 1}, {"$binary": 0}])),
    );
    client.send_binary(b"one");
    client.send_binary(b"two");
    let answer = packet(&mut client);
    assert_eq!(answer["data"], json!([{"$binary": 0}, {"$binary": 1}]));
    client.expect_binary(b"two");
    client.expect_binary(b"one");

    // More messages than a packet may have attachments.
    send(&mut client, &head(9, json!(["echo"])));
    for _ in 0..3 {
        client.send_binary(b"x");
    }
    client.expect_close();
    // More binary values than that, made from one message.
    let mut client = connect(&server);
    let three = vec![json!({"$binary": 0}); 3];
    send(&mut client, &head(1, json!(["echo", three])));
    client.send_binary(b"x");
    client.expect_close();
    // An object that looks like the server's internal placeholder for binary.
    let mut client = connect(&server);
    let forged = json!({"_placeholder": true, "num": 0});
    send(
        &mut client,
        &head(1, json!(["echo", forged, {"$binary": 0}])),
    );
    client.send_binary(b"x");
    client.expect_close();
}

#[tokio::test]
async fn the_client_speaks_a_custom_parser() {
    let parser = Parser::custom(&Bundles);
    let io = Io::builder().parser(parser).namespace("/", |namespace| {
        namespace.on("echo", async |event: Event, rest: Args| {
            event.socket.emit("echo", rest.clone());
            Ack(rest)
        })
    });
    let server = serve(io).await;
    let client = roomcast::client::Client::builder(format!("http://{}", server.address()));
    let socket = client.parser(parser).socket().unwrap();
    socket.connect().await.unwrap();
    let data = Bytes::from_static(b"bytes");
    let sent = (&data, json!({"a": null}));
    let (bytes, value): (Bytes, Value) = socket.emit_with_ack("echo", sent).await.unwrap();
    assert_eq!((bytes, value), (data, json!({"a": null})));
}
