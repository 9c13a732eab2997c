//! Texts and attachments in arbitrary order: the limits hold and every placeholder has its
//! attachment.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::{
    DecodeError,
    engine::{Message, Packet as EnginePacket, payload},
    socket::{Args, Decoder, Kind, Limits, Packet, Value, encode},
};

#[derive(Arbitrary, Debug)]
enum Op<'a> {
    Text(&'a str),
    /// A packet with this many placeholders, which have these numbers.
    Announce {
        count: u8,
        numbers: Vec<u8>,
        is_ack: bool,
    },
    Binary(&'a [u8]),
}

const LIMITS: Limits = Limits {
    max_attachments: 4,
    max_bytes: 256,
    max_depth: 16,
    max_nsp: 32,
    max_connect_payload: 64,
};

fuzz_target!(|ops: Vec<Op<'_>>| {
    let mut decoder = Decoder::new(LIMITS);
    // These are the bytes and attachments of the incomplete packet.
    let mut bytes = 0;
    let mut attachments = 0;
    for op in ops {
        let was_waiting = decoder.is_waiting();
        let result = match op {
            Op::Binary(data) => {
                bytes += data.len();
                attachments += 1;
                decoder.binary(Bytes::copy_from_slice(data))
            }
            Op::Text(text) => {
                (bytes, attachments) = (text.len(), 0);
                decoder.text(Bytes::copy_from_slice(text.as_bytes()))
            }
            Op::Announce {
                count,
                numbers,
                is_ack,
            } => {
                let text = announce(count, &numbers, is_ack);
                (bytes, attachments) = (text.len(), 0);
                decoder.text(text.into())
            }
        };
        assert_eq!(decoder.is_waiting(), matches!(result, Ok(None)));
        match result {
            Ok(None) => assert!(attachments < LIMITS.max_attachments),
            Ok(Some(packet)) => {
                assert_eq!(packet.args.attachments().len(), attachments);
                assert!(attachments == 0 || was_waiting && bytes <= LIMITS.max_bytes);
                check(&packet);
            }
            Err(DecodeError::UnexpectedText) => assert!(was_waiting),
            Err(DecodeError::UnexpectedBinary) => assert!(!was_waiting),
            Err(_) => {}
        }
    }
});

fn announce(count: u8, numbers: &[u8], is_ack: bool) -> String {
    let kind = if is_ack { 6 } else { 5 };
    let mut text = format!("{kind}{count}-1[\"x\"");
    for number in numbers {
        text.push_str(&format!(",[{{\"_placeholder\":true,\"num\":{number}}}]"));
    }
    text + "]"
}

fn check(packet: &Packet) {
    assert!(packet.nsp.as_str().len() <= LIMITS.max_nsp);
    let Ok(values) = packet.args.to_values() else {
        return;
    };
    let mut used = 0;
    for value in &values {
        walk(value, &packet.args, &mut used);
    }
    assert!(used >= packet.args.attachments().len());
    for i in 0..packet.args.len() {
        let _ = packet.args.get::<Vec<Option<Bytes>>>(i);
    }
    // Forwarded as a whole and in part, it is a packet again.
    for skip in 0..=packet.args.len().min(3) {
        let args = packet.args.skip(skip);
        let nsp = packet.nsp.as_str();
        let frame = match packet.kind {
            Kind::Event => encode::event(nsp, packet.id, packet.event_name(), &args),
            Kind::Ack => encode::ack(nsp, packet.id.unwrap_or_default(), &args),
            Kind::Connect | Kind::Disconnect | Kind::ConnectError => return,
        };
        let Ok(frame) = frame else { continue };
        if nsp.contains('\u{1e}')
            || packet
                .args
                .iter()
                .any(|json| json.contains(&payload::SEPARATOR))
        {
            continue;
        }
        let mut decoder = Decoder::new(Limits::default());
        let mut again = Ok(None);
        for message in payload::decode(frame.polling()) {
            again = match message {
                Ok(EnginePacket::Message(Message::Text(text))) => decoder.text(text),
                Ok(EnginePacket::Message(Message::Binary(data))) => decoder.binary(data),
                other => panic!("{other:?}"),
            };
        }
        let again = again.expect("a packet").expect("complete");
        assert_eq!(again.args.len(), args.len());
    }
}

/// Asserts that every object that looks like a placeholder is one.
fn walk(value: &Value, args: &Args, used: &mut usize) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, args, used)),
        Value::Object(object) => {
            if !args.attachments().is_empty() {
                assert_ne!(object.get("_placeholder"), Some(&Value::Bool(true)));
            }
            object.values().for_each(|item| walk(item, args, used));
        }
        Value::Binary(_) => *used += 1,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
