//! Encodes packets as frames.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

#[cfg(feature = "msgpack")]
use super::msgpack::{self, Header};
use super::{
    Args, CustomParserError, Kind, Parser, Value,
    parser::{Format, Head},
    serializer::{self, Json, Root},
};
use crate::{Frame, frame::Builder};

/// Encodes an event in JSON; see [`Parser::event`].
///
/// # Errors
/// If the name is reserved, the namespace cannot be encoded, or an argument cannot be serialised.
pub fn event(
    nsp: &str,
    id: Option<u64>,
    name: &str,
    args: &(impl Arguments + ?Sized),
) -> Result<Frame, EncodeError> {
    Parser::Json.event(nsp, id, name, args)
}

/// Encodes an acknowledgement in JSON; see [`Parser::ack`].
///
/// # Errors
/// If the namespace cannot be encoded or an argument cannot be serialised.
pub fn ack(nsp: &str, id: u64, args: &(impl Arguments + ?Sized)) -> Result<Frame, EncodeError> {
    Parser::Json.ack(nsp, id, args)
}

/// Encodes a connect packet in JSON; see [`Parser::connect`].
///
/// # Errors
/// If the namespace cannot be encoded or the payload cannot be serialised.
pub fn connect(nsp: &str, payload: &(impl Serialize + ?Sized)) -> Result<Frame, EncodeError> {
    Parser::Json.connect(nsp, payload)
}

/// Encodes the refusal of a connection in JSON; see [`Parser::connect_error`].
///
/// # Errors
/// If the namespace cannot be encoded.
pub fn connect_error(
    nsp: &str,
    message: &str,
    data: Option<&RawValue>,
) -> Result<Frame, EncodeError> {
    Parser::Json.connect_error(nsp, message, data)
}

/// Encodes a disconnect packet in JSON; see [`Parser::disconnect`].
///
/// # Errors
/// If the namespace cannot be encoded.
pub fn disconnect(nsp: &str) -> Result<Frame, EncodeError> {
    Parser::Json.disconnect(nsp)
}

/// The payload of a packet that refuses a connection.
#[derive(Serialize)]
pub(super) struct Refusal<'a> {
    pub(super) message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<&'a RawValue>,
}

/// Values that can be sent as the arguments of an event or an acknowledgement.
///
/// All serialisable types implement this: a tuple is several arguments, `()` is none, every other
/// type is one. To serde, fixed-size arrays are tuples, so `[1, 2]` is two arguments; send a slice
/// or a [`Vec`] for one. Bytes (`bytes::Bytes`, not `Vec<u8>`) become binary data at any depth.
/// [`Args`] are forwarded unchanged.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as the arguments of an event",
    note = "derive `serde::Serialize` for it"
)]
pub trait Arguments {
    /// Writes the arguments.
    ///
    /// # Errors
    /// If a value cannot be serialised.
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError>;
}

impl<T: Serialize + ?Sized> Arguments for T {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        let is_empty = size_of_val(self) == 0;
        let result = match encoder.format {
            Format::Json => self.serialize(Root {
                encoder,
                is_empty,
                slot: &mut None::<Json<'_>>,
            }),
            #[cfg(feature = "msgpack")]
            Format::MessagePack => self.serialize(Root {
                encoder,
                is_empty,
                slot: &mut None::<msgpack::Serializer<'_>>,
            }),
        };
        result.map_err(EncodeError::Serialize)
    }
}

impl Arguments for Args {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        // Unreferenced attachments must not be sent, so the rest are numbered again.
        let is_renumbered = self.is_partial() && !self.attachments().is_empty();
        if is_renumbered || self.has_timestamp || self.format() != encoder.format {
            for i in 0..self.len() {
                let value: Value = self.get(i).map_err(|_| EncodeError::InvalidArguments)?;
                encoder.value(&value)?;
            }
            return Ok(());
        }
        if self.has_invalid_text {
            return Err(EncodeError::InvalidArguments);
        }
        if let Some(raw) = self.joined() {
            encoder.separate();
            encoder.count += self.len() - 1;
            let (text, attachments) = encoder.builder.parts();
            text.extend_from_slice(raw);
            for data in self.attachments() {
                attachments.push(data);
            }
        }
        Ok(())
    }
}

impl Arguments for &Args {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        Args::encode(self, encoder)
    }
}

/// The target to which [`Arguments`] are written.
pub struct Encoder {
    format: Format,
    /// The packet fields for a custom parser, which receives the arguments as JSON at the end.
    custom: Option<Box<Head>>,
    kind: Kind,
    builder: Builder,
    /// The number of arguments so far.
    count: usize,
    /// The header of the argument list in MessagePack.
    #[cfg(feature = "msgpack")]
    list: Option<Header>,
}

impl Encoder {
    pub(super) fn new(
        parser: Parser,
        kind: Kind,
        nsp: &str,
        id: Option<u64>,
    ) -> Result<Self, EncodeError> {
        let mut encoder = Self {
            format: Format::of(parser),
            custom: None,
            kind,
            builder: Builder::new(),
            count: 0,
            #[cfg(feature = "msgpack")]
            list: None,
        };
        let has_list = match kind {
            Kind::Event | Kind::Ack => true,
            Kind::Connect | Kind::Disconnect | Kind::ConnectError => false,
        };
        let (text, _) = encoder.builder.parts();
        match parser {
            Parser::Json => {
                begin_json(text, nsp, id)?;
                if has_list {
                    text.push(b'[');
                }
            }
            Parser::Custom(parser) => {
                if has_list {
                    text.push(b'[');
                }
                encoder.custom = Some(Box::new(Head::new(parser, kind, nsp, id)?));
            }
            #[cfg(feature = "msgpack")]
            Parser::MessagePack => {
                msgpack::begin(text, kind, nsp, id)?;
                if has_list {
                    encoder.list = Some(msgpack::begin_list(text));
                }
            }
        }
        Ok(encoder)
    }

    /// Writes one argument.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), EncodeError> {
        self.one(value).map_err(EncodeError::Serialize)
    }

    pub(super) fn one(
        &mut self,
        value: &(impl Serialize + ?Sized),
    ) -> Result<(), serde_json::Error> {
        self.separate();
        match self.format {
            Format::Json => value.serialize(&mut self.json()),
            #[cfg(feature = "msgpack")]
            Format::MessagePack => value.serialize(&mut self.messagepack()),
        }
    }

    /// Writes the payload of a packet without arguments, unless it is a unit.
    pub(super) fn payload(
        &mut self,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<(), EncodeError> {
        let (text, _) = self.builder.parts();
        let start = text.len();
        match self.format {
            Format::Json => {
                serde_json::to_writer(&mut *text, payload).map_err(EncodeError::Serialize)?;
                // A unit means no payload.
                if text.get(start..) == Some(b"null") {
                    text.truncate(start);
                }
                Ok(())
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => msgpack::payload(text, payload).map_err(EncodeError::Serialize),
        }
    }

    pub(super) fn separate(&mut self) {
        if self.format == Format::Json && self.count > 0 {
            self.builder.parts().0.push(b',');
        }
        self.count += 1;
    }

    pub(super) fn json(&mut self) -> Json<'_> {
        let (text, attachments) = self.builder.parts();
        serializer::json(text, attachments)
    }

    #[cfg(feature = "msgpack")]
    pub(super) fn messagepack(&mut self) -> msgpack::Serializer<'_> {
        msgpack::Serializer(self.builder.parts().0)
    }

    pub(super) fn finish(mut self) -> Result<Frame, EncodeError> {
        let (text, attachments) = self.builder.parts();
        #[cfg(feature = "msgpack")]
        if self.format == Format::MessagePack {
            if let Some(list) = self.list {
                list.end(text, self.count);
            }
            u32::try_from(text.len()).map_err(|_| EncodeError::TooLarge)?;
            return Ok(self.builder.finish_binary());
        }
        let (plain, binary): (&[u8], _) = match self.kind {
            Kind::Connect => (b"40", None),
            Kind::Disconnect => (b"41", None),
            Kind::Event => (b"42", Some(5)),
            Kind::Ack => (b"43", Some(6)),
            Kind::ConnectError => (b"44", None),
        };
        if binary.is_some() {
            text.push(b']');
        }
        if let Some(head) = self.custom.take() {
            return head.finish(text, attachments);
        }
        match (attachments.len(), binary) {
            (1..=MAX_ATTACHMENTS, Some(kind)) => {
                let prefix = format!("4{kind}{}-", attachments.len());
                Ok(self.builder.finish(prefix.as_bytes()))
            }
            (0, _) | (_, None) => Ok(self.builder.finish(plain)),
            (_, Some(_)) => Err(EncodeError::TooManyAttachments),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

/// Writes namespace and id, which follow the kind and the number of attachments.
fn begin_json(text: &mut Vec<u8>, nsp: &str, id: Option<u64>) -> Result<(), EncodeError> {
    if nsp != "/" {
        // A comma ends the name on the wire.
        if !nsp.starts_with('/') || nsp.contains(',') {
            return Err(EncodeError::InvalidNamespace);
        }
        text.extend_from_slice(nsp.as_bytes());
        text.push(b',');
    }
    if let Some(id) = id {
        serde_json::to_writer(text, &id).map_err(EncodeError::Serialize)?;
    }
    Ok(())
}

/// The reason why something cannot be sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event name is one of [`RESERVED_EVENTS`](super::RESERVED_EVENTS).
    ReservedEvent,
    /// The namespace lacks the leading slash or, in [`Parser::Json`], contains a comma.
    InvalidNamespace,
    /// The packet has more than [`MAX_ATTACHMENTS`] binary values, in JSON or for a custom parser.
    TooManyAttachments,
    /// The packet has 4 GiB or more, in MessagePack or for a custom parser.
    TooLarge,
    /// Forwarded arguments contain a value that cannot be encoded again.
    InvalidArguments,
    /// The [custom parser](super::CustomParser) cannot encode the packet.
    Custom(CustomParserError),
    /// A value's own serialisation failed.
    Serialize(serde_json::Error),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedEvent => "reserved event name",
            Self::InvalidNamespace => "invalid namespace",
            Self::TooManyAttachments => "too many attachments",
            Self::TooLarge => "packet too large",
            Self::InvalidArguments => "invalid arguments",
            Self::Custom(error) => return write!(f, "the custom parser failed: {error}"),
            Self::Serialize(error) => return write!(f, "serialisation failed: {error}"),
        })
    }
}

/// The error has no source, because its text contains that of the source.
impl std::error::Error for EncodeError {}

/// The maximum number of attachments of one packet: stock clients and servers close a connection
/// that sends more.
pub const MAX_ATTACHMENTS: usize = 10;
