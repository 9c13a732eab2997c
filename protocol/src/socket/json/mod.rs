//! Validates a JSON text and finds its top-level elements in one pass.

use std::sync::Arc;

use crate::DecodeError;

/// A range of a text of less than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) const fn new(start: usize, end: usize) -> Self {
        Self {
            start: narrow(start),
            end: narrow(end),
        }
    }

    #[cfg(feature = "msgpack")]
    pub(crate) const fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }
}

/// The elements of an array, or the single value of another text. A few elements need no
/// allocation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elements {
    first: [Span; INLINE_ELEMENTS],
    length: u32,
    /// The elements after `first`; uniquely owned only while they are collected.
    more: Option<Arc<Vec<Span>>>,
}

impl Elements {
    pub(crate) fn one(span: Span) -> Self {
        let mut elements = Self::default();
        elements.push(span);
        elements
    }

    pub(crate) fn push(&mut self, span: Span) {
        match self.first.get_mut(self.length as usize) {
            Some(slot) => *slot = span,
            None => Arc::make_mut(self.more.get_or_insert_default()).push(span),
        }
        self.length += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.length as usize
    }

    pub(crate) fn get(&self, i: usize) -> Option<Span> {
        if i >= self.len() {
            return None;
        }
        match self.first.get(i) {
            Some(span) => Some(*span),
            None => self.more.as_ref()?.get(i - INLINE_ELEMENTS).copied(),
        }
    }
}

/// Checks that `text[start..]` is one JSON text, nested at most `max_depth` deep (at most 128).
///
/// Adds its elements to `elements`. Returns whether the JSON has `\u` escapes of lone surrogates,
/// which Rust strings cannot represent. There is no recursion: the open brackets are the bits of
/// one number. The text must be shorter than 4 GiB.
pub(crate) fn scan(
    text: &[u8],
    start: usize,
    max_depth: usize,
    elements: &mut Elements,
) -> Result<bool, DecodeError> {
    let mut scanner = Scanner {
        text,
        at: start,
        has_lone_surrogate: false,
    };
    scanner.run(max_depth.min(MAX_DEPTH), elements)?;
    Ok(scanner.has_lone_surrogate)
}

/// Replaces every lone surrogate escape by `\ufffd`, which has the same length.
///
/// The result serves only to inspect the structure: an application gets what the peer has sent, or
/// an error.
pub(crate) fn repair(text: &mut [u8]) {
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        if byte != b'\\' {
            at += 1;
            continue;
        }
        match escape(text, at) {
            Some(Escape::Lone) => {
                if let Some(digits) = text.get_mut(at + 2..at + ESCAPE_LENGTH) {
                    digits.copy_from_slice(b"fffd");
                }
                at += ESCAPE_LENGTH;
            }
            Some(Escape::Valid(length)) => at += length,
            None => at += 1,
        }
    }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    has_lone_surrogate: bool,
}

impl Scanner<'_> {
    fn run(&mut self, max_depth: usize, elements: &mut Elements) -> Result<(), DecodeError> {
        // One bit for each open bracket, the innermost lowest: 1 is an object.
        let mut open: u128 = 0;
        let mut depth = 0;
        // The depth at which a value is a top-level element: 1 once the text is known to be an
        // array.
        let mut top = 0;
        let mut element = 0;
        'value: loop {
            let byte = self.next_token()?;
            if depth == top {
                element = self.at;
            }
            match byte {
                b'"' => self.string()?,
                b'{' | b'[' => {
                    if depth == max_depth {
                        return Err(DecodeError::TooDeep);
                    }
                    if depth == 0 && byte == b'[' {
                        top = 1;
                    }
                    self.at += 1;
                    let is_object = byte == b'{';
                    if self.next_token()? == closing(is_object) {
                        self.at += 1;
                    } else {
                        depth += 1;
                        open = open << 1 | u128::from(is_object);
                        if is_object {
                            self.key()?;
                        }
                        continue 'value;
                    }
                }
                b'-' | b'0'..=b'9' => self.number()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                _ => return Err(DecodeError::InvalidJson),
            }
            // A value has ended, and possibly the containers around it.
            loop {
                if depth == top {
                    elements.push(Span::new(element, self.at));
                }
                if depth == 0 {
                    self.skip_whitespace();
                    return match self.peek() {
                        None => Ok(()),
                        Some(_) => Err(DecodeError::InvalidJson),
                    };
                }
                let is_object = open & 1 == 1;
                let byte = self.next_token()?;
                self.at += 1;
                if byte == b',' {
                    if is_object {
                        self.next_token()?;
                        self.key()?;
                    }
                    continue 'value;
                } else if byte == closing(is_object) {
                    depth -= 1;
                    open >>= 1;
                } else {
                    return Err(DecodeError::InvalidJson);
                }
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn skip_whitespace(&mut self) {
        while let Some(byte @ ..=b' ') = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return;
            }
            self.at += 1;
        }
    }

    /// Returns the next byte that is not whitespace, without consuming it.
    fn next_token(&mut self) -> Result<u8, DecodeError> {
        self.skip_whitespace();
        self.peek().ok_or(DecodeError::InvalidJson)
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Result<(), DecodeError> {
        if self.peek() != Some(b'"') {
            return Err(DecodeError::InvalidJson);
        }
        self.string()?;
        if self.next_token()? != b':' {
            return Err(DecodeError::InvalidJson);
        }
        self.at += 1;
        Ok(())
    }

    #[inline]
    fn string(&mut self) -> Result<(), DecodeError> {
        self.at += 1;
        loop {
            match self.next_special() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match escape(self.text, self.at) {
                    Some(Escape::Valid(length)) => self.at += length,
                    Some(Escape::Lone) => {
                        self.has_lone_surrogate = true;
                        self.at += ESCAPE_LENGTH;
                    }
                    None => return Err(DecodeError::InvalidJson),
                },
                Some(_) | None => return Err(DecodeError::InvalidJson),
            }
        }
    }

    /// Returns the next quote, backslash or control character of a string, without consuming it.
    #[inline]
    fn next_special(&mut self) -> Option<u8> {
        let mut rest = self.text.get(self.at..)?;
        // Reads whole vectors while they contain no special byte, then eight bytes at a time.
        while let Some((chunk, remainder)) = rest.split_first_chunk::<32>() {
            let is_special = |b: u8| (b == b'"') | (b == b'\\') | (b < 0x20);
            if chunk.iter().fold(false, |any, &b| any | is_special(b)) {
                break;
            }
            rest = remainder;
        }
        while let Some((chunk, remainder)) = rest.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*chunk);
            let special = has_zero(word ^ (REPEAT_BYTE * u64::from(b'"')))
                | has_zero(word ^ (REPEAT_BYTE * u64::from(b'\\')))
                // Control characters.
                | (word.wrapping_sub(REPEAT_BYTE * 0x20) & !word & (REPEAT_BYTE * 0x80));
            if special != 0 {
                // Only the lowest mark is certain, and only that one is used.
                let bits = special.trailing_zeros() & !7;
                self.at = self.text.len() - rest.len() + (bits / 8) as usize;
                return Some((word >> bits) as u8);
            }
            rest = remainder;
        }
        let length = rest
            .iter()
            .position(|&b| matches!(b, b'"' | b'\\' | ..=0x1f))?;
        self.at = self.text.len() - rest.len() + length;
        rest.get(length).copied()
    }

    fn number(&mut self) -> Result<(), DecodeError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    /// Reads one or more digits.
    fn digits(&mut self) -> Result<(), DecodeError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            Err(DecodeError::InvalidJson)
        } else {
            Ok(())
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), DecodeError> {
        if self
            .text
            .get(self.at..)
            .is_some_and(|rest| rest.starts_with(word))
        {
            self.at += word.len();
            Ok(())
        } else {
            Err(DecodeError::InvalidJson)
        }
    }
}

enum Escape {
    /// An escape, or a surrogate pair of two escapes, of this length.
    Valid(usize),
    /// Half of a surrogate pair, of length `ESCAPE_LENGTH`.
    Lone,
}

/// Returns the escape that begins with the backslash at `at`, if it is valid.
fn escape(text: &[u8], at: usize) -> Option<Escape> {
    match text.get(at + 1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(Escape::Valid(2)),
        b'u' => Some(match code_unit(text, at)? {
            0xd800..=0xdbff => match code_unit(text, at + ESCAPE_LENGTH) {
                Some(0xdc00..=0xdfff) => Escape::Valid(2 * ESCAPE_LENGTH),
                Some(_) | None => Escape::Lone,
            },
            0xdc00..=0xdfff => Escape::Lone,
            0x0000..=0xd7ff | 0xe000..=0xffff => Escape::Valid(ESCAPE_LENGTH),
        }),
        _ => None,
    }
}

/// Returns the value of `\uXXXX` at `at`.
fn code_unit(text: &[u8], at: usize) -> Option<u16> {
    let digits = text.get(at..at + ESCAPE_LENGTH)?.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit: u16, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(unit << 4 | u16::try_from(digit).ok()?)
    })
}

const fn closing(is_object: bool) -> u8 {
    if is_object { b'}' } else { b']' }
}

/// Sets the high bit of zero bytes. The lowest set bit marks a zero byte; higher bits may be wrong.
const fn has_zero(word: u64) -> u64 {
    word.wrapping_sub(REPEAT_BYTE) & !word & (REPEAT_BYTE * 0x80)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the text is shorter than 4 GiB"
)]
const fn narrow(at: usize) -> u32 {
    at as u32
}

/// The factor that repeats a byte eight times.
const REPEAT_BYTE: u64 = 0x0101_0101_0101_0101;
/// The number of elements that need no allocation.
const INLINE_ELEMENTS: usize = 4;
/// The length of `\ud800`.
const ESCAPE_LENGTH: usize = 6;
/// The number of bits that represent open brackets.
const MAX_DEPTH: usize = 128;

#[cfg(test)]
mod tests;
