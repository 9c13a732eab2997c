//! Decodes packets and polling payloads of revision 3.

use std::iter::FusedIterator;

use base64::Engine as _;
use bytes::{Buf, Bytes};

use super::{BINARY, END_OF_LENGTH, MESSAGE, TEXT};
use crate::{
    DecodeError,
    engine::{Message, Packet, payload::LENIENT_PADDING},
};

/// Parses a packet from a text frame, or from a text packet of a polling payload.
///
/// `text` must be UTF-8. A packet that starts with `b4` is a binary message in base64.
///
/// # Errors
/// If the text is empty, its type does not exist, or its base64 is invalid.
pub fn packet_from_text(mut text: Bytes) -> Result<Packet, DecodeError> {
    if text.first() != Some(&b'b') {
        return Packet::decode_text(text);
    }
    // Only messages have data, so no client sends another packet as base64.
    if text.get(1) != Some(&b'4') {
        return Err(DecodeError::UnknownPacket);
    }
    text.advance(2);
    let data = LENIENT_PADDING
        .decode(&text)
        .map_err(|_| DecodeError::InvalidBase64)?;
    Ok(Packet::Message(Message::Binary(data.into())))
}

/// Parses a packet from a binary frame, or from a binary packet of a polling payload.
///
/// # Errors
/// If the data is empty or its first byte is not the type of a message.
pub fn packet_from_binary(mut data: Bytes) -> Result<Packet, DecodeError> {
    match data.first() {
        None => Err(DecodeError::EmptyPacket),
        Some(&MESSAGE) => {
            data.advance(1);
            Ok(Packet::Message(Message::Binary(data)))
        }
        Some(_) => Err(DecodeError::UnknownPacket),
    }
}

/// Decodes the packets of a text payload (`<length>:<packet>`) one by one.
///
/// A length counts UTF-16 code units, as in JavaScript. The iterator allocates nothing except for
/// base64, so a length causes no memory use. The first error is the last item. An empty body is an
/// error. A packet of length 0, which the official server skips, is a [`Packet::Noop`].
#[must_use]
pub fn decode_text(body: Bytes) -> Packets {
    let form = match std::str::from_utf8(&body) {
        Ok(_) => Form::Text,
        Err(_) => Form::InvalidText,
    };
    Packets {
        rest: Some(body),
        form,
    }
}

/// Decodes the packets of a binary payload one by one.
///
/// Each packet has a byte for its form, the decimal digits of its length in bytes (each digit is a
/// byte of 0 to 9), and the byte 255 in front of it. The first error is the last item. An empty
/// body is an error.
#[must_use]
pub const fn decode_binary(body: Bytes) -> Packets {
    Packets {
        rest: Some(body),
        form: Form::Binary,
    }
}

/// The packets of a payload; see [`decode_text`] and [`decode_binary`].
#[derive(Clone, Debug)]
pub struct Packets {
    /// The unread rest; `None` after the last packet and after an error.
    rest: Option<Bytes>,
    form: Form,
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Text,
    /// The body is not UTF-8, which the first item reports.
    InvalidText,
    Binary,
}

impl Iterator for Packets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = self.rest.take()?;
        let packet = match self.form {
            Form::Text => next_of_text(&mut rest),
            Form::InvalidText => Err(DecodeError::InvalidUtf8),
            Form::Binary => next_of_binary(&mut rest),
        };
        if packet.is_ok() && !rest.is_empty() {
            self.rest = Some(rest);
        }
        Some(packet)
    }
}

impl FusedIterator for Packets {}

/// Takes the first packet from valid UTF-8.
fn next_of_text(rest: &mut Bytes) -> Result<Packet, DecodeError> {
    if rest.is_empty() {
        return Err(DecodeError::EmptyPacket);
    }
    let digits = rest.iter().take(MAX_DIGITS + 1);
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
    if rest.get(digits) != Some(&b':') {
        return Err(DecodeError::InvalidLength);
    }
    let units = length(rest.iter().take(digits).map(|digit| digit - b'0'))?;
    rest.advance(digits + 1);
    let end = end_of_units(rest, units).ok_or(DecodeError::InvalidLength)?;
    let packet = rest.split_to(end);
    if packet.is_empty() {
        return Ok(Packet::Noop);
    }
    packet_from_text(packet)
}

/// Takes the first packet from any bytes.
fn next_of_binary(rest: &mut Bytes) -> Result<Packet, DecodeError> {
    let Some(&form) = rest.first() else {
        return Err(DecodeError::EmptyPacket);
    };
    let digits = rest.iter().skip(1).take(MAX_DIGITS + 1);
    let digits = digits.take_while(|byte| **byte <= 9).count();
    if rest.get(digits + 1) != Some(&END_OF_LENGTH) {
        return Err(DecodeError::InvalidLength);
    }
    let len = length(rest.iter().skip(1).take(digits).copied())?;
    rest.advance(digits + 2);
    if len > rest.len() {
        return Err(DecodeError::InvalidLength);
    }
    let packet = rest.split_to(len);
    match form {
        TEXT => {
            std::str::from_utf8(&packet).map_err(|_| DecodeError::InvalidUtf8)?;
            packet_from_text(packet)
        }
        BINARY => packet_from_binary(packet),
        _ => Err(DecodeError::UnknownPacket),
    }
}

/// Maximum number of digits of a length. Longer lengths exceed every possible body.
const MAX_DIGITS: usize = 12;

/// Returns the number with these decimal digits. Leading zeros are invalid: no client sends them,
/// and other servers may read them as another number.
fn length(digits: impl ExactSizeIterator<Item = u8>) -> Result<usize, DecodeError> {
    let count = digits.len();
    if count == 0 || count > MAX_DIGITS {
        return Err(DecodeError::InvalidLength);
    }
    let mut value: u64 = 0;
    for (position, digit) in digits.enumerate() {
        if position == 0 && digit == 0 && count > 1 {
            return Err(DecodeError::InvalidLength);
        }
        // Twelve digits fit into 40 bits.
        value = value * 10 + u64::from(digit);
    }
    usize::try_from(value).map_err(|_| DecodeError::InvalidLength)
}

/// Returns the end of this number of UTF-16 code units in valid UTF-8. Returns `None` if the text
/// is shorter, or the end is between the two units of one character.
fn end_of_units(text: &[u8], units: usize) -> Option<usize> {
    // A unit is at least one byte.
    if text.get(..units)?.is_ascii() {
        return Some(units);
    }
    let (mut left, mut end) = (units, 0);
    while left > 0 {
        let (bytes, taken) = match text.get(end)? {
            0..=0x7f => (1, 1),
            0x80..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            0xf0..=0xff => (4, 2),
        };
        left = left.checked_sub(taken)?;
        end += bytes;
    }
    Some(end)
}
