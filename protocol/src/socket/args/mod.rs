//! The arguments of events: encoded once, decoded when they are read.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use erased_serde::Deserializer as Erased;
use serde::{
    Deserializer,
    de::{self, DeserializeOwned, DeserializeSeed},
};
use serde_json::value::RawValue;
use serde_path_to_error::Track;

#[cfg(feature = "msgpack")]
use super::msgpack;
use super::{
    ArgumentError, Parser, Value, answer,
    attachment::WithAttachments,
    json::{self, Elements, Span},
    parser::Format,
};
use crate::DecodeError;

/// The raw arguments of a packet: JSON with the attachments it refers to, or MessagePack.
///
/// Cloning copies no bytes. Arguments are parsed only when [`get`](Self::get) requests them. Its
/// results do not depend on the [`Parser`].
#[derive(Clone, Default)]
pub struct Args {
    /// Valid JSON or MessagePack, possibly with other data around it.
    text: Bytes,
    elements: Elements,
    /// The index of the first argument among the elements; at most `elements.len()`.
    from: usize,
    attachments: Option<Arc<[Bytes]>>,
    /// Whether arguments that may refer to attachments were skipped.
    is_partial: bool,
    format: Format,
    /// Whether the MessagePack contains `undefined` values.
    #[cfg(feature = "msgpack")]
    has_undefined: bool,
    /// Whether the MessagePack contains text that is not UTF-8. It is not forwarded, because some
    /// clients cannot read it.
    pub(super) has_invalid_text: bool,
    /// Whether the MessagePack contains timestamps. Clients do not support them either, so they get
    /// text instead.
    pub(super) has_timestamp: bool,
}

impl Args {
    /// Creates arguments from the elements at index `from` and later.
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

    /// Creates arguments from the MessagePack elements at index `from` and later.
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

    /// Wraps a document that is not a packet, as the only argument.
    ///
    /// This is for formats that embed packets or their contents. [`items`](Self::items) and
    /// [`entries`](Self::entries) take it apart without copying. The document may be nested 128
    /// deep.
    ///
    /// # Errors
    /// If it is not one value in the format of `parser`, which is JSON for a custom parser.
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

    /// Returns the elements of the list at `i` as arguments, or `None` if it is no list.
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

    /// Returns the entries of the object at `i`, each value as a single argument, or `None` if it
    /// is no object.
    ///
    /// If a name occurs twice, the last value counts.
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

    /// Returns the arguments as JSON with U+FFFD for every lone surrogate, which `serde_json` would
    /// reject.
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

    /// Returns the element before the first argument: the name of an event.
    pub(super) fn before_first(&self) -> Option<Span> {
        self.elements.get(self.from.checked_sub(1)?)
    }

    /// Returns the number of arguments.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.elements.len() - self.from
    }

    /// Returns whether there are no arguments.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the encoding of the arguments: [`Parser::Json`] for a custom parser.
    #[must_use]
    pub const fn parser(&self) -> Parser {
        self.format.parser()
    }

    pub(super) const fn format(&self) -> Format {
        self.format
    }

    /// Returns the raw argument at `i`.
    #[must_use]
    pub fn raw(&self, i: usize) -> Option<&[u8]> {
        Some(self.span(i)?.of(&self.text))
    }

    fn span(&self, i: usize) -> Option<Span> {
        self.elements.get(self.from.checked_add(i)?)
    }

    /// Returns an iterator over the raw arguments.
    #[must_use]
    pub const fn iter(&self) -> Iter<'_> {
        Iter {
            args: self,
            next: 0,
        }
    }

    /// Returns all raw arguments, in JSON with commas between them, or `None` if there are none.
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

    /// Returns the list of an event, which is its name and these arguments, as it is in its packet.
    ///
    /// Returns `None` if it must be encoded again: it has another name, attachments or values that
    /// are converted, or its encoding is unusual.
    #[doc(hidden)]
    #[must_use]
    pub fn event_list(&self, name: &str) -> Option<Bytes> {
        let is_converted = self.has_timestamp || self.has_invalid_text;
        if self.from != 1 || is_converted || !self.attachments().is_empty() {
            return None;
        }
        let first = self.elements.get(0)?;
        let last = self.elements.get(self.elements.len().checked_sub(1)?)?;
        let (start, end) = ((first.start as usize).checked_sub(1)?, last.end as usize);
        let open = *self.text.get(start)?;
        let (is_name, end) = match self.format {
            Format::Json => {
                let text = first.of(&self.text).strip_prefix(b"\"")?;
                let text = text.strip_suffix(b"\"")?;
                let is_list = open == b'[' && self.text.get(end) == Some(&b']');
                let is_name = text == name.as_bytes() && !text.contains(&b'\\');
                (is_list && is_name, end + 1)
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => {
                // A list of at most 15 values, and a text of at most 31 bytes, have heads of one
                // byte.
                let length = u8::try_from(name.len())
                    .ok()
                    .filter(|length| *length < 32)?;
                let count = u8::try_from(self.elements.len())
                    .ok()
                    .filter(|count| *count < 16)?;
                let text = first.of(&self.text).strip_prefix(&[0xa0 | length])?;
                (open == 0x90 | count && text == name.as_bytes(), end)
            }
        };
        is_name.then(|| self.text.slice(start..end))
    }

    /// Returns the attachments of a JSON packet. MessagePack has none, because it contains binary
    /// values in place.
    #[must_use]
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().unwrap_or_default()
    }

    /// Returns the size of the arguments and all attachments of the packet, in bytes.
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
    /// Types that request bytes, like [`Bytes`], get an attachment or a binary value, at any depth.
    /// [`Value`] accepts anything. [`serde_json::Value`] cannot represent binary data, so reading
    /// binary data as one is an error. A missing argument is read as `null`, so that it can be an
    /// [`Option`].
    ///
    /// MessagePack values that JSON does not have are read as JavaScript writes them to JSON: dates
    /// as strings, `undefined` as nothing.
    ///
    /// # Errors
    /// If the argument is missing or is not a `T`, or if a text in it that `T` requests contains a
    /// lone surrogate. JavaScript has such texts and Rust does not, and no replacement is inserted.
    /// In MessagePack, clients write arbitrary bytes for them.
    pub fn get<T: DeserializeOwned>(&self, i: usize) -> Result<T, ArgumentError> {
        let Some(span) = self.span(i) else {
            let mut null = serde_json::Deserializer::from_slice(b"null");
            return value(|read| tracked(&mut null, None, read))
                .map_err(|error| ArgumentError::missing(i, &error));
        };
        let outcome = match (self.format, &self.attachments) {
            (Format::Json, None) => {
                let mut json = serde_json::Deserializer::from_slice(span.of(&self.text));
                T::deserialize(WithAttachments::none(&mut json)).map_err(|error| error.to_string())
            }
            // Rarer forms share one deserialiser without a type, so each type is compiled once for
            // it.
            _ => value(|read| self.read(span, None, read)).map_err(|error| error.to_string()),
        };
        outcome.map_err(|error| {
            self.located(i, span, &error, &mut |deserializer| {
                T::deserialize(deserializer).map(drop)
            })
        })
    }

    #[cfg(feature = "msgpack")]
    fn msgpack(&self, span: Span) -> msgpack::Deserializer<'_> {
        msgpack::Deserializer::new(&self.text, span, self.has_undefined)
    }

    /// Returns the error of an argument with its path, by parsing it again: tracking the path costs
    /// allocations.
    fn located(
        &self,
        i: usize,
        span: Span,
        error: &dyn fmt::Display,
        read: &mut Read<'_>,
    ) -> ArgumentError {
        let mut track = Track::new();
        match self.read(span, Some(&mut track), read) {
            Ok(()) => ArgumentError::new(i, "", error),
            Err(error) => ArgumentError::new(i, &track.path().to_string(), &error),
        }
    }

    /// Parses an argument through a deserialiser without a type. Each type of an argument is
    /// compiled once for it, and once for the JSON without attachments of [`get`](Self::get).
    fn read(
        &self,
        span: Span,
        track: Option<&mut Track>,
        read: &mut Read<'_>,
    ) -> Result<(), erased_serde::Error> {
        match self.format {
            Format::Json => {
                let mut json = serde_json::Deserializer::from_slice(span.of(&self.text));
                let json = WithAttachments::new(&mut json, self.attachments());
                tracked(json, track, read)
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => tracked(&mut self.msgpack(span), track, read),
        }
    }

    /// Parses the argument at `i`, with an error without a path. A missing argument is read as
    /// `null`.
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
                seed.deserialize(WithAttachments::new(&mut deserializer, self.attachments()))
            }
            #[cfg(feature = "msgpack")]
            Format::MessagePack => seed.deserialize(&mut self.msgpack(span)),
        }
    }

    /// Returns the arguments without the first `n`.
    #[must_use]
    pub fn skip(&self, n: usize) -> Self {
        let mut rest = self.clone();
        rest.from = self.from.saturating_add(n).min(self.elements.len());
        rest.is_partial |= n > 0;
        rest
    }

    /// Returns every argument as a value.
    ///
    /// # Errors
    /// If an argument cannot be converted to a value, such as a number out of range.
    pub fn to_values(&self) -> Result<Vec<Value>, ArgumentError> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }
}

/// Returns the span of `part`, which was read from the JSON at `span`.
///
/// `part` borrows from `json`, so the difference of their addresses is its position.
fn inside(span: Span, json: &[u8], part: &RawValue) -> Span {
    let part = part.get().as_bytes();
    let start = span.start as usize + (part.as_ptr() as usize - json.as_ptr() as usize);
    Span::new(start, start + part.len())
}

/// Reads an argument whose type is known only to the caller.
type Read<'a> = dyn FnMut(&mut dyn Erased<'_>) -> Result<(), erased_serde::Error> + 'a;

/// Returns the value that `parse` reads.
pub(super) fn value<T: DeserializeOwned>(
    parse: impl FnOnce(&mut Read<'_>) -> Result<(), erased_serde::Error>,
) -> Result<T, erased_serde::Error> {
    let mut value = None;
    parse(&mut |deserializer| {
        value = Some(T::deserialize(deserializer)?);
        Ok(())
    })?;
    value.ok_or_else(|| de::Error::custom("nothing was read"))
}

/// Passes a deserialiser to `read`, with a record of the path if one is wanted.
pub(super) fn tracked<'de>(
    deserializer: impl Deserializer<'de>,
    track: Option<&mut Track>,
    read: &mut Read<'_>,
) -> Result<(), erased_serde::Error> {
    match track {
        None => read(&mut <dyn Erased<'_>>::erase(deserializer)),
        Some(track) => {
            let tracked = serde_path_to_error::Deserializer::new(deserializer, track);
            read(&mut <dyn Erased<'_>>::erase(tracked))
        }
    }
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

/// An iterator over the raw arguments; see [`Args::iter`].
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

/// A type that can be taken from arguments in order: a possible parameter of a handler.
///
/// Every deserialisable type takes one argument; [`Args`] takes all the rest.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be taken from the arguments of an event",
    note = "derive `serde::Deserialize` for it, without borrowed fields"
)]
pub trait Argument: Sized {
    /// Whether this type takes all remaining arguments, so that no other can follow.
    const TAKES_ALL: bool = false;

    /// Takes the argument at `position` and advances the position.
    ///
    /// # Errors
    /// If it is missing or has another type.
    fn take(args: &Args, position: &mut usize) -> Result<Self, ArgumentError>;

    /// Takes all arguments of an acknowledgement, in the form in which
    /// [`Arguments`](super::Arguments) sends them.
    ///
    /// A tuple takes several arguments, [`Args`] takes all, every other type takes the first.
    /// Surplus arguments are ignored.
    ///
    /// ```
    /// # use roomcast_protocol::{engine::Message, socket::{Args, Argument, Decoder, Limits}};
    /// # let packet = Decoder::new(Limits::default()).text(r#"30["a",[1,2]]"#.into())?.unwrap();
    /// // The server acknowledged with `("a", vec![1, 2])`, or in Node.js with `ack("a", [1, 2])`.
    /// let (text, numbers) = <(String, Vec<u8>)>::take_all(&packet.args)?;
    /// assert_eq!((&*text, &*numbers), ("a", &[1, 2][..]));
    /// assert_eq!(String::take_all(&packet.args)?, "a");
    /// assert_eq!(Args::take_all(&packet.args)?.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// If an argument is missing or has another type.
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
mod tests;
