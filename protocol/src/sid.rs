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
        Self(spell(&bytes))
    }

    /// Reads an id as a peer sent it; `None` unless it has exactly the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self)
    }

    /// The 20 characters.
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

/// Says which server of a cluster a session is at: 8 characters of `[A-Za-z0-9_-]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG]);

impl Tag {
    /// The tag that these random bytes spell in URL-safe base64.
    #[must_use]
    pub fn from_random(bytes: [u8; 6]) -> Self {
        Self(spell(&bytes))
    }

    /// Reads a tag as another server sent it; `None` unless it has exactly the form of one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        read(text).map(Self)
    }

    /// The 8 characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        shown(&self.0)
    }
}

/// What a client calls its session: the id, and behind it, where servers hand requests on to each other, the
/// tag of the server that has it; 20 or 28 characters of `[A-Za-z0-9_-]`.
///
/// [`Debug`](fmt::Debug) hides what that of a [`Sid`] hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the two parts of the text")]
pub struct SessionId {
    /// What the server knows the session by.
    pub sid: Sid,
    /// Which server that is.
    pub tag: Option<Tag>,
}

impl SessionId {
    /// Reads an id as a peer sent it; `None` unless it has exactly the form of one.
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

/// URL-safe base64 of a multiple of three bytes, each three of which are four of the `N` characters.
fn spell<const N: usize>(bytes: &[u8]) -> [u8; N] {
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
    bytes
        .iter()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        .then_some(bytes)
}

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
