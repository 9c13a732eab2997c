//! One Socket.IO packet, with serde_json as the oracle for its JSON, and its round trip.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::{
    DecodeError, Frame,
    socket::{Decoder, Kind, Limits, Packet, encode},
};
use serde_json::{Value, value::RawValue};

fuzz_target!(|text: &str| {
    let mut decoder = Decoder::new(Limits::default());
    let result = decoder.text(Bytes::copy_from_slice(text.as_bytes()));
    assert_eq!(decoder.is_waiting(), matches!(result, Ok(None)));
    match result {
        Ok(Some(packet)) => check(text, &packet),
        Ok(None) => {}
        Err(DecodeError::InvalidJson) => {
            // Without a namespace, the payload begins after the digits.
            let payload = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
            if text.as_bytes().get(1) != Some(&b'/') && !payload.starts_with('/') {
                assert!(
                    serde_json::from_str::<&RawValue>(payload).is_err(),
                    "{payload:?}"
                );
            }
        }
        Err(error) => assert!(DecodeError::ALL.contains(&error)),
    }
});

fn check(text: &str, packet: &Packet) {
    let args = &packet.args;
    assert_eq!(args.iter().count(), args.len());
    assert!(args.attachments().is_empty());
    for (i, json) in args.iter().enumerate() {
        assert!(serde_json::from_slice::<&RawValue>(json).is_ok());
        match args.get::<Value>(i) {
            Ok(value) => assert_eq!(
                serde_json::from_slice::<Value>(json).expect("the same"),
                value
            ),
            Err(error) => assert!(error.to_string().len() < 200),
        }
    }
    let nsp = packet.nsp.as_str();
    let frame = match packet.kind {
        Kind::Event => {
            let array = text.get(text.find('[').expect("an event is an array")..);
            if let Ok([first, ..]) =
                serde_json::from_str::<Vec<Value>>(array.unwrap_or_default()).as_deref()
                && let Some(name) = first.as_str()
            {
                assert_eq!(packet.event_name(), name);
            }
            encode::event(nsp, packet.id, packet.event_name(), args)
        }
        Kind::Ack => match packet.id {
            Some(id) => encode::ack(nsp, id, args),
            None => return,
        },
        Kind::Disconnect => encode::disconnect(nsp),
        Kind::Connect | Kind::ConnectError => return,
    };
    same(packet, &frame.expect("what was decoded can be sent"));
}

fn same(packet: &Packet, frame: &Frame) {
    // Text without attachments is one packet, whatever it contains.
    let polling = frame.polling();
    assert_eq!(polling.first(), Some(&b'4'));
    let again = Decoder::new(Limits::default()).text(polling.slice(1..));
    let again = again.expect("a packet").expect("complete");
    assert_eq!(again.kind, packet.kind);
    assert_eq!(again.nsp, packet.nsp);
    if packet.kind != Kind::Disconnect {
        assert_eq!(again.id, packet.id);
    }
    assert_eq!(again.event_name(), packet.event_name());
    assert!(again.args.iter().eq(packet.args.iter()));
}
