//! The formats in which packets are written: the two of this crate, and those of applications.

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

/// How packets are written: both sides of a connection must agree on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Parser {
    /// JSON text, and a binary message for every attachment: what clients speak if nothing else is
    /// said.
    #[default]
    Json,
    /// One binary message of MessagePack for every packet: clients with `socket.io-msgpack-parser`.
    #[cfg(feature = "msgpack")]
    #[cfg_attr(docsrs, doc(cfg(feature = "msgpack")))]
    MessagePack,
    /// A format of the application; see [`Parser::custom`]. It cannot be named in a configuration
    /// file.
    #[serde(skip)]
    Custom(Custom),
}

impl Parser {
    /// A format of the application, as clients have it with the option `parser`. Every packet is
    /// written and read once more than with the other parsers. A packet has at most
    /// [`MAX_ATTACHMENTS`](super::encode::MAX_ATTACHMENTS) binary values.
    #[must_use]
    pub const fn custom(parser: &'static dyn CustomParser) -> Self {
        Self::Custom(Custom::new(parser))
    }

    /// Whether a packet is one binary message, in which binary values stand where they belong.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Json | Self::Custom(_) => false,
            #[cfg(feature = "msgpack")]
            Self::MessagePack => true,
        }
    }

    /// An event with its arguments; `id` asks for an acknowledgement.
    ///
    /// # Errors
    /// If the name is reserved, the namespace cannot be written, or an argument cannot be
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

    /// The answer to the event with this `id`.
    ///
    /// # Errors
    /// If the namespace cannot be written or an argument cannot be serialised.
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

    /// Enters a namespace, or admits to it. The payload must be an object; `&()` is none at all.
    ///
    /// # Errors
    /// If the namespace cannot be written or the payload cannot be serialised.
    pub fn connect(
        self,
        nsp: &str,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<Frame, EncodeError> {
        let mut encoder = Encoder::new(self, Kind::Connect, nsp, None)?;
        encoder.payload(payload)?;
        encoder.finish()
    }

    /// Refuses a namespace, with a message and maybe more for the program on the other side.
    ///
    /// # Errors
    /// If the namespace cannot be written.
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

    /// Leaves a namespace.
    ///
    /// # Errors
    /// If the namespace cannot be written.
    pub fn disconnect(self, nsp: &str) -> Result<Frame, EncodeError> {
        Encoder::new(self, Kind::Disconnect, nsp, None)?.finish()
    }
}
