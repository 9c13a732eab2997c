use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Serialize, Serializer};

/// A session or socket id: 20 characters of `[A-Za-z0-9_-]`.
///
/// A session's id is a secret, because it allows posting as the client. So [`Debug`](fmt::Debug)
/// shows only its beginning. [`Display`](fmt::Display) writes the whole id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sid([u8; LENGTH]);

impl Sid {
    /// Creates an id from random bytes, encoded in URL-safe base64.
    #[must_use]
    pub fn from_random(bytes: [u8; 15]) -> Self {
        Self(encode_base64(&bytes))
    }

    /// Parses an id from a peer; `None` unless it has exactly the form of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self)
    }

    /// Returns the 20 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        shown(&self.0)
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

/// Identifies the server of a cluster that has a session: 8 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG]);

impl Tag {
    /// Creates a tag from random bytes, encoded in URL-safe base64.
    #[must_use]
    pub fn from_random(bytes: [u8; 6]) -> Self {
        Self(encode_base64(&bytes))
    }

    /// Parses a tag from another server; `None` unless it has exactly the form of a tag.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self)
    }

    /// Returns the 8 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        shown(&self.0)
    }
}

/// The session id that a client uses: 20 or 28 characters of `[A-Za-z0-9_-]`.
///
/// If servers forward requests to each other, the tag of the server that has the session follows
/// the id. [`Debug`](fmt::Debug) hides the same part as that of a [`Sid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two parts of the text")]
pub struct SessionId {
    /// The id that the server uses.
    pub sid: Sid,
    /// The server that has the session.
    pub tag: Option<Tag>,
}

impl SessionId {
    /// Parses an id from a peer; `None` unless it has exactly the form of an id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (sid, tag) = match text.len() {
            LENGTH => (text, None),
            _ => text
                .split_at_checked(LENGTH)
                .map(|(sid, tag)| (sid, Some(tag)))?,
        };
        let sid = Sid::parse(sid)?;
        let tag = match tag {
            Some(tag) => Some(Tag::parse(tag)?),
            None => None,
        };
        Some(Self { sid, tag })
    }
}

impl From<Sid> for SessionId {
    fn from(sid: Sid) -> Self {
        Self { sid, tag: None }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sid.as_str())?;
        self.tag.map_or(Ok(()), |tag| f.write_str(tag.as_str()))
    }
}

impl Serialize for SessionId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Encodes bytes in URL-safe base64: each three bytes become four of the `N` characters.
fn encode_base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut text = [b'A'; N];
    URL_SAFE_NO_PAD
        .encode_slice(bytes, &mut text)
        .expect("the length is that of the characters");
    text
}

fn shown(text: &[u8]) -> &str {
    std::str::from_utf8(text).expect("ids and tags are ASCII")
}

fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes: [u8; N] = text.as_bytes().try_into().ok()?;
    let is_id = |byte: &u8| IS_OF_ID.get(usize::from(*byte)) == Some(&true);
    bytes.iter().all(is_id).then_some(bytes)
}

/// Whether each byte may be part of an id. Every request of a polling session has an id, and a
/// table takes about half the instructions of five comparisons.
#[expect(
    clippy::indexing_slicing,
    reason = "a constant has no other way, and cannot panic later"
)]
const IS_OF_ID: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        byte += 1;
    }
    table
};

const LENGTH: usize = 20;
const TAG: usize = 8;

#[cfg(test)]
mod tests {
    use super::{SessionId, Sid, Tag};

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
    fn the_id_of_a_session_may_end_with_the_tag_of_its_server() {
        let sid = Sid::parse("lv_VI97HAXpY6yYWAAAC").unwrap();
        let tag = Tag::from_random([0xff; 6]);
        for (text, tag) in [
            ("lv_VI97HAXpY6yYWAAAC", None),
            ("lv_VI97HAXpY6yYWAAAC________", Some(tag)),
        ] {
            let id = SessionId::parse(text).unwrap();
            assert_eq!(id, SessionId { sid, tag });
            assert_eq!(id.to_string(), text);
            assert_eq!(serde_json::to_string(&id).unwrap(), format!("{text:?}"));
        }
        for wrong in [
            "lv_VI97HAXpY6yYWAAA",
            "lv_VI97HAXpY6yYWAAAC_",
            "lv_VI97HAXpY6yYWAAAC_______",
            "lv_VI97HAXpY6yYWAAAC_________",
            "lv_VI97HAXpY6yYWAAAC______ _",
            "lv_VI97HAXpY6yYWAA\u{e9}C________",
            "lv_VI97HAXpY6yYWAAA\u{e9}________",
        ] {
            assert_eq!(SessionId::parse(wrong), None, "{wrong:?}");
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
