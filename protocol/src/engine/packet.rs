use bytes::{Buf, Bytes};

use super::Open;
use crate::DecodeError;

/// One Engine.IO packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these seven")]
pub enum Packet {
    /// `0`: the handshake, from the server.
    Open(Open),
    /// `1`: the session ends.
    Close,
    /// `2`: a heartbeat of the server, or a client's probe of a new transport.
    Ping(Probe),
    /// `3`: the answer to a ping.
    Pong(Probe),
    /// `4`, or a binary frame: application data.
    Message(Message),
    /// `5`: the session switches to the new transport.
    Upgrade,
    /// `6`: no content; ends a poll for which the server has no other packet.
    Noop,
}

/// The data of a message packet. It shares the buffer that it was received in.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these two")]
pub enum Message {
    /// UTF-8 text. The creator of the value must have checked that it is valid.
    Text(Bytes),
    /// Any bytes.
    Binary(Bytes),
}

/// Whether a ping or pong carries the data `probe`. Other data is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol gives meaning to this one word"
)]
pub enum Probe {
    /// A heartbeat.
    None,
    /// `2probe` or `3probe`, on a transport under test.
    Probe,
}

impl Message {
    /// Returns the length of the data in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Returns whether the message is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Packet {
    /// Parses a packet from a text frame, or from a text element of a polling payload.
    ///
    /// `text` must be UTF-8. An open packet without a valid handshake is read as
    /// [`Noop`](Self::Noop): a server ignores both, and a client expects neither.
    ///
    /// # Errors
    /// If the text is empty or its first byte is no packet type.
    pub fn decode_text(mut text: Bytes) -> Result<Self, DecodeError> {
        let kind = *text.first().ok_or(DecodeError::EmptyPacket)?;
        text.advance(1);
        Ok(match kind {
            b'0' => Open::from_json(&text).map_or(Self::Noop, Self::Open),
            b'1' => Self::Close,
            b'2' => Self::Ping(Probe::from_data(&text)),
            b'3' => Self::Pong(Probe::from_data(&text)),
            b'4' => Self::Message(Message::Text(text)),
            b'5' => Self::Upgrade,
            b'6' => Self::Noop,
            _ => return Err(DecodeError::UnknownPacket),
        })
    }

    /// Returns the packet of a binary frame, which is always a message.
    #[must_use]
    pub const fn decode_binary(data: Bytes) -> Self {
        Self::Message(Message::Binary(data))
    }

    /// Appends the packet as it is encoded in a polling payload: binary messages as `b` and base64.
    ///
    /// On a WebSocket, the text form is the same, and a binary message consists of its bytes only.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(open) => {
                out.push(b'0');
                open.write_json(out);
            }
            Self::Close => out.push(b'1'),
            Self::Ping(probe) => {
                out.push(b'2');
                out.extend_from_slice(probe.data());
            }
            Self::Pong(probe) => {
                out.push(b'3');
                out.extend_from_slice(probe.data());
            }
            Self::Message(Message::Text(text)) => {
                out.push(b'4');
                out.extend_from_slice(text);
            }
            Self::Message(Message::Binary(data)) => super::payload::encode_binary(data, out),
            Self::Upgrade => out.push(b'5'),
            Self::Noop => out.push(b'6'),
        }
    }
}

impl Probe {
    fn from_data(data: &[u8]) -> Self {
        if data == PROBE {
            Self::Probe
        } else {
            Self::None
        }
    }

    const fn data(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Probe => PROBE,
        }
    }
}

const PROBE: &[u8] = b"probe";
