//! Arguments: typed access, attachments, forwarding.

use bytes::Bytes;
use roomcast_protocol::{
    Frame,
    engine::Message,
    socket::{Args, Argument, ArgumentError, Value, encode},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{json, value::RawValue};

use super::socket::{decode_all, decode_frame};

pub(super) fn args(json: &str) -> Args {
    decode_all(&[Message::Text(format!("2[\"x\",{json}]").into())])
        .expect(json)
        .args
}

pub(super) fn binary(json: &str, attachments: &[&'static [u8]]) -> Args {
    let text = format!("5{}-[\"x\",{json}]", attachments.len());
    let mut messages = vec![Message::Text(text.into())];
    messages.extend(
        attachments
            .iter()
            .map(|data| Message::Binary(Bytes::from_static(data))),
    );
    decode_all(&messages).expect(json).args
}

pub(super) const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

fn error<T: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    let result = args(json).get::<T>(0);
    result.expect_err("it fits").to_string()
}

pub(super) fn wire(frame: &Frame) -> String {
    String::from_utf8(frame.polling().to_vec()).expect("text")
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Send {
    room: String,
    #[serde(default)]
    tags: Vec<u8>,
}

#[test]
fn arguments_are_parsed_on_demand() {
    let args = args(r#"1,"a",{"room":"r","tags":[1,2]},[true,null]"#);
    assert_eq!(args.len(), 4);
    assert_eq!(args.get::<u8>(0), Ok(1));
    assert_eq!(args.get::<String>(1), Ok("a".into()));
    assert_eq!(
        args.get(2),
        Ok(Send {
            room: "r".into(),
            tags: vec![1, 2]
        })
    );
    assert_eq!(args.get::<(bool, Option<u8>)>(3), Ok((true, None)));
    assert_eq!(args.get(3), Ok(json!([true, null])));
    assert_eq!(args.iter().len(), 4);
    assert_eq!(args.raw(4), None);
    assert_eq!(args.raw(usize::MAX), None);
}

#[test]
fn a_missing_argument_can_be_optional() {
    let args = args("1");
    assert_eq!(args.get::<Option<u8>>(1), Ok(None));
    assert_eq!(args.get::<Option<u8>>(0), Ok(Some(1)));
    assert_eq!(
        args.get::<u8>(1).unwrap_err().to_string(),
        "argument 1: missing: expected u8"
    );
    assert_eq!(
        args.get::<Send>(7).unwrap_err().to_string(),
        "argument 7: missing: expected an object"
    );
}

#[test]
fn errors_name_the_place_and_never_the_value() {
    for (json, message) in [
        ("\"secret\"", "invalid type: expected u8, found a string"),
        (
            "\", expected <b>\"",
            "invalid type: expected u8, found a string",
        ),
        ("300", "invalid value: expected u8, found an integer"),
        ("1.5", "invalid type: expected u8, found a number"),
        ("null", "invalid type: expected u8, found null"),
        ("{}", "invalid type: expected u8, found an object"),
        ("[]", "invalid type: expected u8, found an array"),
        ("true", "invalid type: expected u8, found a boolean"),
        ("1e999", "invalid value"),
    ] {
        assert_eq!(
            error::<u8>(json),
            format!("argument 0: {message}"),
            "{json}"
        );
    }
    assert_eq!(
        error::<Send>("5"),
        "argument 0: invalid type: expected an object, found an integer"
    );
    assert_eq!(error::<Send>("{}"), "argument 0 at `room`: missing field");
    assert_eq!(
        error::<Send>(r#"{"room":7}"#),
        "argument 0 at `room`: invalid type: expected a string, found an integer"
    );
    assert_eq!(
        error::<Send>(r#"{"room":"","tags":[1,"x"]}"#),
        "argument 0 at `tags[1]`: invalid type: expected u8, found a string"
    );
    assert_eq!(
        error::<Send>(r#"{"room":"","room":""}"#),
        "argument 0 at `room`: duplicate field"
    );
    assert_eq!(
        error::<Send>(r#"{"room":"","evil":1}"#),
        "argument 0 at `evil`: unknown field: expected `room` or `tags`"
    );
    assert_eq!(
        error::<Vec<Send>>("[{}]"),
        "argument 0 at `[0].room`: missing field"
    );
    assert_eq!(
        error::<(u8, u8)>("[1]"),
        "argument 0: invalid length: expected a tuple of size 2, found 1"
    );
    assert_eq!(
        error::<std::net::Ipv4Addr>("\"<script>\""),
        "argument 0: invalid value"
    );
    #[derive(Debug, Deserialize)]
    enum Choice {
        A(u8),
    }
    assert_eq!(
        error::<Choice>(r#""<b>, expected <b>""#),
        "argument 0: unknown variant: expected `A`"
    );
    assert_eq!(
        error::<Choice>(r#"{"A":"x"}"#),
        "argument 0 at `A`: invalid type: expected u8, found a string"
    );
    #[derive(Debug, Deserialize)]
    enum Never {}
    assert_eq!(
        error::<Never>(r#""x, expected <b>""#),
        "argument 0: unknown variant"
    );
    #[derive(Debug)]
    struct Careless;
    impl<'de> Deserialize<'de> for Careless {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            let text = String::deserialize(from)?;
            Err(serde::de::Error::custom(format!("invalid value {text}")))
        }
    }
    assert_eq!(
        error::<Careless>(r#"", expected <b>secret</b>""#),
        "argument 0: invalid value"
    );
    assert!(matches!(args(r#"{"A":1}"#).get(0), Ok(Choice::A(1))));
}

#[test]
fn f8_paths_carry_no_markup_and_no_line_breaks() {
    type Map = std::collections::HashMap<String, u8>;
    let message = error::<Map>(r#"{"a\r\n\u001b<b>`$":"x"}"#);
    assert_eq!(
        message,
        "argument 0 at `a????b???`: invalid type: expected u8, found a string"
    );
    let long = format!("{{\"{}\":\"x\"}}", "k".repeat(10_000));
    assert!(error::<Map>(&long).len() < 200);
}

#[test]
fn error_exposes_its_parts() {
    let error = args(r#"0,{"room":7}"#).get::<Send>(1).unwrap_err();
    assert_eq!(
        (error.index(), error.path(), error.message()),
        (
            1,
            "room",
            "invalid type: expected a string, found an integer"
        )
    );
}

#[test]
fn handlers_take_arguments_by_position() {
    fn take(args: &Args) -> Result<(u8, Option<String>, Args), ArgumentError> {
        let mut position = 0;
        let taken = (
            u8::take(args, &mut position)?,
            Argument::take(args, &mut position)?,
            Args::take(args, &mut position)?,
        );
        assert!(position >= args.len());
        Ok(taken)
    }
    let (number, text, rest) = take(&args(r#"1,"a",2,[3]"#)).unwrap();
    assert_eq!((number, text.as_deref()), (1, Some("a")));
    assert_eq!(rest.to_values().unwrap(), [json!(2), json!([3])]);
    let (_, text, rest) = take(&args("1")).unwrap();
    assert_eq!((text, rest.len()), (None, 0));
    assert_eq!(
        take(&args("\"a\"")).unwrap_err().to_string(),
        "argument 0: invalid type: expected u8, found a string"
    );
    assert_eq!(
        take(&args("1,2")).unwrap_err().to_string(),
        "argument 1: invalid type: expected a string, found an integer"
    );
}

#[test]
fn skipping_more_arguments_than_exist_leaves_none() {
    let args = args("1,2");
    assert_eq!(args.skip(0).len(), 2);
    assert_eq!(args.skip(1).raw(0), Some(&b"2"[..]));
    assert_eq!(args.skip(1).skip(1).len(), 0);
    assert!(args.skip(usize::MAX).is_empty());
    assert_eq!(args.skip(9).raw(0), None);
    assert!(Args::default().is_empty());
    assert_eq!(Args::default().iter().next(), None);
}

#[test]
fn attachments_are_found_at_any_depth() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Upload {
        name: String,
        data: Bytes,
        #[serde(default)]
        more: Vec<Part>,
        preview: Option<Bytes>,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    enum Part {
        Whole(Bytes),
        Pair(u8, Bytes),
        Named { data: Bytes },
        Nothing,
    }
    let args = binary(
        r#"{"name":"n","data":{"_placeholder":true,"num":1},"preview":{"num":0,"_placeholder":true},
            "more":["Nothing",{"Whole":{"_placeholder":true,"num":2}},{"Pair":[1,{"_placeholder":true,"num":0}]},
            {"Named":{"data":{"_placeholder":true,"num":0}}}]},
           {"_placeholder":true,"num":2},3"#,
        &[&[1], &[2], &[3]],
    );
    let bytes = |byte: &'static [u8]| Bytes::from_static(byte);
    assert_eq!(
        args.get::<Upload>(0),
        Ok(Upload {
            name: "n".into(),
            data: bytes(&[2]),
            preview: Some(bytes(&[1])),
            more: vec![
                Part::Nothing,
                Part::Whole(bytes(&[3])),
                Part::Pair(1, bytes(&[1])),
                Part::Named { data: bytes(&[1]) },
            ],
        })
    );
    assert_eq!(args.get::<Bytes>(1), Ok(bytes(&[3])));
    assert_eq!(args.get::<Option<Bytes>>(1), Ok(Some(bytes(&[3]))));
    assert_eq!(args.get::<Option<Bytes>>(9), Ok(None));
    assert_eq!(args.get::<u8>(2), Ok(3));
    let keyed = binary(r#"{"7":{"_placeholder":true,"num":0}}"#, &[&[9]]);
    let map = keyed
        .get::<std::collections::HashMap<u32, Bytes>>(0)
        .unwrap();
    assert_eq!(map[&7], bytes(&[9]));
}

#[test]
fn bytes_are_attachments_only() {
    assert_eq!(
        error::<Bytes>("\"text\""),
        "argument 0: invalid type: expected binary, found a string"
    );
    assert_eq!(
        error::<Bytes>("[1,2]"),
        "argument 0: invalid type: expected binary, found an array"
    );
    assert_eq!(
        error::<Bytes>(r#"{"_placeholder":true,"num":0}"#),
        "argument 0: invalid type: expected binary, found an object"
    );
    let args = binary(
        r#"{"_placeholder":true,"num":0},{"_placeholder":false,"num":0},{}"#,
        &[&[1]],
    );
    assert!(args.get::<Bytes>(0).is_ok());
    assert!(args.get::<Bytes>(1).is_err());
    assert!(args.get::<Bytes>(2).is_err());
    assert!(args.get::<String>(0).is_err());
}

/// Types that serde buffers before it knows their variant.
mod read_ahead {
    use std::collections::HashMap;

    use bytes::Bytes;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type")]
    pub(super) enum Internal {
        File { name: String, data: Bytes },
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", content = "content")]
    pub(super) enum Adjacent {
        File(Bytes),
        Files(Vec<Bytes>),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    pub(super) enum Untagged {
        Number(u32),
        Binary(Bytes),
        Numbered { num: Option<Bytes>, name: String },
        Placed { _placeholder: Placed },
        Many(HashMap<String, Bytes>),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub(super) enum Placed {
        Here,
        At(u8),
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub(super) struct Flattened {
        pub(super) name: String,
        #[serde(flatten)]
        pub(super) inner: Inner,
        #[serde(flatten)]
        pub(super) rest: HashMap<String, Bytes>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    pub(super) struct Inner {
        pub(super) data: Bytes,
    }
}

#[test]
fn binary_reaches_tagged_untagged_and_flattened_types() {
    use read_ahead::{Adjacent, Flattened, Inner, Internal, Placed, Untagged};
    let data = Bytes::from_static(&[7]);
    let read = |json: &str| binary(&json.replace("BIN", PLACEHOLDER), &[&[7]]);
    for json in [
        r#"{"type":"File","name":"n","data":BIN}"#,
        r#"{"data":BIN,"name":"n","type":"File"}"#,
        r#"{"type":"File","name":"n","data":{"num":0,"_placeholder":true}}"#,
    ] {
        let file = Internal::File {
            name: "n".into(),
            data: data.clone(),
        };
        assert_eq!(read(json).get(0), Ok(file), "{json}");
    }
    for json in [
        r#"{"type":"File","content":BIN}"#,
        r#"{"content":BIN,"type":"File"}"#,
    ] {
        assert_eq!(
            read(json).get(0),
            Ok(Adjacent::File(data.clone())),
            "{json}"
        );
    }
    assert_eq!(
        read(r#"{"content":[BIN,BIN],"type":"Files"}"#).get(0),
        Ok(Adjacent::Files(vec![data.clone(), data.clone()]))
    );
    for (json, expected) in [
        ("BIN", Untagged::Binary(data.clone())),
        ("5,BIN", Untagged::Number(5)),
        (
            r#"{"num":BIN,"name":"n"}"#,
            Untagged::Numbered {
                num: Some(data.clone()),
                name: "n".into(),
            },
        ),
        (
            r#"{"num":null,"name":"n"},BIN"#,
            Untagged::Numbered {
                num: None,
                name: "n".into(),
            },
        ),
        (
            r#"{"_placeholder":"Here"},BIN"#,
            Untagged::Placed {
                _placeholder: Placed::Here,
            },
        ),
        (
            r#"{"_placeholder":{"At":3},"num":1},BIN"#,
            Untagged::Placed {
                _placeholder: Placed::At(3),
            },
        ),
        (
            r#"{"a":BIN}"#,
            Untagged::Many([("a".to_owned(), data.clone())].into()),
        ),
    ] {
        assert_eq!(read(json).get(0), Ok(expected), "{json}");
    }
    assert_eq!(
        read(r#"{"name":"n","data":BIN,"num":BIN}"#).get(0),
        Ok(Flattened {
            name: "n".into(),
            inner: Inner { data: data.clone() },
            rest: [("num".to_owned(), data)].into(),
        })
    );
}

#[test]
fn any_value_keeps_its_binary_and_is_sent_unchanged() {
    let args = binary(
        r#"1,{"a":{"_placeholder":true,"num":0},"num":-1.5},[{"num":0,"_placeholder":true},null,"t",true]"#,
        &[&[5]],
    );
    let values = args.to_values().unwrap();
    let five = Value::from(Bytes::from_static(&[5]));
    assert_eq!(values[0], json!(1));
    assert_eq!(values[1].get("a"), Some(&five));
    assert_eq!(values[1].get("num").unwrap(), &json!(-1.5));
    assert_eq!(values[1].to_json(), None);
    assert_eq!(
        values[2],
        Value::Array(vec![
            five,
            Value::Null,
            Value::String("t".into()),
            Value::Bool(true)
        ])
    );
    let frame = encode::event("/", None, "y", &values[1]).unwrap();
    assert_eq!(
        wire(&frame),
        "451-[\"y\",{\"a\":{\"_placeholder\":true,\"num\":0},\"num\":-1.5}]\x1ebBQ=="
    );
}

#[test]
fn binary_is_no_json() {
    let args = binary(
        r#"{"a":[{"_placeholder":true,"num":0}]},{"a":1,"num":[2]}"#,
        &[&[5]],
    );
    let error = args.get::<serde_json::Value>(0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "argument 0 at `a[0]`: invalid type: expected any valid JSON value, found binary"
    );
    assert!(args.get::<Box<RawValue>>(0).is_err());
    // Arguments without binary data are read as usual.
    assert_eq!(args.get(1), Ok(json!({"a": 1, "num": [2]})));
    let raw = args.get::<Box<RawValue>>(1).unwrap();
    assert_eq!(raw.get(), r#"{"a":1,"num":[2]}"#);
}

#[test]
fn arguments_are_forwarded_unchanged() {
    let args = args(r#"1 , {"b":1.50,"a":"\u0041"},12345678901234567890123"#);
    let frame = encode::event("/", None, "y", &args).unwrap();
    assert_eq!(
        wire(&frame),
        r#"42["y",1 , {"b":1.50,"a":"\u0041"},12345678901234567890123]"#
    );
    assert_eq!(
        wire(&encode::ack("/", 1, &args.skip(2)).unwrap()),
        "431[12345678901234567890123]"
    );
    assert_eq!(wire(&encode::ack("/", 1, &args.skip(3)).unwrap()), "431[]");
    assert_eq!(
        wire(&encode::event("/", None, "y", &Args::default()).unwrap()),
        r#"42["y"]"#
    );
}

#[test]
fn attachments_are_forwarded_with_the_arguments_that_use_them() {
    let args = binary(
        r#"{"_placeholder":true,"num":0},[{"_placeholder":true,"num":1}],2"#,
        &[&[1], &[2]],
    );
    let frame = encode::event("/", None, "y", &args).unwrap();
    assert_eq!(
        wire(&frame),
        "452-[\"y\",{\"_placeholder\":true,\"num\":0},[{\"_placeholder\":true,\"num\":1}],2]\
         \x1ebAQ==\x1ebAg=="
    );
    let frame = encode::event("/", None, "y", &args.skip(1)).unwrap();
    assert_eq!(
        wire(&frame),
        "451-[\"y\",[{\"_placeholder\":true,\"num\":0}],2]\x1ebAg=="
    );
    assert_eq!(wire(&encode::ack("/", 0, &args.skip(2)).unwrap()), "430[2]");
    let again = decode_frame(&frame).unwrap().args;
    assert_eq!(
        again.get::<Vec<Bytes>>(0).unwrap(),
        [Bytes::from_static(&[2])]
    );
}

#[test]
fn a_clone_shares_its_bytes() {
    let args = args("1");
    assert_eq!(
        args.raw(0).unwrap().as_ptr(),
        args.clone().raw(0).unwrap().as_ptr()
    );
}

#[test]
fn debug_shows_the_json() {
    assert_eq!(
        format!("{:?}", args("1,[2]")),
        "Args { json: \"1,[2]\", attachments: [] }"
    );
}
