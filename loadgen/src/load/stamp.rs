//! Payloads that identify their run, their sender and their number.

use std::fmt::Write as _;

use roomcast_protocol::socket::Args;

/// Writes and recognises the payloads of one run.
///
/// A payload is `rcb:<run>:<sender>:<number>;` followed by letters up to its size. The letters
/// depend on the number, so that payloads that a server mixes up or truncates are detected.
#[derive(Clone, Debug)]
pub(crate) struct Stamps {
    /// `rcb:` and eight digits that are unique to this run, so that messages of earlier runs on the
    /// server are not counted.
    mark: String,
    size: usize,
    /// The alphabet repeated, `size` letters plus one alphabet.
    letters: String,
}

/// The sender and the number that a payload contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) sender: usize,
    pub(crate) number: u64,
}

/// The result of a search for a payload in the arguments of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadCheck {
    /// No payload of this run was found.
    Nothing,
    /// The payload is unchanged.
    Intact(Stamp),
    /// A payload of this run was changed.
    Corrupt,
}

impl Stamps {
    /// Creates payloads of `size` bytes, at least [`MIN_PAYLOAD`].
    pub(crate) fn new(run: u32, size: usize) -> Self {
        let alphabet = ('a'..='z').cycle();
        Self {
            mark: format!("rcb:{run:08x}:"),
            size: size.max(MIN_PAYLOAD),
            letters: alphabet.take(size.max(MIN_PAYLOAD) + 26).collect(),
        }
    }

    /// Returns the payload of a message.
    pub(crate) fn write(&self, stamp: Stamp) -> String {
        let mut text = String::with_capacity(self.size);
        text.push_str(&self.mark);
        // Writing to a string cannot fail.
        let _ = write!(text, "{}:{};", stamp.sender, stamp.number);
        text.push_str(self.padding(stamp.number, text.len()));
        text
    }

    /// Searches the arguments for a payload of this run.
    pub(crate) fn find(&self, args: &Args) -> PayloadCheck {
        for json in args {
            if let Some(at) = position(json, self.mark.as_bytes()) {
                let rest = json.get(at + self.mark.len()..).unwrap_or_default();
                return self
                    .read(rest)
                    .map_or(PayloadCheck::Corrupt, PayloadCheck::Intact);
            }
        }
        PayloadCheck::Nothing
    }

    /// Checks whether a whole text is a payload of this run.
    pub(crate) fn look(&self, text: &str) -> PayloadCheck {
        let Some(rest) = text.strip_prefix(&self.mark) else {
            return PayloadCheck::Nothing;
        };
        let quoted = [rest.as_bytes(), b"\""].concat();
        self.read(&quoted)
            .map_or(PayloadCheck::Corrupt, PayloadCheck::Intact)
    }

    /// Parses the text after the mark. The payload must end at the end of its JSON string.
    fn read(&self, rest: &[u8]) -> Option<Stamp> {
        let (sender, rest_after) = number(rest, b':')?;
        let (number, padding) = number(rest_after, b';')?;
        let header = self.mark.len() + (rest.len() - padding.len());
        let expected = self.padding(number, header);
        let found = padding.get(..expected.len())?;
        let is_end = padding.get(expected.len()) == Some(&b'"');
        (found == expected.as_bytes() && is_end).then_some(Stamp {
            sender: sender.try_into().ok()?,
            number,
        })
    }

    /// Returns the letters after a header of `header` bytes.
    fn padding(&self, number: u64, header: usize) -> &str {
        let from = (number % 26) as usize;
        let length = self.size.saturating_sub(header);
        self.letters.get(from..from + length).unwrap_or_default()
    }
}

/// Parses digits up to `end`. Returns the number and the text after `end`.
fn number(text: &[u8], end: u8) -> Option<(u64, &[u8])> {
    // A 64-bit number has at most twenty digits.
    let length = text.iter().take(21).position(|&byte| byte == end)?;
    let digits = str::from_utf8(text.get(..length)?).ok()?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| digits.parse().ok())??;
    Some((number, text.get(length + 1..)?))
}

/// Returns the position of `needle`. Payloads usually begin their argument, so that position is
/// tried first.
pub(super) fn position(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if haystack
        .get(1..)
        .is_some_and(|rest| rest.starts_with(needle))
    {
        return Some(1);
    }
    memchr::memmem::find(haystack, needle)
}

/// The size of the longest header in bytes: mark, seven digits of sender, ten of number, two
/// separators.
pub(super) const MIN_PAYLOAD: usize = 32;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::socket::{Decoder, Limits};

    use super::*;

    fn args(json: &str) -> Args {
        let text = Bytes::from(format!("2{json}"));
        let packet = Decoder::new(Limits::default()).text(text).unwrap().unwrap();
        packet.args
    }

    fn stamps() -> Stamps {
        Stamps::new(0xbe9c, 48)
    }

    const STAMP: Stamp = Stamp {
        sender: 12,
        number: 345,
    };

    #[test]
    fn a_payload_has_its_size_and_is_found_anywhere() {
        let text = stamps().write(STAMP);
        assert_eq!(text.len(), 48);
        assert!(text.starts_with("rcb:0000be9c:12:345;"), "{text}");
        for json in [
            format!("[\"msg\",\"{text}\"]"),
            format!("[\"msg\",1,{{\"a\":[{{\"content\":\"{text}\",\"b\":2}}]}}]"),
        ] {
            assert_eq!(
                stamps().find(&args(&json)),
                PayloadCheck::Intact(STAMP),
                "{json}"
            );
        }
        assert_eq!(stamps().look(&text), PayloadCheck::Intact(STAMP));
        assert_eq!(
            stamps().look(&text.replace("345;", "346;")),
            PayloadCheck::Corrupt
        );
        assert_eq!(stamps().look("hello"), PayloadCheck::Nothing);
    }

    #[test]
    fn payloads_of_other_runs_are_ignored() {
        let text = Stamps::new(0xffff, 48).write(STAMP);
        assert_eq!(
            stamps().find(&args(&format!("[\"msg\",\"{text}\"]"))),
            PayloadCheck::Nothing
        );
        assert_eq!(stamps().find(&args("[\"msg\"]")), PayloadCheck::Nothing);
    }

    #[test]
    fn changed_truncated_or_extended_payload_is_corrupt() {
        let text = stamps().write(STAMP);
        let truncated = &text[..47];
        for wrong in [
            text.replace("345;", "346;"),
            text.replace("12:345;", "12:345"),
            text.replace("rcb:0000be9c:12", "rcb:0000be9c:-12"),
            text.replace("12:345", "99999999999999999999999:345"),
            format!("{text}x"),
            truncated.to_owned(),
            "rcb:0000be9c:".to_owned(),
        ] {
            let json = format!("[\"msg\",\"{wrong}\"]");
            assert_eq!(
                stamps().find(&args(&json)),
                PayloadCheck::Corrupt,
                "{wrong}"
            );
        }
    }
}
