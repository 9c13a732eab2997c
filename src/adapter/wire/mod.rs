//! The binary encoding of envelopes, for transports without a format of their own.
//!
//! ```text
//! version   1 byte, 1
//! length    4 bytes, little-endian: of the header
//! header    JSON: sender, target, kind, and the lengths of the parts
//! parts     the arguments as the parser writes them, then each attachment
//! ```
//!
//! Arguments are the bytes that clients receive; forwarded data is not parsed. Unknown fields are
//! ignored. Servers of several versions may share a cluster, so errors distinguish unknown versions
//! and kinds from malformed bytes.

use std::{borrow::Cow, fmt, time::Duration};

use bytes::{Buf as _, Bytes};
use roomcast_protocol::socket::{
    Args, Decoder, EncodeError, Limits, Nsp, Parser, encode::MAX_ATTACHMENTS,
};
use serde::{Deserialize, Serialize};

use super::{
    envelope::{Envelope, Item, Message, NodeId, Publication, Reply},
    operation::{Delivery, Kind},
};
use crate::names::{Room, SocketId};

/// The only version so far.
const VERSION: u8 = 1;
/// The maximum size of a header in bytes: enough for about four thousand rooms with names of the
/// maximum length.
const MAX_HEADER: usize = 1 << 20;

/// The reason why an envelope cannot be decoded or encoded.
#[derive(Debug)]
#[non_exhaustive]
pub enum WireError {
    /// The envelope is larger than [`Envelope::MAX_BYTES`], or names too many rooms.
    TooLarge,
    /// A newer server sent the envelope.
    UnknownVersion(u8),
    /// A newer server sent the envelope, and its kind is unknown here.
    UnknownKind,
    /// The bytes are not an envelope. The text gives the reason.
    Malformed(&'static str),
    /// The arguments cannot be encoded.
    Encode(EncodeError),
    /// The message cannot be opened, in a cluster that seals its messages.
    Unopened(Unopened),
}

/// The reason why a message cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unopened {
    /// The message is not sealed.
    Plain,
    /// The message is sealed with an unknown secret.
    UnknownKey,
    /// The message was modified or forged, or was sealed for another place.
    Forged,
    /// The message was opened before.
    Replayed,
    /// The message is too old or from the future, and its sender is unknown.
    Stale,
}

impl fmt::Display for Unopened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "the message is not sealed",
            Self::UnknownKey => "the message is sealed with an unknown secret",
            Self::Forged => "the message is forged",
            Self::Replayed => "the message was opened before",
            Self::Stale => "the message of an unknown sender is not from the current minute",
        })
    }
}

impl std::error::Error for Unopened {}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the envelope is too large"),
            Self::UnknownVersion(version) => write!(f, "unknown version {version}"),
            Self::UnknownKind => f.write_str("unknown kind"),
            Self::Malformed(what) => write!(f, "malformed envelope: {what}"),
            Self::Encode(error) => write!(f, "the arguments cannot be encoded: {error}"),
            Self::Unopened(why) => why.fmt(f),
        }
    }
}

/// `source` is `None`, because the text contains all details.
impl std::error::Error for WireError {}

/// All fields except the arguments. A kind omits the fields that it does not need.
#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Header<'a> {
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<u64>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<u64>,
    /// The lengths of the parts in bytes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parser: Option<Parser>,

    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rooms: Option<Cow<'a, [Room]>>,
    #[serde(skip_serializing_if = "is_empty")]
    except: Cow<'a, [Room]>,
    #[serde(skip_serializing_if = "is_false")]
    volatile: bool,
    #[serde(skip_serializing_if = "is_false")]
    uncompressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<Cow<'a, str>>,
    /// The number of events of the stream that are queued. Without it, only the newest.
    #[serde(skip_serializing_if = "Option::is_none")]
    keep: Option<u16>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Cow<'a, str>>,
    /// The rooms to join or leave.
    #[serde(skip_serializing_if = "is_empty")]
    names: Cow<'a, [Room]>,
    #[serde(skip_serializing_if = "is_false")]
    close: bool,

    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    total: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    socket: Option<SocketId>,
}

fn is_empty(rooms: &[Room]) -> bool {
    rooms.is_empty()
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Envelope {
    /// The maximum size of an envelope: 64 MiB.
    pub const MAX_BYTES: usize = 64 << 20;

    /// Encodes the envelope.
    ///
    /// # Errors
    ///
    /// If the envelope is too large, or if its arguments cannot be encoded.
    pub fn to_bytes(&self) -> Result<Bytes, WireError> {
        let mut header = Header {
            node: self.node.as_str().into(),
            number: self.number,
            ..Header::default()
        };
        let args = match &self.message {
            Message::Publication(publication) => header.publication(publication),
            Message::Reply(reply) => header.reply(reply),
        };
        // The arguments are written as a packet, because the packet decoder for clients then
        // validates and splits them.
        let packet = args.map(|args| (args.parser(), args.parser().ack("/", 0, args)));
        let packet = match packet {
            Some((parser, frame)) => Some((parser, frame.map_err(WireError::Encode)?)),
            None => None,
        };
        let mut parts = Vec::new();
        if let Some((parser, frame)) = &packet {
            header.parser = (*parser != Parser::default()).then_some(*parser);
            for (i, (_, part)) in frame.messages().enumerate() {
                // A text message begins with the packet type of Engine.IO, which the decoder does
                // not expect.
                let has_type = i == 0 && *parser == Parser::Json;
                parts.push(part.get(usize::from(has_type)..).unwrap_or_default());
            }
        }
        header.parts = parts.iter().map(|part| part.len()).collect();
        let header = serde_json::to_vec(&header).map_err(|_| WireError::Malformed("header"))?;
        let size = 5 + header.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(header.len()).map_err(|_| WireError::TooLarge)?;
        if header.len() > MAX_HEADER || size > Self::MAX_BYTES {
            return Err(WireError::TooLarge);
        }
        let mut bytes = Vec::with_capacity(size);
        bytes.push(VERSION);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&header);
        for part in parts {
            bytes.extend_from_slice(part);
        }
        Ok(bytes.into())
    }

    /// Decodes an envelope. Its arguments are slices of these bytes.
    ///
    /// # Errors
    ///
    /// See [`WireError`], which distinguishes unknown versions and kinds from malformed bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, WireError> {
        let mut rest: Bytes = bytes.into();
        if rest.len() > Self::MAX_BYTES {
            return Err(WireError::TooLarge);
        }
        // The version comes first, so that envelopes of newer servers are distinct from malformed
        // bytes.
        match rest.try_get_u8() {
            Ok(VERSION) => {}
            Ok(version) => return Err(WireError::UnknownVersion(version)),
            Err(_) => return Err(WireError::Malformed("empty")),
        }
        let length = rest.try_get_u32_le();
        let length = length.map_err(|_| WireError::Malformed("no header"))? as usize;
        if length > MAX_HEADER {
            return Err(WireError::TooLarge);
        }
        if length > rest.len() {
            return Err(WireError::Malformed("header cut off"));
        }
        let header = rest.split_to(length);
        let header: Header<'_> =
            serde_json::from_slice(&header).map_err(|_| WireError::Malformed("header"))?;
        let node = NodeId::new(&header.node).ok_or(WireError::Malformed("node"))?;
        let number = header.number;
        let args = header.args(rest)?;
        let message = header.message(args)?;
        Ok(Self::new(node, number, message))
    }
}

impl<'a> Header<'a> {
    fn publication(&mut self, publication: &'a Publication) -> Option<&'a Args> {
        self.namespace = Some(publication.namespace.as_str().into());
        self.rooms = publication.rooms.as_deref().map(Cow::Borrowed);
        self.except = Cow::Borrowed(&publication.except);
        self.uncompressed = !publication.compress;
        let timeout = publication.timeout;
        self.timeout =
            timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        self.request = publication.request;
        match &publication.delivery {
            Delivery::Reliable => {}
            Delivery::Volatile => self.volatile = true,
            Delivery::Newest(key) => self.stream = Some((&**key).into()),
            Delivery::Last(stream, keep) => {
                self.stream = Some((&**stream).into());
                self.keep = Some(*keep);
            }
        }
        let (kind, event) = match &publication.kind {
            Kind::Broadcast { event, args } => ("broadcast", Some((event, args))),
            Kind::BroadcastWithAck { event, args } => ("broadcastWithAck", Some((event, args))),
            Kind::Join(rooms) => {
                self.names = Cow::Borrowed(rooms);
                ("join", None)
            }
            Kind::Leave(rooms) => {
                self.names = Cow::Borrowed(rooms);
                ("leave", None)
            }
            Kind::Disconnect { close } => {
                self.close = *close;
                ("disconnect", None)
            }
            Kind::FetchSockets => ("fetchSockets", None),
            Kind::ServerSide { event, args } => ("serverSide", Some((event, args))),
            Kind::ServerSideWithAck { event, args } => ("serverSideWithAck", Some((event, args))),
        };
        self.kind = kind.into();
        self.event = event.map(|(event, _)| (&**event).into());
        event.map(|(_, args)| args)
    }

    fn reply(&mut self, reply: &'a Reply) -> Option<&'a Args> {
        self.to = Some(reply.to.as_str().into());
        self.request = Some(reply.request);
        self.total = reply.total;
        let (kind, args) = match &reply.item {
            None => ("replies", None),
            Some(Item::Acknowledgement { socket, args }) => {
                self.socket = socket.clone();
                ("ack", args.as_ref())
            }
            Some(Item::Sockets(args)) => ("sockets", Some(args)),
            Some(Item::Answer(args)) => ("answer", Some(args)),
        };
        self.kind = kind.into();
        args
    }

    /// Reads the arguments from the parts, which must be all of the remaining bytes.
    fn args(&self, mut rest: Bytes) -> Result<Option<Args>, WireError> {
        let malformed = WireError::Malformed("parts");
        if self.parts.len() > 1 + MAX_ATTACHMENTS {
            return Err(malformed);
        }
        // The sum of the lengths is checked first, because splitting beyond the end panics.
        let sum = self
            .parts
            .iter()
            .try_fold(0_usize, |sum, part| sum.checked_add(*part));
        if sum != Some(rest.len()) {
            return Err(malformed);
        }
        let parser = self.parser.unwrap_or_default();
        let limits = Limits {
            max_bytes: Envelope::MAX_BYTES,
            ..Limits::default()
        };
        let mut decoder = Decoder::with_parser(parser, limits);
        let mut packet = None;
        for (i, length) in self.parts.iter().enumerate() {
            let part = rest.split_to(*length);
            if packet.is_some() {
                return Err(malformed);
            }
            let is_text = i == 0 && parser == Parser::Json;
            if is_text && std::str::from_utf8(&part).is_err() {
                return Err(malformed);
            }
            let decoded = match is_text {
                true => decoder.text(part),
                false => decoder.binary(part),
            };
            packet = decoded.map_err(|_| WireError::Malformed("arguments"))?;
        }
        if decoder.is_waiting() {
            return Err(malformed);
        }
        Ok(packet.map(|packet| packet.args))
    }

    fn message(self, args: Option<Args>) -> Result<Message, WireError> {
        if let Some(to) = &self.to {
            let item = match &*self.kind {
                "replies" => None,
                "ack" => Some(Item::Acknowledgement {
                    socket: self.socket,
                    args,
                }),
                "sockets" => Some(Item::Sockets(args.unwrap_or_default())),
                "answer" => Some(Item::Answer(args.unwrap_or_default())),
                _ => return Err(WireError::UnknownKind),
            };
            let to = NodeId::new(to).ok_or(WireError::Malformed("to"))?;
            let request = self.request.ok_or(WireError::Malformed("request"))?;
            return Ok(Message::Reply(Reply::new(to, request, self.total, item)));
        }
        let event = |kind: fn(std::sync::Arc<str>, Args) -> Kind| {
            let event = self.event.as_deref().ok_or(WireError::Malformed("event"))?;
            Ok(kind(event.into(), args.clone().unwrap_or_default()))
        };
        let kind = match &*self.kind {
            "broadcast" => event(|event, args| Kind::Broadcast { event, args })?,
            "broadcastWithAck" => event(|event, args| Kind::BroadcastWithAck { event, args })?,
            "join" => Kind::Join(self.names.into_owned()),
            "leave" => Kind::Leave(self.names.into_owned()),
            "disconnect" => Kind::Disconnect { close: self.close },
            "fetchSockets" => Kind::FetchSockets,
            "serverSide" => event(|event, args| Kind::ServerSide { event, args })?,
            "serverSideWithAck" => event(|event, args| Kind::ServerSideWithAck { event, args })?,
            _ => return Err(WireError::UnknownKind),
        };
        let namespace = self.namespace.ok_or(WireError::Malformed("namespace"))?;
        let stream = self.stream.map(std::sync::Arc::from);
        let delivery = match (stream, self.keep) {
            (_, Some(0)) => return Err(WireError::Malformed("keep")),
            (Some(stream), Some(keep)) => Delivery::Last(stream, keep),
            (Some(key), None) => Delivery::Newest(key),
            (None, _) if self.volatile => Delivery::Volatile,
            (None, _) => Delivery::Reliable,
        };
        Ok(Message::Publication(Publication {
            rooms: self.rooms.map(Cow::into_owned),
            except: self.except.into_owned(),
            delivery,
            compress: !self.uncompressed,
            timeout: self.timeout.map(Duration::from_millis),
            request: self.request,
            ..Publication::new(Nsp::from(&*namespace), kind)
        }))
    }
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
pub(crate) mod floats;
#[cfg(test)]
mod tests;
