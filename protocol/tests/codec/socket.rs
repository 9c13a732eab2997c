//! Socket.IO packets in literal form, encoded and decoded.

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError, Frame,
    engine::{Message, Packet as EnginePacket, payload},
    socket::{Args, Decoder, EncodeError, Kind, Limits, Nsp, Packet, RESERVED_EVENTS, encode},
};
use serde_json::{json, value::to_raw_value};

/// Decodes messages that form one packet; the last message must complete it.
pub(crate) fn decode_all(messages: &[Message]) -> Result<Packet, DecodeError> {
    let mut decoder = Decoder::new(Limits::default());
    let mut packet = None;
    for message in messages {
        assert!(packet.is_none(), "a packet before the last message");
        packet = match message.clone() {
            Message::Text(text) => decoder.text(text)?,
            Message::Binary(data) => decoder.binary(data)?,
        };
        assert_eq!(decoder.is_waiting(), packet.is_none());
    }
    Ok(packet.expect("the messages are one packet"))
}

/// Decodes the polling payload of a frame as a client.
pub(crate) fn decode_frame(frame: &Frame) -> Result<Packet, DecodeError> {
    let messages: Vec<_> = payload::decode(frame.polling())
        .map(|packet| match packet {
            Ok(EnginePacket::Message(message)) => message,
            other => panic!("{other:?}"),
        })
        .collect();
    decode_all(&messages)
}

fn decode(text: &'static str) -> Packet {
    decode_all(&[Message::Text(Bytes::from_static(text.as_bytes()))]).expect(text)
}

fn binary(text: &'static str, attachments: &[&'static [u8]]) -> Packet {
    let mut messages = vec![Message::Text(Bytes::from_static(text.as_bytes()))];
    messages.extend(
        attachments
            .iter()
            .map(|data| Message::Binary(Bytes::from_static(data))),
    );
    decode_all(&messages).expect(text)
}

fn raw(args: &Args) -> Vec<&str> {
    args.iter()
        .map(|json| std::str::from_utf8(json).unwrap())
        .collect()
}

fn wire(frame: &Frame) -> String {
    String::from_utf8(frame.polling().to_vec()).unwrap()
}

#[test]
fn a_connect_packet_may_have_a_namespace_and_a_payload() {
    for (text, nsp, payload) in [
        ("0", "/", vec![]),
        (r#"0{"token":"123"}"#, "/", vec![r#"{"token":"123"}"#]),
        ("0/admin", "/admin", vec![]),
        ("0/admin,", "/admin", vec![]),
        (r#"0/admin,{"a":[1]}"#, "/admin", vec![r#"{"a":[1]}"#]),
        ("0/,", "/", vec![]),
        (r#"0 {"a":1} "#, "/", vec![r#"{"a":1}"#]),
        ("0/admin?token=1,{}", "/admin?token=1", vec!["{}"]),
    ] {
        let packet = decode(text);
        assert_eq!(packet.kind, Kind::Connect, "{text}");
        assert_eq!(packet.nsp, nsp, "{text}");
        assert_eq!(raw(&packet.args), payload, "{text}");
        assert_eq!(packet.id, None);
        assert_eq!(packet.event_name(), "");
    }
}

#[test]
fn a_disconnect_packet_has_no_payload() {
    for (text, nsp) in [("1", "/"), ("1/admin", "/admin"), ("1/admin,", "/admin")] {
        let packet = decode(text);
        assert_eq!(
            (packet.kind, packet.nsp),
            (Kind::Disconnect, Nsp::from(nsp))
        );
        assert!(packet.args.is_empty());
    }
}

#[test]
fn an_event_has_a_name_and_arguments() {
    let packet = decode(r#"2["foo"]"#);
    assert_eq!(packet.kind, Kind::Event);
    assert_eq!(packet.nsp, Nsp::ROOT);
    assert_eq!(packet.id, None);
    assert_eq!(packet.event_name(), "foo");
    assert!(packet.args.is_empty());

    let packet = decode(r#"2/admin,["bar", 1 ,"2",{"3":[true]}]"#);
    assert_eq!(packet.nsp, "/admin");
    assert_eq!(packet.event_name(), "bar");
    assert_eq!(raw(&packet.args), ["1", "\"2\"", r#"{"3":[true]}"#]);
}

#[test]
fn event_may_request_an_acknowledgement() {
    assert_eq!(decode(r#"212["foo"]"#).id, Some(12));
    assert_eq!(decode(r#"2/admin,0["foo"]"#).id, Some(0));
    assert_eq!(decode(r#"218446744073709551615["foo"]"#).id, Some(u64::MAX));
}

#[test]
fn an_acknowledgement_has_values() {
    let packet = decode(r#"3/admin,13["a",{}]"#);
    assert_eq!((packet.kind, packet.id), (Kind::Ack, Some(13)));
    assert_eq!(packet.nsp, "/admin");
    assert_eq!(packet.event_name(), "");
    assert_eq!(raw(&packet.args), ["\"a\"", "{}"]);
    assert!(decode("312[]").args.is_empty());
}

#[test]
fn a_connect_error_is_a_string_or_an_object() {
    let packet = decode(r#"4/admin,{"message":"Not authorized"}"#);
    assert_eq!(packet.kind, Kind::ConnectError);
    assert_eq!(raw(&packet.args), [r#"{"message":"Not authorized"}"#]);
    assert_eq!(
        raw(&decode(r#"4"Unauthorized""#).args),
        ["\"Unauthorized\""]
    );
}

#[test]
fn a_binary_event_is_an_event_with_attachments() {
    let packet = binary(r#"51-["baz",{"_placeholder":true,"num":0}]"#, &[&[1, 2, 3]]);
    assert_eq!(packet.kind, Kind::Event);
    assert_eq!(packet.event_name(), "baz");
    assert_eq!(packet.args.attachments(), [Bytes::from_static(&[1, 2, 3])]);

    let text =
        r#"52-/admin,5["x",[{"_placeholder":true,"num":1}],{"a":{"num":0,"_placeholder":true}}]"#;
    let packet = binary(text, &[&[1], &[2]]);
    assert_eq!((packet.nsp.as_str(), packet.id), ("/admin", Some(5)));
    assert_eq!(packet.args.attachments().len(), 2);
}

#[test]
fn a_binary_acknowledgement_is_an_acknowledgement_with_attachments() {
    let packet = binary(r#"61-15["bar",{"_placeholder":true,"num":0}]"#, &[&[7]]);
    assert_eq!((packet.kind, packet.id), (Kind::Ack, Some(15)));
    assert_eq!(packet.args.len(), 2);
}

#[test]
fn c5b_a_packet_with_no_attachments_is_complete_at_once() {
    let mut decoder = Decoder::new(Limits::default());
    for text in [r#"50-["x"]"#, r#"2["y"]"#, "60-1[]"] {
        assert!(decoder.text(Bytes::from(text)).unwrap().is_some());
        assert!(!decoder.is_waiting());
    }
}

#[test]
fn names_are_unescaped() {
    assert_eq!(decode(r#"2["\u0061\n\"b\\"]"#).event_name(), "a\n\"b\\");
    assert_eq!(decode(r#"2["привет"]"#).event_name(), "привет");
    assert_eq!(decode(r#"2[""]"#).event_name(), "");
    assert_eq!(decode(r#"2["\ud83d\ude00"]"#).event_name(), "😀");
}

#[test]
fn events_are_written_in_their_official_form() {
    let none: [u8; 0] = [];
    for (frame, text) in [
        (encode::event("/", None, "foo", &()), r#"42["foo"]"#),
        (encode::event("/", None, "foo", &none), r#"42["foo"]"#),
        (
            encode::event("/admin", None, "bar", &1),
            r#"42/admin,["bar",1]"#,
        ),
        (
            encode::event("/", Some(12), "foo", &(1, "2", json!({"3": [true]}))),
            r#"4212["foo",1,"2",{"3":[true]}]"#,
        ),
        (
            encode::event("/", None, "a\"b\n", &"é\u{7f}"),
            "42[\"a\\\"b\\n\",\"é\u{7f}\"]",
        ),
        (
            encode::event("/a", Some(u64::MAX), "x", &None::<()>),
            r#"42/a,18446744073709551615["x",null]"#,
        ),
        (encode::ack("/", 12, &()), "4312[]"),
        (
            encode::ack("/admin", 13, &("a", ())),
            r#"43/admin,13["a",null]"#,
        ),
        (encode::ack("/", 0, &vec![1, 2]), "430[[1,2]]"),
        (encode::connect("/", &()), "40"),
        (encode::connect("/admin", &()), "40/admin,"),
        (
            encode::connect("/", &json!({"sid": "x"})),
            r#"40{"sid":"x"}"#,
        ),
        (
            encode::connect("/admin", &json!({"sid": "x"})),
            r#"40/admin,{"sid":"x"}"#,
        ),
        (
            encode::connect_error("/random", "Invalid namespace", None),
            r#"44/random,{"message":"Invalid namespace"}"#,
        ),
        (encode::disconnect("/"), "41"),
        (encode::disconnect("/admin"), "41/admin,"),
    ] {
        assert_eq!(wire(&frame.unwrap()), text);
    }
    let data = to_raw_value(&json!({"retry": 5})).unwrap();
    let frame = encode::connect_error("/", "no", Some(&data)).unwrap();
    assert_eq!(wire(&frame), r#"44{"message":"no","data":{"retry":5}}"#);
}

#[test]
fn all_values_except_tuples_arrays_and_unit_are_one_argument() {
    #[derive(serde::Serialize)]
    struct Named {
        a: u8,
    }
    #[derive(serde::Serialize)]
    struct Pair(u8, u8);
    #[derive(serde::Serialize)]
    struct Wrapper(&'static str);
    #[derive(serde::Serialize)]
    struct Unit;
    #[derive(serde::Serialize)]
    enum Choice {
        Unit,
        One(u8),
        Two(u8, u8),
        Fields { a: u8 },
    }
    let of = |frame: Result<Frame, EncodeError>| wire(&frame.unwrap());
    let event = |args: &dyn Fn() -> Result<Frame, EncodeError>| of(args());
    macro_rules! arguments {
        ($($value:expr => $json:expr,)*) => {
            $(assert_eq!(event(&|| encode::event("/", None, "x", &$value)), concat!("42[\"x\"", $json, "]"));)*
        };
    }
    arguments! {
        () => "",
        (1,) => ",1",
        (1, (2, 3)) => ",1,[2,3]",
        [1, 2] => ",1,2",
        vec![1, 2] => ",[1,2]",
        [1, 2][..] => ",[1,2]",
        true => ",true",
        -1i8 => ",-1",
        -1i16 => ",-1",
        -1i32 => ",-1",
        -1i64 => ",-1",
        -1i128 => ",-1",
        1u8 => ",1",
        1u16 => ",1",
        1u64 => ",1",
        1u128 => ",1",
        1.5f32 => ",1.5",
        1.5f64 => ",1.5",
        f64::NAN => ",null",
        'c' => ",\"c\"",
        "text" => ",\"text\"",
        String::from("text") => ",\"text\"",
        None::<u8> => ",null",
        Some(1) => ",1",
        Some((1, 2)) => ",[1,2]",
        Unit => ",null",
        Wrapper("a") => ",\"a\"",
        Pair(1, 2) => ",[1,2]",
        Named { a: 1 } => ",{\"a\":1}",
        Choice::Unit => ",\"Unit\"",
        Choice::One(1) => ",{\"One\":1}",
        Choice::Two(1, 2) => ",{\"Two\":[1,2]}",
        Choice::Fields { a: 1 } => ",{\"Fields\":{\"a\":1}}",
        json!([1, {"a": null}]) => ",[1,{\"a\":null}]",
        to_raw_value(&json!([1])).unwrap() => ",[1]",
        std::collections::BTreeMap::from([("k", 1)]) => ",{\"k\":1}",
    }
}

#[test]
fn bytes_become_attachments_at_any_depth() {
    #[derive(serde::Serialize)]
    struct Upload {
        name: &'static str,
        parts: Vec<Bytes>,
    }
    let upload = Upload {
        name: "a",
        parts: vec![Bytes::from_static(&[1]), Bytes::new()],
    };
    let frame = encode::event("/up", Some(3), "x", &(upload, Bytes::from_static(&[2]))).unwrap();
    assert_eq!(
        wire(&frame),
        "453-/up,3[\"x\",{\"name\":\"a\",\"parts\":[{\"_placeholder\":true,\"num\":0},\
         {\"_placeholder\":true,\"num\":1}]},{\"_placeholder\":true,\"num\":2}]\x1ebAQ==\x1eb\x1ebAg=="
    );
    let frame = encode::ack("/", 15, &Bytes::from_static(&[7])).unwrap();
    assert_eq!(
        wire(&frame),
        "461-15[{\"_placeholder\":true,\"num\":0}]\x1ebBw=="
    );
}

#[test]
fn c2_reserved_names_cannot_be_emitted() {
    for name in RESERVED_EVENTS {
        let result = encode::event("/", None, name, &());
        assert!(matches!(result, Err(EncodeError::ReservedEvent)), "{name}");
    }
    assert!(encode::event("/", None, "error", &()).is_ok());
}

#[test]
fn unreadable_namespace_is_not_written() {
    for nsp in ["", "chat", "/a,b", ",", "//,"] {
        for result in [encode::event(nsp, None, "x", &()), encode::disconnect(nsp)] {
            assert!(
                matches!(result, Err(EncodeError::InvalidNamespace)),
                "{nsp:?}"
            );
        }
    }
}

#[test]
fn c4_more_attachments_than_stock_peers_accept_are_not_sent() {
    let ten = vec![Bytes::from_static(b"x"); encode::MAX_ATTACHMENTS];
    let frame = encode::event("/", None, "x", &ten).unwrap();
    assert!(wire(&frame).starts_with("4510-["));
    assert_eq!(decode_frame(&frame).unwrap().args.attachments().len(), 10);
    let eleven = vec![Bytes::from_static(b"x"); encode::MAX_ATTACHMENTS + 1];
    let result = encode::event("/", None, "x", &eleven);
    assert!(matches!(result, Err(EncodeError::TooManyAttachments)));
}

#[test]
fn failing_serialisation_is_reported() {
    let map = std::collections::BTreeMap::from([(vec![1], 1)]);
    let error = encode::event("/", None, "x", &map).unwrap_err();
    assert_eq!(
        error.to_string(),
        "serialisation failed: key must be a string"
    );
}

#[test]
fn a_packet_is_not_large() {
    assert!(size_of::<Packet>() <= 200, "{}", size_of::<Packet>());
    // Eight bytes point to the decoder of a custom parser.
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
}
