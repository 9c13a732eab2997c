//! Decodes a message to a packet, in one pass that checks everything.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a value is, it is not what is due"
)]

use bytes::Bytes;
use simdutf8::basic;

use super::token::{Reader, Token};
use crate::{
    DecodeError,
    socket::{
        Args, Kind, Limits, Nsp, Packet,
        decoder::refuse_reserved,
        json::{Elements, Span},
        packet::Name,
    },
};

/// Decodes a packet from a complete binary message.
pub(in crate::socket) fn decode(
    message: Bytes,
    limits: &Limits,
    kinds: Kinds,
) -> Result<Packet, DecodeError> {
    u32::try_from(message.len()).map_err(|_| DecodeError::TooLarge)?;
    let fields = Fields::read(&message, limits.max_depth.min(MAX_DEPTH), kinds)?;
    fields.packet(message, limits)
}

/// Decodes a document that is one value and no packet.
pub(in crate::socket) fn document(document: Bytes) -> Result<Args, DecodeError> {
    u32::try_from(document.len()).map_err(|_| DecodeError::TooLarge)?;
    let mut reader = Reader::new(&document, 0);
    let mut fields = Fields::default();
    fields.value(&mut reader, MAX_DEPTH)?;
    if !reader.is_at_end() {
        return Err(DecodeError::TrailingBytes);
    }
    let whole = Elements::one(Span::new(0, document.len()));
    let mut args = Args::packed(document, whole, 0, fields.has_undefined);
    args.has_invalid_text = fields.has_invalid_text;
    args.has_timestamp = fields.has_timestamp;
    Ok(args)
}

/// Returns the elements of the list in `span`, or `None` if it is no list. The document must have
/// been checked.
pub(in crate::socket) fn items(document: &[u8], span: Span) -> Option<Elements> {
    let mut reader = Reader::new(document, span.start as usize);
    let Ok(Token::Array(count)) = reader.token() else {
        return None;
    };
    let mut elements = Elements::default();
    for _ in 0..count {
        let start = reader.at();
        reader.skip().ok()?;
        elements.push(Span::new(start, reader.at()));
    }
    Some(elements)
}

/// Returns the text keys of the map in `span`, with the spans of their values.
pub(in crate::socket) fn entries(document: &[u8], span: Span) -> Option<Vec<(String, Span)>> {
    let mut reader = Reader::new(document, span.start as usize);
    let Ok(Token::Map(count)) = reader.token() else {
        return None;
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let key = match reader.token().ok()? {
            Token::Str(key) => std::str::from_utf8(key).ok(),
            _ => None,
        };
        let start = reader.at();
        reader.skip().ok()?;
        let value = Span::new(start, reader.at());
        entries.extend(key.map(|key| (key.to_owned(), value)));
    }
    Some(entries)
}

/// The entries of the map that represents a packet. If a key occurs twice, the last value counts.
#[derive(Default)]
struct Fields {
    kind: Option<Kind>,
    nsp: Option<Span>,
    id: Option<u64>,
    data: Data,
    has_undefined: bool,
    has_invalid_text: bool,
    /// Whether there are timestamps, which are valid only in documents.
    has_timestamp: bool,
}

/// The payload.
#[derive(Default)]
enum Data {
    #[default]
    None,
    /// The elements of an array.
    Array(Elements),
    Map(Span),
    Str(Span),
    Other,
}

impl Fields {
    fn read(message: &[u8], max_depth: usize, kinds: Kinds) -> Result<Self, DecodeError> {
        let mut reader = Reader::for_packet(message);
        let mut fields = Self::default();
        let Token::Map(count) = reader.token()? else {
            return Err(DecodeError::InvalidPayload);
        };
        for _ in 0..count {
            match fields.key(&mut reader)? {
                b"type" => fields.kind = Some(kind(reader.token()?, kinds)?),
                b"nsp" => match reader.token()? {
                    Token::Str(name) => fields.nsp = Some(preceding_span(&reader, name)),
                    _ => return Err(DecodeError::InvalidPayload),
                },
                b"id" => match reader.token()? {
                    Token::Unsigned(id) => fields.id = Some(id),
                    Token::Nil | Token::Undefined => fields.id = None,
                    _ => return Err(DecodeError::InvalidAckId),
                },
                b"data" => fields.data(&mut reader, max_depth)?,
                _ => fields.value(&mut reader, max_depth)?,
            }
        }
        if reader.is_at_end() {
            Ok(fields)
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    fn packet(self, message: Bytes, limits: &Limits) -> Result<Packet, DecodeError> {
        let kind = self.kind.ok_or(DecodeError::UnknownKind)?;
        let nsp = namespace(&message, self.nsp, limits.max_nsp)?;
        let elements = match (kind, self.data) {
            (Kind::Connect | Kind::Disconnect, Data::None) => Elements::default(),
            (Kind::Connect, Data::Map(span)) if span.len() > limits.max_connect_payload => {
                return Err(DecodeError::TooLarge);
            }
            (Kind::Connect, Data::Map(span)) => Elements::one(span),
            (Kind::ConnectError, Data::Map(span) | Data::Str(span)) => Elements::one(span),
            (Kind::Event | Kind::Ack, Data::Array(elements)) => elements,
            (
                Kind::Connect | Kind::Disconnect | Kind::Event | Kind::Ack | Kind::ConnectError,
                Data::None | Data::Array(_) | Data::Map(_) | Data::Str(_) | Data::Other,
            ) => return Err(DecodeError::InvalidPayload),
        };
        let mut name = Name::None;
        if kind == Kind::Event {
            let first = elements.get(0).ok_or(DecodeError::InvalidPayload)?;
            name = event_name(&message, first)?;
        }
        let mut args = Args::packed(
            message,
            elements,
            usize::from(kind == Kind::Event),
            self.has_undefined,
        );
        args.has_invalid_text = self.has_invalid_text;
        Ok(Packet {
            kind,
            nsp,
            id: self.id,
            args,
            name,
        })
    }

    #[inline]
    fn key<'a>(&mut self, reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        if let Some(key) = reader.short_text() {
            self.text(key);
            return Ok(key);
        }
        match reader.token()? {
            Token::Str(key) => {
                self.text(key);
                Ok(key)
            }
            // No key of a packet is an integer.
            Token::Unsigned(_) | Token::Negative(_) => Ok(b""),
            _ => Err(DecodeError::InvalidPayload),
        }
    }

    fn data(&mut self, reader: &mut Reader<'_>, max_depth: usize) -> Result<(), DecodeError> {
        let start = reader.at();
        let head = reader.clone().token()?;
        if let Token::Array(count) = head {
            let inside = max_depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
            reader.token()?;
            // The count reserves no capacity, because a message can announce more than it contains.
            let mut elements = Elements::default();
            for _ in 0..count {
                let start = reader.at();
                self.value(reader, inside)?;
                elements.push(Span::new(start, reader.at()));
            }
            self.data = Data::Array(elements);
            return Ok(());
        }
        self.value(reader, max_depth)?;
        let span = Span::new(start, reader.at());
        self.data = match head {
            Token::Nil | Token::Undefined => Data::None,
            Token::Map(_) => Data::Map(span),
            Token::Str(_) => Data::Str(span),
            _ => Data::Other,
        };
        Ok(())
    }

    /// Checks a value. `depth`, at most [`MAX_DEPTH`], bounds the recursion.
    #[inline]
    fn value(&mut self, reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
        if let Some(text) = reader.short_text() {
            self.text(text);
            return Ok(());
        }
        if reader.skip_plain(1) == 1 {
            return Ok(());
        }
        self.other(reader, depth)
    }

    /// Checks a value of a less frequent type.
    fn other(&mut self, reader: &mut Reader<'_>, depth: usize) -> Result<(), DecodeError> {
        match reader.token()? {
            Token::Array(count) => {
                let inside = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
                let mut left = count;
                while left > 0 {
                    left -= reader.skip_plain(left);
                    if left > 0 {
                        self.value(reader, inside)?;
                        left -= 1;
                    }
                }
            }
            Token::Map(count) => {
                let inside = depth.checked_sub(1).ok_or(DecodeError::TooDeep)?;
                for _ in 0..count {
                    self.key(reader)?;
                    self.value(reader, inside)?;
                }
            }
            Token::Str(text) => self.text(text),
            Token::Undefined => self.has_undefined = true,
            Token::Timestamp(_) => self.has_timestamp = true,
            Token::Nil
            | Token::Bool(_)
            | Token::Unsigned(_)
            | Token::Negative(_)
            | Token::Float(_)
            | Token::Binary(_)
            | Token::Date(_) => {}
        }
        Ok(())
    }

    #[inline]
    fn text(&mut self, text: &[u8]) {
        self.has_invalid_text |= !text.is_ascii() && basic::from_utf8(text).is_err();
    }
}

/// The types of packets that a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::socket) enum Kinds {
    /// 0 to 4, as `socket.io-msgpack-parser` 3 sends them.
    Current,
    /// Also 5 and 6, with which version 2 marks events and acknowledgements with binary values.
    Version2,
}

fn kind(token: Token<'_>, kinds: Kinds) -> Result<Kind, DecodeError> {
    match token {
        Token::Unsigned(5) if kinds == Kinds::Version2 => Ok(Kind::Event),
        Token::Unsigned(6) if kinds == Kinds::Version2 => Ok(Kind::Ack),
        Token::Unsigned(0) => Ok(Kind::Connect),
        Token::Unsigned(1) => Ok(Kind::Disconnect),
        Token::Unsigned(2) => Ok(Kind::Event),
        Token::Unsigned(3) => Ok(Kind::Ack),
        Token::Unsigned(4) => Ok(Kind::ConnectError),
        _ => Err(DecodeError::UnknownKind),
    }
}

fn namespace(message: &Bytes, span: Option<Span>, max: usize) -> Result<Nsp, DecodeError> {
    let name = span.ok_or(DecodeError::InvalidPayload)?.of(message);
    match name {
        b"/" => Ok(Nsp::ROOT),
        [b'/', ..] if name.len() > max => Err(DecodeError::NamespaceTooLong),
        [b'/', ..] if std::str::from_utf8(name).is_ok() => {
            Ok(Nsp::from_wire(message.slice_ref(name)))
        }
        _ => Err(DecodeError::InvalidPayload),
    }
}

/// Reads the first element of an event's array: a string, or an integer.
fn event_name(message: &[u8], first: Span) -> Result<Name, DecodeError> {
    let mut reader = Reader::new(message, first.start as usize);
    match reader.token()? {
        Token::Str(name) => {
            refuse_reserved(name)?;
            basic::from_utf8(name).map_err(|_| DecodeError::InvalidUtf8)?;
            Ok(Name::Plain(preceding_span(&reader, name)))
        }
        Token::Unsigned(number) => Ok(Name::Unescaped(number.to_string().into())),
        Token::Negative(number) => Ok(Name::Unescaped(number.to_string().into())),
        _ => Err(DecodeError::InvalidPayload),
    }
}

/// Returns the span of the text that was just read.
fn preceding_span(reader: &Reader<'_>, text: &[u8]) -> Span {
    Span::new(reader.at() - text.len(), reader.at())
}

/// The maximum nesting depth, the same as for JSON.
const MAX_DEPTH: usize = 128;
