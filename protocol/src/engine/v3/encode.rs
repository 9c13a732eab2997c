//! Encodes frames for clients of revision 3.

use std::{io::Write as _, sync::OnceLock};

use bytes::Bytes;

use super::{BINARY, END_OF_LENGTH, MESSAGE, Revision, TEXT};
use crate::{
    Frame,
    engine::payload,
    websocket::{Fragment, Opcode, encode_header, header_len},
};

/// A polling payload of revision 3.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these two forms")]
pub enum Payload {
    /// Text: `<length>:<packet>` for each packet.
    Text(Bytes),
    /// Binary (`application/octet-stream`), which clients receive only if a packet is binary.
    Binary(Bytes),
}

/// Encodes frames as one polling payload.
///
/// Each frame is encoded at most once per form, for all clients. A payload of one frame is not
/// copied.
#[must_use]
pub fn encode(frames: &[Frame], revision: Revision) -> Payload {
    let is_binary = revision != Revision::V3Base64 && frames.iter().any(Frame::has_binary);
    let encoded = |frame: &Frame| {
        let encodings = frame.v3();
        if is_binary {
            let binary = encodings.binary.get_or_init(|| to_binary(frame));
            binary.clone()
        } else {
            encodings.text.get_or_init(|| to_text(frame)).clone()
        }
    };
    let payload = match frames {
        [frame] => encoded(frame),
        frames => {
            let parts: Vec<Bytes> = frames.iter().map(encoded).collect();
            parts.concat().into()
        }
    };
    if is_binary {
        Payload::Binary(payload)
    } else {
        Payload::Text(payload)
    }
}

/// Returns the maximum number of bytes that a frame adds to a payload.
#[must_use]
pub fn max_payload_len(frame: &Frame, revision: Revision) -> usize {
    let bytes = |data: &[u8]| match revision {
        Revision::V4 | Revision::V3 => data.len(),
        Revision::V3Base64 => data.len().div_ceil(3) * 4,
    };
    let binary = frame.binary_parts().map(|data| bytes(data) + MAX_HEADER);
    frame.text_part().len() + MAX_HEADER + binary.sum::<usize>()
}

/// Maximum number of bytes before the data of a packet: a form, 20 digits, the end of the length,
/// and a type with the mark of base64.
const MAX_HEADER: usize = 24;

/// The encodings of a frame for revision 3, each made when first needed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Encodings {
    /// The WebSocket frames, with a type in front of binary data.
    websocket: OnceLock<Bytes>,
    /// The WebSocket frames, with binary data as base64 text.
    base64: OnceLock<Bytes>,
    /// The packets in a text payload.
    text: OnceLock<Bytes>,
    /// The packets in a binary payload.
    binary: OnceLock<Bytes>,
}

impl Encodings {
    /// Returns the WebSocket frames.
    pub(crate) fn websocket(&self, frame: &Frame, revision: Revision) -> &Bytes {
        match revision {
            Revision::V4 | Revision::V3 => self.websocket.get_or_init(|| to_websocket(frame)),
            Revision::V3Base64 => self.base64.get_or_init(|| to_base64(frame)),
        }
    }
}

fn to_websocket(frame: &Frame) -> Bytes {
    let binary = |data: &[u8]| header_len(data.len() as u64 + 1, None) + 1 + data.len();
    let size = frame.binary_parts().map(binary).sum::<usize>();
    let mut out = Vec::with_capacity(frame.len_of_text() + size);
    text_frame(&mut out, &[frame.text_part()]);
    for data in frame.binary_parts() {
        let len = data.len() as u64 + 1;
        encode_header(&mut out, Fragment::Final, Opcode::Binary, len, None);
        out.push(MESSAGE);
        out.extend_from_slice(data);
    }
    out.into()
}

fn to_base64(frame: &Frame) -> Bytes {
    let mut out = Vec::new();
    text_frame(&mut out, &[frame.text_part()]);
    let mut base64 = Vec::new();
    for data in frame.binary_parts() {
        base64.clear();
        payload::encode_base64(data, &mut base64);
        text_frame(&mut out, &[BASE64_MESSAGE, &base64]);
    }
    out.into()
}

/// Appends a text frame of these parts, or nothing if they are empty.
fn text_frame(out: &mut Vec<u8>, parts: &[&[u8]]) {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    if len > 0 {
        encode_header(out, Fragment::Final, Opcode::Text, len as u64, None);
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }
}

fn to_text(frame: &Frame) -> Bytes {
    let mut out = Vec::with_capacity(max_payload_len(frame, Revision::V3Base64));
    let text = frame.text_part();
    if !text.is_empty() {
        // Writing to a vector does not fail.
        let _ = write!(out, "{}:", units(text));
        out.extend_from_slice(text);
    }
    let mut base64 = Vec::new();
    for data in frame.binary_parts() {
        base64.clear();
        payload::encode_base64(data, &mut base64);
        let _ = write!(out, "{}:", BASE64_MESSAGE.len() + base64.len());
        out.extend_from_slice(BASE64_MESSAGE);
        out.extend_from_slice(&base64);
    }
    out.into()
}

fn to_binary(frame: &Frame) -> Bytes {
    let mut out = Vec::with_capacity(max_payload_len(frame, Revision::V3));
    let text = frame.text_part();
    if !text.is_empty() {
        binary_header(&mut out, TEXT, text.len());
        out.extend_from_slice(text);
    }
    for data in frame.binary_parts() {
        binary_header(&mut out, BINARY, data.len() + 1);
        out.push(MESSAGE);
        out.extend_from_slice(data);
    }
    out.into()
}

fn binary_header(out: &mut Vec<u8>, form: u8, len: usize) {
    out.push(form);
    let start = out.len();
    // Writing to a vector does not fail.
    let _ = write!(out, "{len}");
    for digit in out.iter_mut().skip(start) {
        *digit -= b'0';
    }
    out.push(END_OF_LENGTH);
}

/// Returns the number of UTF-16 code units of valid UTF-8.
fn units(text: &[u8]) -> usize {
    let unit = |byte: &u8| match byte {
        // A continuation of a character.
        0x80..=0xbf => 0,
        // The first byte of a character that needs two units.
        0xf0..=0xff => 2,
        _ => 1,
    };
    text.iter().map(unit).sum()
}

/// The start of a binary message in base64.
const BASE64_MESSAGE: &[u8] = b"b4";
