use bytes::Bytes;

#[cfg(feature = "msgpack")]
use super::msgpack;
use super::{
    Args, CustomMessage, Kind, Nsp, Packet, Parser, RESERVED_EVENTS,
    attachment::placeholders,
    encode::MAX_ATTACHMENTS,
    json::{self, Elements, Span},
    packet::Name,
    parser::{CustomDecoder, Format},
};
use crate::DecodeError;

/// The limits for a packet of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of attachments of a packet; default 10, as in the Node.js implementation.
    /// MessagePack has no attachments.
    pub max_attachments: usize,
    /// The maximum size in bytes of a packet with attachments; default 10,000,000.
    ///
    /// It includes the text, and each attachment as often as placeholders refer to it. An
    /// incomplete packet uses at most this much memory. The transport limits text without
    /// attachments.
    pub max_bytes: usize,
    /// The maximum nesting depth of arrays and objects, including the array of arguments; default
    /// 128, which is also the maximum.
    pub max_depth: usize,
    /// The maximum length of a namespace's name in bytes; default 256.
    pub max_nsp: usize,
    /// The maximum size of a connect packet's payload in bytes; default 16 KiB.
    pub max_connect_payload: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attachments: MAX_ATTACHMENTS,
            max_bytes: 10_000_000,
            max_depth: 128,
            max_nsp: 256,
            max_connect_payload: 16 * 1024,
        }
    }
}

/// Decodes the messages of one session into packets.
///
/// After an error, the session must be closed. The decoder then holds no data.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    format: Format,
    #[cfg(feature = "msgpack")]
    kinds: msgpack::Kinds,
    partial: Option<Box<Partial>>,
    /// The decoder of a custom parser; `None` for JSON and MessagePack.
    custom: Option<Box<CustomDecoder>>,
}

/// A packet that waits for attachments.
#[derive(Debug)]
struct Partial {
    packet: Packet,
    attachments: Vec<Bytes>,
    /// The number of placeholders for each attachment. Longer than `attachments`, and at most
    /// `Limits::max_attachments` long.
    counts: Box<[usize]>,
    /// The size in bytes, with every attachment as often as placeholders refer to it. Reading the
    /// packet copies it that often.
    bytes: usize,
}

impl Decoder {
    /// Creates a decoder for packets of [`Parser::Json`].
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            format: Format::Json,
            #[cfg(feature = "msgpack")]
            kinds: msgpack::Kinds::Current,
            partial: None,
            custom: None,
        }
    }

    /// Creates a decoder for packets of this parser.
    #[must_use]
    pub fn with_parser(parser: Parser, limits: Limits) -> Self {
        Self {
            limits,
            format: Format::of(parser),
            #[cfg(feature = "msgpack")]
            kinds: msgpack::Kinds::Current,
            partial: None,
            custom: match parser {
                Parser::Custom(parser) => Some(Box::new(CustomDecoder::new(parser))),
                Parser::Json => None,
                #[cfg(feature = "msgpack")]
                Parser::MessagePack => None,
            },
        }
    }

    /// Also accepts the packet types that `socket.io-msgpack-parser` 2 adds, for clients of
    /// Socket.IO 2. This has no effect on other parsers.
    #[cfg(feature = "msgpack")]
    #[cfg_attr(docsrs, doc(cfg(feature = "msgpack")))]
    #[must_use]
    pub const fn with_version2_types(mut self) -> Self {
        self.kinds = msgpack::Kinds::Version2;
        self
    }

    /// Returns whether a packet is incomplete.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        let custom = self.custom.as_ref();
        self.partial.is_some() || custom.is_some_and(|custom| custom.is_waiting())
    }

    /// Decodes a text message, which must be UTF-8. Returns `None` if attachments must follow.
    ///
    /// # Errors
    /// If an attachment or a MessagePack packet is expected, or the text is no packet within the
    /// limits.
    pub fn text(&mut self, text: Bytes) -> Result<Option<Packet>, DecodeError> {
        if let Some(custom) = &mut self.custom {
            let text = String::from_utf8(text.into()).map_err(|_| DecodeError::InvalidUtf8)?;
            return custom.decode(CustomMessage::Text(text), &self.limits);
        }
        if self.partial.take().is_some() || self.format != Format::Json {
            return Err(DecodeError::UnexpectedText);
        }
        let bytes = text.len();
        u32::try_from(bytes).map_err(|_| DecodeError::TooLarge)?;
        let header = Header::read(&text, &self.limits)?;
        let kind = header.kind;
        let nsp = header.nsp.map_or(Nsp::ROOT, |name| {
            Nsp::from_wire(text.slice(name.start as usize..name.end as usize))
        });
        let (args, has_lone_surrogate) = header.args(text, &self.limits)?;
        let name = if kind == Kind::Event {
            read_name(&args)?
        } else {
            Name::None
        };
        let packet = Packet {
            kind,
            nsp,
            id: header.id,
            args,
            name,
        };
        let Some(expected) = header.attachments else {
            return Ok(Some(packet));
        };
        let counts = if has_lone_surrogate {
            placeholders::count_placeholders(&packet.args.repaired(), expected)?
        } else {
            placeholders::count_placeholders(&packet.args, expected)?
        };
        if expected == 0 {
            return Ok(Some(packet));
        }
        if bytes > self.limits.max_bytes {
            return Err(DecodeError::TooLarge);
        }
        let attachments = Vec::with_capacity(expected);
        self.partial = Some(Box::new(Partial {
            packet,
            attachments,
            counts,
            bytes,
        }));
        Ok(None)
    }

    /// Decodes an attachment or a MessagePack packet. Returns `None` if more messages must follow.
    ///
    /// # Errors
    /// If no attachment is expected, the packet becomes too large, or it is no packet within the
    /// limits.
    pub fn binary(&mut self, data: Bytes) -> Result<Option<Packet>, DecodeError> {
        if let Some(custom) = &mut self.custom {
            return custom.decode(CustomMessage::Binary(data), &self.limits);
        }
        match self.format {
            Format::Json => self.attachment(data),
            #[cfg(feature = "msgpack")]
            Format::MessagePack => msgpack::decode(data, &self.limits, self.kinds).map(Some),
        }
    }

    fn attachment(&mut self, data: Bytes) -> Result<Option<Packet>, DecodeError> {
        let mut partial = self.partial.take().ok_or(DecodeError::UnexpectedBinary)?;
        let times = partial.counts.get(partial.attachments.len());
        let size = data.len().saturating_mul(times.map_or(1, |n| (*n).max(1)));
        partial.bytes = partial.bytes.saturating_add(size);
        if partial.bytes > self.limits.max_bytes {
            return Err(DecodeError::TooLarge);
        }
        partial.attachments.push(data);
        if partial.attachments.len() < partial.counts.len() {
            self.partial = Some(partial);
            return Ok(None);
        }
        let mut packet = partial.packet;
        packet.args.attach(partial.attachments);
        Ok(Some(packet))
    }
}

/// The part of a packet before its payload.
struct Header {
    kind: Kind,
    /// The number of attachments, or `None` in packets that cannot have any.
    attachments: Option<usize>,
    nsp: Option<Span>,
    id: Option<u64>,
    /// The index at which the payload begins.
    end: usize,
}

impl Header {
    #[inline]
    fn read(text: &[u8], limits: &Limits) -> Result<Self, DecodeError> {
        let (kind, is_binary) = match text.first() {
            Some(b'0') => (Kind::Connect, false),
            Some(b'1') => (Kind::Disconnect, false),
            Some(b'2') => (Kind::Event, false),
            Some(b'3') => (Kind::Ack, false),
            Some(b'4') => (Kind::ConnectError, false),
            Some(b'5') => (Kind::Event, true),
            Some(b'6') => (Kind::Ack, true),
            Some(_) | None => return Err(DecodeError::UnknownKind),
        };
        let mut at = 1;
        let attachments = if is_binary {
            Some(read_attachments(text, &mut at, limits.max_attachments)?)
        } else {
            None
        };
        let nsp = read_nsp(text, &mut at, limits.max_nsp)?;
        let id = read_id(text, &mut at)?;
        Ok(Self {
            kind,
            attachments,
            nsp,
            id,
            end: at,
        })
    }

    /// Validates the payload and finds its arguments. Returns also whether they contain lone
    /// surrogates.
    #[inline]
    fn args(&self, text: Bytes, limits: &Limits) -> Result<(Args, bool), DecodeError> {
        let payload = text.get(self.end..).unwrap_or_default();
        match (self.kind, payload.iter().find(|b| !b.is_ascii_whitespace())) {
            (Kind::Connect | Kind::Disconnect, None) => return Ok((Args::default(), false)),
            (Kind::Connect, Some(b'{')) if payload.len() > limits.max_connect_payload => {
                return Err(DecodeError::TooLarge);
            }
            (Kind::Event | Kind::Ack, Some(b'['))
            | (Kind::Connect, Some(b'{'))
            | (Kind::ConnectError, Some(b'{' | b'"')) => {}
            (
                Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::ConnectError,
                Some(_) | None,
            ) => return Err(DecodeError::InvalidPayload),
        }
        let mut elements = Elements::default();
        let has_lone_surrogate = json::scan(&text, self.end, limits.max_depth, &mut elements)?;
        let args = Args::new(text, elements, usize::from(self.kind == Kind::Event));
        Ok((args, has_lone_surrogate))
    }
}

/// Reads the number of attachments: digits and a dash.
fn read_attachments(text: &[u8], at: &mut usize, max: usize) -> Result<usize, DecodeError> {
    let start = *at;
    let mut count = 0;
    loop {
        match text.get(*at) {
            Some(&digit @ b'0'..=b'9') => {
                count = count * 10 + usize::from(digit - b'0');
                if count > max {
                    return Err(DecodeError::TooManyAttachments);
                }
            }
            Some(b'-') if *at > start => {
                *at += 1;
                return Ok(count);
            }
            Some(_) | None => return Err(DecodeError::IllegalAttachments),
        }
        *at += 1;
    }
}

/// Reads the name of a namespace: a slash and the text up to the comma or the end.
fn read_nsp(text: &[u8], at: &mut usize, max: usize) -> Result<Option<Span>, DecodeError> {
    let start = *at;
    let rest = text.get(start..).unwrap_or_default();
    if rest.first() != Some(&b'/') {
        return Ok(None);
    }
    let length = match rest
        .iter()
        .take(max.saturating_add(1))
        .position(|&b| b == b',')
    {
        Some(length) => {
            *at = start + length + 1;
            length
        }
        None if rest.len() <= max => {
            *at = text.len();
            rest.len()
        }
        None => return Err(DecodeError::NamespaceTooLong),
    };
    // A single slash means the root namespace, like a missing name.
    Ok((length > 1).then(|| Span::new(start, start + length)))
}

/// Reads the id of an acknowledgement: any number of digits.
fn read_id(text: &[u8], at: &mut usize) -> Result<Option<u64>, DecodeError> {
    let mut id: Option<u64> = None;
    while let Some(&digit @ b'0'..=b'9') = text.get(*at) {
        let next = id.unwrap_or_default().checked_mul(10);
        let next = next.and_then(|id| id.checked_add(u64::from(digit - b'0')));
        id = Some(next.ok_or(DecodeError::InvalidAckId)?);
        *at += 1;
    }
    Ok(id)
}

/// Reads the first element of an event's array: a string, or an integer.
pub(super) fn read_name(args: &Args) -> Result<Name, DecodeError> {
    let span = args.before_first().ok_or(DecodeError::InvalidPayload)?;
    let json = span.of(args.text());
    match json {
        // Most names have no escapes and remain a span of the message. Only names with escapes are
        // copied.
        [b'"', name @ .., b'"'] if name.contains(&b'\\') => {
            let name: Box<str> =
                serde_json::from_slice(json).map_err(|_| DecodeError::InvalidUtf8)?;
            refuse_reserved(name.as_bytes())?;
            Ok(Name::Unescaped(name))
        }
        [b'"', name @ .., b'"'] => {
            refuse_reserved(name)?;
            Ok(Name::Plain(Span {
                start: span.start + 1,
                end: span.end - 1,
            }))
        }
        [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            Ok(Name::Plain(span))
        }
        _ => Err(DecodeError::InvalidPayload),
    }
}

pub(super) fn refuse_reserved(name: &[u8]) -> Result<(), DecodeError> {
    if RESERVED_EVENTS
        .iter()
        .any(|reserved| reserved.as_bytes() == name)
    {
        Err(DecodeError::ReservedEvent)
    } else {
        Ok(())
    }
}
