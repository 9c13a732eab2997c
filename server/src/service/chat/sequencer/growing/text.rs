//! A text that grows at its end. Positions count Unicode scalar values from the beginning.
//!
//! This module must not know who writes the text, where it is stored or who reads it.

use std::sync::Arc;

use parking_lot::Mutex;

/// A text that its writer and the readers of one server share.
pub(in crate::service::chat) type SharedText = Arc<Mutex<GrowingText>>;

/// A text that grows. Work at its end does not depend on its length.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::service::chat) struct GrowingText {
    text: String,
    /// The number of characters.
    end: usize,
}

/// Why a piece does not continue a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service::chat) enum Misfit {
    /// Characters before the piece are missing.
    Gap,
    /// The text has other characters there.
    Differs,
}

impl GrowingText {
    /// Returns a text that begins with `text`.
    pub(in crate::service::chat) fn new(text: String) -> Self {
        let end = text.chars().count();
        Self { text, end }
    }

    /// Returns the number of characters.
    pub(in crate::service::chat) fn end(&self) -> usize {
        self.end
    }

    /// Returns the memory that the text takes, in bytes.
    pub(in crate::service::chat) fn bytes(&self) -> usize {
        self.text.capacity()
    }

    /// Adds what a piece at this position has beyond the end. Returns how many characters these
    /// are. A piece that the text has already adds nothing.
    pub(in crate::service::chat) fn extend(
        &mut self,
        offset: usize,
        piece: &str,
    ) -> Result<usize, Misfit> {
        if offset > self.end {
            return Err(Misfit::Gap);
        }
        let mut new = piece.chars();
        let old = self.since(offset).unwrap_or_default().chars();
        // Both are read one by one, because what remains of the piece is added.
        for expected in old {
            match new.next() {
                Some(found) if found == expected => {}
                Some(_) => return Err(Misfit::Differs),
                None => return Ok(0),
            }
        }
        let added = new.as_str();
        let chars = added.chars().count();
        self.text.push_str(added);
        self.end += chars;
        Ok(chars)
    }

    /// Returns the text from a position on, or `None` if it is not there yet.
    pub(in crate::service::chat) fn since(&self, position: usize) -> Option<&str> {
        match self.end.checked_sub(position)? {
            0 => Some(""),
            back => {
                let (start, _) = self.text.char_indices().rev().nth(back - 1)?;
                self.text.get(start..)
            }
        }
    }

    /// Returns the text up to a position.
    pub(in crate::service::chat) fn until(&self, position: usize) -> Self {
        let rest = self.since(position).unwrap_or_default();
        let kept = self.text.strip_suffix(rest).unwrap_or_default();
        Self {
            text: kept.to_owned(),
            end: self.end.min(position),
        }
    }

    /// Returns the whole text.
    pub(in crate::service::chat) fn whole(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator of numbers that gives the same sequence for a seed.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % bound as u64).unwrap()
        }
    }

    const ALPHABET: [char; 6] = ['a', 'b', 'ü', '€', '😀', '\n'];

    #[test]
    fn random_pieces_agree_with_a_plain_string() {
        let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
        for _ in 0..2000 {
            let whole: Vec<char> = (0..numbers.below(40))
                .map(|_| ALPHABET[numbers.below(ALPHABET.len())])
                .collect();
            let mut text = GrowingText::default();
            let mut plain: Vec<char> = Vec::new();
            for _ in 0..30 {
                let offset = numbers.below(whole.len() + 3);
                let end = (offset + numbers.below(6)).min(whole.len());
                let mut piece: Vec<char> = whole.get(offset..end).unwrap_or_default().to_vec();
                if numbers.below(8) == 0
                    && let Some(last) = piece.last_mut()
                {
                    *last = 'x';
                }
                let written: String = piece.iter().collect();
                let answer = text.extend(offset, &written);
                if offset > plain.len() {
                    assert_eq!(answer, Err(Misfit::Gap));
                    continue;
                }
                let known = plain.len().min(offset + piece.len()) - offset;
                if plain[offset..offset + known] != piece[..known] {
                    assert_eq!(answer, Err(Misfit::Differs));
                } else {
                    assert_eq!(answer, Ok(piece.len() - known));
                    plain.extend(&piece[known..]);
                }
                let expected: String = plain.iter().collect();
                assert_eq!(text.whole(), expected);
                assert_eq!(text.end(), plain.len());
                let position = numbers.below(plain.len() + 1);
                let rest: String = plain[position..].iter().collect();
                assert_eq!(text.since(position), Some(&*rest));
                let beginning: String = plain[..position].iter().collect();
                assert_eq!(text.until(position), GrowingText::new(beginning));
            }
        }
    }
}
