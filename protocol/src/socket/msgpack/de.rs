//! Deserialises MessagePack like JSON, so that handlers get the same values from both parsers.
//!
//! The message was checked when it arrived, so depth and lengths are valid. Errors are those of
//! `serde_json`, because callers only inspect the messages of serde.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a value is, it is not what is due"
)]

use std::fmt;

use serde::{
    Deserialize as _,
    de::{
        self, DeserializeSeed, Deserializer as _, EnumAccess, IntoDeserializer as _, MapAccess,
        SeqAccess, Unexpected, VariantAccess, Visitor,
        value::{MapDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::{Error, Value};
use simdutf8::basic;

use super::{
    date,
    token::{Reader, Token},
};
use crate::{
    DecodeError,
    socket::{
        attachment::{BINARY, RAW_VALUE},
        json::Span,
    },
};

macro_rules! numbers {
    ($($method:ident)*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.number(visitor)
        })*
    };
}

macro_rules! known {
    ($($method:ident($($type:ty),*))*) => {
        $(#[inline]
        fn $method<V: Visitor<'de>>(self, $(_: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.known(visitor)
        })*
    };
}

/// Deserialises the value at one position of a message.
///
/// - Binary values are bytes for types that request bytes or any type.
/// - `undefined` and `nil` are a unit or `None`. A map entry with the value `undefined` is skipped.
/// - Dates are strings, as in JSON.
/// - Integer keys are read as their decimal text, and decimal text as integers.
pub(in crate::socket) struct Deserializer<'de> {
    reader: Reader<'de>,
    has_undefined: bool,
}

impl<'de> Deserializer<'de> {
    /// Reads the value at `span`. `has_undefined` states whether `undefined` may occur in the
    /// message.
    pub(in crate::socket) fn new(message: &'de [u8], span: Span, has_undefined: bool) -> Self {
        Self {
            reader: Reader::new(message, span.start as usize),
            has_undefined,
        }
    }

    #[inline]
    fn token(&mut self) -> Result<Token<'de>, Error> {
        self.reader.token().map_err(fault)
    }

    /// Visits a number directly. Falls back to a token for other values.
    #[inline]
    fn number<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.number() {
            Some(Token::Unsigned(value)) => visitor.visit_u64(value),
            Some(Token::Negative(value)) => visitor.visit_i64(value),
            Some(Token::Float(value)) => visitor.visit_f64(value),
            _ => self.known(visitor),
        }
    }

    /// Visits a value for a type with a fixed shape.
    #[inline]
    fn known<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let token = self.token()?;
        self.visit(&token, visitor)
    }

    /// Visits a value that is not requested as bytes. Binary data is an error, because some types
    /// would accept it as something else.
    #[inline]
    fn visit<V: Visitor<'de>>(
        &mut self,
        token: &Token<'de>,
        visitor: V,
    ) -> Result<V::Value, Error> {
        match *token {
            Token::Nil | Token::Undefined => visitor.visit_unit(),
            Token::Bool(value) => visitor.visit_bool(value),
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Float(value) => visitor.visit_f64(value),
            Token::Str(value) => visitor.visit_borrowed_str(text(value)?),
            Token::Binary(_) => Err(de::Error::invalid_type(Unexpected::Other(BINARY), &visitor)),
            Token::Date(millis) | Token::Timestamp(millis) => {
                visitor.visit_string(date::to_json(millis))
            }
            Token::Array(count) => self.list(count, visitor),
            Token::Map(count) => self.map(count, visitor),
        }
    }

    fn list<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, Error> {
        let mut elements = Elements {
            de: self,
            left: count,
        };
        let value = visitor.visit_seq(&mut elements)?;
        elements.end()?;
        Ok(value)
    }

    fn map<V: Visitor<'de>>(&mut self, count: usize, visitor: V) -> Result<V::Value, Error> {
        let mut entries = Elements {
            de: self,
            left: count,
        };
        let value = visitor.visit_map(&mut entries)?;
        entries.end()?;
        Ok(value)
    }
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Binary(data) => visitor.visit_borrowed_bytes(data),
            other => self.visit(&other, visitor),
        }
    }

    #[inline]
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.short_text() {
            Some(value) => visitor.visit_borrowed_str(text(value)?),
            None => self.known(visitor),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Binary(data) => visitor.visit_borrowed_bytes(data),
            other => Err(de::Error::invalid_type(unexpected(&other), &BINARY)),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.reader.take_nil() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        if name == RAW_VALUE {
            let value = Value::deserialize(self)?;
            let raw = std::iter::once((RAW_VALUE, value.to_string()));
            return visitor.visit_map(MapDeserializer::new(raw));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Str(name) => {
                let name: StrDeserializer<'_, Error> = text(name)?.into_deserializer();
                visitor.visit_enum(name)
            }
            Token::Map(1) => visitor.visit_enum(Variant(self)),
            other => Err(de::Error::invalid_type(
                unexpected(&other),
                &"a string or a map with one key",
            )),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.reader.skip().map_err(fault)?;
        visitor.visit_unit()
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    known! {
        deserialize_bool()
        deserialize_char()
        deserialize_unit()
        deserialize_unit_struct(&'static str)
        deserialize_seq()
        deserialize_tuple(usize)
        deserialize_tuple_struct(&'static str, usize)
        deserialize_map()
        deserialize_struct(&'static str, &'static [&'static str])
        deserialize_identifier()
    }
}

/// The remaining elements of an array or a map.
struct Elements<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: usize,
}

impl Elements<'_, '_> {
    /// Checks that the visitor has consumed everything.
    fn end(&self) -> Result<(), Error> {
        if self.left == 0 {
            Ok(())
        } else {
            Err(de::Error::custom("more elements than asked for"))
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(&mut *self.de).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for &mut Elements<'_, 'de> {
    type Error = Error;

    #[inline]
    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        // JSON omits entries that are `undefined`. Looking ahead for them reads keys twice, so it
        // is done only if the check has found some.
        while self.de.has_undefined && self.left > 0 {
            let mut ahead = self.de.reader.clone();
            ahead.token().map_err(fault)?;
            if !ahead.is_undefined() {
                break;
            }
            ahead.token().map_err(fault)?;
            self.de.reader = ahead;
            self.left -= 1;
        }
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(Key(self.de)).map(Some)
    }

    #[inline]
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut *self.de)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The key of a map: a string or an integer.
struct Key<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> Key<'_, 'de> {
    /// Visits a number, which may be encoded as text.
    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.token()? {
            Token::Unsigned(value) => visitor.visit_u64(value),
            Token::Negative(value) => visitor.visit_i64(value),
            Token::Str(value) => {
                let text = text(value)?;
                // JSON quotes whole keys, so a numeric key is parsed from its text.
                if text.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
                    let mut number = serde_json::Deserializer::from_str(text);
                    let value = number.deserialize_any(visitor)?;
                    number.end()?;
                    Ok(value)
                } else {
                    visitor.visit_borrowed_str(text)
                }
            }
            other => Err(de::Error::invalid_type(unexpected(&other), &"a key")),
        }
    }
}

impl<'de> de::Deserializer<'de> for Key<'_, 'de> {
    type Error = Error;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if let Some(key) = self.0.reader.short_text() {
            return visitor.visit_borrowed_str(text(key)?);
        }
        match self.0.token()? {
            Token::Str(value) => visitor.visit_borrowed_str(text(value)?),
            Token::Unsigned(value) => visitor.visit_string(value.to_string()),
            Token::Negative(value) => visitor.visit_string(value.to_string()),
            other => Err(de::Error::invalid_type(unexpected(&other), &"a key")),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0.token()? {
            Token::Str(b"true") => visitor.visit_bool(true),
            Token::Str(b"false") => visitor.visit_bool(false),
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0.token()? {
            Token::Str(name) => {
                let name: StrDeserializer<'_, Error> = text(name)?.into_deserializer();
                visitor.visit_enum(name)
            }
            other => Err(de::Error::invalid_type(unexpected(&other), &visitor)),
        }
    }

    forward_to_deserialize_any! {
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map struct
        identifier ignored_any
    }
}

/// A variant with content: a map whose only key is the variant's name.
struct Variant<'a, 'de>(&'a mut Deserializer<'de>);

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let name = seed.deserialize(Key(self.0))?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_map(visitor)
    }
}

impl fmt::Debug for Deserializer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deserializer").finish_non_exhaustive()
    }
}

#[inline]
fn text(bytes: &[u8]) -> Result<&str, Error> {
    // JavaScript clients write invalid UTF-8 for a text with a lone surrogate.
    basic::from_utf8(bytes).map_err(|_| de::Error::custom("lone leading surrogate"))
}

fn unexpected<'a>(token: &Token<'a>) -> Unexpected<'a> {
    match token {
        Token::Nil | Token::Undefined => Unexpected::Unit,
        Token::Bool(value) => Unexpected::Bool(*value),
        Token::Unsigned(value) => Unexpected::Unsigned(*value),
        Token::Negative(value) => Unexpected::Signed(*value),
        Token::Float(value) => Unexpected::Float(*value),
        Token::Str(_) | Token::Date(_) | Token::Timestamp(_) => Unexpected::Other("string"),
        Token::Binary(_) => Unexpected::Other(BINARY),
        Token::Array(_) => Unexpected::Seq,
        Token::Map(_) => Unexpected::Map,
    }
}

fn fault(error: DecodeError) -> Error {
    de::Error::custom(error)
}
