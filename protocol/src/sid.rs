use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};

/// A session or socket id: 20 characters of `[A-Za-z0-9_-]`.
///
/// A session's id is a secret (who knows it can post as the client), so [`Debug`](fmt::Debug)
/// shows its start only. [`Display`](fmt::Display) writes the whole id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid([u8; LENGTH]);

impl Sid {
    /// The id that these random bytes spell in URL-safe base64.
    #[must_use]
    pub fn from_random(bytes: [u8; 15]) -> Self {
        let mut text = [b'A'; LENGTH];
        URL_SAFE_NO_PAD
            .encode_slice(bytes, &mut text)
            .expect("15 bytes are 20 characters of base64");
        Self(text)
    }

    /// Reads an id as a peer sent it; `None` unless it has exactly the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().ok()?;
        bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
            .then_some(Self(bytes))
    }

    /// The 20 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an id is ASCII")
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.6}…", self.as_str())
    }
}

impl Serialize for Sid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

const LENGTH: usize = 20;

#[cfg(test)]
mod tests {
    use super::Sid;

    #[test]
    fn fifteen_random_bytes_are_twenty_url_safe_characters() {
        assert_eq!(Sid::from_random([0; 15]).as_str(), "AAAAAAAAAAAAAAAAAAAA");
        assert_eq!(
            Sid::from_random([0xff; 15]).as_str(),
            "____________________"
        );
        assert_eq!(
            Sid::from_random([0xfb; 15]).to_string(),
            "-_v7-_v7-_v7-_v7-_v7"
        );
    }

    #[test]
    fn only_twenty_characters_of_the_alphabet_are_an_id() {
        let text = "lv_VI97HAXpY6yYWAAAC";
        assert_eq!(Sid::parse(text).unwrap().as_str(), text);
        for wrong in [
            "",
            "lv_VI97HAXpY6yYWAAA",
            "lv_VI97HAXpY6yYWAAACx",
            "lv_VI97HAXpY6yYWAAA+",
            "lv_VI97HAXpY6yYWAAA/",
            "lv_VI97HAXpY6yYWAA\r\n",
            "lv_VI97HAXpY6yYWAAA\0",
            "lv_VI97HAXpY6yYWAAé",
            "__proto__",
        ] {
            assert_eq!(Sid::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn debug_hides_most_of_the_secret() {
        let sid = Sid::parse("lv_VI97HAXpY6yYWAAAC").unwrap();
        assert_eq!(format!("{sid:?}"), "lv_VI9…");
        assert_eq!(
            serde_json::to_string(&sid).unwrap(),
            "\"lv_VI97HAXpY6yYWAAAC\""
        );
    }
}
