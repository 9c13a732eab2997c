//! A polling payload of Engine.IO v3: a naive model of JavaScript strings reads the same packets.
//! An error is the last item, and nothing grows beyond the body.
//!
//! The first byte selects the form: binary if it is odd.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use roomcast_protocol::engine::{Message, Packet, v3};

fuzz_target!(|data: &[u8]| {
    let Some((form, body)) = data.split_first() else {
        return;
    };
    let is_binary = form % 2 == 1;
    let bytes = Bytes::copy_from_slice(body);
    let mut results = if is_binary {
        v3::decode_binary(bytes)
    } else {
        v3::decode_text(bytes)
    };
    let expected = if is_binary {
        model_binary(body)
    } else {
        std::str::from_utf8(body).map_or_else(|_| vec![None], model_text)
    };
    let (mut size, mut count) = (0, 0);
    for expected in &expected {
        let result = results.next().expect("the model has as many items");
        assert_eq!(result.as_ref().ok(), expected.as_ref());
        if let Ok(Packet::Message(Message::Text(data) | Message::Binary(data))) = &result {
            size += data.len();
        }
        count += 1;
    }
    assert!(results.next().is_none(), "the model ends here");
    assert!(results.next().is_none(), "and nothing follows");
    assert!(size <= body.len() && count <= body.len().max(1));
});

/// Reads a text payload as JavaScript does, on UTF-16. `None` is an error, which ends it.
fn model_text(body: &str) -> Vec<Option<Packet>> {
    let units: Vec<u16> = body.encode_utf16().collect();
    let mut packets = Vec::new();
    let mut at = 0;
    loop {
        let packet = text_at(&units, &mut at);
        let is_error = packet.is_none();
        packets.push(packet);
        if is_error || at == units.len() {
            return packets;
        }
    }
}

fn text_at(units: &[u16], at: &mut usize) -> Option<Packet> {
    let rest = &units[*at..];
    let colon = rest.iter().position(|unit| *unit == u16::from(b':'))?;
    let length = canonical(&String::from_utf16(&rest[..colon]).ok()?)?;
    let packet = rest.get(colon + 1..)?.get(..length)?;
    *at += colon + 1 + length;
    // Half a character is no text.
    let packet = String::from_utf16(packet).ok()?;
    String::from_utf16(&units[*at..]).ok()?;
    if packet.is_empty() {
        return Some(Packet::Noop);
    }
    v3::packet_from_text(packet.into()).ok()
}

fn canonical(digits: &str) -> Option<usize> {
    let length: usize = digits.parse().ok()?;
    (length.to_string() == digits).then_some(length)
}

/// Reads a binary payload with the length as a text of digits.
fn model_binary(mut body: &[u8]) -> Vec<Option<Packet>> {
    let mut packets = Vec::new();
    loop {
        let packet = binary_at(&mut body);
        let is_error = packet.is_none();
        packets.push(packet);
        if is_error || body.is_empty() {
            return packets;
        }
    }
}

fn binary_at(body: &mut &[u8]) -> Option<Packet> {
    let (form, rest) = body.split_first()?;
    let end = rest.iter().position(|byte| *byte == 255)?;
    let digits: Option<String> = rest[..end]
        .iter()
        .map(|digit| (*digit < 10).then(|| char::from(b'0' + digit)))
        .collect();
    let length = canonical(&digits?)?;
    let packet = rest.get(end + 1..)?.get(..length)?;
    *body = &rest[end + 1 + length..];
    let packet = Bytes::copy_from_slice(packet);
    match form {
        0 => {
            std::str::from_utf8(&packet).ok()?;
            v3::packet_from_text(packet).ok()
        }
        1 => v3::packet_from_binary(packet).ok(),
        _ => None,
    }
}
