use super::*;

fn packed(value: &impl serde::Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).unwrap().into()
}

#[test]
fn document_is_split_without_being_parsed() {
    let json = serde_json::json!({"a": [1, "é", {"b": null}], "c": {"d": [], "a\"": true}});
    let text: Bytes = json.to_string().into();
    for (parser, document) in [(Parser::Json, text), (Parser::MessagePack, packed(&json))] {
        let document = Args::document(parser, document).unwrap();
        assert_eq!(document.len(), 1);
        assert!(document.items(0).is_none());
        let entries = document.entries(0).unwrap();
        assert_eq!(entries.len(), 2);
        let items = entries["a"].items(0).unwrap();
        assert_eq!(items.len(), 3);
        assert_eq!(items.get::<u8>(0).unwrap(), 1);
        assert_eq!(items.skip(1).get::<String>(0).unwrap(), "é");
        assert_eq!(
            items.entries(2).unwrap()["b"].get::<Option<u8>>(0).unwrap(),
            None
        );
        let inner = entries["c"].entries(0).unwrap();
        assert!(inner["d"].items(0).unwrap().is_empty());
        assert!(inner["a\""].get::<bool>(0).unwrap());
        assert!(inner["d"].entries(0).is_none());
    }
}

#[test]
fn list_of_an_event_is_the_encoded_list_of_its_packet() {
    let decode = |parser: Parser, frame: &crate::Frame| {
        let mut decoder = crate::socket::Decoder::with_parser(parser, Default::default());
        let (_, message) = frame.messages().next().unwrap();
        let packet = match parser.is_binary() {
            true => decoder.binary(Bytes::copy_from_slice(message)),
            false => decoder.text(Bytes::copy_from_slice(&message[1..])),
        };
        packet.unwrap().unwrap().args
    };
    let many = serde_json::json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    for parser in [Parser::Json, Parser::MessagePack] {
        for (nsp, id) in [("/", None), ("/chat", Some(7))] {
            let frame = parser.event(nsp, id, "é", &("a", vec![1, 2], "b")).unwrap();
            let args = decode(parser, &frame);
            let list = args.event_list("é").unwrap();
            let read = Args::document(parser, list).unwrap().items(0).unwrap();
            assert_eq!(read.len(), 4, "{read:?}");
            assert_eq!(read.get::<String>(0).unwrap(), "é");
            assert_eq!(read.get::<String>(3).unwrap(), "b");
            assert!(args.event_list("e").is_none());
            assert!(args.skip(1).event_list("é").is_none());
            let empty = decode(parser, &parser.event(nsp, id, "e", &()).unwrap());
            let expected: &[u8] = if parser.is_binary() {
                b"\x91\xa1e"
            } else {
                b"[\"e\"]"
            };
            assert_eq!(empty.event_list("e").unwrap(), expected);
        }
        // An escaped name could equal another name.
        let escaped = decode(parser, &parser.event("/", None, "a\"", &1).unwrap());
        assert_eq!(escaped.event_list("a\\\""), None);
        let long = decode(
            parser,
            &parser.event("/", None, "e", &(&many, &many)).unwrap(),
        );
        let list = long.event_list("e").unwrap();
        let read = Args::document(parser, list).unwrap().items(0).unwrap();
        assert_eq!(read.get::<serde_json::Value>(2).unwrap(), many);
    }
    let spaced = Bytes::from_static(b"[ \"e\",1]");
    let args = Args::document(Parser::Json, spaced)
        .unwrap()
        .items(0)
        .unwrap();
    assert_eq!(args.skip(1).event_list("e"), None);
    let exact = Bytes::from_static(b" [\"e\", 1] ");
    let args = Args::document(Parser::Json, exact)
        .unwrap()
        .items(0)
        .unwrap();
    assert_eq!(args.skip(1).event_list("e").unwrap(), "[\"e\", 1]");
    let renamed = Bytes::from_static(b"[\"\\u0065\",1]");
    let args = Args::document(Parser::Json, renamed)
        .unwrap()
        .items(0)
        .unwrap();
    assert_eq!(args.skip(1).event_list("\\u0065"), None);
}

#[test]
fn invalid_documents_are_refused() {
    for text in [&b""[..], b"{", b"{}x", b"{\"a\":}", b"\"\xff\""] {
        let document = Args::document(Parser::Json, Bytes::copy_from_slice(text));
        assert!(document.is_err(), "{text:?}");
    }
    for bytes in [
        &b""[..],
        b"\x91",
        b"\xc0\xc0",
        b"\xdf\xff\xff\xff\xff",
        b"\xd6\x01\0\0\0\0",
    ] {
        let document = Args::document(Parser::MessagePack, Bytes::copy_from_slice(bytes));
        assert!(document.is_err(), "{bytes:?}");
    }
    let deep = "[".repeat(129) + &"]".repeat(129);
    assert!(Args::document(Parser::Json, deep.into()).is_err());
    assert!(Args::document(Parser::MessagePack, vec![0x91; 200].into()).is_err());
}

#[test]
fn timestamps_become_texts_for_clients_in_every_form() {
    for bytes in [
        &b"\x91\xd6\xff\x00\x00\x00\x01"[..],
        b"\x91\xd7\xff\x00\x00\x00\x00\x00\x00\x00\x01",
        b"\x91\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
    ] {
        let document = Args::document(Parser::MessagePack, Bytes::copy_from_slice(bytes));
        let args = document.unwrap().items(0).unwrap();
        for parser in [Parser::Json, Parser::MessagePack] {
            let frame = parser.ack("/", 0, &args).unwrap();
            let sent = frame.messages().next().unwrap().1;
            let text = b"1970-01-01T00:00:01.000Z";
            assert!(
                sent.windows(text.len()).any(|part| part == text),
                "{sent:?}"
            );
        }
    }
}
