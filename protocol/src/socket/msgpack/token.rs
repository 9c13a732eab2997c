//! MessagePack, one token after the other.

use super::date::MAX_MILLIS;
use crate::DecodeError;

/// A value, or the head of one that contains others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    Nil,
    /// What JavaScript says of a value that is not there.
    Undefined,
    Bool(bool),
    Unsigned(u64),
    /// A number below zero.
    Negative(i64),
    Float(f64),
    /// A text, which may not be UTF-8.
    Str(&'a [u8]),
    Binary(&'a [u8]),
    /// Milliseconds since 1970, at most [`MAX_MILLIS`] before or after.
    Date(i64),
    /// A timestamp in the form of MessagePack itself (extension -1), which clients do not know.
    Timestamp(i64),
    /// As many values follow; there are at least as many bytes.
    Array(usize),
    /// As many keys follow, each with its value; there are at least two bytes for each.
    Map(usize),
}

/// A place in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The length of the whole message.
    end: usize,
    /// Whether extension -1 is known.
    takes_timestamps: bool,
}

impl<'a> Reader<'a> {
    /// Reads `data` from `at` on; the places it tells are those in `data`.
    pub(super) fn new(data: &'a [u8], at: usize) -> Self {
        Self {
            rest: data.get(at..).unwrap_or_default(),
            end: data.len(),
            takes_timestamps: true,
        }
    }

    /// Reads a packet, in which timestamps are unknown extensions.
    pub(super) fn of_packet(data: &'a [u8]) -> Self {
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

    /// The first byte of what comes next.
    #[inline]
    pub(super) const fn marker(&self) -> Option<u8> {
        match self.rest {
            [marker, ..] => Some(*marker),
            [] => None,
        }
    }

    /// Passes over at most as many values that are nil, a boolean or a number and whole, and
    /// tells how many they are.
    #[inline]
    pub(super) fn skip_plain(&mut self, most: usize) -> usize {
        let mut rest = self.rest;
        let mut count = 0;
        while count < most
            && let [first, ..] = rest
            && let length @ 1.. = plain_length(*first)
            && rest.len() >= length
        {
            // Values of one kind often follow one another, and then the length need not be looked
            // up again.
            while count < most
                && let [marker, ..] = rest
                && marker == first
                && let Some(behind) = rest.get(length..)
            {
                rest = behind;
                count += 1;
            }
        }
        #[cfg(test)]
        super::work::count(count);
        self.rest = rest;
        count
    }

    /// Reads a text of less than 32 bytes, if that comes next.
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

    /// Passes over a nil or `undefined`, if that comes next.
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

    /// Whether what comes next is `undefined`.
    pub(super) fn is_undefined(&self) -> bool {
        matches!(self.rest, [FIXEXT_1, 0, ..])
    }

    /// Reads a number, if that comes next.
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

    /// Reads one token. Nothing is allocated, whatever lengths it tells.
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
                    // JSON has `null` for a date that JavaScript cannot hold.
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
            // No value has this marker, or it is that of a number or a text that is cut off.
            0xc1 | 0x00..=0x7f | 0xa0..=0xbf | 0xca..=0xd3 | 0xe0..=0xff => {
                return Err(DecodeError::InvalidMessagePack);
            }
        })
    }

    /// Passes over one value, however deep; what it contains has been checked already.
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
        // Each value takes at least a byte. Refusing what cannot follow keeps loops from running
        // for what was only announced.
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

/// Reads a value of known length from the front.
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

/// The length of a value by its first byte, if that says it all; otherwise 0.
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

/// A timestamp of MessagePack; one that JavaScript cannot tell is nil.
fn timestamp(seconds: i128, nanos: u32) -> Token<'static> {
    // Milliseconds of a time that has 64 bits of seconds need more than 64 bits.
    let millis = seconds * 1000 + i128::from(nanos / 1_000_000);
    match i64::try_from(millis) {
        Ok(millis) if millis.unsigned_abs() <= MAX_MILLIS => Token::Timestamp(millis),
        Ok(_) | Err(_) => Token::Nil,
    }
}

/// The extension that timestamps are.
const TIMESTAMP: u8 = 0xff;
const FIXEXT_1: u8 = 0xd4;
const FIXEXT_4: u8 = 0xd6;
const FIXEXT_8: u8 = 0xd7;
