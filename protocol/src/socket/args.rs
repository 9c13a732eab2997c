use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::value::RawValue;

#[cfg(feature = "msgpack")]
use super::msgpack;
use super::{
    ArgumentError, Parser, Value, answer,
    attachment::Attached,
    json::{self, Elements, Span},
    parser::Format,
};
use crate::DecodeError;

/// The arguments of a packet as they came: JSON and the attachments it refers to, or MessagePack.
///
/// Cloning copies no bytes. Nothing is parsed before [`get`](Self::get) asks for it, and what it
/// finds does not depend on the [`Parser`].
#[derive(Clone, Default)]
pub struct Args {
    /// Valid JSON or MessagePack, maybe with other things around it.
    text: Bytes,
    elements: Elements,
    /// The element that is the first argument; at most `elements.len()`.
    from: usize,
    attachments: Option<Arc<[Bytes]>>,
    /// Whether arguments that may refer to attachments were skipped.
    is_partial: bool,
    format: Format,
    /// Whether MessagePack has values that JavaScript calls `undefined`.
    #[cfg(feature = "msgpack")]
    has_undefined: bool,
    /// Whether MessagePack has texts that are not UTF-8. Some clients cannot read them, so they are not
    /// passed on.
    pub(super) has_invalid_text: bool,
    /// Whether MessagePack has timestamps, which clients do not know either: they get texts for them.
    pub(super) has_timestamp: bool,
}

impl Args {
    /// The arguments are the elements from the one of index `from`.
    #[inline]
    pub(super) fn new(text: Bytes, elements: Elements, from: usize) -> Self {
        let from = from.min(elements.len());
        Self {
            text,
            elements,
            from,
            attachments: None,
            is_partial: false,
            format: Format::Json,
            #[cfg(feature = "msgpack")]
            has_undefined: false,
            has_invalid_text: false,
            has_timestamp: false,
        }
    }

    /// The arguments are the elements of MessagePack from the one of index `from`.
    #[cfg(feature = "msgpack")]
    pub(super) fn packed(
        text: Bytes,
        elements: Elements,
        from: usize,
        has_undefined: bool,
    ) -> Self {
        Self {
            format: Format::MessagePack,
            has_undefined,
            ..Self::new(text, elements, from)
        }
    }

    /// A document that is no packet, as the only argument: for formats that have packets, or what is
    /// in them, inside of something else. What it is made of is found by [`items`](Self::items) and
    /// [`entries`](Self::entries) without being copied. It may be nested 128 deep.
    ///
    /// # Errors
    /// If it is not one value of the format that `parser` says, which is JSON for a custom one.
    pub fn document(parser: Parser, document: Bytes) -> Result<Self, DecodeError> {
        match Format::of(parser) {
            Format::Json => Self::json_document(document),
            #[cfg(feature = "msgpack")]
            Format::MessagePack => msgpack::document(document),
        }
    }

    fn json_document(document: Bytes) -> Result<Self, DecodeError> {
        // Spans have 32 bits for each end, which keeps `Args` small.
        u32::try_from(document.len()).map_err(|_| DecodeError::TooLarge)?;
        std::str::from_utf8(&document).map_err(|_| DecodeError::InvalidUtf8)?;
        json::scan(&document, 0, usize::MAX, &mut Elements::default())?;
        let whole = Elements::one(Span::new(0, document.len()));
        Ok(Self::new(document, whole, 0))
    }

    /// The elements of the list that the argument at `i` is, as arguments; `None` if it is no list.
    #[must_use]
    pub fn items(&self, i: usize) -> Option<Self> {
        let span = self.span(i)?;
        let elements = match self.format {
            Format::Json => {
                let json = span.of(&self.text);
                let items: Vec<&RawValue> = serde_json::from_slice(json).ok()?;
                let mut elements = Elements::default();
                for item in items {
                    elements.push(inside(span, json, item));
                }
                elements
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => msgpack::items(&self.text, span)?,
        };
        Some(self.with_elements(elements))
    }

    /// The entries of the object that the argument at `i` is, each value as the only argument; `None`
    /// if it is no object. The last one counts of two with one name.
    #[must_use]
    pub fn entries(&self, i: usize) -> Option<HashMap<String, Self>> {
        let span = self.span(i)?;
        let entries: Vec<(String, Span)> = match self.format {
            Format::Json => {
                let json = span.of(&self.text);
                let entries: HashMap<String, &RawValue> = serde_json::from_slice(json).ok()?;
                let place = |(name, value)| (name, inside(span, json, value));
                entries.into_iter().map(place).collect()
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => msgpack::entries(&self.text, span)?,
        };
        let value = |(name, span)| (name, self.with_elements(Elements::one(span)));
        Some(entries.into_iter().map(value).collect())
    }

    fn with_elements(&self, elements: Elements) -> Self {
        Self {
            elements,
            from: 0,
            is_partial: true,
            ..self.clone()
        }
    }

    pub(super) fn attach(&mut self, attachments: Vec<Bytes>) {
        self.attachments = Some(attachments.into());
    }

    /// The arguments as JSON with U+FFFD for every half of a surrogate pair, which are no text for
    /// `serde_json`.
    pub(super) fn repaired(&self) -> Self {
        let mut repaired = self.clone();
        let mut text = self.text.to_vec();
        json::repair(&mut text);
        repaired.text = text.into();
        repaired
    }

    pub(super) const fn text(&self) -> &Bytes {
        &self.text
    }

    /// The element before the first argument: the name of an event.
    pub(super) fn before_first(&self) -> Option<Span> {
        self.elements.get(self.from.checked_sub(1)?)
    }

    /// How many arguments there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.elements.len() - self.from
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the arguments are written: [`Parser::Json`] for those of a custom parser.
    #[must_use]
    pub const fn parser(&self) -> Parser {
        self.format.parser()
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// The argument at `i` as it came.
    #[must_use]
    pub fn raw(&self, i: usize) -> Option<&[u8]> {
        Some(self.span(i)?.of(&self.text))
    }

    fn span(&self, i: usize) -> Option<Span> {
        self.elements.get(self.from.checked_add(i)?)
    }

    /// Every argument as it came.
    #[must_use]
    pub const fn iter(&self) -> Iter<'_> {
        Iter {
            args: self,
            next: 0,
        }
    }

    /// All arguments as they came, in JSON with commas between them; `None` if there are none.
    pub(super) fn joined(&self) -> Option<&[u8]> {
        let first = self.elements.get(self.from)?;
        let last = self.elements.get(self.elements.len().checked_sub(1)?)?;
        Some(
            Span {
                start: first.start,
                end: last.end,
            }
            .of(&self.text),
        )
    }

    /// The attachments of a packet of JSON; binary values of MessagePack stand where they belong.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().unwrap_or_default()
    }

    /// The bytes of the arguments, with all attachments of the packet.
    #[must_use]
    pub fn size(&self) -> usize {
        let attached = self.attachments().iter().map(Bytes::len);
        self.joined().map_or(0, <[u8]>::len) + attached.sum::<usize>()
    }

    pub(super) const fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Parses the argument at `i`.
    ///
    /// Types that ask for bytes, like [`Bytes`], get an attachment or a binary value, at any depth.
    /// [`Value`] takes anything; [`serde_json::Value`] has no place for binary, so that binary where
    /// it stands is an error. A missing argument is read as `null`, so that it can be an [`Option`]. What JSON does
    /// not know is read from MessagePack as JavaScript writes it to JSON: dates as strings,
    /// `undefined` as nothing.
    ///
    /// # Errors
    /// If the argument is missing or is not a `T`, and if a text in it that a `T` takes has half a
    /// surrogate pair: JavaScript has such texts, Rust has not, and no other is put in its place. In
    /// MessagePack clients write all sorts of bytes for them.
    pub fn get<T: DeserializeOwned>(&self, i: usize) -> Result<T, ArgumentError> {
        let Some(span) = self.span(i) else {
            return serde_json::from_slice(b"null")
                .map_err(|error| ArgumentError::missing(i, &error));
        };
        match self.format {
            Format::Json => {
                let json = span.of(&self.text);
                let attachments = self.attachments();
                let mut deserializer = serde_json::Deserializer::from_slice(json);
                parse(
                    i,
                    T::deserialize(Attached::new(&mut deserializer, attachments)),
                    || {
                        let mut deserializer = serde_json::Deserializer::from_slice(json);
                        serde_path_to_error::deserialize(Attached::new(
                            &mut deserializer,
                            attachments,
                        ))
                    },
                )
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => {
                let open = || msgpack::Deserializer::new(&self.text, span, self.has_undefined);
                parse(i, T::deserialize(&mut open()), || {
                    serde_path_to_error::deserialize(&mut open())
                })
            }
        }
    }

    /// Parses the argument at `i`, without the place of a fault. A missing argument is read as `null`.
    pub(super) fn get_seed<'de, T: DeserializeSeed<'de>>(
        &'de self,
        i: usize,
        seed: T,
    ) -> Result<T::Value, serde_json::Error> {
        let Some(span) = self.span(i) else {
            return seed.deserialize(serde_json::Value::Null);
        };
        match self.format {
            Format::Json => {
                let mut deserializer = serde_json::Deserializer::from_slice(span.of(&self.text));
                seed.deserialize(Attached::new(&mut deserializer, self.attachments()))
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => seed.deserialize(&mut msgpack::Deserializer::new(
                &self.text,
                span,
                self.has_undefined,
            )),
        }
    }

    /// The arguments without the first `n`.
    #[must_use]
    pub fn skip(&self, n: usize) -> Self {
        let mut rest = self.clone();
        rest.from = self.from.saturating_add(n).min(self.elements.len());
        rest.is_partial |= n > 0;
        rest
    }

    /// Every argument as a value.
    ///
    /// # Errors
    /// If an argument is no value, such as a number beyond all range.
    pub fn to_values(&self) -> Result<Vec<Value>, ArgumentError> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }
}

/// Where a part of JSON lies that was read from `json`, which lies at `span`. The part borrows from
/// `json`, so the difference of their addresses is its position.
fn inside(span: Span, json: &[u8], part: &RawValue) -> Span {
    let part = part.get().as_bytes();
    let start = span.start as usize + (part.as_ptr() as usize - json.as_ptr() as usize);
    Span::new(start, start + part.len())
}

/// Returns the value, or where it is wrong. Keeping the path costs allocations, so only what has
/// failed is read again with it.
fn parse<T>(
    i: usize,
    result: Result<T, serde_json::Error>,
    again: impl FnOnce() -> Result<T, serde_path_to_error::Error<serde_json::Error>>,
) -> Result<T, ArgumentError> {
    result.map_err(|error| match again() {
        Ok(_) => ArgumentError::new(i, "", &error),
        Err(error) => ArgumentError::new(i, &error.path().to_string(), error.inner()),
    })
}

impl fmt::Debug for Args {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let raw = self.joined().unwrap_or_default();
        let mut debug = f.debug_struct("Args");
        match self.format {
            Format::Json => debug.field("json", &String::from_utf8_lossy(raw)),
            #[cfg(feature = "msgpack")]
            Format::MessagePack => debug.field("messagepack", &Bytes::copy_from_slice(raw)),
        };
        debug.field("attachments", &self.attachments()).finish()
    }
}

impl<'a> IntoIterator for &'a Args {
    type Item = &'a [u8];
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Each argument as it came; see [`Args::iter`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    args: &'a Args,
    next: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let raw = self.args.raw(self.next)?;
        self.next += 1;
        Some(raw)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.args.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Something that can be taken from arguments, in order: what a handler's parameter can be.
///
/// Everything that can be deserialised is one argument; [`Args`] is all the rest.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from the arguments of an event",
    note = "derive `serde::Deserialize` for it, without borrowed fields"
)]
pub trait Argument: Sized {
    /// Whether this type takes all arguments that are left, so that no other can follow.
    const TAKES_ALL: bool = false;

    /// Takes what is at `position` and moves on.
    ///
    /// # Errors
    /// If it is missing or something else.
    fn take(args: &Args, position: &mut usize) -> Result<Self, ArgumentError>;

    /// Takes all arguments of an acknowledgement, in the form in which [`Arguments`](super::Arguments)
    /// sends them: a tuple is several, [`Args`] is all of them, everything else is the first. More
    /// than are asked for are ignored.
    ///
    /// ```
    /// # use roomcast_protocol::{engine::Message, socket::{Args, Argument, Decoder, Limits}};
    /// # let packet = Decoder::new(Limits::default()).text(r#"30["a",[1,2]]"#.into())?.unwrap();
    /// // The server has acknowledged with `("a", vec![1, 2])`, or Node's with `ack("a", [1, 2])`.
    /// let (text, numbers) = <(String, Vec<u8>)>::take_all(&packet.args)?;
    /// assert_eq!((&*text, &*numbers), ("a", &[1, 2][..]));
    /// assert_eq!(String::take_all(&packet.args)?, "a");
    /// assert_eq!(Args::take_all(&packet.args)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If an argument is missing or something else.
    fn take_all(args: &Args) -> Result<Self, ArgumentError> {
        Self::take(args, &mut 0)
    }
}

impl<T: DeserializeOwned> Argument for T {
    fn take_all(args: &Args) -> Result<Self, ArgumentError> {
        answer::read(args)
    }

    fn take(args: &Args, position: &mut usize) -> Result<Self, ArgumentError> {
        let value = args.get(*position)?;
        *position += 1;
        Ok(value)
    }
}

impl Argument for Args {
    const TAKES_ALL: bool = true;

    fn take(args: &Args, position: &mut usize) -> Result<Self, ArgumentError> {
        let rest = args.skip(*position);
        *position = args.len();
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(value: &impl serde::Serialize) -> Bytes {
        rmp_serde::to_vec_named(value).unwrap().into()
    }

    #[test]
    fn a_document_is_taken_apart_without_being_parsed() {
        let json = serde_json::json!({"a": [1, "é", {"b": null}], "c": {"d": [], "a\"": true}});
        let text: Bytes = json.to_string().into();
        for (parser, document) in [(Parser::Json, text), (Parser::MessagePack, packed(&json))] {
            let document = Args::document(parser, document).unwrap();
            assert_eq!(document.len(), 1);
            assert!(document.items(0).is_none());
            let entries = document.entries(0).unwrap();
            assert_eq!(entries.len(), 2);
            let items = entries["a"].items(0).unwrap();
            assert_eq!(items.len(), 3);
            assert_eq!(items.get::<u8>(0).unwrap(), 1);
            assert_eq!(items.skip(1).get::<String>(0).unwrap(), "é");
            assert_eq!(
                items.entries(2).unwrap()["b"].get::<Option<u8>>(0).unwrap(),
                None
            );
            let inner = entries["c"].entries(0).unwrap();
            assert!(inner["d"].items(0).unwrap().is_empty());
            assert!(inner["a\""].get::<bool>(0).unwrap());
            assert!(inner["d"].entries(0).is_none());
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [&b""[..], b"{", b"{}x", b"{\"a\":}", b"\"\xff\""] {
            let document = Args::document(Parser::Json, Bytes::copy_from_slice(text));
            assert!(document.is_err(), "{text:?}");
        }
        for bytes in [
            &b""[..],
            b"\x91",
            b"\xc0\xc0",
            b"\xdf\xff\xff\xff\xff",
            b"\xd6\x01\0\0\0\0",
        ] {
            let document = Args::document(Parser::MessagePack, Bytes::copy_from_slice(bytes));
            assert!(document.is_err(), "{bytes:?}");
        }
        let deep = "[".repeat(129) + &"]".repeat(129);
        assert!(Args::document(Parser::Json, deep.into()).is_err());
        assert!(Args::document(Parser::MessagePack, vec![0x91; 200].into()).is_err());
    }

    #[test]
    fn timestamps_become_texts_for_clients_in_every_form() {
        for bytes in [
            &b"\x91\xd6\xff\x00\x00\x00\x01"[..],
            b"\x91\xd7\xff\x00\x00\x00\x00\x00\x00\x00\x01",
            b"\x91\xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01",
        ] {
            let document = Args::document(Parser::MessagePack, Bytes::copy_from_slice(bytes));
            let args = document.unwrap().items(0).unwrap();
            for parser in [Parser::Json, Parser::MessagePack] {
                let frame = parser.ack("/", 0, &args).unwrap();
                let sent = frame.messages().next().unwrap().1;
                let text = b"1970-01-01T00:00:01.000Z";
                assert!(
                    sent.windows(text.len()).any(|part| part == text),
                    "{sent:?}"
                );
            }
        }
    }
}
