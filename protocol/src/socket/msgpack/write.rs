//! Writes MessagePack tokens in their shortest form, and the packet around the arguments.

use serde::Serialize;

use super::Serializer;
use crate::socket::{EncodeError, Kind};

/// Begins a packet. For events and acknowledgements, the map's length includes the arguments;
/// [`payload`] adds an entry for a payload.
pub(in crate::socket) fn begin(
    out: &mut Vec<u8>,
    kind: Kind,
    nsp: &str,
    id: Option<u64>,
) -> Result<(), EncodeError> {
    if !nsp.starts_with('/') {
        return Err(EncodeError::InvalidNamespace);
    }
    let (kind, entries) = match kind {
        Kind::Connect => (0, 2),
        Kind::Disconnect => (1, 2),
        Kind::Event => (2, 3),
        Kind::Ack => (3, 3),
        Kind::ConnectError => (4, 2),
    };
    container(out, true, entries + usize::from(id.is_some()));
    text(out, b"type");
    out.push(kind);
    text(out, b"nsp");
    text(out, nsp.as_bytes());
    if let Some(id) = id {
        text(out, b"id");
        unsigned(out, id);
    }
    Ok(())
}

/// Begins the list of arguments, which is the last entry.
pub(in crate::socket) fn begin_list(out: &mut Vec<u8>) -> Header {
    text(out, b"data");
    Header::begin(out, false, 0)
}

/// Adds the payload of a packet without arguments, unless it is nil.
pub(in crate::socket) fn payload(
    out: &mut Vec<u8>,
    payload: &(impl Serialize + ?Sized),
) -> Result<(), serde_json::Error> {
    let end = out.len();
    text(out, b"data");
    let start = out.len();
    payload.serialize(&mut Serializer(out))?;
    if out.get(start..) == Some(&[0xc0]) {
        out.truncate(end);
    // The first byte of a packet is the header of a map of at most four entries. Its low bits are
    // the number of entries.
    } else if let Some(map) = out.first_mut() {
        *map += 1;
    }
    Ok(())
}

/// The header of an array or a map, written before its length is known.
#[derive(Debug)]
pub(in crate::socket) struct Header {
    at: usize,
    length: usize,
    expected: usize,
    is_map: bool,
}

impl Header {
    /// Writes a header for the expected number of elements.
    #[inline]
    pub(in crate::socket) fn begin(out: &mut Vec<u8>, is_map: bool, expected: usize) -> Self {
        let at = out.len();
        container(out, is_map, expected);
        Self {
            at,
            length: out.len() - at,
            expected,
            is_map,
        }
    }

    /// Writes the actual number of elements. If the header must be longer, the contents move.
    #[inline]
    pub(in crate::socket) fn end(self, out: &mut Vec<u8>, count: usize) {
        if count != self.expected {
            self.replace(out, count);
        }
    }

    fn replace(self, out: &mut Vec<u8>, count: usize) {
        match (u8::try_from(count), out.get_mut(self.at)) {
            (Ok(count @ ..=15), Some(byte)) if self.length == 1 => *byte = *byte & 0xf0 | count,
            _ => {
                let mut header = Vec::with_capacity(5);
                container(&mut header, self.is_map, count);
                out.splice(self.at..self.at + self.length, header);
            }
        }
    }
}

fn container(out: &mut Vec<u8>, is_map: bool, count: usize) {
    let [fix, short, long] = if is_map {
        [0x80, 0xde, 0xdf]
    } else {
        [0x90, 0xdc, 0xdd]
    };
    match (u8::try_from(count), u16::try_from(count)) {
        (Ok(count @ ..=15), _) => out.push(fix | count),
        (_, Ok(count)) => marked(out, short, count.to_be_bytes()),
        (_, Err(_)) => marked(out, long, narrow(count).to_be_bytes()),
    }
}

pub(super) fn unsigned(out: &mut Vec<u8>, value: u64) {
    if let Ok(byte) = u8::try_from(value) {
        match byte {
            ..=0x7f => out.push(byte),
            0x80.. => marked(out, 0xcc, [byte]),
        }
    } else if let Ok(value) = u16::try_from(value) {
        marked(out, 0xcd, value.to_be_bytes());
    } else if let Ok(value) = u32::try_from(value) {
        marked(out, 0xce, value.to_be_bytes());
    } else {
        marked(out, 0xcf, value.to_be_bytes());
    }
}

pub(super) fn signed(out: &mut Vec<u8>, value: i64) {
    if let Ok(value) = u64::try_from(value) {
        unsigned(out, value);
    } else if let Ok(value) = i8::try_from(value) {
        match value {
            -32.. => out.extend(value.to_be_bytes()),
            ..-32 => marked(out, 0xd0, value.to_be_bytes()),
        }
    } else if let Ok(value) = i16::try_from(value) {
        marked(out, 0xd1, value.to_be_bytes());
    } else if let Ok(value) = i32::try_from(value) {
        marked(out, 0xd2, value.to_be_bytes());
    } else {
        marked(out, 0xd3, value.to_be_bytes());
    }
}

pub(super) fn text(out: &mut Vec<u8>, value: &[u8]) {
    match (u8::try_from(value.len()), u16::try_from(value.len())) {
        (Ok(length @ ..=31), _) => out.push(0xa0 | length),
        (Ok(length), _) => marked(out, 0xd9, [length]),
        (_, Ok(length)) => marked(out, 0xda, length.to_be_bytes()),
        (_, Err(_)) => marked(out, 0xdb, narrow(value.len()).to_be_bytes()),
    }
    out.extend_from_slice(value);
}

pub(super) fn binary(out: &mut Vec<u8>, value: &[u8]) {
    match (u8::try_from(value.len()), u16::try_from(value.len())) {
        (Ok(length), _) => marked(out, 0xc4, [length]),
        (_, Ok(length)) => marked(out, 0xc5, length.to_be_bytes()),
        (_, Err(_)) => marked(out, 0xc6, narrow(value.len()).to_be_bytes()),
    }
    out.extend_from_slice(value);
}

#[inline]
pub(super) fn marked<const N: usize>(out: &mut Vec<u8>, marker: u8, bytes: [u8; N]) {
    out.push(marker);
    out.extend_from_slice(&bytes);
}

/// Converts a length. Finishing refuses a packet of 4 GiB or more, so longer values need no error
/// here.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
