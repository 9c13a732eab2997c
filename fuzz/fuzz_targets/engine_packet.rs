//! One Engine.IO packet: decoding never panics, and a decoded packet is encoded to the same packet.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::{Frame, engine::Packet};

fuzz_target!(|text: &str| {
    let Ok(packet) = Packet::decode_text(Bytes::copy_from_slice(text.as_bytes())) else {
        return;
    };
    let mut out = Vec::new();
    packet.encode(&mut out);
    assert_eq!(Packet::decode_text(out.clone().into()), Ok(packet.clone()));
    let frame = Frame::packet(&packet);
    assert_eq!(frame.polling(), out);
    assert!(frame.websocket().ends_with(&out));
});
