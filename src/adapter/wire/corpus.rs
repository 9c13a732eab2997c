//! Encoded envelopes of version 1 that are committed to the repository. Every later version must
//! read them as long as clusters may contain servers of this version.
//!
//! The test writes a missing line and fails once. An existing line never changes. If a later
//! version encodes an envelope differently, the corpus gets an additional line, and the old line
//! must still be readable.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use super::*;
use crate::adapter::cluster::nodes::{Heartbeat, bye, changed};

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

/// Decodes arguments as clients send them with the JSON parser.
fn json(text: &'static str, attachments: &[&'static [u8]]) -> Args {
    let mut decoder = Decoder::new(Limits::default());
    let mut packet = decoder.text(text.into()).unwrap();
    for attachment in attachments {
        packet = decoder.binary(Bytes::from_static(attachment)).unwrap();
    }
    packet.unwrap().args
}

fn text() -> Args {
    json("3[1,{\"\u{e9}\": 2.50},null]", &[])
}

fn binary() -> Args {
    json(
        "62-[{\"_placeholder\":true,\"num\":0},2,[{\"_placeholder\":true,\"num\":1}]]",
        &[b"\x00\xff bytes", b""],
    )
}

fn packed() -> Args {
    let frame = Parser::MessagePack.ack("/", 0, &(1, "b")).unwrap();
    let (_, message) = frame.messages().next().unwrap();
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    let packet = decoder.binary(Bytes::copy_from_slice(message)).unwrap();
    packet.unwrap().args
}

fn publications() -> Vec<(&'static str, Publication)> {
    let event = || "e".into();
    let rooms = || vec![Room::from("x"), Room::from("y\"\u{2028}\u{1f600}")];
    let socket = SocketId::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
    let broadcast = |args| Kind::Broadcast {
        event: event(),
        args,
    };
    let to_all = |kind| Publication::new(Nsp::from("/chat"), kind);
    let delivered = |delivery| Publication {
        delivery,
        ..to_all(broadcast(text()))
    };
    let beat = r#"[{"id":"chat-1","version":"0.1.0","address":"http://10.0.0.7:3000","started":1700000000000,
        "uptime":5000,"load":{"connections":1,"sessions":2,"sockets":3,"rooms":4,"queuedBytes":5,"lagMicros":6,"busy":7}}]"#;
    let read = |beat: String| {
        let beat = Args::document(Parser::Json, beat.into()).unwrap();
        Heartbeat::read(&beat.items(0).unwrap()).unwrap()
    };
    let key = "A".repeat(43);
    let forwarding = format!(r#""forwarding":{{"v":1,"tag":"AAAAAAA_","key":"{key}"}},"load""#);
    let forwarding = read(beat.replace("\"load\"", &forwarding));
    let beat = read(beat.to_owned());
    vec![
        ("an event", to_all(broadcast(text()))),
        (
            "an event without arguments",
            to_all(broadcast(Args::default())),
        ),
        ("an event with binary", to_all(broadcast(binary()))),
        ("an event in MessagePack", to_all(broadcast(packed()))),
        (
            "an event for one room of the main namespace",
            Publication {
                rooms: Some(vec!["r".into()]),
                ..Publication::new(Nsp::ROOT, broadcast(text()))
            },
        ),
        (
            "an event for rooms but some of their members",
            Publication {
                rooms: Some(rooms()),
                except: vec![socket.as_str().into(), "muted".into()],
                ..to_all(broadcast(text()))
            },
        ),
        (
            "an event for nobody",
            Publication {
                rooms: Some(Vec::new()),
                ..to_all(broadcast(text()))
            },
        ),
        (
            "an event that is not compressed",
            Publication {
                compress: false,
                ..to_all(broadcast(text()))
            },
        ),
        ("an event that may be lost", delivered(Delivery::Volatile)),
        (
            "an event of which the newest waits",
            delivered(Delivery::Newest("k".into())),
        ),
        (
            "an event of which the last three wait",
            delivered(Delivery::Last("s".into(), 3)),
        ),
        (
            "an event that asks for acknowledgements",
            Publication {
                timeout: Some(Duration::from_millis(1500)),
                request: Some(9),
                ..to_all(Kind::BroadcastWithAck {
                    event: event(),
                    args: text(),
                })
            },
        ),
        ("joining", to_all(Kind::Join(rooms()))),
        ("leaving", to_all(Kind::Leave(rooms()))),
        ("disconnecting", to_all(Kind::Disconnect { close: false })),
        ("closing", to_all(Kind::Disconnect { close: true })),
        (
            "fetching sockets",
            Publication {
                request: Some(u64::MAX),
                ..to_all(Kind::FetchSockets)
            },
        ),
        (
            "an event for servers",
            to_all(Kind::ServerSide {
                event: event(),
                args: text(),
            }),
        ),
        (
            "an event that servers answer",
            Publication {
                request: Some(1),
                ..to_all(Kind::ServerSideWithAck {
                    event: event(),
                    args: binary(),
                })
            },
        ),
        ("a heartbeat", beat.publication().unwrap()),
        (
            "a heartbeat that says where requests go",
            forwarding.publication().unwrap(),
        ),
        ("a good-bye", bye()),
        ("a value was changed", changed("numbers:a\"").unwrap()),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let reply = |total, item| Reply::new(node("b"), 5, total, item);
    let acknowledgement = |socket, args| {
        let item = Item::Acknowledgement { socket, args };
        reply(None, Some(item))
    };
    vec![
        ("how many answers there will be", reply(Some(3), None)),
        (
            "an acknowledgement",
            acknowledgement(SocketId::parse("AAAAAAAAAAAAAAAAAAAA"), Some(binary())),
        ),
        (
            "an acknowledgement of somebody",
            acknowledgement(None, Some(text())),
        ),
        (
            "an acknowledgement that never comes",
            acknowledgement(None, None),
        ),
        (
            "sockets",
            reply(
                Some(1),
                Some(Item::Sockets(json("3[[{\"id\":\"s\"}]]", &[]))),
            ),
        ),
        ("an answer", reply(Some(1), Some(Item::Answer(text())))),
    ]
}

fn envelopes() -> Vec<(&'static str, Envelope)> {
    let publications = publications().into_iter();
    let sent = |(name, publication)| {
        let message = Message::Publication(publication);
        (name, Envelope::new(node("a"), Some(7), message))
    };
    let replies = replies().into_iter();
    let reply_envelope = |(name, reply)| {
        let message = Message::Reply(reply);
        (name, Envelope::new(node("a"), None, message))
    };
    publications
        .map(sent)
        .chain(replies.map(reply_envelope))
        .collect()
}

/// Reverses `escape_ascii`.
fn bytes_of(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match (byte, byte == b'\\') {
            (plain, false) => plain,
            (_, true) => match rest.next().unwrap() {
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                quoted => quoted,
            },
        });
    }
    bytes
}

#[test]
fn corpus_envelopes_decode_and_encode_unchanged() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/envelopes.txt");
    let existing = fs::read_to_string(&path).unwrap();
    let lines = existing.lines().filter(|line| !line.starts_with('#'));
    let lines: BTreeMap<&str, &str> = lines.map(|line| line.split_once('\t').unwrap()).collect();
    let envelopes = envelopes();
    let mut missing = String::new();
    for (name, envelope) in &envelopes {
        let written = envelope.to_bytes().unwrap().escape_ascii().to_string();
        let Some(line) = lines.get(name) else {
            let _ = writeln!(missing, "{name}\t{written}");
            continue;
        };
        let read = Envelope::from_bytes(bytes_of(line)).unwrap();
        assert_eq!(format!("{read:?}"), format!("{envelope:?}"), "{name}");
        assert_eq!(written, *line, "{name}: a line more, and not another one");
    }
    if !missing.is_empty() {
        fs::write(&path, existing + &missing).unwrap();
        panic!("these were not in the corpus, and are now:\n{missing}");
    }
    assert_eq!(
        lines.len(),
        envelopes.len(),
        "what is in the corpus is known"
    );
    // A heartbeat from the corpus is still a valid heartbeat.
    let read = |name: &str| match Envelope::from_bytes(bytes_of(lines[name])).unwrap().message {
        Message::Publication(publication) => publication.kind,
        Message::Reply(reply) => panic!("{reply:?}"),
    };
    let Kind::ServerSide { event, args } = read("a heartbeat") else {
        panic!("a heartbeat is an event for servers");
    };
    assert_eq!(&*event, "beat");
    assert!(Heartbeat::read(&args).is_ok());
}
