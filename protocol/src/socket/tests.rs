use bytes::Bytes;
use serde_json::json;

use super::{Decoder, Kind, Limits, Packet, encode};
use crate::{DecodeError, Frame};

fn decode(text: &'static str) -> Result<Option<Packet>, DecodeError> {
    Decoder::new(Limits::default()).text(Bytes::from_static(text.as_bytes()))
}

fn text(frame: &Frame) -> String {
    String::from_utf8(frame.polling().to_vec()).unwrap()
}

#[test]
fn an_event_is_decoded() {
    let packet = decode(r#"2/admin,13["project:delete",123, {"a":[1]}]"#)
        .unwrap()
        .unwrap();
    assert_eq!(packet.kind, Kind::Event);
    assert_eq!(packet.nsp, "/admin");
    assert_eq!(packet.id, Some(13));
    assert_eq!(packet.event_name(), "project:delete");
    assert_eq!(packet.args.len(), 2);
    assert_eq!(packet.args.get::<u32>(0), Ok(123));
    assert_eq!(packet.args.raw(1), Some(&br#"{"a":[1]}"#[..]));
}

#[test]
fn an_event_with_attachments_is_joined() {
    let mut decoder = Decoder::new(Limits::default());
    let text = r#"51-["hello",{"x":{"_placeholder":true,"num":0}}]"#;
    assert!(decoder.text(Bytes::from(text)).unwrap().is_none());
    let packet = decoder
        .binary(Bytes::from_static(&[1, 2, 3]))
        .unwrap()
        .unwrap();
    #[derive(serde::Deserialize)]
    struct Argument {
        x: Bytes,
    }
    assert_eq!(packet.args.get::<Argument>(0).unwrap().x, [1, 2, 3][..]);
}

#[test]
fn an_event_is_encoded() {
    let frame = encode::event("/", None, "hello", &(1, "a", json!({"b": null}))).unwrap();
    assert_eq!(text(&frame), r#"42["hello",1,"a",{"b":null}]"#);
    let frame = encode::event("/a", Some(7), "x", &Bytes::from_static(&[1, 2])).unwrap();
    assert_eq!(
        text(&frame),
        "451-/a,7[\"x\",{\"_placeholder\":true,\"num\":0}]\u{1e}bAQI="
    );
    assert_eq!(
        text(&encode::connect("/", &json!({"sid": "x"})).unwrap()),
        r#"40{"sid":"x"}"#
    );
}
