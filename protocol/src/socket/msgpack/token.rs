//! MessagePack, one token after the other.

use bytes::Bytes;

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
    /// Below zero.
    Negative(i64),
    Float(f64),
    /// Maybe not UTF-8.
    Str(&'a [u8]),
    Binary(&'a [u8]),
    /// Milliseconds since 1970, at most [`MAX_MILLIS`] before or after.
    Date(i64),
    /// As many values follow; there are at least as many bytes.
    Array(usize),
    /// As many keys follow, each with its value; there are at least two bytes for each.
    Map(usize),
}

/// A place in a message.
#[derive(Clone, Debug)]
pub(super) struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads `data` from `at` on; the places it tells are those in `data`.
    pub(super) const fn new(data: &'a [u8], at: usize) -> Self {
        Self { data, at }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    pub(super) const fn is_at_end(&self) -> bool {
        self.at >= self.data.len()
    }

    /// Passes over a nil or `undefined`, if that comes next.
    pub(super) fn take_nil(&mut self) -> bool {
        if !matches!(self.data.get(self.at), Some(&(0xc0 | FIXEXT_1 | FIXEXT_8))) {
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
        let rest = self.data.get(self.at..).unwrap_or_default();
        matches!(rest, [FIXEXT_1, 0, ..])
    }

    /// Reads one token. Nothing is allocated, whatever lengths it tells.
    #[inline]
    pub(super) fn token(&mut self) -> Result<Token<'a>, DecodeError> {
        let [marker] = self.array::<1>()?;
        Ok(match marker {
            0x00..=0x7f => Token::Unsigned(u64::from(marker)),
            0x80..=0x8f => self.map(usize::from(marker & 0x0f))?,
            0x90..=0x9f => self.list(usize::from(marker & 0x0f))?,
            0xa0..=0xbf => Token::Str(self.take(usize::from(marker & 0x1f))?),
            0xc0 => Token::Nil,
            0xc1 => return Err(DecodeError::InvalidMessagePack),
            0xc2 => Token::Bool(false),
            0xc3 => Token::Bool(true),
            0xc4 => Token::Binary(self.counted::<1>()?),
            0xc5 => Token::Binary(self.counted::<2>()?),
            0xc6 => Token::Binary(self.counted::<4>()?),
            0xc7 => self.extension::<1>()?,
            0xc8 => self.extension::<2>()?,
            0xc9 => self.extension::<4>()?,
            0xca => Token::Float(f64::from(f32::from_be_bytes(self.array()?))),
            0xcb => Token::Float(f64::from_be_bytes(self.array()?)),
            0xcc => Token::Unsigned(u64::from(u8::from_be_bytes(self.array()?))),
            0xcd => Token::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0xce => Token::Unsigned(u64::from(u32::from_be_bytes(self.array()?))),
            0xcf => Token::Unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i64::from(i8::from_be_bytes(self.array()?))),
            0xd1 => signed(i64::from(i16::from_be_bytes(self.array()?))),
            0xd2 => signed(i64::from(i32::from_be_bytes(self.array()?))),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            FIXEXT_1 => match self.array::<2>()? {
                [0, _] => Token::Undefined,
                _ => return Err(DecodeError::UnknownExtension),
            },
            FIXEXT_8 => match self.array::<1>()? {
                [0] => match i64::from_be_bytes(self.array()?) {
                    millis if millis.unsigned_abs() <= MAX_MILLIS => Token::Date(millis),
                    // As JSON has it.
                    _ => Token::Nil,
                },
                _ => return Err(DecodeError::UnknownExtension),
            },
            0xd5 | 0xd6 | 0xd8 => return Err(DecodeError::UnknownExtension),
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
            0xe0..=0xff => Token::Negative(i64::from(i8::from_be_bytes([marker]))),
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
                | Token::Date(_) => 0,
            };
        }
        Ok(())
    }

    const fn left(&self) -> usize {
        self.data.len().saturating_sub(self.at)
    }

    const fn list(&self, count: usize) -> Result<Token<'a>, DecodeError> {
        if count > self.left() {
            return Err(DecodeError::InvalidMessagePack);
        }
        Ok(Token::Array(count))
    }

    const fn map(&self, count: usize) -> Result<Token<'a>, DecodeError> {
        if count > self.left() / 2 {
            return Err(DecodeError::InvalidMessagePack);
        }
        Ok(Token::Map(count))
    }

    fn extension<const N: usize>(&mut self) -> Result<Token<'a>, DecodeError> {
        let length = self.length::<N>()?;
        match self.array::<1>()? {
            [0] => Ok(Token::Binary(self.take(length)?)),
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
        let rest = self.data.get(self.at..).unwrap_or_default();
        let bytes = rest.first_chunk().ok_or(DecodeError::InvalidMessagePack)?;
        self.at += N;
        Ok(*bytes)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let bytes = rest.get(..length).ok_or(DecodeError::InvalidMessagePack)?;
        self.at += length;
        Ok(bytes)
    }
}

/// The binary value that begins at `at`, if one does, without a copy.
pub(in crate::socket) fn binary_at(message: &Bytes, at: usize) -> Option<Bytes> {
    let mut reader = Reader::new(message, at);
    match reader.token() {
        Ok(Token::Binary(data)) => Some(message.slice_ref(data)),
        Ok(_) | Err(_) => None,
    }
}

const fn signed(value: i64) -> Token<'static> {
    if value < 0 {
        Token::Negative(value)
    } else {
        Token::Unsigned(value.unsigned_abs())
    }
}

const FIXEXT_1: u8 = 0xd4;
const FIXEXT_8: u8 = 0xd7;
