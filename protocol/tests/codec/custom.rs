//! Valid and invalid output of custom parsers.

use bytes::Bytes;
use roomcast_protocol::{
    socket::{
        CustomMessage, CustomPacket, CustomParser, CustomParserError, Decoder, EncodeError, Kind,
        Limits, Parser, Value,
    },
    websocket::Opcode,
};

/// A parser whose output depends on the event name, and that decodes events without arguments.
struct ScriptedParser;

impl CustomParser for ScriptedParser {
    fn name(&self) -> &'static str {
        "odd"
    }

    fn encode(&self, packet: &CustomPacket) -> Result<Vec<CustomMessage>, CustomParserError> {
        let text = || CustomMessage::Text("text".into());
        let binary = || CustomMessage::Binary(Bytes::from_static(b"binary"));
        let Some(Value::Array(data)) = &packet.data else {
            return Ok(vec![text()]);
        };
        match data.first().and_then(Value::as_str) {
            Some("nothing") => Ok(Vec::new()),
            Some("text last") => Ok(vec![binary(), text()]),
            Some("panic") => panic!("a fault of the parser"),
            Some("error") => Err("no place".into()),
            Some("binary") => Ok(vec![binary(), binary()]),
            _ => Ok(vec![text(), binary()]),
        }
    }

    fn decode(
        &self,
        messages: &[CustomMessage],
    ) -> Result<Option<CustomPacket>, CustomParserError> {
        match messages {
            [.., CustomMessage::Text(name)] => Ok(Some(CustomPacket {
                code: 2,
                nsp: "/chat".into(),
                id: Some(7),
                data: Some(serde_json::json!([name, 1]).into()),
            })),
            _ => Ok(None),
        }
    }
}

const ODD: Parser = Parser::custom(&ScriptedParser);

fn written(event: &str) -> Result<Vec<(Opcode, Vec<u8>)>, EncodeError> {
    let frame = ODD.event("/", None, event, &())?;
    let messages = frame.messages();
    Ok(messages
        .map(|(opcode, data)| (opcode, data.to_vec()))
        .collect())
}

#[test]
fn custom_parsers_write_a_text_followed_by_binary_messages() {
    let text = (Opcode::Text, b"4text".to_vec());
    let binary = (Opcode::Binary, b"binary".to_vec());
    assert_eq!(written("x").unwrap(), [text, binary.clone()]);
    assert_eq!(written("binary").unwrap(), [binary.clone(), binary]);
    for event in ["nothing", "text last", "panic", "error"] {
        let error = written(event).unwrap_err();
        assert!(matches!(error, EncodeError::Custom(_)), "{event}: {error}");
    }
    let reserved = ODD.event("/", None, "connect", &()).unwrap_err();
    assert!(matches!(reserved, EncodeError::ReservedEvent));
    let slash = ODD.disconnect("chat").unwrap_err();
    assert!(matches!(slash, EncodeError::InvalidNamespace));
    let bytes = vec![Bytes::from_static(b"x"); 11];
    let many = ODD.event("/", None, "x", &(bytes,)).unwrap_err();
    assert!(matches!(many, EncodeError::TooManyAttachments));
}

#[test]
fn custom_packets_are_read_like_packets_of_json() {
    let mut decoder = Decoder::with_parser(ODD, Limits::default());
    assert!(decoder.binary(Bytes::from_static(b"x")).unwrap().is_none());
    assert!(decoder.is_waiting());
    let packet = decoder.text("na\"me".into()).unwrap().unwrap();
    assert!(!decoder.is_waiting());
    assert_eq!((packet.kind, packet.nsp.as_str()), (Kind::Event, "/chat"));
    assert_eq!((packet.id, packet.event_name()), (Some(7), "na\"me"));
    assert_eq!(packet.args.get(0), Ok(1));
    assert_eq!(packet.args.parser(), Parser::Json);
}

#[test]
fn custom_parsers_with_one_name_are_equal() {
    assert_eq!(ODD, Parser::custom(&ScriptedParser));
    assert_ne!(ODD, Parser::Json);
    assert_eq!(format!("{ODD:?}"), "Custom(Custom(\"odd\"))");
    let named: Result<Parser, _> = serde_json::from_str("\"custom\"");
    assert!(named.is_err());
}
