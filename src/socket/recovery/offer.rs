//! The wire format of recovery: the secret of a socket, the offset of an event, and the client's
//! offer with both.

use std::fmt;

use roomcast_protocol::{
    Sid,
    socket::{Args, Value},
};
use serde::{Deserialize, Serialize, Serializer};

use crate::{adapter::Position, engine::random_sid};

/// The secret that proves a client's ownership of a socket. It is never logged.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Pid(Sid);

impl Pid {
    /// Generates an unguessable secret.
    pub(crate) fn random() -> Self {
        Self(random_sid())
    }

    fn parse(text: &str) -> Option<Self> {
        Sid::parse(text).map(Self)
    }

    /// Returns the secret itself, for stores of client state.
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pid(secret)")
    }
}

impl Serialize for Pid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// The number of an event within its namespace, as clients see it.
///
/// The format is base 64 without leading zeros. In a cluster, a full stop and the tag of the server
/// follow, so that the offset is invalid on other servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) number: u64,
    pub(crate) tag: Option<Tag>,
}

/// Distinguishes the offsets of different servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag([u8; TAG]);

impl Tag {
    /// Returns the tag of a server: the start of its name.
    pub(crate) fn of(node: &str) -> Option<Self> {
        let start = node.as_bytes().get(..TAG)?;
        let is_plain = start.iter().all(|byte| DIGITS.contains(byte));
        is_plain.then_some(Self(start.try_into().ok()?))
    }
}

impl Offset {
    fn parse(text: &str) -> Option<Self> {
        let (number, tag) = match text.split_once('.') {
            None => (text, None),
            Some((_, tag)) if tag.len() != TAG => return None,
            Some((number, tag)) => (number, Some(Tag::of(tag)?)),
        };
        let number = Self::parse_number(number)?;
        Some(Self { number, tag })
    }

    fn parse_number(text: &str) -> Option<u64> {
        // `A` is the digit zero. Without leading zeros, each number has one spelling.
        if text.len() > MAX_DIGITS || text.starts_with('A') {
            return None;
        }
        let digit = |byte| DIGITS.iter().position(|digit| *digit == byte);
        let number = text.bytes().try_fold(0_u64, |number, byte| {
            number.checked_mul(64)?.checked_add(digit(byte)? as u64)
        });
        number.filter(|number| *number > 0)
    }

    fn digits(self) -> impl Iterator<Item = char> {
        let digit = move |place: usize| {
            let digit = self.number.checked_shr(place as u32 * 6).unwrap_or(0) & 63;
            DIGITS
                .get(digit as usize)
                .map_or('A', |digit| char::from(*digit))
        };
        let leading = |digit: &char| *digit == 'A';
        (0..MAX_DIGITS).rev().map(digit).skip_while(leading)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.digits().try_for_each(|digit| write!(f, "{digit}"))?;
        match &self.tag {
            Some(Tag(tag)) => write!(f, ".{}", tag.escape_ascii()),
            None => Ok(()),
        }
    }
}

impl Serialize for Offset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The offset of an event, as sent to clients.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum EventOffset {
    Own(Offset),
    Journal(Position),
}

/// The last offset that a client sent, in each form that it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastOffset {
    pub(crate) own: Option<Offset>,
    pub(crate) position: Option<Position>,
}

impl LastOffset {
    fn parse(text: &str) -> Option<Self> {
        let (own, position) = (Offset::parse(text), Position::parse(text));
        (own.is_some() || position.is_some()).then_some(Self { own, position })
    }
}

/// A client's request to recover a socket: its secret, and the last event that it has received, or
/// `None` if it has received no event with an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) pid: Pid,
    pub(crate) last: Option<LastOffset>,
}

impl Offer {
    /// Parses an offer from its strings.
    pub(crate) fn read(pid: &str, offset: Option<&str>) -> Option<Self> {
        Some(Self {
            pid: Pid::parse(pid)?,
            last: match offset {
                Some(offset) => Some(LastOffset::parse(offset)?),
                None => None,
            },
        })
    }

    /// Returns the offer in the payload of a `CONNECT` packet. An invalid offer counts as no offer.
    pub(crate) fn of(payload: &Args) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload {
            // Fields of any type are accepted, but only strings can be an offer.
            #[serde(default)]
            pid: Value,
            #[serde(default)]
            offset: Value,
        }
        if payload.is_empty() {
            return None;
        }
        let Payload { pid, offset } = payload.get(0).ok()?;
        let offset = match offset == Value::Null {
            true => None,
            false => Some(offset.as_str()?),
        };
        Self::read(pid.as_str()?, offset)
    }
}

/// Base 64 digits, as in ids.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Length of a tag, in characters.
const TAG: usize = 6;
/// Number of digits of the largest number.
const MAX_DIGITS: usize = 11;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::socket::{Decoder, Limits, Parser};

    use super::*;

    fn offer(payload: &str) -> Option<Offer> {
        let text = format!("0{payload}");
        let packet = Decoder::new(Limits::default()).text(text.into()).unwrap();
        Offer::of(&packet.unwrap().args)
    }

    const fn untagged(number: u64) -> Offset {
        Offset { number, tag: None }
    }

    const fn first() -> LastOffset {
        LastOffset {
            own: Some(untagged(1)),
            position: None,
        }
    }

    #[test]
    fn a_number_is_read_back_from_its_text() {
        for number in [1, 63, 64, 4095, 1 << 40, u64::MAX] {
            for tag in [None, Tag::of("aB-_09 and more")] {
                let offset = Offset { number, tag };
                let text = offset.to_string();
                assert_eq!(Offset::parse(&text), Some(offset), "{text}");
            }
        }
        assert_eq!(untagged(64 * 25 + 63).to_string(), "Z_");
        let tag = Tag::of("aB-_09");
        assert_eq!(Offset { number: 1, tag }.to_string(), "B.aB-_09");
    }

    #[test]
    fn a_text_that_is_no_number_is_none() {
        for text in [
            "",
            "A",
            "AB",
            " B",
            "B ",
            "é",
            "B=",
            "__________________",
            "P__________",
            "B.",
            "B.aB-_0",
            "B.aB-_099",
            "B.aB-_0é",
            "B.aB-.09",
            ".aB-_09",
        ] {
            let parsed = Offset::parse(text);
            assert!(
                parsed.is_none_or(|offset| offset.to_string() == text),
                "{text}"
            );
        }
        assert_eq!(Offset::parse("Q__________"), None, "more than 64 bits");
        assert_eq!(Offset::parse("AB"), None);
    }

    #[test]
    fn an_offer_is_two_texts_of_the_right_form() {
        let pid = Pid::random();
        let secret = pid.0.as_str();
        let good = offer(&format!(r#"{{"pid":"{secret}","offset":"B","token":[1]}}"#));
        let last = Some(first());
        assert_eq!(good, Some(Offer { pid, last }));
        for offset in ["", r#","offset":null"#] {
            let last = None;
            let payload = format!(r#"{{"pid":"{secret}"{offset}}}"#);
            assert_eq!(offer(&payload), Some(Offer { pid, last }), "{payload}");
        }
        for payload in [
            String::new(),
            "{}".into(),
            r#"{"pid":"x","offset":"B"}"#.into(),
            format!(r#"{{"pid":"{secret}","offset":""}}"#),
            format!(r#"{{"pid":"{secret}","offset":7}}"#),
            format!(r#"{{"pid":["{secret}"],"offset":"B"}}"#),
            format!(r#"{{"pid":{{"pid":"{secret}"}},"offset":"B"}}"#),
            format!(r#"{{"pid":"{secret}","offset":"{}"}}"#, "B".repeat(1000)),
            format!(r#"{{"pid":"{secret}","pid":"{secret}","offset":"B"}}"#),
        ] {
            assert_eq!(offer(&payload), None, "{payload}");
        }
    }

    #[test]
    fn an_offer_in_messagepack_is_the_same() {
        fn packed(payload: impl Serialize) -> Option<Offer> {
            let frame = Parser::MessagePack.connect("/", &payload).unwrap();
            let (_, message) = frame.messages().next().unwrap();
            let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
            let packet = decoder.binary(Bytes::copy_from_slice(message)).unwrap();
            Offer::of(&packet.unwrap().args)
        }
        #[derive(Serialize)]
        struct Payload<P, O> {
            pid: P,
            offset: O,
        }
        let pid = Pid::random();
        let last = Some(first());
        assert_eq!(
            packed(Payload { pid, offset: "B" }),
            Some(Offer { pid, last })
        );
        let bytes = Bytes::from(pid.0.as_str().to_owned());
        let offset = Bytes::from_static(b"B");
        assert_eq!(
            packed(Payload {
                pid: bytes,
                offset: "B"
            }),
            None
        );
        assert_eq!(packed(Payload { pid, offset }), None);
        assert_eq!(packed(Payload { pid, offset: [1.5] }), None);
        assert_eq!(packed(Payload { pid: (), offset: 1 }), None);
    }

    #[test]
    fn the_secret_is_not_shown() {
        let pid = Pid::random();
        let shown = format!("{:?}", Offer { pid, last: None });
        assert!(!shown.contains(pid.0.as_str()), "{shown}");
    }
}
