//! A polling payload: an error ends it, its messages together are no larger than the body, and
//! decoded packets are encoded to the same payload.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::engine::{Message, Packet, payload};

fuzz_target!(|body: &[u8]| {
    let mut packets = Vec::new();
    let mut size = 0;
    let mut results = payload::decode(Bytes::copy_from_slice(body));
    for result in results.by_ref() {
        match result {
            Ok(packet) => {
                if let Packet::Message(Message::Text(data) | Message::Binary(data)) = &packet {
                    size += data.len();
                }
                packets.push(packet);
            }
            Err(_) => break,
        }
    }
    assert!(size <= body.len());
    assert!(
        results.next().is_none(),
        "nothing follows an error or the end"
    );
    if packets.is_empty() {
        return;
    }
    let mut out = Vec::new();
    payload::encode(&packets, &mut out);
    let again: Result<Vec<_>, _> = payload::decode(out.into()).collect();
    assert_eq!(again.expect("what was encoded is a payload"), packets);
});
