//! Tests with literal encoded envelopes and with invalid bytes.

use super::*;

fn node(name: &str) -> NodeId {
    NodeId::new(name).unwrap()
}

fn args(text: &'static str, attachments: &[&'static [u8]]) -> Args {
    let mut decoder = Decoder::new(Limits::default());
    let mut packet = decoder.text(text.into()).unwrap();
    for attachment in attachments {
        packet = decoder.binary(Bytes::from_static(attachment)).unwrap();
    }
    packet.unwrap().args
}

fn sent(publication: Publication) -> Envelope {
    Envelope::new(node("a"), Some(7), Message::Publication(publication))
}

fn again(envelope: &Envelope) -> Envelope {
    Envelope::from_bytes(envelope.to_bytes().unwrap()).unwrap()
}

#[test]
fn broadcast_is_a_header_and_the_arguments_for_clients() {
    let args = args("3[1,{\"é\": 2.50}]", &[]);
    let publication = Publication {
        rooms: Some(vec!["r".into()]),
        ..Publication::new(
            Nsp::ROOT,
            Kind::Broadcast {
                event: "hi".into(),
                args,
            },
        )
    };
    let header = br#"{"node":"a","number":7,"kind":"broadcast","parts":[18],"namespace":"/","rooms":["r"],"event":"hi"}"#;
    let mut expected = vec![1, header.len() as u8, 0, 0, 0];
    expected.extend_from_slice(header);
    expected.extend_from_slice("30[1,{\"é\": 2.50}]".as_bytes());
    assert_eq!(
        sent(publication)
            .to_bytes()
            .unwrap()
            .escape_ascii()
            .to_string(),
        expected.escape_ascii().to_string()
    );
}

#[test]
fn every_kind_and_every_reply_is_read_back() {
    let json = || args("3[1,\"b\"]", &[]);
    let binary = || {
        args(
            "61-[{\"_placeholder\":true,\"num\":0},2]",
            &[b"\x00\xff bytes"],
        )
    };
    let packed = {
        let frame = Parser::MessagePack.ack("/", 0, &(1, "b")).unwrap();
        let (_, message) = frame.messages().next().unwrap();
        let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
        let packet = decoder.binary(Bytes::copy_from_slice(message)).unwrap();
        packet.unwrap().args
    };
    let event = || "e".into();
    let rooms = || vec![Room::from("x"), Room::from("y\"\u{2028}")];
    let id = SocketId::parse("AAAAAAAAAAAAAAAAAAAA").unwrap();
    for kind in [
        Kind::Broadcast {
            event: event(),
            args: Args::default(),
        },
        Kind::Broadcast {
            event: event(),
            args: binary(),
        },
        Kind::Broadcast {
            event: event(),
            args: packed,
        },
        Kind::BroadcastWithAck {
            event: event(),
            args: json(),
        },
        Kind::Join(rooms()),
        Kind::Leave(rooms()),
        Kind::Disconnect { close: true },
        Kind::Disconnect { close: false },
        Kind::FetchSockets,
        Kind::ServerSide {
            event: event(),
            args: json(),
        },
        Kind::ServerSideWithAck {
            event: event(),
            args: binary(),
        },
    ] {
        for delivery in [
            Delivery::Reliable,
            Delivery::Volatile,
            Delivery::Newest("k".into()),
            Delivery::Last("s".into(), 3),
        ] {
            let publication = Publication {
                rooms: Some(rooms()),
                except: vec![id.as_str().into()],
                delivery,
                compress: false,
                timeout: Some(Duration::from_millis(1500)),
                request: Some(9),
                ..Publication::new(Nsp::from("/chat"), kind.clone())
            };
            let envelope = sent(publication);
            assert_eq!(format!("{:?}", again(&envelope)), format!("{envelope:?}"));
        }
    }
    for (total, item) in [
        (Some(3), None),
        (
            None,
            Some(Item::Acknowledgement {
                socket: Some(id),
                args: Some(binary()),
            }),
        ),
        (
            None,
            Some(Item::Acknowledgement {
                socket: None,
                args: None,
            }),
        ),
        (Some(1), Some(Item::Sockets(json()))),
        (Some(1), Some(Item::Answer(json()))),
    ] {
        let reply = Message::Reply(Reply::new(node("b"), 5, total, item));
        let envelope = Envelope::new(node("a"), None, reply);
        assert_eq!(format!("{:?}", again(&envelope)), format!("{envelope:?}"));
    }
}

#[test]
fn unknown_kinds_and_malformed_bytes_have_distinct_errors() {
    let bytes = |header: &str, rest: &str| {
        let mut bytes = vec![1];
        bytes.extend_from_slice(&u32::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(rest.as_bytes());
        Envelope::from_bytes(bytes)
    };
    for version in [0, 2] {
        let envelope = Envelope::from_bytes(vec![version, 0, 0, 0, 0]);
        assert!(matches!(envelope, Err(WireError::UnknownVersion(found)) if found == version));
    }
    for header in [
        r#"{"node":"a","kind":"dance","namespace":"/"}"#,
        r#"{"node":"a","kind":"dance","to":"b","request":1}"#,
    ] {
        assert!(matches!(bytes(header, ""), Err(WireError::UnknownKind)));
    }
    let news = r#"{"node":"a","kind":"fetchSockets","namespace":"/","tomorrow":{}}"#;
    assert!(bytes(news, "").is_ok(), "an unknown field");
    for (header, rest) in [
        ("", ""),
        ("{}", ""),
        (r#"{"node":"","kind":"leave","namespace":"/"}"#, ""),
        (r#"{"node":"a","kind":"leave"}"#, ""),
        (r#"{"node":"a","kind":"leave","namespace":"/"}"#, "more"),
        (r#"{"node":"a","kind":"broadcast","namespace":"/"}"#, ""),
        (r#"{"node":"a","kind":"ack","to":"b"}"#, ""),
        (
            r#"{"node":"a","kind":"leave","namespace":"/","parts":[4]}"#,
            "30[",
        ),
        (
            r#"{"node":"a","kind":"leave","namespace":"/","stream":"s","keep":0}"#,
            "",
        ),
        (
            r#"{"node":"a","kind":"leave","namespace":"/","parts":[3]}"#,
            "30[",
        ),
        (
            r#"{"node":"a","kind":"leave","namespace":"/","parts":[18446744073709551615,4]}"#,
            "30[",
        ),
        (
            r#"{"node":"a","kind":"leave","namespace":"/","parts":[0,0,0,0,0,0,0,0,0,0,0,0]}"#,
            "",
        ),
    ] {
        let read = bytes(header, rest);
        assert!(
            matches!(read, Err(WireError::Malformed(_))),
            "{header} {rest}: {read:?}"
        );
    }
    for bytes in [&[][..], &[1], &[1, 2, 0, 0, 0, b'{']] {
        let read = Envelope::from_bytes(bytes.to_vec());
        assert!(matches!(read, Err(WireError::Malformed(_))), "{bytes:?}");
    }
    let long = [1, 0xff, 0xff, 0xff, 0xff];
    assert!(matches!(
        Envelope::from_bytes(long.to_vec()),
        Err(WireError::TooLarge)
    ));
}

#[test]
fn truncated_or_changed_envelope_is_refused_or_decodes_differently() {
    let kind = Kind::Broadcast {
        event: "e".into(),
        args: args("61-[{\"_placeholder\":true,\"num\":0}]", &[b"bytes"]),
    };
    let bytes = sent(Publication::new(Nsp::ROOT, kind)).to_bytes().unwrap();
    for end in 0..bytes.len() {
        assert!(Envelope::from_bytes(bytes.slice(..end)).is_err(), "{end}");
    }
    for at in 0..bytes.len() {
        for flip in [1, 0x20, 0x80] {
            let mut changed = bytes.to_vec();
            changed[at] ^= flip;
            if let Ok(other) = Envelope::from_bytes(changed) {
                assert_eq!(format!("{:?}", again(&other)), format!("{other:?}"));
            }
        }
    }
}

#[test]
fn more_rooms_than_a_header_can_hold_are_refused() {
    let publication = Publication {
        rooms: Some(vec![Room::from("r".repeat(256)); 5000]),
        ..Publication::new(Nsp::ROOT, Kind::FetchSockets)
    };
    assert!(matches!(
        sent(publication).to_bytes(),
        Err(WireError::TooLarge)
    ));
}

#[test]
fn a_million_numbers_of_envelopes_keep_their_value() {
    floats::pass_a_million(|args| {
        let Message::Publication(decoded) = again(&sent(floats::broadcast(args))).message else {
            panic!("no publication");
        };
        floats::broadcast_args(&decoded)
    });
}
