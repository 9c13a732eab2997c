//! Custom parsers of applications: another wire format for the same packets.
//!
//! A custom parser translates at the boundary. Inside the library, its packets are those of
//! [`Parser::Json`], so that handlers, adapters and recovery need not know it.
//!
//! [`Parser::Json`]: crate::socket::Parser::Json

use std::{
    error::Error,
    fmt,
    hash::{Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};

use bytes::Bytes;
use serde::Serialize as _;

use super::super::{
    Args, EncodeError, Kind, Limits, Nsp, Packet, Value,
    attachment::placeholders,
    decoder::read_name,
    encode::MAX_ATTACHMENTS,
    json::{self, Elements, Span},
    packet::Name,
    serializer,
};
use crate::{
    DecodeError, Frame,
    frame::{Attachments, Builder},
};

/// A wire format of packets that an application brings, like the option `parser` of the JavaScript
/// libraries. Use it with [`Parser::custom`](crate::socket::Parser::custom). Both sides must have
/// it.
///
/// The library checks what [`decode`](Self::decode) returns, and limits what it keeps for a packet
/// that is not complete. A parser that panics fails as with an error.
///
/// The format of `socket.io-json-parser`, in which every packet is one JSON text:
///
/// ```
/// use roomcast_protocol::socket::{
///     CustomMessage, CustomPacket, CustomParser, CustomParserError, Parser, Value,
/// };
/// use serde_json::json;
///
/// struct JsonParser;
///
/// impl CustomParser for JsonParser {
///     fn name(&self) -> &'static str {
///         "json-object"
///     }
///
///     fn encode(&self, packet: &CustomPacket) -> Result<Vec<CustomMessage>, CustomParserError> {
///         let data = packet.data.as_ref().map(|data| data.to_json().ok_or("binary")).transpose()?;
///         let (code, nsp, id) = (packet.code, &packet.nsp, packet.id);
///         let text = json!({"type": code, "nsp": nsp, "id": id, "data": data}).to_string();
///         Ok(vec![CustomMessage::Text(text)])
///     }
///
///     fn decode(&self, messages: &[CustomMessage]) -> Result<Option<CustomPacket>, CustomParserError> {
///         #[derive(serde::Deserialize)]
///         struct Fields {
///             #[serde(rename = "type")]
///             code: u8,
///             nsp: String,
///             id: Option<u64>,
///             data: Option<Value>,
///         }
///
///         let [CustomMessage::Text(text)] = messages else {
///             return Err("a packet is one text".into());
///         };
///         let Fields { code, nsp, id, data } = serde_json::from_str(text)?;
///         Ok(Some(CustomPacket { code, nsp, id, data }))
///     }
/// }
///
/// let parser = Parser::custom(&JsonParser);
/// let frame = parser.event("/", Some(1), "hi", &(true,))?;
/// let text = frame.messages().next().unwrap().1;
/// // The `4` is the packet type of Engine.IO.
/// assert_eq!(text, br#"4{"data":["hi",true],"id":1,"nsp":"/","type":2}"#);
/// # Ok::<(), roomcast_protocol::socket::EncodeError>(())
/// ```
pub trait CustomParser: Send + Sync + 'static {
    /// Returns the name of the format. Parsers with the same name count as the same parser.
    fn name(&self) -> &'static str;

    /// Encodes a packet as one or more messages. Only the first message can be text.
    ///
    /// The packet of a broadcast is encoded once for all clients.
    ///
    /// # Errors
    ///
    /// If the format cannot represent the packet. The sender gets [`EncodeError::Custom`].
    fn encode(&self, packet: &CustomPacket) -> Result<Vec<CustomMessage>, CustomParserError>;

    /// Decodes a packet from all messages that were received since the last packet.
    ///
    /// Returns `None` if more messages must follow. It is then called again with one more message,
    /// at most [`max_attachments`](Limits::max_attachments) times and up to
    /// [`max_bytes`](Limits::max_bytes).
    ///
    /// The messages are untrusted. The transport limits their sizes; the parser must bound its
    /// work.
    ///
    /// # Errors
    ///
    /// If the messages are no packet. The connection is closed.
    fn decode(&self, messages: &[CustomMessage])
    -> Result<Option<CustomPacket>, CustomParserError>;
}

/// The reason why a [`CustomParser`] cannot encode or decode a packet.
pub type CustomParserError = Box<dyn Error + Send + Sync>;

/// A packet of a [`CustomParser`], with the fields that packets have in JavaScript.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "applications make it, and the protocol has these four fields"
)]
pub struct CustomPacket {
    /// The packet type, `type` in JavaScript: 0 `CONNECT`, 1 `DISCONNECT`, 2 `EVENT`, 3 `ACK`, 4
    /// `CONNECT_ERROR`. 5 and 6 are read as 2 and 3.
    ///
    /// This is a number instead of an enum, so that variant names do not lengthen compiler errors
    /// about handlers.
    pub code: u8,
    /// The name of the namespace, with its leading slash.
    pub nsp: String,
    /// The id of the requested acknowledgement, or of the event that is acknowledged.
    pub id: Option<u64>,
    /// The payload: for an event, a list of its name and arguments; for an acknowledgement, a list
    /// of its values; for a refusal, an object with `message`. A `CONNECT` packet has an object or
    /// nothing.
    pub data: Option<Value>,
}

/// One message of a [`CustomParser`], on any transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these two")]
pub enum CustomMessage {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Bytes),
}

impl CustomMessage {
    const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(data) => data.len(),
        }
    }
}

/// A handle to the [`CustomParser`] of [`Parser::Custom`](crate::socket::Parser::Custom).
#[derive(Clone, Copy)]
pub struct Custom(&'static dyn CustomParser);

impl Custom {
    pub(super) const fn new(parser: &'static dyn CustomParser) -> Self {
        Self(parser)
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Custom").field(&self.0.name()).finish()
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for Custom {}

impl Hash for Custom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

/// Decodes the packets of one peer.
#[derive(Debug)]
pub(in crate::socket) struct CustomDecoder {
    parser: Custom,
    /// The messages of an incomplete packet.
    messages: Vec<CustomMessage>,
    /// The total size of `messages`, in bytes.
    bytes: usize,
}

impl CustomDecoder {
    pub(in crate::socket) const fn new(parser: Custom) -> Self {
        Self {
            parser,
            messages: Vec::new(),
            bytes: 0,
        }
    }

    /// Returns whether a packet is incomplete.
    pub(in crate::socket) const fn is_waiting(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Decodes a message. Returns `None` if more messages must follow.
    pub(in crate::socket) fn decode(
        &mut self,
        message: CustomMessage,
        limits: &Limits,
    ) -> Result<Option<Packet>, DecodeError> {
        let mut messages = std::mem::take(&mut self.messages);
        let bytes = std::mem::take(&mut self.bytes).saturating_add(message.len());
        if messages.len() > limits.max_attachments {
            return Err(DecodeError::TooManyAttachments);
        }
        if bytes > limits.max_bytes {
            return Err(DecodeError::TooLarge);
        }
        messages.push(message);
        match catch_unwind(AssertUnwindSafe(|| self.parser.0.decode(&messages))) {
            Ok(Ok(Some(packet))) => read(packet, limits).map(Some),
            Ok(Ok(None)) => {
                (self.messages, self.bytes) = (messages, bytes);
                Ok(None)
            }
            Ok(Err(_)) | Err(_) => Err(DecodeError::InvalidCustom),
        }
    }
}

/// Checks a packet and converts it to a JSON packet.
fn read(packet: CustomPacket, limits: &Limits) -> Result<Packet, DecodeError> {
    let CustomPacket {
        code,
        nsp,
        id,
        data,
    } = packet;
    let kind = Kind::from_code(code).ok_or(DecodeError::UnknownKind)?;
    if !nsp.starts_with('/') {
        return Err(DecodeError::InvalidPayload);
    }
    if nsp.len() > limits.max_nsp {
        return Err(DecodeError::NamespaceTooLong);
    }
    match (kind, &data) {
        (Kind::Connect | Kind::Disconnect, None)
        | (Kind::Connect, Some(Value::Object(_)))
        | (Kind::ConnectError, Some(Value::Object(_) | Value::String(_)))
        | (Kind::Event | Kind::Ack, Some(Value::Array(_))) => {}
        (
            Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::ConnectError,
            Some(_) | None,
        ) => return Err(DecodeError::InvalidPayload),
    }
    let mut args = Args::default();
    if let Some(data) = data {
        // Serialisation is recursive, so the depth is checked before it.
        if !is_within(&data, limits.max_depth.min(MAX_DEPTH)) {
            return Err(DecodeError::TooDeep);
        }
        let (mut text, mut attachments) = (Vec::new(), Attachments::default());
        data.serialize(&mut serializer::json(&mut text, &mut attachments))
            .map_err(|_| DecodeError::InvalidPayload)?;
        if attachments.len() > limits.max_attachments.min(MAX_ATTACHMENTS) {
            return Err(DecodeError::TooManyAttachments);
        }
        if kind == Kind::Connect && text.len() > limits.max_connect_payload {
            return Err(DecodeError::TooLarge);
        }
        u32::try_from(text.len()).map_err(|_| DecodeError::TooLarge)?;
        let mut elements = Elements::default();
        json::scan(&text, 0, limits.max_depth, &mut elements)?;
        args = Args::new(text.into(), elements, usize::from(kind == Kind::Event));
        if attachments.len() > 0 {
            let counts = placeholders::count_placeholders(&args, attachments.len())?;
            // An object of the peer that looks like a placeholder would duplicate an attachment.
            if counts.iter().any(|&count| count != 1) {
                return Err(DecodeError::IllegalAttachments);
            }
            args.attach(attachments.to_bytes());
        }
    }
    let name = match kind {
        Kind::Event => read_name(&args)?,
        Kind::Connect | Kind::Disconnect | Kind::Ack | Kind::ConnectError => Name::None,
    };
    Ok(Packet {
        kind,
        nsp: Nsp::from(&*nsp),
        id,
        args,
        name,
    })
}

/// Returns whether lists and objects are nested at most `depth` deep.
fn is_within(value: &Value, depth: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Binary(_) => {
            true
        }
        Value::Array(_) | Value::Object(_) if depth == 0 => false,
        Value::Array(values) => values.iter().all(|value| is_within(value, depth - 1)),
        Value::Object(fields) => fields.values().all(|value| is_within(value, depth - 1)),
    }
}

/// The maximum nesting depth that JSON decoders allow.
const MAX_DEPTH: usize = 128;

/// The fields of a packet other than its data, which is first encoded as JSON.
pub(in crate::socket) struct Head {
    parser: Custom,
    kind: Kind,
    nsp: String,
    id: Option<u64>,
}

impl Head {
    pub(in crate::socket) fn new(
        parser: Custom,
        kind: Kind,
        nsp: &str,
        id: Option<u64>,
    ) -> Result<Self, EncodeError> {
        if !nsp.starts_with('/') {
            return Err(EncodeError::InvalidNamespace);
        }
        Ok(Self {
            parser,
            kind,
            nsp: nsp.to_owned(),
            id,
        })
    }

    /// Creates the frame of a packet with this JSON as its data; empty text means no data.
    pub(in crate::socket) fn finish(
        self,
        text: &[u8],
        attachments: &Attachments,
    ) -> Result<Frame, EncodeError> {
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(EncodeError::TooManyAttachments);
        }
        u32::try_from(text.len()).map_err(|_| EncodeError::TooLarge)?;
        let mut data = None;
        if !text.is_empty() {
            let whole = Elements::one(Span::new(0, text.len()));
            let mut args = Args::new(Bytes::copy_from_slice(text), whole, 0);
            args.attach(attachments.to_bytes());
            let value = args.get::<Value>(0);
            data = Some(value.map_err(|_| EncodeError::InvalidArguments)?);
        }
        let packet = CustomPacket {
            code: self.kind.code(),
            nsp: self.nsp,
            id: self.id,
            data,
        };
        let encode = AssertUnwindSafe(|| self.parser.0.encode(&packet));
        let messages = catch_unwind(encode)
            .unwrap_or_else(|_| Err("the parser has panicked".into()))
            .map_err(EncodeError::Custom)?;
        frame(&messages)
    }
}

fn frame(messages: &[CustomMessage]) -> Result<Frame, EncodeError> {
    let mut builder = Builder::new();
    let mut has_text = false;
    for (i, message) in messages.iter().enumerate() {
        let (text, binary) = builder.parts();
        match message {
            CustomMessage::Text(content) if i == 0 => {
                has_text = true;
                text.extend_from_slice(content.as_bytes());
            }
            CustomMessage::Text(_) => {
                return Err(EncodeError::Custom(
                    "a text must be the first message".into(),
                ));
            }
            CustomMessage::Binary(data) => {
                binary.push(data);
            }
        }
    }
    if messages.is_empty() {
        return Err(EncodeError::Custom(
            "a packet has at least one message".into(),
        ));
    }
    Ok(builder.finish(if has_text { b"4" } else { b"" }))
}
