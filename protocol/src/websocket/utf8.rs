use simdutf8::compat;

use super::FrameError;

/// Checks the unchecked part of a growing text.
///
/// The first `checked` bytes are known to be complete characters. Returns the new number of such
/// bytes, which is less than the length while the last character is incomplete. Fails at the first
/// byte that no continuation can make valid, so invalid text is refused before the rest of it
/// arrives.
///
/// A text in `n` pieces costs its length, plus at most three bytes that are checked again per
/// piece.
pub(super) fn check(text: &[u8], checked: usize) -> Result<usize, FrameError> {
    let fresh = text.get(checked..).unwrap_or_default();
    match compat::from_utf8(fresh) {
        Ok(_) => Ok(text.len()),
        // Without an error length, the input ended within a character that may still become valid.
        Err(error) if error.error_len().is_none() => Ok(checked + error.valid_up_to()),
        Err(_) => Err(FrameError::InvalidUtf8),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks a text byte by byte and returns the number of bytes accepted before the failure, if
    /// any.
    fn fails_at(text: &[u8]) -> Option<usize> {
        let mut checked = 0;
        for end in 1..=text.len() {
            match check(&text[..end], checked) {
                Ok(now) => checked = now,
                Err(_) => return Some(end - 1),
            }
        }
        None
    }

    #[test]
    fn character_may_be_split_across_pieces() {
        for text in ["κόσμε", "€", "😀", "\u{10ffff}", "\u{d7ff}\u{e000}"] {
            assert_eq!(fails_at(text.as_bytes()), None);
        }
    }

    #[test]
    fn a_bad_sequence_fails_at_its_first_bad_byte() {
        assert_eq!(fails_at(b"\xc0\x80"), Some(0));
        assert_eq!(fails_at(b"\xed\xa0\x80"), Some(1));
        assert_eq!(fails_at(b"\xf4\x90\x80\x80"), Some(1));
        assert_eq!(fails_at(b"\xe0\x80\x80"), Some(1));
        assert_eq!(fails_at(b"ok\xf0\x9f\x98x"), Some(5));
        assert_eq!(fails_at(b"\xf5"), Some(0));
    }

    #[test]
    fn an_incomplete_character_is_not_counted() {
        assert_eq!(check(b"a\xe2\x82", 0), Ok(1));
        assert_eq!(check(b"a\xe2\x82\xac", 1), Ok(4));
    }
}
