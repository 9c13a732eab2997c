//! Polling payloads: packets joined by the record separator, with binary messages in base64.

use std::iter::FusedIterator;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::STANDARD},
};
use bytes::{Buf, Bytes};

use super::Packet;
use crate::DecodeError;

/// The separator between the packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// Decodes the packets of a request or response body one by one.
///
/// The iterator does not look ahead, so a caller may stop when its quota is used up. Text must be
/// valid UTF-8. The first error is the last item. An empty body is one empty packet and therefore
/// an error, as in the Node.js implementation.
#[must_use]
pub const fn decode(body: Bytes) -> Packets {
    Packets { rest: Some(body) }
}

/// The packets of a payload; see [`decode`].
#[derive(Clone, Debug)]
pub struct Packets {
    /// The unread rest; `None` after the last packet and after an error.
    rest: Option<Bytes>,
}

impl Iterator for Packets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let packet = match rest.iter().position(|&b| b == SEPARATOR) {
            Some(end) => {
                let packet = rest.split_to(end);
                rest.advance(1);
                self.rest = Some(rest);
                packet
            }
            None => rest,
        };
        let result = decode_packet(packet);
        if result.is_err() {
            self.rest = None;
        }
        Some(result)
    }
}

impl FusedIterator for Packets {}

/// Appends `packets` to `out` as one payload.
pub fn encode<'a>(packets: impl IntoIterator<Item = &'a Packet>, out: &mut Vec<u8>) {
    for (i, packet) in packets.into_iter().enumerate() {
        if i > 0 {
            out.push(SEPARATOR);
        }
        packet.encode(out);
    }
}

pub(crate) fn encode_binary(data: &[u8], out: &mut Vec<u8>) {
    out.push(b'b');
    encode_base64(data, out);
}

pub(crate) fn encode_base64(data: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    let length = base64::encoded_len(data.len(), true).expect("data that fits memory four times");
    out.resize(start + length, 0);
    if let Some(room) = out.get_mut(start..) {
        STANDARD
            .encode_slice(data, room)
            .expect("the room was measured");
    }
}

fn decode_packet(packet: Bytes) -> Result<Packet, DecodeError> {
    match packet.first() {
        Some(b'b') => LENIENT_PADDING
            .decode(packet.get(1..).unwrap_or_default())
            .map(|data| Packet::decode_binary(data.into()))
            .map_err(|_| DecodeError::InvalidBase64),
        Some(_) => {
            std::str::from_utf8(&packet).map_err(|_| DecodeError::InvalidUtf8)?;
            Packet::decode_text(packet)
        }
        None => Err(DecodeError::EmptyPacket),
    }
}

/// Some clients leave out the padding.
pub(super) const LENIENT_PADDING: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
