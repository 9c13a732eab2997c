//! Packets of the MessagePack parser as literal bytes, in the format of the official parser.

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError, Frame,
    engine::{Message, Packet as EnginePacket, payload},
    socket::{Args, Decoder, EncodeError, Kind, Limits, Packet, Parser, Value as Anything, encode},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

pub(crate) fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|digit| char::from(digit).to_digit(16))
        .map(|digit| u8::try_from(digit).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

pub(crate) fn decode(message: impl Into<Bytes>) -> Result<Packet, DecodeError> {
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    let packet = decoder.binary(message.into())?;
    assert!(!decoder.is_waiting(), "a packet is one message");
    Ok(packet.expect("complete"))
}

/// Returns the single binary message of a frame, which must be the same for WebSocket and polling.
pub(crate) fn message(frame: &Frame) -> Bytes {
    assert_eq!(frame.packets(), 1);
    let polled: Vec<_> = payload::decode(frame.polling()).collect();
    let [Ok(EnginePacket::Message(Message::Binary(data)))] = &polled[..] else {
        panic!("{polled:?}");
    };
    assert_eq!(frame.websocket()[0], 0x82, "a binary message of one frame");
    assert!(frame.websocket().ends_with(data));
    data.clone()
}

fn wire(frame: Result<Frame, EncodeError>) -> Bytes {
    message(&frame.expect("encodes"))
}

/// Returns the arguments of an event named `x`.
pub(crate) fn args(arguments: &str, count: u8) -> Args {
    let mut message = hex("83 a474797065 02 a36e7370 a12f a464617461").to_vec();
    message.push(0x91 + count);
    message.extend(hex("a178"));
    message.extend(hex(arguments));
    decode(message).expect(arguments).args
}

#[test]
fn a_connect_packet_may_lack_a_payload() {
    for bytes in [
        "83 a474797065 00 a464617461 d40000 a36e7370 a12f", // undefined
        "83 a474797065 00 a464617461 c0 a36e7370 a12f",
        "82 a474797065 00 a36e7370 a12f",
    ] {
        let packet = decode(hex(bytes)).expect(bytes);
        assert_eq!(packet.kind, Kind::Connect);
        assert!(packet.nsp.is_root());
        assert!(packet.args.is_empty());
        assert_eq!(packet.args.get(0), Ok(None::<Value>));
    }
}

#[test]
fn a_connect_packet_may_have_a_namespace_and_a_payload() {
    let packet = decode(hex(
        "83 a474797065 00 a464617461 81 a5746f6b656e a3313233 a36e7370 a62f61646d696e",
    ))
    .unwrap();
    assert_eq!(packet.nsp, "/admin");
    assert_eq!(packet.args.len(), 1);
    assert_eq!(packet.args.get(0), Ok(json!({"token": "123"})));
}

#[test]
fn a_disconnect_packet_has_a_namespace_only() {
    for bytes in [
        "82 a474797065 01 a36e7370 a12f",
        "83 a474797065 01 a464617461 c0 a36e7370 a12f",
    ] {
        let packet = decode(hex(bytes)).expect(bytes);
        assert_eq!((packet.kind, packet.id), (Kind::Disconnect, None));
    }
}

#[test]
fn event_options_are_ignored() {
    let packet = decode(hex(
        "84 a474797065 02 a464617461 97 a568656c6c6f 01 ff cb3ff8000000000000 c3 c0 a2c3a9 \
         a76f7074696f6e73 81 a8636f6d7072657373 c3 a36e7370 a12f",
    ))
    .unwrap();
    assert_eq!((packet.kind, packet.id), (Kind::Event, None));
    assert_eq!(packet.event_name(), "hello");
    assert_eq!(packet.args.parser(), Parser::MessagePack);
    let values = [
        json!(1),
        json!(-1),
        json!(1.5),
        json!(true),
        Value::Null,
        json!("é"),
    ];
    assert_eq!(packet.args.to_values().unwrap(), values);
}

#[test]
fn event_may_request_an_acknowledgement() {
    let packet = decode(hex("85 a474797065 02 a464617461 93 a3616464 01 02 \
         a76f7074696f6e73 81 a8636f6d7072657373 c3 a26964 00 a36e7370 a12f"))
    .unwrap();
    assert_eq!(packet.id, Some(0));
    assert_eq!(packet.event_name(), "add");
    assert_eq!((packet.args.get(0), packet.args.get(1)), (Ok(1), Ok(2)));
}

#[test]
fn an_acknowledgement_has_binary_in_place() {
    let packet = decode(hex(
        "84 a474797065 03 a464617461 91 81 a161 91 c403010203 a26964 0c a36e7370 a62f61646d696e",
    ))
    .unwrap();
    assert_eq!((packet.kind, packet.id), (Kind::Ack, Some(12)));
    #[derive(Debug, Deserialize, PartialEq)]
    struct Answer {
        a: Vec<Bytes>,
    }
    let answer = Answer {
        a: vec![Bytes::from_static(&[1, 2, 3])],
    };
    assert_eq!(packet.args.get(0), Ok(answer));
}

#[test]
fn a_connect_error_has_an_object_or_a_text() {
    let packet = decode(hex(
        "83 a474797065 04 a464617461 82 a76d657373616765 a26e6f a464617461 81 a4636f6465 a145 \
         a36e7370 a12f",
    ))
    .unwrap();
    assert_eq!(packet.kind, Kind::ConnectError);
    let error = json!({"message": "no", "data": {"code": "E"}});
    assert_eq!(packet.args.get(0), Ok(error));
    let packet = decode(hex("83 a474797065 04 a464617461 a26e6f a36e7370 a12f")).unwrap();
    assert_eq!(packet.args.get(0), Ok("no".to_owned()));
}

#[test]
fn packets_are_written_as_the_official_parser_reads_them() {
    let parser = Parser::MessagePack;
    assert_eq!(
        wire(parser.connect("/", &json!({"sid": "x"}))),
        hex("83 a474797065 00 a36e7370 a12f a464617461 81 a3736964 a178")
    );
    assert_eq!(
        wire(parser.connect("/a", &())),
        hex("82 a474797065 00 a36e7370 a22f61")
    );
    assert_eq!(
        wire(parser.disconnect("/")),
        hex("82 a474797065 01 a36e7370 a12f")
    );
    assert_eq!(
        wire(parser.event("/", None, "x", &())),
        hex("83 a474797065 02 a36e7370 a12f a464617461 91 a178")
    );
    assert_eq!(
        wire(parser.event("/a,b", Some(300), "x", &(1, Bytes::from_static(&[9]), "é"))),
        hex(
            "84 a474797065 02 a36e7370 a42f612c62 a26964 cd012c a464617461 94 a178 01 c40109 a2c3a9"
        )
    );
    assert_eq!(
        wire(parser.ack("/", 0, &json!([1]))),
        hex("84 a474797065 03 a36e7370 a12f a26964 00 a464617461 91 91 01")
    );
    let data = RawValue::from_string(r#"{"retry":5}"#.into()).unwrap();
    assert_eq!(
        wire(parser.connect_error("/", "no", Some(&data))),
        hex(
            "83 a474797065 04 a36e7370 a12f a464617461 82 a76d657373616765 a26e6f \
             a464617461 81 a57265747279 05"
        )
    );
    assert_eq!(
        wire(parser.connect_error("/", "no", None)),
        hex("83 a474797065 04 a36e7370 a12f a464617461 81 a76d657373616765 a26e6f")
    );
}

#[test]
fn an_event_of_many_arguments_has_a_longer_list() {
    for count in [0_usize, 14, 15, 16, 65_534, 65_535, 65_536] {
        let numbers: Vec<u8> = (0..count).map(|i| i.to_le_bytes()[0] & 0x7f).collect();
        let received = numbered(&numbers);
        let frame = Parser::MessagePack
            .event("/", None, "x", &received)
            .unwrap();
        let packet = decode(message(&frame)).unwrap();
        assert_eq!(packet.args.len(), count);
        let values: Vec<u8> = (0..count).map(|i| packet.args.get(i).unwrap()).collect();
        assert_eq!(values, numbers);
    }
}

/// Returns an event with these small numbers as arguments.
fn numbered(numbers: &[u8]) -> Args {
    let mut event = hex("83 a474797065 02 a36e7370 a12f a464617461 dd").to_vec();
    event.extend(u32::try_from(numbers.len() + 1).unwrap().to_be_bytes());
    event.extend(hex("a178"));
    event.extend(numbers);
    decode(event).unwrap().args
}

#[test]
fn reserved_names_and_nameless_namespaces_are_not_sent() {
    let parser = Parser::MessagePack;
    let refused = parser.event("/", None, "disconnect", &());
    assert!(matches!(refused, Err(EncodeError::ReservedEvent)));
    for nsp in ["", "chat"] {
        let refused = parser.event(nsp, None, "x", &());
        assert!(matches!(refused, Err(EncodeError::InvalidNamespace)));
    }
}

#[test]
fn output_of_javascript_is_read_as_its_json() {
    // [date, undefined, {u: undefined, v: 1}]
    let args = args("d700 000000dd9d5a0c95 d40000 82 a175 d40000 a176 01", 3);
    assert_eq!(args.get(0), Ok("2000-02-29T12:34:56.789Z".to_owned()));
    assert_eq!(args.get(1), Ok(None::<u8>));
    assert_eq!(args.get(1), Ok(Value::Null));
    assert_eq!(args.get(2), Ok(json!({"v": 1})));
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Defaults {
        #[serde(default)]
        v: u8,
        #[serde(default)]
        missing: u8,
    }
    assert_eq!(args.get(2), Ok(Defaults { v: 1, missing: 0 }));
}

#[test]
fn an_invalid_date_is_null_as_in_json() {
    for millis in ["7fffffffffffffff", "8000000000000000", "001eb208c2dc0001"] {
        let args = args(&format!("d700 {millis}"), 1);
        assert_eq!(args.get(0), Ok(Value::Null));
        assert_eq!(args.get(0), Ok(None::<String>));
    }
    let last = args("d700 001eb208c2dc0000", 1);
    assert_eq!(last.get(0), Ok("+275760-09-13T00:00:00.000Z".to_owned()));
}

#[test]
fn array_buffers_are_binary() {
    let args = args("c702000102 c7010007 c800020003ff c900000001 0009", 4);
    for (i, data) in [&[1, 2][..], &[7], &[3, 255], &[9]].into_iter().enumerate() {
        assert_eq!(args.get(i), Ok(Bytes::copy_from_slice(data)));
    }
}

#[test]
fn integers_of_every_size_are_numbers() {
    let args = args(
        "cf001fffffffffffff d3ffe0000000000001 cf0000000100000000 ceffffffff ce00010000 e0 d0df \
         d1ff7f d2ffff7fff d3ffffffff7fffffff cc80 cfffffffffffffffff d38000000000000000 \
         d37fffffffffffffff",
        14,
    );
    let expected: [i128; 14] = [
        9_007_199_254_740_991,
        -9_007_199_254_740_991,
        4_294_967_296,
        4_294_967_295,
        65_536,
        -32,
        -33,
        -129,
        -32_769,
        -2_147_483_649,
        128,
        u64::MAX.into(),
        i64::MIN.into(),
        i64::MAX.into(),
    ];
    assert_eq!(args.len(), expected.len());
    for (i, value) in expected.into_iter().enumerate() {
        assert_eq!(args.get(i), Ok(value));
        assert_eq!(args.get::<f64>(i).unwrap() as i128, value as f64 as i128);
    }
    assert!(args.get::<i64>(11).is_err(), "it does not fit");
    assert!(args.get::<u64>(5).is_err(), "it is negative");
}

#[test]
fn floats_keep_infinity_and_nan() {
    let args = args(
        "cb7ff8000000000000 cb7ff0000000000000 ca3e800000 cb8000000000000000",
        4,
    );
    assert!(args.get::<f64>(0).unwrap().is_nan());
    assert_eq!(args.get(0), Ok(Value::Null));
    assert_eq!(args.get(1), Ok(f64::INFINITY));
    assert_eq!((args.get(2), args.get(2)), (Ok(0.25_f64), Ok(0.25_f32)));
    assert!(args.get::<f64>(3).unwrap().is_sign_negative());
    let nan = wire(Parser::MessagePack.ack("/", 0, &(f64::NAN, f32::INFINITY)));
    assert!(nan.ends_with(&hex("92 cb7ff8000000000000 ca7f800000")));
}

#[test]
fn keys_that_are_integers_are_their_text() {
    let args = args("82 01 a161 ff a162", 1);
    assert_eq!(args.get(0), Ok(json!({"1": "a", "-1": "b"})));
    let map: std::collections::BTreeMap<i8, String> = args.get(0).unwrap();
    assert_eq!(map, [(1, "a".to_owned()), (-1, "b".to_owned())].into());
    let written = wire(Parser::MessagePack.ack("/", 0, &map));
    assert!(
        written.ends_with(&hex("91 82 a22d31 a162 a131 a161")),
        "as text"
    );
    let again: std::collections::BTreeMap<i8, String> =
        decode(written).unwrap().args.get(0).unwrap();
    assert_eq!(again, map);
}

#[test]
fn an_event_may_be_named_by_an_integer() {
    for (name, text) in [("07", "7"), ("ff", "-1"), ("cd0100", "256")] {
        let bytes = format!("83 a474797065 02 a36e7370 a12f a464617461 91 {name}");
        assert_eq!(decode(hex(&bytes)).unwrap().event_name(), text);
    }
}

#[test]
fn last_of_two_entries_with_one_key_counts() {
    let packet = decode(hex(
        "84 a474797065 02 a36e7370 a12f a464617461 91 a178 a464617461 91 a179",
    ))
    .unwrap();
    assert_eq!((packet.event_name(), packet.args.len()), ("y", 0));
}

#[test]
fn invalid_utf8_is_an_argument_error_and_not_forwarded() {
    // Clients write lone surrogates as if UTF-8 allowed them, or as arbitrary bytes.
    let packet = "83 a474797065 02 a464617461 95 a178 a5 61eda08062 81 a3 edbfbf 01 a162 a261ff a36e7370 a12f";
    let packet = decode(hex(packet)).unwrap();
    for i in [0, 1, 3] {
        let error = packet.args.get::<Value>(i).unwrap_err();
        assert_eq!(error.message(), "half of a surrogate pair");
    }
    assert_eq!(packet.args.get(2), Ok("b".to_owned()));
    // Clients that receive it would close their connection.
    for parser in [Parser::MessagePack, Parser::Json] {
        let passed_on = parser.event("/", None, "x", &packet.args);
        assert!(matches!(passed_on, Err(EncodeError::InvalidArguments)));
    }
    let named = "83 a474797065 02 a464617461 91 a3eda080 a36e7370 a12f";
    assert_eq!(decode(hex(named)).unwrap_err(), DecodeError::InvalidUtf8);
}

#[test]
fn arguments_are_forwarded_without_being_read() {
    let received = args(
        "d700 000000dd9d5a0c95 d40000 c403010203 cb3ff8000000000000",
        4,
    );
    let sent = wire(Parser::MessagePack.event("/", None, "y", &received));
    let expected = "83 a474797065 02 a36e7370 a12f a464617461 95 a179 \
                    d700 000000dd9d5a0c95 d40000 c403010203 cb3ff8000000000000";
    assert_eq!(sent, hex(expected));
    let rest = wire(Parser::MessagePack.ack("/", 1, &received.skip(3)));
    assert!(rest.ends_with(&hex("91 cb3ff8000000000000")));
    let none = wire(Parser::MessagePack.ack("/", 1, &received.skip(9)));
    assert!(none.ends_with(&hex("a464617461 90")));
}

#[test]
fn arguments_of_one_parser_can_be_sent_with_the_other() {
    let packed = args("81 a161 91 c403010203 d40000 d700 0000000000000000", 3);
    let frame = encode::event("/", None, "y", &packed).unwrap();
    assert_eq!(
        frame.polling(),
        "451-[\"y\",{\"a\":[{\"_placeholder\":true,\"num\":0}]},null,\"1970-01-01T00:00:00.000Z\"]\
         \x1ebAQID"
    );
    let [text, data] = [
        r#"51-["x",{"a":[{"_placeholder":true,"num":0}]},1.5]"#.into(),
        Bytes::from_static(&[1, 2, 3]),
    ];
    let mut decoder = Decoder::new(Limits::default());
    decoder.text(text).unwrap();
    let plain = decoder.binary(data).unwrap().unwrap();
    let sent = wire(Parser::MessagePack.event("/", None, "y", &plain.args));
    assert!(sent.ends_with(&hex("93 a179 81 a161 91 c403010203 cb3ff8000000000000")));
}

#[test]
fn any_value_keeps_its_binary() {
    let args = args("01 82 a161 c40105 a162 91 c702000607", 2);
    let values = args.to_values().unwrap();
    let binary = |bytes: &'static [u8]| Anything::from(Bytes::from_static(bytes));
    assert_eq!(values[1].get("a"), Some(&binary(&[5])));
    let list = Anything::Array(vec![binary(&[6, 7])]);
    assert_eq!(values[1].get("b"), Some(&list));
    assert!(args.get::<Value>(1).is_err(), "JSON has no binary");
    let sent = wire(Parser::MessagePack.event("/", None, "y", &values[1]));
    assert!(sent.ends_with(&hex("82 a161 c40105 a162 91 c4020607")));
}

#[test]
fn binary_reaches_buffered_types() {
    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(tag = "t")]
    enum Tagged {
        F { d: Bytes },
    }
    #[derive(Debug, serde::Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Untagged {
        Text(String),
        Binary(Bytes),
    }
    let five = Bytes::from_static(&[5]);
    let tagged = args("82 a164 c40105 a174 a146", 1);
    assert_eq!(tagged.get(0), Ok(Tagged::F { d: five }));
    // serde would accept bytes that are UTF-8 as a text.
    let binary = Bytes::from_static(&[0xff]);
    assert_eq!(args("c401ff", 1).get(0), Ok(Untagged::Binary(binary)));
    assert_eq!(args("a141", 1).get(0), Ok(Untagged::Text("A".into())));
}

#[test]
fn raw_json_is_an_argument_both_ways() {
    let args = args("81 a161 91 01 82 a161 91 01 a162 c40105", 2);
    let raw: Box<RawValue> = args.get(0).unwrap();
    assert_eq!(raw.get(), r#"{"a":[1]}"#);
    assert!(args.get::<Box<RawValue>>(1).is_err(), "JSON has no binary");
    #[derive(Serialize)]
    struct Message {
        metadata: Box<RawValue>,
    }
    let message = Message {
        metadata: RawValue::from_string(r#"{"x":[1,2.5,null]}"#.into()).unwrap(),
    };
    let sent = wire(Parser::MessagePack.ack("/", 0, &message));
    assert!(sent.ends_with(&hex(
        "91 81 a86d65746164617461 81 a178 93 01 cb4004000000000000 c0"
    )));
}

#[test]
fn errors_name_the_argument_and_the_path_as_with_json() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        #[expect(dead_code, reason = "only read from the wire")]
        name: String,
    }
    let values = [
        json!([{"name": "a"}, {"name": 1}]),
        json!([{}]),
        json!([{"name": "a", "other": 1}]),
        json!({"a": 1}),
        json!("text"),
        json!(null),
        json!([1, 2]),
    ];
    for value in values {
        let event = |parser: Parser| parser.event("/", None, "x", &json!([value])[0]).unwrap();
        let json = super::socket::decode_frame(&event(Parser::Json))
            .unwrap()
            .args;
        let packed = decode(message(&event(Parser::MessagePack))).unwrap().args;
        let json = json.get::<Vec<Item>>(0).map_err(|error| error.to_string());
        let packed = packed
            .get::<Vec<Item>>(0)
            .map_err(|error| error.to_string());
        assert_eq!(packed.unwrap_err(), json.unwrap_err());
    }
    let missing = args("01", 1).get::<String>(1).unwrap_err();
    assert_eq!(
        missing.to_string(),
        "argument 1: missing: expected a string"
    );
}

#[test]
fn text_is_no_messagepack_packet() {
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    let refused = decoder.text(Bytes::from_static(br#"2["x"]"#));
    assert_eq!(refused.unwrap_err(), DecodeError::UnexpectedText);
}
