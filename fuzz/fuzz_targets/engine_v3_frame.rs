//! Packets and frames of Engine.IO v3: a packet is decoded or refused, and an encoded frame is
//! decoded to its messages, in each form.
#![no_main]

use arbitrary::Arbitrary;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::{
    Frame,
    engine::{
        Message, Packet, Revision,
        v3::{self, Payload},
    },
    websocket::{Decoder, Event, Limits, Role},
};

#[derive(Arbitrary, Debug)]
struct Input {
    messages: Vec<Body>,
    is_base64: bool,
    packet: Vec<u8>,
}

#[derive(Arbitrary, Debug)]
enum Body {
    Text(String),
    Binary(Vec<u8>),
}

fuzz_target!(|input: Input| {
    let packet = Bytes::from(input.packet);
    let _ = v3::packet_from_binary(packet.clone());
    if std::str::from_utf8(&packet).is_ok() {
        let _ = v3::packet_from_text(packet);
    }
    if input.messages.is_empty() {
        return;
    }
    let revision = if input.is_base64 {
        Revision::V3Base64
    } else {
        Revision::V3
    };
    let messages = input.messages.iter();
    let messages: Vec<Packet> = messages
        .map(|body| match body {
            Body::Text(text) => Message::Text(Bytes::copy_from_slice(text.as_bytes())),
            Body::Binary(data) => Message::Binary(Bytes::copy_from_slice(data)),
        })
        .map(Packet::Message)
        .collect();
    let frames: Vec<Frame> = messages.iter().map(Frame::packet).collect();
    let size: usize = frames
        .iter()
        .map(|frame| v3::max_payload_len(frame, revision))
        .sum();
    let decoded: Result<Vec<Packet>, _> = match v3::encode(&frames, revision) {
        Payload::Text(body) => {
            assert!(body.len() <= size);
            v3::decode_text(body).collect()
        }
        Payload::Binary(body) => {
            assert!(body.len() <= size && !input.is_base64);
            v3::decode_binary(body).collect()
        }
    };
    assert_eq!(decoded.expect("an encoded payload is valid"), messages);
    let mut bytes = Vec::new();
    for frame in &frames {
        bytes.extend_from_slice(frame.websocket_for(revision));
    }
    let mut decoder = Decoder::new(Role::Client, Limits::default());
    let mut rest = &bytes[..];
    for message in &messages {
        let packet = match decoder.decode(&mut rest).expect("valid frames") {
            Some(Event::Text(text)) => v3::packet_from_text(text),
            Some(Event::Binary(data)) => v3::packet_from_binary(data),
            other => panic!("{other:?}"),
        };
        assert_eq!(packet.as_ref(), Ok(message));
    }
    assert!(rest.is_empty());
});
