//! Reads MessagePack token by token.

use super::date::MAX_MILLIS;
use crate::DecodeError;

/// A value, or the header of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    /// The `undefined` value of JavaScript.
    Undefined,
    Bool(bool),
    Unsigned(u64),
    /// A negative number.
    Negative(i64),
    Float(f64),
    /// A text, which might not be UTF-8.
    Str(&'a [u8]),
    Binary(&'a [u8]),
    /// Milliseconds since 1970, between -[`MAX_MILLIS`] and [`MAX_MILLIS`].
    Date(i64),
    /// A standard MessagePack timestamp (extension -1), which clients do not support.
    Timestamp(i64),
    /// An array of this many values. At least as many bytes follow.
    Array(usize),
    /// A map of this many entries. At least two bytes per entry follow.
    Map(usize),
}

/// A position in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The length of the whole message.
    end: usize,
    /// Whether extension -1 is supported.
    takes_timestamps: bool,
}

impl<'a> Reader<'a> {
    /// Creates a reader of `data` that starts at `at`. Positions are relative to `data`.
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            rest: data.get(at..).unwrap_or_default(),
            end: data.len(),
            takes_timestamps: true,
        }
    }

    /// Creates a reader of a packet, in which timestamps are unknown extensions.
    pub(super) fn for_packet(data: &'a [u8]) -> Self {
        Self {
            takes_timestamps: false,
            ..Self::new(data, 0)
        }
    }

    #[inline]
    pub(super) const fn at(&self) -> usize {
        self.end - self.rest.len()
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the first byte of the next value.
    #[inline]
    pub(super) const fn marker(&self) -> Option<u8> {
        match self.rest {
            [marker, ..] => Some(*marker),
            [] => None,
        }
    }

    /// Skips at most `most` complete values that are nil, booleans or numbers. Returns how many.
    #[inline]
    pub(super) fn skip_plain(&mut self, most: usize) -> usize {
        let mut rest = self.rest;
        let mut count = 0;
        while count < most
            && let [first, ..] = rest
            && let length @ 1.. = plain_length(*first)
            && rest.len() >= length
        {
            // Consecutive values often have the same type, so the length is looked up once for each
            // run.
            while count < most
                && let [marker, ..] = rest
                && marker == first
                && let Some(remainder) = rest.get(length..)
            {
                rest = remainder;
                count += 1;
            }
        }
        #[cfg(test)]
        super::work::count(count);
        self.rest = rest;
        count
    }

    /// Reads a text of less than 32 bytes, if it is next.
    #[inline]
    pub(super) fn short_text(&mut self) -> Option<&'a [u8]> {
        let (marker @ 0xa0..=0xbf, rest) = self.rest.split_first()? else {
            return None;
        };
        let (text, rest) = rest.split_at_checked(usize::from(marker & 0x1f))?;
        #[cfg(test)]
        super::work::count(1);
        self.rest = rest;
        Some(text)
    }

    /// Skips a nil or `undefined`, if it is next.
    pub(super) fn take_nil(&mut self) -> bool {
        if !matches!(self.marker(), Some(0xc0 | 0xc7 | FIXEXT_1 | FIXEXT_8)) {
            return false;
        }
        let mut ahead = self.clone();
        let is_nil = matches!(ahead.token(), Ok(Token::Nil | Token::Undefined));
        if is_nil {
            *self = ahead;
        }
        is_nil
    }

    /// Returns whether the next value is `undefined`.
    pub(super) fn is_undefined(&self) -> bool {
        matches!(self.rest, [FIXEXT_1, 0, ..])
    }

    /// Reads a number, if it is next.
    #[inline]
    pub(super) fn number(&mut self) -> Option<Token<'a>> {
        let (marker, rest) = self.rest.split_first()?;
        let (number, rest) = match *marker {
            small @ 0x00..=0x7f => (Token::Unsigned(u64::from(small)), rest),
            0xca => read(rest, |bytes| {
                Token::Float(f64::from(f32::from_be_bytes(bytes)))
            })?,
            0xcb => read(rest, |bytes| Token::Float(f64::from_be_bytes(bytes)))?,
            0xcc => read(rest, |bytes| unsigned(u8::from_be_bytes(bytes)))?,
            0xcd => read(rest, |bytes| unsigned(u16::from_be_bytes(bytes)))?,
            0xce => read(rest, |bytes| unsigned(u32::from_be_bytes(bytes)))?,
            0xcf => read(rest, |bytes| unsigned(u64::from_be_bytes(bytes)))?,
            0xd0 => read(rest, |bytes| signed(i8::from_be_bytes(bytes)))?,
            0xd1 => read(rest, |bytes| signed(i16::from_be_bytes(bytes)))?,
            0xd2 => read(rest, |bytes| signed(i32::from_be_bytes(bytes)))?,
            0xd3 => read(rest, |bytes| signed(i64::from_be_bytes(bytes)))?,
            small @ 0xe0..=0xff => (signed(i8::from_be_bytes([small])), rest),
            0x80..=0xc9 | 0xd4..=0xdf => return None,
        };
        #[cfg(test)]
        super::work::count(1);
        self.rest = rest;
        Some(number)
    }

    /// Reads one token. Allocates nothing, whatever length the token announces.
    #[inline]
    pub(super) fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        #[cfg(test)]
        super::work::count(1);
        if let Some(number) = self.number() {
            return Ok(number);
        }
        if let Some(text) = self.short_text() {
            return Ok(Token::Str(text));
        }
        let [marker] = self.array::<1>()?;
        Ok(match marker {
            0x80..=0x8f => self.map(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f))?,
            0xc0 => Token::Nil,
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => Token::Binary(self.counted::<1>()?),
            0xc5 => Token::Binary(self.counted::<2>()?),
            0xc6 => Token::Binary(self.counted::<4>()?),
            0xc7 => self.extension::<1>()?,
            0xc8 => self.extension::<2>()?,
            0xc9 => self.extension::<4>()?,
            FIXEXT_1 => match self.array::<2>()? {
                [0, _] => Token::Undefined,
                _ => return Err(DecodeError::UnknownExtension),
            },
            FIXEXT_8 => match self.array::<1>()? {
                [0] => match i64::from_be_bytes(self.array()?) {
                    millis if millis.unsigned_abs() <= MAX_MILLIS => Token::Date(millis),
                    // JSON has `null` for a date that JavaScript cannot represent.
                    _ => Token::Nil,
                },
                [TIMESTAMP] if self.takes_timestamps => {
                    let both = u64::from_be_bytes(self.array()?);
                    let nanos = u32::try_from(both >> 34).unwrap_or_default();
                    timestamp(i128::from(both & ((1 << 34) - 1)), nanos)
                }
                _ => return Err(DecodeError::UnknownExtension),
            },
            FIXEXT_4 => match self.array::<1>()? {
                [TIMESTAMP] if self.takes_timestamps => {
                    timestamp(i128::from(u32::from_be_bytes(self.array()?)), 0)
                }
                _ => return Err(DecodeError::UnknownExtension),
            },
            0xd5 | 0xd8 => return Err(DecodeError::UnknownExtension),
            0xd9 => Token::Str(self.counted::<1>()?),
            0xda => Token::Str(self.counted::<2>()?),
            0xdb => Token::Str(self.counted::<4>()?),
            0xdc => {
                let count = self.length::<2>()?;
                self.list(count)?
            }
            0xdd => {
                let count = self.length::<4>()?;
                self.list(count)?
            }
            0xde => {
                let count = self.length::<2>()?;
                self.map(count)?
            }
            0xdf => {
                let count = self.length::<4>()?;
                self.map(count)?
            }
            // No value has this marker, or the marker's number or text is truncated.
            0xc1 | 0x00..=0x7f | 0xa0..=0xbf | 0xca..=0xd3 | 0xe0..=0xff => {
                return Err(DecodeError::InvalidMessagePack);
            }
        })
    }

    /// Skips one value of any depth, whose contents have been checked.
    pub(super) fn skip(&mut self) -> Result<(), DecodeError> {
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            left += match self.token()? {
                Token::Array(count) => count as u64,
                Token::Map(count) => 2 * count as u64,
                Token::Nil
                | Token::Undefined
                | Token::Bool(_)
                | Token::Unsigned(_)
                | Token::Negative(_)
                | Token::Float(_)
                | Token::Str(_)
                | Token::Binary(_)
                | Token::Date(_)
                | Token::Timestamp(_) => 0,
            };
        }
        Ok(())
    }

    const fn list(&self, count: usize) -> Result<Token<'a>, DecodeError> {
        // Each value takes at least one byte. Refusing impossible counts bounds the loops over
        // announced values.
        if count > self.rest.len() {
            return Err(DecodeError::InvalidMessagePack);
        }
        Ok(Token::Array(count))
    }

    const fn map(&self, count: usize) -> Result<Token<'a>, DecodeError> {
        if count > self.rest.len() / 2 {
            return Err(DecodeError::InvalidMessagePack);
        }
        Ok(Token::Map(count))
    }

    fn extension<const N: usize>(&mut self) -> Result<Token<'a>, DecodeError> {
        let length = self.length::<N>()?;
        match self.array::<1>()? {
            [0] => Ok(Token::Binary(self.take(length)?)),
            [TIMESTAMP] if length == 12 && self.takes_timestamps => {
                let nanos = u32::from_be_bytes(self.array()?);
                Ok(timestamp(
                    i128::from(i64::from_be_bytes(self.array()?)),
                    nanos,
                ))
            }
            _ => Err(DecodeError::UnknownExtension),
        }
    }

    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length::<N>()?;
        self.take(length)
    }

    fn length<const N: usize>(&mut self) -> Result<usize, DecodeError> {
        let bytes = self.array::<N>()?;
        Ok(bytes
            .iter()
            .fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let split = self.rest.split_first_chunk();
        let (bytes, rest) = split.ok_or(DecodeError::InvalidMessagePack)?;
        self.rest = rest;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let split = self.rest.split_at_checked(length);
        let (bytes, rest) = split.ok_or(DecodeError::InvalidMessagePack)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// Reads a value of fixed length from the front.
#[inline]
fn read<T, const N: usize>(bytes: &[u8], value: impl FnOnce([u8; N]) -> T) -> Option<(T, &[u8])> {
    let (bytes, rest) = bytes.split_first_chunk()?;
    Some((value(*bytes), rest))
}

fn unsigned(value: impl Into<u64>) -> Token<'static> {
    Token::Unsigned(value.into())
}

fn signed(value: impl Into<i64>) -> Token<'static> {
    let value = value.into();
    match u64::try_from(value) {
        Ok(value) => Token::Unsigned(value),
        Err(_) => Token::Negative(value),
    }
}

/// Returns the length of a value if its first byte determines it; otherwise 0.
const fn plain_length(marker: u8) -> usize {
    match marker {
        0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => 1,
        0xcc | 0xd0 => 2,
        0xcd | 0xd1 => 3,
        0xca | 0xce | 0xd2 => 5,
        0xcb | 0xcf | 0xd3 => 9,
        0x80..=0xbf | 0xc1 | 0xc4..=0xc9 | 0xd4..=0xdf => 0,
    }
}

/// Converts a MessagePack timestamp. A time that JavaScript cannot represent becomes nil.
fn timestamp(seconds: i128, nanos: u32) -> Token<'static> {
    // With 64 bits of seconds, the milliseconds need more than 64 bits.
    let millis = seconds * 1000 + i128::from(nanos / 1_000_000);
    match i64::try_from(millis) {
        Ok(millis) if millis.unsigned_abs() <= MAX_MILLIS => Token::Timestamp(millis),
        Ok(_) | Err(_) => Token::Nil,
    }
}

/// The extension type of timestamps.
const TIMESTAMP: u8 = 0xff;
const FIXEXT_1: u8 = 0xd4;
const FIXEXT_4: u8 = 0xd6;
const FIXEXT_8: u8 = 0xd7;
