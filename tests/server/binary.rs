//! Attachments, at any depth and in both directions.

use bytes::Bytes;
use roomcast::{Ack, Args, Event, Io, Value};
use serde::{Deserialize, Serialize};

use crate::{
    local::Local,
    support::{Polling, RawClient},
};

#[derive(Deserialize, Serialize)]
struct File {
    name: String,
    parts: Vec<Bytes>,
}

/// Serde buffers the contents of a tagged enum before it knows their types.
#[derive(Deserialize, Serialize)]
#[serde(tag = "type")]
enum Message {
    Text { text: String },
    File { data: Bytes },
}

fn server() -> Local {
    let io = Io::builder().namespace("/", |namespace| {
        namespace
            .on("echo", async |event: Event, args: Args| {
                event.socket.emit("echo", args.clone());
                Ack(args)
            })
            .on(
                "typed",
                async |event: Event, mut file: File, last: Bytes| {
                    file.parts.reverse();
                    event.socket.emit("typed", (last, file));
                },
            )
            .on("tagged", async |event: Event, message: Message| {
                event.socket.emit("tagged", message);
            })
            .on("any", async |event: Event, value: Value| {
                event.socket.emit("any", value);
            })
            .on("json", async |event: Event, value: serde_json::Value| {
                event.socket.emit("json", value);
            })
            .on("second", async |event: Event, _: Bytes, rest: Args| {
                event.socket.emit("rest", rest);
            })
    });
    Local::serve(io)
}

#[test]
fn attachments_follow_their_packet() {
    let server = server();
    let (mut client, _) = server.connect();
    client.send_text(
        "452-7[\"echo\",{\"_placeholder\":true,\"num\":1},[{\"_placeholder\":true,\"num\":0}]]",
    );
    client.send_binary([1, 2]);
    client.send_binary([]);
    client.expect_text(
        "452-[\"echo\",{\"_placeholder\":true,\"num\":1},[{\"_placeholder\":true,\"num\":0}]]",
    );
    client.expect_binary(&[1, 2]);
    client.expect_binary(&[]);
    client.expect_text(
        "462-7[{\"_placeholder\":true,\"num\":1},[{\"_placeholder\":true,\"num\":0}]]",
    );
    client.expect_binary(&[1, 2]);
    client.expect_binary(&[]);
}

#[test]
fn bytes_in_a_struct_are_attachments() {
    let server = server();
    let (mut client, _) = server.connect();
    client.send_text(
        "453-[\"typed\",{\"name\":\"f\",\"parts\":[{\"_placeholder\":true,\"num\":0},\
         {\"_placeholder\":true,\"num\":1}]},{\"_placeholder\":true,\"num\":2}]",
    );
    for part in [b"a", b"b", b"c"] {
        client.send_binary(part);
    }
    client.expect_text(
        "453-[\"typed\",{\"_placeholder\":true,\"num\":0},{\"name\":\"f\",\
         \"parts\":[{\"_placeholder\":true,\"num\":1},{\"_placeholder\":true,\"num\":2}]}]",
    );
    for part in [b"c", b"b", b"a"] {
        client.expect_binary(part);
    }
}

#[test]
fn binary_in_a_tagged_enum_goes_both_ways() {
    let server = server();
    let (mut client, _) = server.connect();
    client.send_text(
        "451-[\"tagged\",{\"data\":{\"_placeholder\":true,\"num\":0},\"type\":\"File\"}]",
    );
    client.send_binary([1, 2]);
    client.expect_text(
        "451-[\"tagged\",{\"type\":\"File\",\"data\":{\"_placeholder\":true,\"num\":0}}]",
    );
    client.expect_binary(&[1, 2]);
}

#[test]
fn an_echoed_value_never_turns_into_a_placeholder() {
    let server = server();
    let (mut client, _) = server.connect();
    let packet = "[{\"a\":[{\"_placeholder\":true,\"num\":0}]}]";
    client.send_text(format!("451-[\"any\",{}]", &packet[1..packet.len() - 1]));
    client.send_binary([1, 2]);
    client.expect_text("451-[\"any\",{\"a\":[{\"_placeholder\":true,\"num\":0}]}]");
    client.expect_binary(&[1, 2]);
    // JSON cannot represent it, and the answer is an error.
    client.send_text(format!("451-7[\"json\",{}]", &packet[1..packet.len() - 1]));
    client.send_binary([1, 2]);
    let refused = crate::local::text(&mut client);
    assert!(refused.starts_with("437[{\"success\":false"), "{refused}");
    assert!(refused.contains("argument 0 at `a[0]`"), "{refused}");
}

#[test]
fn the_rest_of_the_arguments_takes_only_its_own_attachments() {
    let server = server();
    let (mut client, _) = server.connect();
    client.send_text(
        "452-[\"second\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
    );
    client.send_binary(b"first");
    client.send_binary(b"second");
    client.expect_text("451-[\"rest\",{\"_placeholder\":true,\"num\":0}]");
    client.expect_binary(b"second");
}

#[test]
fn polled_attachments_follow_their_packet_in_base64() {
    let server = server();
    let session = Polling::open(server.address(), "/socket.io/");
    session.post("40");
    assert!(session.poll().body.starts_with("40{\"sid\":"));
    session.post("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQI=");
    assert_eq!(
        session.poll().body,
        "451-[\"echo\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQI="
    );
}

#[test]
fn missing_attachments_close_the_connection() {
    let io = Io::builder()
        .config(roomcast::Config::default().message_timeout(std::time::Duration::from_millis(50)))
        .namespace("/", |namespace| namespace);
    let server = Local::serve(io);
    let (mut client, _): (RawClient, _) = server.connect();
    client.send_text("451-[\"x\",{\"_placeholder\":true,\"num\":0}]");
    client.expect_close();
}
