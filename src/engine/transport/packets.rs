//! Decodes packets in the revision of their session.

use bytes::Bytes;
use roomcast_protocol::{
    DecodeError,
    engine::{Packet, Revision, payload, v3},
};

/// Parses the packet of a text frame.
pub(in crate::engine) fn packet_from_text(
    revision: Revision,
    text: Bytes,
) -> Result<Packet, DecodeError> {
    match revision {
        Revision::V4 => Packet::decode_text(text),
        Revision::V3 | Revision::V3Base64 => v3::packet_from_text(text),
    }
}

/// Parses the packet of a binary frame.
pub(in crate::engine) fn packet_from_binary(
    revision: Revision,
    data: Bytes,
) -> Result<Packet, DecodeError> {
    match revision {
        Revision::V4 => Ok(Packet::decode_binary(data)),
        Revision::V3 | Revision::V3Base64 => v3::packet_from_binary(data),
    }
}

/// The packets of a posted payload, decoded one by one.
pub(in crate::engine) enum PostedPackets {
    V4(payload::Packets),
    V3(v3::Packets),
}

impl PostedPackets {
    /// Begins to decode a body. `is_binary` distinguishes the two forms of revision 3.
    pub(in crate::engine) fn new(revision: Revision, body: Bytes, is_binary: bool) -> Self {
        match revision {
            Revision::V4 => Self::V4(payload::decode(body)),
            Revision::V3 | Revision::V3Base64 if is_binary => Self::V3(v3::decode_binary(body)),
            Revision::V3 | Revision::V3Base64 => Self::V3(v3::decode_text(body)),
        }
    }
}

impl Iterator for PostedPackets {
    type Item = Result<Packet, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::V4(packets) => packets.next(),
            Self::V3(packets) => packets.next(),
        }
    }
}
