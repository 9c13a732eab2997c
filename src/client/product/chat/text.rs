//! The part of a text that the server may still need.

/// The end of a growing text: what is not sent, and what is sent but not stored.
///
/// A server that takes the message over has only what is stored, so the text before that position
/// is never sent again. Positions are numbers of Unicode scalar values from the beginning.
#[derive(Debug, Default)]
pub(super) struct TextTail {
    text: String,
    /// The position where `text` begins. Everything before it is stored.
    start: u64,
    /// The position up to which the server has the text: `start <= sent`.
    sent: u64,
    /// The bytes of `text` before `sent`, which is a character boundary.
    sent_bytes: usize,
    /// The position up to which the text was ever part of a request: `sent <= offered`.
    offered: u64,
}

impl TextTail {
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Returns the position up to which the server has the text.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Returns whether more text may be added, which bounds the memory.
    pub(super) fn has_room(&self) -> bool {
        self.unsent().len() < MAX_UNSENT && !self.is_full()
    }

    /// Returns whether so much text is not stored that it must be before more is added.
    fn is_full(&self) -> bool {
        self.text.len() >= MAX_HELD
    }

    /// Returns whether the server must be sent a piece, or queried what it has stored.
    pub(super) fn has_work(&self) -> bool {
        !self.unsent().is_empty() || self.is_full()
    }

    /// Returns the next piece to send, and the number of its characters. It is empty if everything
    /// is sent.
    pub(super) fn offer(&mut self) -> (String, u64) {
        let unsent = self.unsent();
        let end = unsent.floor_char_boundary(MAX_PIECE);
        let piece = unsent.get(..end).unwrap_or_default().to_owned();
        let chars = piece.chars().count() as u64;
        self.offered = self.offered.max(self.sent.saturating_add(chars));
        (piece, chars)
    }

    /// Accepts the server's answer to a piece of this many characters: it has the text up to
    /// `offset`, and has stored it up to `stored`. Returns whether either has moved on, or `None`
    /// if the server cannot have that.
    pub(super) fn accept(&mut self, piece: u64, offset: u64, stored: u64) -> Option<bool> {
        let moved = offset.checked_sub(self.sent)?;
        if moved < piece || offset > self.offered || stored > offset {
            return None;
        }
        let bytes = position(self.unsent(), moved)?;
        self.sent = offset;
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        let newly_stored = stored.saturating_sub(self.start);
        if newly_stored > 0 {
            let bytes = position(&self.text, newly_stored)?;
            self.text.drain(..bytes);
            self.start = stored;
            self.sent_bytes = self.sent_bytes.saturating_sub(bytes);
        }
        Some(moved > 0 || newly_stored > 0)
    }

    /// Moves back to the position where the server wants the text to continue. Returns whether the
    /// text has that position, and it was sent before.
    pub(super) fn rewind(&mut self, offset: u64) -> bool {
        let bytes = match offset.checked_sub(self.start) {
            Some(kept) if offset < self.sent => position(&self.text, kept),
            _ => None,
        };
        if let Some(bytes) = bytes {
            (self.sent, self.sent_bytes) = (offset, bytes);
        }
        bytes.is_some()
    }

    fn unsent(&self) -> &str {
        self.text.get(self.sent_bytes..).unwrap_or_default()
    }
}

/// Returns the bytes of the first `chars` characters, or `None` if the text is shorter.
fn position(text: &str, chars: u64) -> Option<usize> {
    let chars = usize::try_from(chars).ok()?;
    let starts = text.char_indices().map(|(at, _)| at);
    starts.chain([text.len()]).nth(chars)
}

/// Maximum size of a piece in bytes, an eighth of what the server accepts per second.
pub(super) const MAX_PIECE: usize = 8 << 10;
/// Size of unsent text, in bytes, at which no more is read: more than a second of text.
const MAX_UNSENT: usize = 64 << 10;
/// Size of text that is not stored, in bytes, at which no more is read. The server stores the text
/// four times a second.
const MAX_HELD: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn tail(text: &str) -> TextTail {
        let mut tail = TextTail::default();
        tail.push(text);
        tail
    }

    fn offered(text: &str) -> TextTail {
        let mut tail = tail(text);
        tail.offer();
        tail
    }

    #[test]
    fn positions_count_characters_of_any_width() {
        let mut tail = offered("grün 😀👩‍👧 end");
        assert_eq!(tail.accept(13, 13, 6), Some(true));
        assert_eq!((tail.offer(), tail.sent()), ((String::new(), 0), 13));
        // The family is three characters, of which the server has lost two.
        assert!(tail.rewind(7));
        assert_eq!(tail.offer(), ("\u{200d}👧 end".to_owned(), 6));
        assert_eq!(tail.accept(6, 13, 13), Some(true));
        assert_eq!(tail.text, "");
    }

    #[test]
    fn pieces_end_at_characters_and_within_the_limit() {
        let text = format!("{}😀", "x".repeat(MAX_PIECE - 2));
        let mut tail = tail(&text);
        let (piece, chars) = tail.offer();
        assert_eq!((piece.len(), chars), (MAX_PIECE - 2, MAX_PIECE as u64 - 2));
        assert_eq!(tail.accept(chars, chars, 0), Some(true));
        assert_eq!(tail.offer(), ("😀".to_owned(), 1));
    }

    #[test]
    fn answers_that_do_not_fit_the_text_are_refused() {
        for (offset, stored) in [(2, 0), (6, 0), (u64::MAX, 0), (3, 4)] {
            assert_eq!(offered("abcde").accept(3, offset, stored), None);
        }
        // More than the piece was there already, from a request whose answer was lost.
        assert_eq!(offered("abcde").accept(3, 5, 0), Some(true));
        // The last character was never sent.
        let mut tail = offered("abcde");
        tail.push("f");
        assert_eq!(tail.accept(5, 6, 0), None);
    }

    #[test]
    fn rewind_is_refused_before_the_stored_text_and_after_the_sent_text() {
        let mut tail = offered("abcdef");
        assert_eq!(tail.accept(4, 4, 2), Some(true));
        for offset in [0, 1, 4, 5, 7, u64::MAX] {
            assert!(!tail.rewind(offset), "{offset}");
        }
        assert!(tail.rewind(2));
        assert_eq!(tail.offer().0, "cdef");
    }

    #[test]
    fn text_that_is_not_stored_takes_no_more_and_is_queried() {
        let mut tail = TextTail::default();
        while tail.has_room() {
            tail.push(&"x".repeat(1000));
            let (_, chars) = tail.offer();
            tail.accept(chars, tail.sent() + chars, 0).unwrap();
        }
        assert!(tail.text.len() < MAX_HELD + 1000);
        assert!(tail.has_work() && tail.offer().0.is_empty());
        assert_eq!(tail.accept(0, tail.sent(), 0), Some(false));
        assert_eq!(tail.accept(0, tail.sent(), 1000), Some(true));
        assert!(tail.has_room() && !tail.has_work());
    }

    #[test]
    fn unsent_text_takes_no_more_beyond_its_limit() {
        let mut tail = tail(&"x".repeat(MAX_UNSENT - 1));
        assert!(tail.has_room());
        tail.push("x");
        assert!(!tail.has_room() && tail.has_work());
    }
}
