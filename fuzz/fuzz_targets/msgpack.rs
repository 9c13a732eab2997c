//! One packet of the MessagePack parser, with rmpv as the oracle for its values, and its round
//! trip.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use rmpv::Value as Oracle;
use roomcast_protocol::{
    DecodeError, Frame,
    engine::{Message, Packet as EnginePacket, payload},
    socket::{Decoder, Kind, Limits, Packet, Parser, Value},
};

fuzz_target!(|message: &[u8]| {
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    let result = decoder.binary(Bytes::copy_from_slice(message));
    assert!(!decoder.is_waiting());
    match result {
        Ok(packet) => check(message, &packet.expect("a packet is one message")),
        Err(error) => assert!(DecodeError::ALL.contains(&error)),
    }
});

fn check(message: &[u8], packet: &Packet) {
    let mut rest = message;
    let whole = rmpv::decode::read_value(&mut rest).expect("what we take is MessagePack");
    assert!(rest.is_empty());
    let fields = whole.as_map().expect("a packet is a map");
    let data = fields.iter().rfind(|(key, _)| key.as_str() == Some("data"));
    let args = &packet.args;
    let Ok(values) = args.to_values() else {
        assert!(data.is_some_and(|(_, data)| has_broken_text(data)));
        let is_refused = pass_on(packet).is_none();
        assert!(
            is_refused || packet.kind != Kind::Event,
            "no text is passed on that is none"
        );
        return;
    };
    match (packet.kind, data) {
        (Kind::Event | Kind::Ack, Some((_, Oracle::Array(elements)))) => {
            let named = usize::from(packet.kind == Kind::Event);
            assert_eq!(elements.len(), args.len() + named);
            for (value, element) in values.iter().zip(elements.iter().skip(named)) {
                same(value, element);
            }
        }
        (Kind::Connect | Kind::ConnectError, Some((_, data))) if !args.is_empty() => {
            same(&values[0], data);
        }
        (Kind::Connect | Kind::Disconnect, _) => assert!(args.is_empty()),
        other => panic!("{other:?}"),
    }
    let is_sent = pass_on(packet).is_some();
    // A text that is not UTF-8 justifies the refusal, even outside of the arguments; no client
    // sends one.
    assert!(
        is_sent || has_broken_text(&whole),
        "what was decoded can be sent"
    );
}

/// Returns whether the value contains a text that is not UTF-8, which is an error of its argument.
fn has_broken_text(value: &Oracle) -> bool {
    match value {
        Oracle::String(text) => text.as_str().is_none(),
        Oracle::Array(values) => values.iter().any(has_broken_text),
        Oracle::Map(fields) => fields
            .iter()
            .any(|(key, value)| has_broken_text(key) || has_broken_text(value)),
        _ => false,
    }
}

/// Compares with the oracle, as far as it knows the parser's semantics.
fn same(value: &Value, oracle: &Oracle) {
    match (oracle, value) {
        (Oracle::Nil, Value::Null) => {}
        (Oracle::Boolean(oracle), Value::Bool(value)) => assert_eq!(oracle, value),
        (Oracle::Integer(oracle), Value::Number(value)) => {
            assert_eq!(
                (oracle.as_i64(), oracle.as_u64()),
                (value.as_i64(), value.as_u64())
            );
        }
        (Oracle::F32(oracle), value) => same_float(f64::from(*oracle), value),
        (Oracle::F64(oracle), value) => same_float(*oracle, value),
        (Oracle::String(oracle), Value::String(value)) => {
            assert_eq!(oracle.as_str(), Some(value.as_str()));
        }
        (Oracle::Binary(oracle), value) => {
            assert_eq!(value.as_binary().expect("bytes"), oracle)
        }
        (Oracle::Array(oracle), Value::Array(values)) => {
            assert_eq!(oracle.len(), values.len());
            for (oracle, value) in oracle.iter().zip(values) {
                same(value, oracle);
            }
        }
        (Oracle::Map(oracle), Value::Object(values)) => assert!(values.len() <= oracle.len()),
        // These are `undefined`, dates (an impossible date is null) and array buffers.
        (Oracle::Ext(0, _), Value::Null | Value::String(_)) => {}
        (Oracle::Ext(0, oracle), value) => {
            assert_eq!(value.as_binary().expect("bytes"), oracle)
        }
        other => panic!("{other:?}"),
    }
}

fn same_float(oracle: f64, value: &Value) {
    match value {
        Value::Number(value) => {
            let value = value.as_f64().expect("every number is one");
            assert_eq!(value.to_bits(), oracle.to_bits());
        }
        other => assert!(!oracle.is_finite() && *other == Value::Null),
    }
}

/// Encodes the packet again; `None` if that is refused.
fn pass_on(packet: &Packet) -> Option<()> {
    let nsp = packet.nsp.as_str();
    let send = |parser: Parser| match (packet.kind, packet.id) {
        (Kind::Event, id) => Some(parser.event(nsp, id, packet.event_name(), &packet.args)),
        (Kind::Ack, Some(id)) => Some(parser.ack(nsp, id, &packet.args)),
        (Kind::Disconnect, _) => Some(parser.disconnect(nsp)),
        (Kind::Connect | Kind::ConnectError | Kind::Ack, _) => None,
    };
    if let Some(frame) = send(Parser::MessagePack) {
        let again = again(&frame.ok()?);
        assert_eq!((again.kind, &again.nsp), (packet.kind, &packet.nsp));
        assert_eq!(again.event_name(), packet.event_name());
        assert!(again.args.iter().eq(packet.args.iter()));
        if packet.kind != Kind::Disconnect {
            assert_eq!(again.id, packet.id);
        }
    }
    // JSON has limits of its own. If it accepts the packet, the frame must not be empty.
    if let Some(Ok(frame)) = send(Parser::Json) {
        assert!(frame.packets() > 0);
    }
    Some(())
}

fn again(frame: &Frame) -> Packet {
    let mut messages = payload::decode(frame.polling());
    let Some(Ok(EnginePacket::Message(Message::Binary(data)))) = messages.next() else {
        panic!("a packet is one binary message");
    };
    let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
    decoder.binary(data).expect("a packet").expect("complete")
}
