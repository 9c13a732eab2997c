//! The wire formats of packets: the two of this crate, and custom formats of applications.
//!
//! A server has one parser, so that a broadcast stays one frame. Clients with another parser need
//! another server. For serde, JSON and MessagePack look the same, and MessagePack is read and
//! written without JSON in between.

mod custom;
mod format;

pub use custom::{Custom, CustomMessage, CustomPacket, CustomParser, CustomParserError};
pub(super) use custom::{CustomDecoder, Head};
pub(super) use format::Format;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    Arguments, EncodeError, Kind, RESERVED_EVENTS,
    encode::{Encoder, Refusal},
};
use crate::Frame;

/// The wire format of packets, on which both sides of a connection must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Parser {
    /// JSON text, and a binary message for each attachment. This is the default of clients.
    #[default]
    Json,
    /// One binary message of MessagePack for every packet: clients with `socket.io-msgpack-parser`.
    #[cfg(feature = "msgpack")]
    #[cfg_attr(docsrs, doc(cfg(feature = "msgpack")))]
    MessagePack,
    /// A format of the application; see [`Parser::custom`]. A configuration file cannot name it.
    #[serde(skip)]
    Custom(Custom),
}

impl Parser {
    /// Creates a format of the application, which clients set with the option `parser`.
    ///
    /// Every packet is encoded and decoded one more time than with the other parsers. A packet has
    /// at most [`MAX_ATTACHMENTS`](super::encode::MAX_ATTACHMENTS) binary values.
    #[must_use]
    pub const fn custom(parser: &'static dyn CustomParser) -> Self {
        Self::Custom(Custom::new(parser))
    }

    /// Returns whether a packet is one binary message that contains its binary values in place.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Json | Self::Custom(_) => false,
            #[cfg(feature = "msgpack")]
            Self::MessagePack => true,
        }
    }

    /// Encodes an event with its arguments; `id` requests an acknowledgement.
    ///
    /// # Errors
    /// If the name is reserved, the namespace cannot be encoded, or an argument cannot be
    /// serialised.
    pub fn event(
        self,
        nsp: &str,
        id: Option<u64>,
        name: &str,
        args: &(impl Arguments + ?Sized),
    ) -> Result<Frame, EncodeError> {
        if RESERVED_EVENTS.contains(&name) {
            return Err(EncodeError::ReservedEvent);
        }
        let mut encoder = Encoder::new(self, Kind::Event, nsp, id)?;
        encoder.value(name)?;
        args.encode(&mut encoder)?;
        encoder.finish()
    }

    /// Encodes the acknowledgement of the event with this `id`.
    ///
    /// # Errors
    /// If the namespace cannot be encoded or an argument cannot be serialised.
    pub fn ack(
        self,
        nsp: &str,
        id: u64,
        args: &(impl Arguments + ?Sized),
    ) -> Result<Frame, EncodeError> {
        let mut encoder = Encoder::new(self, Kind::Ack, nsp, Some(id))?;
        args.encode(&mut encoder)?;
        encoder.finish()
    }

    /// Encodes a packet that requests or confirms the connection to a namespace.
    ///
    /// The payload must be an object; `&()` means no payload.
    ///
    /// # Errors
    /// If the namespace cannot be encoded or the payload cannot be serialised.
    pub fn connect(
        self,
        nsp: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Frame, EncodeError> {
        let mut encoder = Encoder::new(self, Kind::Connect, nsp, None)?;
        encoder.payload(payload)?;
        encoder.finish()
    }

    /// Encodes a packet that refuses the connection to a namespace, with a message and optional
    /// data.
    ///
    /// # Errors
    /// If the namespace cannot be encoded.
    pub fn connect_error(
        self,
        nsp: &str,
        message: &str,
        data: Option<&RawValue>,
    ) -> Result<Frame, EncodeError> {
        let mut encoder = Encoder::new(self, Kind::ConnectError, nsp, None)?;
        encoder.payload(&Refusal { message, data })?;
        encoder.finish()
    }

    /// Encodes a packet that refuses the connection of a client of Engine.IO v3, with any payload.
    ///
    /// # Errors
    /// If the namespace cannot be encoded or the payload cannot be serialised.
    pub fn connect_error_v3(
        self,
        nsp: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Frame, EncodeError> {
        let mut encoder = Encoder::new(self, Kind::ConnectError, nsp, None)?;
        encoder.payload(payload)?;
        encoder.finish()
    }

    /// Encodes a packet that disconnects from a namespace.
    ///
    /// # Errors
    /// If the namespace cannot be encoded.
    pub fn disconnect(self, nsp: &str) -> Result<Frame, EncodeError> {
        Encoder::new(self, Kind::Disconnect, nsp, None)?.finish()
    }
}
