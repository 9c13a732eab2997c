//! Engine.IO v3, the protocol of the official clients of Socket.IO 1 and 2.
//!
//! It differs from v4 in four ways. The client sends the pings. A packet in a polling payload has a
//! length in front of it, and binary messages have a form of their own there. A binary message on a
//! WebSocket starts with its packet type.

mod decode;
mod encode;

pub use decode::{Packets, decode_binary, decode_text, packet_from_binary, packet_from_text};
pub(crate) use encode::Encodings;
pub use encode::{Payload, encode, max_payload_len};

/// The revision of Engine.IO that a session uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are no further revisions")]
pub enum Revision {
    /// Revision 4, for clients of Socket.IO 3 and 4.
    #[default]
    V4,
    /// Revision 3, for clients of Socket.IO 1 and 2.
    V3,
    /// Revision 3, for clients that receive binary messages as base64 text (`b64=1`).
    V3Base64,
}

impl Revision {
    /// Returns the number of the revision, as in the `EIO` query parameter.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::V4 => 4,
            Self::V3 | Self::V3Base64 => 3,
        }
    }

    /// Returns whether this is revision 3.
    #[must_use]
    pub const fn is_v3(self) -> bool {
        self.number() == 3
    }
}

/// The type of a message in front of the data of a binary packet.
const MESSAGE: u8 = 4;
/// The first byte of a text packet in a binary payload.
const TEXT: u8 = 0;
/// The first byte of a binary packet in a binary payload.
const BINARY: u8 = 1;
/// The byte after a length in a binary payload.
const END_OF_LENGTH: u8 = 0xff;
