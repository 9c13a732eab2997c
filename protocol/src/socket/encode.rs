//! Packets to frames.

use std::fmt;

use serde::Serialize;
use serde_json::value::RawValue;

use super::{Args, RESERVED_EVENTS, attachment::Resolved, serializer};
use crate::{Frame, frame::Builder};

/// An event with its arguments; `id` asks for an acknowledgement.
///
/// # Errors
/// If the name is reserved, the namespace cannot be written, or an argument cannot be serialised.
pub fn event(
    nsp: &str,
    id: Option<u64>,
    name: &str,
    args: &(impl Arguments + ?Sized),
) -> Result<Frame, EncodeError> {
    if RESERVED_EVENTS.contains(&name) {
        return Err(EncodeError::ReservedEvent);
    }
    let mut encoder = Encoder::new(nsp, id)?;
    encoder.value(name)?;
    args.encode(&mut encoder)?;
    encoder.finish(b'2', b'5')
}

/// The answer to the event with this `id`.
///
/// # Errors
/// If the namespace cannot be written or an argument cannot be serialised.
pub fn ack(nsp: &str, id: u64, args: &(impl Arguments + ?Sized)) -> Result<Frame, EncodeError> {
    let mut encoder = Encoder::new(nsp, Some(id))?;
    args.encode(&mut encoder)?;
    encoder.finish(b'3', b'6')
}

/// Enters a namespace, or admits to it. The payload must be an object; `&()` is none at all.
///
/// # Errors
/// If the namespace cannot be written or the payload cannot be serialised.
pub fn connect(nsp: &str, payload: &(impl Serialize + ?Sized)) -> Result<Frame, EncodeError> {
    let mut builder = header(nsp, None)?;
    let (text, _) = builder.parts();
    let start = text.len();
    serde_json::to_writer(&mut *text, payload).map_err(EncodeError::Serialize)?;
    if text.get(start..) == Some(b"null") {
        text.truncate(start);
    }
    Ok(builder.finish(b"40"))
}

/// Refuses a namespace, with a message and maybe more for the program on the other side.
///
/// # Errors
/// If the namespace cannot be written.
pub fn connect_error(
    nsp: &str,
    message: &str,
    data: Option<&RawValue>,
) -> Result<Frame, EncodeError> {
    #[derive(Serialize)]
    struct Refusal<'a> {
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
    }
    let mut builder = header(nsp, None)?;
    serde_json::to_writer(builder.parts().0, &Refusal { message, data })
        .map_err(EncodeError::Serialize)?;
    Ok(builder.finish(b"44"))
}

/// Leaves a namespace.
///
/// # Errors
/// If the namespace cannot be written.
pub fn disconnect(nsp: &str) -> Result<Frame, EncodeError> {
    Ok(header(nsp, None)?.finish(b"41"))
}

/// What can be sent as the arguments of an event or an ack.
///
/// Everything that can be serialised: a tuple is several arguments, `()` is none, everything else
/// is one. Fixed-size arrays are tuples to serde, so `[1, 2]` is two arguments; send a slice or a
/// [`Vec`] for one. Bytes (`bytes::Bytes`, not `Vec<u8>`) become attachments at any depth. [`Args`]
/// are passed on as they came.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be sent as the arguments of an event",
    note = "derive `serde::Serialize` for it"
)]
pub trait Arguments {
    /// Writes them.
    ///
    /// # Errors
    /// If a value cannot be serialised.
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError>;
}

impl<T: Serialize + ?Sized> Arguments for T {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        let root = serializer::Root {
            is_empty: size_of_val(self) == 0,
            encoder,
            slot: &mut None,
        };
        self.serialize(root).map_err(EncodeError::Serialize)
    }
}

impl Arguments for Args {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        if self.is_partial() && !self.attachments().is_empty() {
            // Attachments that nothing refers to any more must not be sent: number them anew.
            for i in 0..self.len() {
                let value = self.get(i).map_err(|_| EncodeError::InvalidArguments)?;
                encoder.value(&Resolved {
                    value: &value,
                    args: self,
                })?;
            }
            return Ok(());
        }
        if let Some(json) = self.joined() {
            encoder.separate();
            let (text, attachments) = encoder.builder.parts();
            text.extend_from_slice(json);
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

/// Where [`Arguments`] are written.
pub struct Encoder {
    builder: Builder,
    is_empty: bool,
}

impl Encoder {
    fn new(nsp: &str, id: Option<u64>) -> Result<Self, EncodeError> {
        let mut builder = header(nsp, id)?;
        builder.parts().0.push(b'[');
        Ok(Self {
            builder,
            is_empty: true,
        })
    }

    /// Writes one argument.
    ///
    /// # Errors
    /// If it cannot be serialised.
    pub fn value(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), EncodeError> {
        self.separate();
        value
            .serialize(&mut self.json())
            .map_err(EncodeError::Serialize)
    }

    pub(super) fn separate(&mut self) {
        if !self.is_empty {
            self.builder.parts().0.push(b',');
        }
        self.is_empty = false;
    }

    pub(super) fn json(&mut self) -> serializer::Json<'_> {
        let (text, attachments) = self.builder.parts();
        serializer::json(text, attachments)
    }

    fn finish(mut self, plain: u8, binary: u8) -> Result<Frame, EncodeError> {
        let (text, attachments) = self.builder.parts();
        text.push(b']');
        match attachments.len() {
            0 => Ok(self.builder.finish(&[b'4', plain])),
            count @ ..=MAX_ATTACHMENTS => {
                let prefix = format!("4{}{count}-", char::from(binary));
                Ok(self.builder.finish(prefix.as_bytes()))
            }
            _ => Err(EncodeError::TooManyAttachments),
        }
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

/// Namespace and id, the way they stand behind the kind and the number of attachments.
fn header(nsp: &str, id: Option<u64>) -> Result<Builder, EncodeError> {
    let mut builder = Builder::new();
    let (text, _) = builder.parts();
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
    Ok(builder)
}

/// Why something cannot be sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum EncodeError {
    /// The event name is one of [`RESERVED_EVENTS`].
    ReservedEvent,
    /// The namespace lacks the leading slash or has a comma.
    InvalidNamespace,
    /// More binary values than [`MAX_ATTACHMENTS`].
    TooManyAttachments,
    /// Arguments that were passed on hold something that cannot be written again.
    InvalidArguments,
    /// A value's own serialisation failed.
    Serialize(serde_json::Error),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedEvent => "reserved event name",
            Self::InvalidNamespace => "invalid namespace",
            Self::TooManyAttachments => "too many attachments",
            Self::InvalidArguments => "invalid arguments",
            Self::Serialize(_) => "serialisation failed",
        })
    }
}

impl std::error::Error for EncodeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Serialize(error) => Some(error),
            Self::ReservedEvent
            | Self::InvalidNamespace
            | Self::TooManyAttachments
            | Self::InvalidArguments => None,
        }
    }
}

/// The most attachments of one packet: stock clients and servers end a connection that sends more.
pub const MAX_ATTACHMENTS: usize = 10;
