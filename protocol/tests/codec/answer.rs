//! Acknowledgements as values, and the strict `Binary` type.

use bytes::Bytes;
use roomcast_protocol::{
    socket::{Args, Argument, Binary, Decoder, Limits, Parser, encode},
    websocket::Opcode,
};
use serde::{Deserialize, de::DeserializeOwned};

use super::args::{PLACEHOLDER, args, binary, wire};

#[test]
fn acknowledgement_roundtrips_in_every_form() {
    fn both<T>(value: &T) -> [Args; 2]
    where
        T: serde::Serialize,
    {
        [Parser::Json, Parser::MessagePack].map(|parser| {
            let frame = parser.ack("/", 0, value).unwrap();
            let mut decoder = Decoder::with_parser(parser, Limits::default());
            let mut packet = None;
            for (opcode, payload) in frame.messages() {
                let data = Bytes::copy_from_slice(payload);
                let read = match opcode == Opcode::Text {
                    true => decoder.text(data.slice(1..)),
                    false => decoder.binary(data),
                };
                packet = read.unwrap();
            }
            packet.unwrap().args
        })
    }
    fn check<T>(value: &T, count: usize)
    where
        T: serde::Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        for args in both(value) {
            assert_eq!(args.len(), count, "{value:?}");
            assert_eq!(T::take_all(&args).as_ref(), Ok(value), "{args:?}");
        }
    }
    let bytes = Bytes::from_static(&[1, 2]);
    check(&("a".to_owned(), 2_u8), 2);
    check(&(1_u8, (2_u8, "b".to_owned()), vec![3_u8]), 3);
    check(&(bytes.clone(), Some(bytes.clone()), 1.5), 3);
    check(&((1_u8, 2_u8),), 1);
    check(&[1_u8, 2, 3], 3);
    check(&vec![(1_u8, 2_u8)], 1);
    check(&vec![1_u8, 2], 1);
    check(&Some((1_u8, 2_u8)), 1);
    check(&bytes, 1);
    check(&"a".to_owned(), 1);
    for args in both(&()) {
        assert_eq!(<()>::take_all(&args), Ok(()));
        assert_eq!(<Option<u8>>::take_all(&args), Ok(None));
    }
    // Surplus arguments are ignored, and an optional argument may be missing.
    for args in both(&(1_u8, "b")) {
        assert_eq!(u8::take_all(&args), Ok(1));
        assert_eq!(<(u8,)>::take_all(&args), Ok((1,)));
        let (first, _, third) = <(u8, String, Option<u8>)>::take_all(&args).unwrap();
        assert_eq!((first, third), (1, None));
        assert_eq!(Args::take_all(&args).unwrap().len(), 2);
        for (error, expected) in [
            (
                <(u8, u8)>::take_all(&args).unwrap_err(),
                "argument 1: invalid type: expected u8, found a string",
            ),
            (
                <(u8, String, u8)>::take_all(&args).unwrap_err(),
                "argument 2: missing: expected u8",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
    #[derive(Debug, Deserialize)]
    struct Named {
        #[expect(dead_code, reason = "only its fault matters")]
        list: Vec<u8>,
    }
    for args in both(&(1, serde_json::json!({"list": [1, "x"]}))) {
        let error = <(u8, Named)>::take_all(&args).unwrap_err();
        assert_eq!((error.index(), error.path()), (1, "list[1]"));
    }
}

/// `Bytes` accept text and lists of numbers there, because serde has buffered them.
#[test]
fn binary_refuses_texts_and_number_lists_in_buffered_types() {
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type")]
    enum Internal {
        File { data: Binary },
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(tag = "type", content = "content")]
    enum Adjacent {
        File(Binary),
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Flattened {
        #[serde(flatten)]
        inner: Inner,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    struct Inner {
        data: Binary,
    }
    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(untagged)]
    enum Untagged {
        File(Binary),
        Text(String),
        List(Vec<u8>),
    }
    fn refused<T: DeserializeOwned + std::fmt::Debug>(json: &str) {
        let text = r#""text""#;
        for (wrong, found) in [
            (text, "a string"),
            ("[1,2]", "an array"),
            ("7", "an integer"),
        ] {
            let message = args(&json.replace("BIN", wrong)).get::<T>(0).unwrap_err();
            let message = message.message().to_owned();
            assert_eq!(
                message,
                format!("invalid type: expected binary, found {found}"),
                "{json}"
            );
        }
    }
    let data = || Binary::from(Bytes::from_static(&[7]));
    let read = |json: &str| binary(&json.replace("BIN", PLACEHOLDER), &[&[7]]);
    let internal = r#"{"data":BIN,"type":"File"}"#;
    refused::<Internal>(internal);
    assert_eq!(read(internal).get(0), Ok(Internal::File { data: data() }));
    for adjacent in [
        r#"{"content":BIN,"type":"File"}"#,
        r#"{"type":"File","content":BIN}"#,
    ] {
        refused::<Adjacent>(adjacent);
        assert_eq!(read(adjacent).get(0), Ok(Adjacent::File(data())));
    }
    let flattened = r#"{"data":BIN}"#;
    refused::<Flattened>(flattened);
    let inner = Inner { data: data() };
    assert_eq!(read(flattened).get(0), Ok(Flattened { inner }));
    assert_eq!(read("BIN").get(0), Ok(Untagged::File(data())));
    assert_eq!(args("\"a\"").get(0), Ok(Untagged::Text("a".into())));
    assert_eq!(args("[1]").get(0), Ok(Untagged::List(vec![1])));
    // It is encoded like `Bytes`.
    let frame = encode::event("/", None, "y", &data()).unwrap();
    let bytes = encode::event("/", None, "y", &Bytes::from_static(&[7])).unwrap();
    assert_eq!(wire(&frame), wire(&bytes));
}
