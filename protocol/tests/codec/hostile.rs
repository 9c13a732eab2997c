//! Hostile input. Each test has the number of its row in the table of hostile input.

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError,
    DecodeError::{
        IllegalAttachments, InvalidAckId, InvalidJson, InvalidPayload, NamespaceTooLong,
        ReservedEvent, TooDeep, TooLarge, TooManyAttachments, UnexpectedBinary, UnexpectedText,
        UnknownKind,
    },
    socket::{Decoder, Kind, Limits, Packet, Value as Anything},
};
use serde_json::Value;

fn decode(text: impl Into<Bytes>) -> Result<Option<Packet>, DecodeError> {
    Decoder::new(Limits::default()).text(text.into())
}

fn refused(text: impl Into<Bytes>) -> DecodeError {
    let text = text.into();
    let mut decoder = Decoder::new(Limits::default());
    match decoder.text(text.clone()) {
        Err(error) => {
            assert!(!decoder.is_waiting());
            error
        }
        Ok(packet) => panic!("{:?}: {packet:?}", String::from_utf8_lossy(&text)),
    }
}

fn event(text: impl Into<Bytes>) -> Packet {
    decode(text).expect("an event").expect("complete")
}

fn limits(change: impl FnOnce(&mut Limits)) -> Decoder {
    let mut limits = Limits::default();
    change(&mut limits);
    Decoder::new(limits)
}

const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

#[test]
fn a16_deep_json_is_refused_without_recursion() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [127, 100_000] {
            let text = format!("2[\"a\",{}1{}]", open.repeat(depth), close.repeat(depth));
            match depth {
                127 => assert_eq!(event(text).args.len(), 1),
                _ => assert_eq!(refused(text), TooDeep),
            }
            let unclosed = format!("2[\"a\",{}", open.repeat(depth));
            assert_eq!(
                refused(unclosed),
                if depth == 127 { InvalidJson } else { TooDeep }
            );
        }
    }
    assert_eq!(refused(format!("0{}", "{\"a\":".repeat(1_000))), TooDeep);
    let mut shallow = limits(|limits| limits.max_depth = 2);
    assert!(shallow.text("2[\"a\",[1]]".into()).is_ok());
    assert_eq!(shallow.text("2[\"a\",[[1]]]".into()).unwrap_err(), TooDeep);
}

#[test]
fn a16_values_within_the_depth_limit_can_be_parsed() {
    let text = format!("2[\"a\",{}1{}]", "[".repeat(127), "]".repeat(127));
    assert!(event(text).args.get::<Value>(0).is_ok());
    let open = "{\"a\":".repeat(126);
    let text = format!("51-[\"a\",{open}{PLACEHOLDER}{}]", "}".repeat(126));
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.text(text.into()).unwrap().is_none());
    let packet = decoder.binary(Bytes::from_static(&[1])).unwrap().unwrap();
    assert!(packet.args.get::<Anything>(0).is_ok());
}

#[test]
fn a17_out_of_range_number_is_an_argument_error() {
    let packet = event(r#"2["a",1e999,-0,9007199254740993]"#);
    assert!(packet.args.get::<Value>(0).is_err());
    assert!(packet.args.to_values().is_err());
    assert_eq!(packet.args.get::<f64>(1), Ok(-0.0));
    assert_eq!(packet.args.get::<u64>(2), Ok(9_007_199_254_740_993));
    let digits = format!("2[\"a\",{}]", "9".repeat(500_000));
    assert_eq!(event(digits).args.len(), 1);
}

#[test]
fn a17_lone_surrogate_is_an_argument_error_without_replacement() {
    let packet = event(r#"2["a","x\udfffy",{"\ud800a":1},"\ud83e\udd80",["\ud800x"]]"#);
    let error = |i| packet.args.get::<Value>(i).unwrap_err().to_string();
    assert_eq!(error(0), "argument 0: half of a surrogate pair");
    assert_eq!(error(1), "argument 1 at `?`: half of a surrogate pair");
    assert_eq!(packet.args.get::<String>(2), Ok("\u{1f980}".into()));
    let texts = packet.args.get::<Vec<String>>(3).unwrap_err();
    assert_eq!(
        texts.to_string(),
        "argument 3 at `[0]`: half of a surrogate pair"
    );
    // Forwarding keeps the text unchanged.
    assert_eq!(packet.args.raw(0), Some(&br#""x\udfffy""#[..]));
    // A Rust string cannot represent the name of such an event.
    assert_eq!(refused(r#"2["\ud800"]"#), DecodeError::InvalidUtf8);
    let packet = event(r#"2/\ud800,["a"]"#);
    assert_eq!(packet.nsp, r"/\ud800");
}

#[test]
fn a17_lone_surrogate_does_not_hide_a_placeholder() {
    let mut decoder = Decoder::new(Limits::default());
    let text = format!(r#"51-["a","\ud800",{PLACEHOLDER}]"#);
    assert!(decoder.text(text.into()).unwrap().is_none());
    let packet = decoder.binary(Bytes::from_static(&[7])).unwrap().unwrap();
    assert!(packet.args.get::<String>(0).is_err());
    assert_eq!(packet.args.get::<Bytes>(1), Ok(Bytes::from_static(&[7])));
}

#[test]
fn a17_duplicate_keys_are_allowed_and_the_last_counts() {
    let packet = event(r#"2["a",{"k":1,"k":2}]"#);
    assert_eq!(packet.args.get::<Value>(0).unwrap()["k"], 2);
    let keys: Vec<_> = (0..100_000)
        .map(|i| format!("\"k{}\":{i}", i % 7))
        .collect();
    let packet = event(format!("2[\"a\",{{{}}}]", keys.join(",")));
    assert_eq!(
        packet
            .args
            .get::<Value>(0)
            .unwrap()
            .as_object()
            .unwrap()
            .len(),
        7
    );
}

#[test]
fn c1_an_event_without_a_proper_name_is_refused() {
    for text in [
        r#"2[{"toString":"foo"}]"#,
        r#"2[true,"foo"]"#,
        r#"2[null,"bar"]"#,
        r#"2[["a"]]"#,
        "2[]",
        "2",
        "2{}",
        "2\"x\"",
        "2null",
        "2 ",
        "212",
        "2/a,",
        "2[1.5]",
        "2[1e3]",
        "2[-1.0]",
    ] {
        assert_eq!(refused(text), InvalidPayload, "{text}");
    }
    for text in [
        "2[",
        "2[\"a\"",
        "2[\"a\",]",
        "2[\"a\"]]",
        "2[\"a\"] x",
        "2[a]",
        "2[01]",
        "2[\"a\x01\"]",
    ] {
        assert_eq!(refused(text), InvalidJson, "{text}");
    }
}

#[test]
fn c1_an_integer_is_the_name_in_its_decimal_text() {
    for (text, name) in [
        (r#"2[1,"ok"]"#, "1"),
        ("2[0]", "0"),
        ("2[-7]", "-7"),
        ("2[ 12 ]", "12"),
        ("2[99999999999999999999999]", "99999999999999999999999"),
    ] {
        assert_eq!(event(text).event_name(), name, "{text}");
    }
}

#[test]
fn c2_reserved_names_are_refused() {
    for name in [
        "connect",
        "connect_error",
        "disconnect",
        "disconnecting",
        "newListener",
        "removeListener",
        "con\\u006eect",
        "\\u0064isconnect",
    ] {
        assert_eq!(refused(format!("2[\"{name}\"]")), ReservedEvent, "{name}");
        assert_eq!(
            refused(format!("2[\"{name}\",\"123\"]")),
            ReservedEvent,
            "{name}"
        );
        assert_eq!(
            refused(format!("51-[\"{name}\",{PLACEHOLDER}]")),
            ReservedEvent,
            "{name}"
        );
    }
}

#[test]
fn c2_names_similar_to_reserved_names_are_allowed() {
    for name in [
        "error",
        "__proto__",
        "constructor",
        "connection",
        "Connect",
        "connect ",
        "toString",
    ] {
        assert_eq!(event(format!("2[\"{name}\"]")).event_name(), name);
    }
    assert_eq!(event("31[\"connect\"]").kind, Kind::Ack);
}

#[test]
fn c3_a_placeholder_out_of_range_is_refused() {
    for num in [
        "1",
        "-1",
        "1.5",
        "0.5",
        "1e9",
        "1e0",
        "null",
        "\"splice\"",
        "\"0\"",
        "true",
        "{}",
        "[0]",
        "18446744073709551616",
        PLACEHOLDER,
    ] {
        let text = format!("51-[\"hello\",{{\"_placeholder\":true,\"num\":{num}}},{PLACEHOLDER}]");
        assert_eq!(refused(text), IllegalAttachments, "{num}");
    }
    for text in [
        r#"51-["hello",{"_placeholder":true}]"#,
        r#"50-["hello",{"_placeholder":true,"num":0}]"#,
        r#"51-["hello",{"\u005fplaceholder":true,"num":9},{"_placeholder":true,"num":0}]"#,
        r#"51-["hello",{"_placeholder":true,"num":0,"num":1}]"#,
        r#"51-["hello",{"_placeholder":true,"num":0,"name":"lost"}]"#,
        r#"51-["hello",{"_placeholder":true,"_placeholder":false,"num":0},{"_placeholder":true,"num":0}]"#,
        r#"51-["hello",[[{"a":{"_placeholder":true,"num":7}}]],{"_placeholder":true,"num":0}]"#,
    ] {
        assert_eq!(refused(text), IllegalAttachments, "{text}");
    }
}

#[test]
fn c3_fewer_placeholders_than_attachments_are_refused() {
    for text in [
        "51-[\"hello\"]",
        r#"51-["hello",{"_placeholder":false,"num":0}]"#,
        r#"51-["hello",{"_placeholder":1,"num":0}]"#,
        r#"51-["hello",{"_placeholder":"true","num":0}]"#,
        r#"51-["hello","{\"_placeholder\":true,\"num\":0}"]"#,
        r#"52-["hello",{"_placeholder":true,"num":0}]"#,
        "61-1[]",
    ] {
        assert_eq!(refused(text), IllegalAttachments, "{text}");
    }
}

#[test]
fn c3_an_attachment_may_be_used_twice() {
    let text = format!("51-[\"x\",{PLACEHOLDER},{PLACEHOLDER}]");
    let mut decoder = Decoder::new(Limits::default());
    assert!(decoder.text(text.into()).unwrap().is_none());
    let args = decoder
        .binary(Bytes::from_static(&[1]))
        .unwrap()
        .unwrap()
        .args;
    assert_eq!(args.get::<Bytes>(0), args.get::<Bytes>(1));
}

#[test]
fn c3_an_attachment_counts_as_often_as_it_is_named() {
    // Reading copies the attachment for each placeholder: one megabyte, thirty thousand times.
    for (named, fits) in [(2, true), (9, true), (11, false), (30_000, false)] {
        let placeholders = format!(",{PLACEHOLDER}").repeat(named);
        let mut decoder = Decoder::new(Limits::default());
        let text = format!("51-[\"x\"{placeholders}]");
        assert!(decoder.text(text.into()).unwrap().is_none());
        match decoder.binary(vec![0; 1_000_000].into()) {
            Ok(packet) => assert!(fits && packet.is_some(), "{named}"),
            Err(error) => assert_eq!((error, fits), (TooLarge, false), "{named}"),
        }
        assert!(!decoder.is_waiting());
    }
}

#[test]
fn c3_placeholders_mean_nothing_without_attachments() {
    let packet = event(format!("2[\"x\",{PLACEHOLDER}]"));
    assert!(packet.args.get::<Bytes>(0).is_err());
    assert!(packet.args.attachments().is_empty());
}

#[test]
fn c4_attachment_counts_that_are_no_number_are_illegal() {
    for text in [
        "5-[\"a\"]",
        "5",
        "51",
        "51.5-[]",
        "5a-",
        "51e1-[\"a\"]",
        "5 1-[\"a\"]",
        "5+1-[\"a\"]",
        "5--1[]",
        "5١-[]",
        "51[\"a\"]",
        "6",
        "6-",
        "5/a,1-[]",
    ] {
        assert_eq!(refused(text), IllegalAttachments, "{text}");
    }
    // For the decoder, the second count is JSON.
    assert_eq!(refused("55-1-[\"a\"]"), InvalidPayload);
}

#[test]
fn c4_too_many_attachments_are_refused_from_the_count_alone() {
    for text in ["511-[\"x\"]", "5999999999-[\"a\"]", "5999999999", "511"] {
        assert_eq!(refused(text), TooManyAttachments, "{text}");
    }
    assert_eq!(
        refused(format!("5{}", "9".repeat(1_000_000))),
        TooManyAttachments
    );
    assert_eq!(
        refused(format!("5{}", "0".repeat(1_000_000))),
        IllegalAttachments
    );
    let mut decoder = limits(|limits| limits.max_attachments = 1);
    assert_eq!(
        decoder.text("52-[]".into()).unwrap_err(),
        TooManyAttachments
    );
    let mut decoder = limits(|limits| limits.max_attachments = 0);
    assert_eq!(
        decoder.text("51-[]".into()).unwrap_err(),
        TooManyAttachments
    );
}

#[test]
fn c5_a_waiting_packet_is_limited_in_bytes() {
    let text = format!("52-[\"x\",{PLACEHOLDER},{}]", PLACEHOLDER.replace('0', "1"));
    let room = text.len() + 10;
    let mut decoder = limits(|limits| limits.max_bytes = text.len() - 1);
    assert_eq!(decoder.text(text.clone().into()).unwrap_err(), TooLarge);
    assert!(!decoder.is_waiting());
    for (first, second, fits) in [(5, 5, true), (5, 6, false), (11, 0, false)] {
        let mut decoder = limits(|limits| limits.max_bytes = room);
        assert!(decoder.text(text.clone().into()).unwrap().is_none());
        let result = decoder.binary(vec![0; first].into());
        let result = if result.is_ok() {
            decoder.binary(vec![0; second].into())
        } else {
            result
        };
        assert_eq!(result.is_ok(), fits, "{first} {second}");
        assert!(!decoder.is_waiting());
        if !fits {
            assert_eq!(result.unwrap_err(), TooLarge);
        }
    }
}

#[test]
fn c5c_text_while_an_attachment_is_due_is_refused() {
    let mut decoder = Decoder::new(Limits::default());
    assert!(
        decoder
            .text(format!("51-[\"a\",{PLACEHOLDER}]").into())
            .unwrap()
            .is_none()
    );
    assert!(decoder.is_waiting());
    assert_eq!(decoder.text("2[\"b\"]".into()).unwrap_err(), UnexpectedText);
    assert!(!decoder.is_waiting());
}

#[test]
fn c5c_binary_data_without_a_packet_is_refused() {
    let mut decoder = Decoder::new(Limits::default());
    assert_eq!(
        decoder.binary(Bytes::from_static(&[1])).unwrap_err(),
        UnexpectedBinary
    );
    assert!(decoder.text("2[\"b\"]".into()).unwrap().is_some());
    assert_eq!(decoder.binary(Bytes::new()).unwrap_err(), UnexpectedBinary);
}

#[test]
fn c6_an_id_beyond_64_bits_is_refused() {
    assert_eq!(refused(format!("2{}", "1".repeat(999_990))), InvalidAckId);
    assert_eq!(refused("299999999999999999999[\"a\"]"), InvalidAckId);
    assert_eq!(refused("218446744073709551616[\"a\"]"), InvalidAckId);
    assert_eq!(event("20018446744073709551615[\"a\"]").id, Some(u64::MAX));
}

#[test]
fn c6_text_between_id_and_array_is_refused() {
    for text in [
        "3-1[]",
        "2abc[\"a\"]",
        "21a[\"a\"]",
        "21.5[\"a\"]",
        "2/a,b,[\"a\"]",
        "3",
        "31",
        "31{}",
    ] {
        assert_eq!(refused(text), InvalidPayload, "{text}");
    }
}

#[test]
fn c9_a_namespace_name_is_limited() {
    let name = |length: usize| format!("/{}", "n".repeat(length - 1));
    assert_eq!(
        event(format!("2{},[\"a\"]", name(256))).nsp.as_str(),
        name(256)
    );
    assert!(decode(format!("0{}", name(256))).is_ok());
    for length in [257, 1_000_000] {
        assert_eq!(refused(format!("0{}", name(length))), NamespaceTooLong);
        assert_eq!(refused(format!("0{},", name(length))), NamespaceTooLong);
        assert_eq!(
            refused(format!("2{},[\"a\"]", name(length))),
            NamespaceTooLong
        );
    }
}

#[test]
fn c10_a_connect_payload_is_an_object_or_nothing() {
    for text in [
        "0[]",
        "0\"x\"",
        "0abc",
        "0null",
        "0true",
        "0/admin,\"invalid\"",
        "0/admin,[]",
    ] {
        assert_eq!(refused(text), InvalidPayload, "{text}");
    }
    for text in ["0{\"a\":", "0{", "0{}{}", "0{\"a\":1,}"] {
        assert_eq!(refused(text), InvalidJson, "{text}");
    }
}

#[test]
fn c10_a_connect_payload_is_limited() {
    let payload = |length: usize| format!("0{{\"t\":\"{}\"}}", "x".repeat(length - 8));
    assert!(decode(payload(16 * 1024)).is_ok());
    assert_eq!(refused(payload(16 * 1024 + 1)), TooLarge);
    assert_eq!(refused(payload(1_000_000)), TooLarge);
}

#[test]
fn c11_kinds_that_do_not_exist_are_refused() {
    for text in ["7", "9", "x", "", " 2[\"a\"]", "-1", "\0", "é", "abc"] {
        assert_eq!(refused(text), UnknownKind, "{text}");
    }
}

#[test]
fn c11_payloads_of_the_wrong_shape_are_refused() {
    for text in [
        "1{}",
        "1/admin,{}",
        "1[]",
        "4",
        "4[]",
        "4null",
        "4true",
        "3{}",
        "3\"a\"",
        "1x",
    ] {
        assert_eq!(refused(text), InvalidPayload, "{text}");
    }
    assert_eq!(refused("442[\"some\",\"data\""), InvalidPayload);
}

#[test]
fn c13_event_name_is_stored_no_longer_than_its_packet() {
    let text = Bytes::from(b"2[\"some-name\"]".to_vec());
    let packet = event(text.clone());
    assert_eq!(packet.event_name().as_ptr(), text[3..].as_ptr());
    drop(packet);
    assert!(text.is_unique());
}

#[test]
fn d15_base64_text_is_no_packet() {
    assert_eq!(refused("bAQID"), UnknownKind);
}

#[test]
fn a_peer_cannot_make_a_packet_of_many_elements_costly() {
    let packet = event(format!("2[\"a\"{}]", ",1".repeat(400_000)));
    assert_eq!(packet.args.len(), 400_000);
    assert_eq!(packet.args.raw(399_999), Some(&b"1"[..]));
    assert_eq!(packet.args.iter().count(), 400_000);
}
