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
}

impl Parser {
    /// Whether a packet is one binary message, in which binary values stand where they belong.
    #[must_use]
    pub const fn is_binary(self) -> bool {
        match self {
            Self::Json => false,
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
