//! The client's parsers, with binary at any depth.

use std::collections::BTreeMap;

use bytes::Bytes;
use roomcast::{
    Ack, Args, Config, Event, Io, Parser,
    client::{Client, Transports},
    testing::serve,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::suite::{next, within};

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Upload {
    name: String,
    parts: Vec<BTreeMap<String, Bytes>>,
    size: Option<u64>,
}

#[tokio::test]
async fn nested_binary_goes_both_ways_with_every_parser_and_transport() {
    let upload = Upload {
        name: "ü.png".into(),
        parts: vec![
            [("a".to_owned(), Bytes::from_static(&[0, 1, 255]))].into(),
            [("b".to_owned(), Bytes::new())].into(),
        ],
        size: Some(1 << 40),
    };
    for parser in [Parser::Json, Parser::MessagePack] {
        let io = Io::builder()
            .config(Config::default().parser(parser))
            .namespace("/up", |namespace| {
                namespace.on("upload", async |event: Event, args: Args| {
                    event.socket.emit("uploaded", &args);
                    Ack(args)
                })
            });
        let server = serve(io).await;
        for transports in [
            Transports::WebSocket,
            Transports::Polling,
            Transports::Upgrade,
        ] {
            let client = Client::builder(format!("http://{}/up", server.address()));
            let client = client
                .parser(parser)
                .transports(transports)
                .auth(json!({"a": 1}));
            let socket = within(client.connect()).await.unwrap();
            let mut uploaded = socket.stream("uploaded");
            let answer = socket.emit_with_ack::<Upload>("upload", &upload);
            assert_eq!(within(answer).await.unwrap(), upload, "{parser:?}");
            let event = next(&mut uploaded).await;
            assert_eq!(event.args.get::<Upload>(0).unwrap(), upload, "{parser:?}");
            within(socket.disconnect()).await;
        }
    }
}

#[tokio::test]
async fn a_server_with_the_other_parser_is_left() {
    let io = Io::builder()
        .config(Config::default().parser(Parser::MessagePack))
        .namespace("/", |namespace| namespace);
    let server = serve(io).await;
    let client = Client::builder(format!("http://{}", server.address()));
    let socket = client.without_reconnection().socket().unwrap();
    within(socket.connect()).await.unwrap_err();
    assert!(!socket.is_connected());
}
