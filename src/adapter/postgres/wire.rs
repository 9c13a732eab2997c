//! Channels and notifications in the wire format of `@socket.io/postgres-adapter` and
//! `@socket.io/postgres-emitter`.
//!
//! A notification is a message in JSON. A message that contains binary or is too long is stored as
//! MessagePack in a row of a table. The notification then contains the id of the row.

use std::{fmt::Write as _, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use roomcast_protocol::socket::{Nsp, Parser};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::connection::Body;
use crate::adapter::{
    WireError,
    envelope::NodeId,
    node_js::{first, parse},
};

/// Returns the channel of a namespace.
pub(crate) fn channel(key: &str, nsp: &Nsp) -> Arc<str> {
    named(format!("{key}#{}", nsp.as_str()))
}

/// Returns the channel on which a server receives envelopes of servers of this library, and its own
/// probes.
pub(crate) fn own_channel(key: &str, node: &NodeId) -> Arc<str> {
    named(format!("{key}-roomcast#{node}"))
}

/// Returns a valid channel name. PostgreSQL accepts no long names and no NUL, so these are hashed.
/// Node servers are unreachable on such channels.
fn named(name: String) -> Arc<str> {
    if name.len() <= MAX_NAME && !name.contains('\0') {
        return name.into();
    }
    let mut hashed = "roomcast:".to_owned();
    // 24 bytes of the digest fit into a name, and suffice to rule out collisions.
    for byte in Sha256::digest(&name).iter().take(24) {
        // Writing to memory cannot fail.
        let _ = write!(hashed, "{byte:02x}");
    }
    hashed.into()
}

/// Encodes a message for the servers of a namespace. The number makes it unique, because PostgreSQL
/// merges equal notifications in one transaction.
pub(crate) fn message(uid: &str, number: u64, message: Bytes) -> Result<Body, WireError> {
    if let Some(json) = message.strip_suffix(b"}").filter(|_| is_json(&message)) {
        let mut text = std::str::from_utf8(json)
            .map_err(|_| WireError::Malformed("text"))?
            .to_owned();
        // Node's adapter ignores unknown fields.
        let _ = write!(text, ",\"number\":{number}}}");
        if text.len() <= MAX_TEXT {
            return Ok(Body::Text(text));
        }
    }
    // Node's adapter expects rows in MessagePack.
    let payload = match is_json(&message) {
        true => first(Some(&parse(message)?), Some(Parser::MessagePack))?.bytes,
        false => message,
    };
    let uid = serde_json::to_string(uid).map_err(|_| WireError::Malformed("uid"))?;
    let head = format!("{{\"uid\":{uid},\"attachmentId\":\"");
    Ok(Body::Attached {
        head,
        payload,
        tail: TAIL,
    })
}

fn is_json(message: &[u8]) -> bool {
    message.first() == Some(&b'{')
}

/// Encodes an envelope for another server of this library.
pub(crate) fn envelope(envelope: Bytes) -> Body {
    if base64::encoded_len(envelope.len(), false).is_some_and(|length| length <= MAX_TEXT) {
        return Body::Text(BASE64.encode(&envelope));
    }
    Body::Attached {
        head: "{\"attachmentId\":\"".to_owned(),
        payload: envelope,
        tail: TAIL,
    }
}

/// Decodes the envelope in a notification.
pub(crate) fn read_envelope(text: &[u8]) -> Result<Bytes, WireError> {
    let envelope = BASE64.decode(text);
    envelope
        .map(Into::into)
        .map_err(|_| WireError::Malformed("base64"))
}

/// The content of a notification that refers to a row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) uid: Option<String>,
    pub(crate) id: i64,
}

/// Parses the reference to an attachment. Returns `None` if the notification is the message itself.
pub(crate) fn header(text: &str) -> Result<Option<Header>, WireError> {
    #[derive(Deserialize)]
    struct Fields {
        uid: Option<String>,
        #[serde(rename = "attachmentId")]
        id: Option<Id>,
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Id {
        Number(i64),
        Text(String),
    }
    // Most notifications are messages, and are not parsed twice.
    if !text.contains("\"attachmentId\"") {
        return Ok(None);
    }
    let malformed = || WireError::Malformed("attachment");
    let Fields { uid, id } = serde_json::from_str(text).map_err(|_| malformed())?;
    let id = match id {
        None => return Ok(None),
        Some(Id::Number(id)) => id,
        Some(Id::Text(id)) => id.parse().map_err(|_| malformed())?,
    };
    Ok(Some(Header { uid, id }))
}

/// The maximum length of a channel name in bytes. PostgreSQL truncates longer identifiers.
const MAX_NAME: usize = 63;
/// The maximum length of a notification in bytes: `pg_notify` refuses 8,000.
pub(super) const MAX_TEXT: usize = 7_999;
/// The end of a notification, after the id of the row.
const TAIL: &str = "\"}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::{
        node_js::{ParsedMessage, read_message, write_message},
        wire::floats,
    };

    #[test]
    fn channels_equal_those_of_node_unless_too_long_for_postgresql() {
        let name = |nsp: &str| channel("socket.io", &Nsp::from(nsp)).to_string();
        assert_eq!(name("/"), "socket.io#/");
        assert_eq!(name("/a\"b"), "socket.io#/a\"b");
        let fits = format!("/{}", "x".repeat(52));
        assert_eq!(name(&fits), format!("socket.io#{fits}"));
        let long = [
            format!("/{}", "x".repeat(53)),
            format!("/{}", "y".repeat(53)),
            "/\0".to_owned(),
        ];
        let hashed = long.each_ref().map(|long| name(long));
        for (i, one) in hashed.iter().enumerate() {
            assert!(
                one.len() <= MAX_NAME && one.starts_with("roomcast:"),
                "{one}"
            );
            assert!(!hashed[..i].contains(one));
        }
    }

    #[test]
    fn notification_does_not_exceed_the_limit_of_postgresql() {
        let of = |length: usize| {
            let bytes = format!("{{\"x\":\"{}\"}}", "x".repeat(length));
            message("me", 7, bytes.into()).unwrap()
        };
        let rest = r#"{"x":"","number":7}"#.len();
        let Body::Text(text) = of(MAX_TEXT - rest) else {
            panic!("it fits");
        };
        assert_eq!(text.len(), MAX_TEXT);
        assert!(text.ends_with(r#"x","number":7}"#));
        let Body::Attached { head, payload, .. } = of(MAX_TEXT - rest + 1) else {
            panic!("it does not fit");
        };
        assert_eq!(head, r#"{"uid":"me","attachmentId":""#);
        assert_eq!(payload[..3], *b"\x81\xa1x", "it is MessagePack");
    }

    #[test]
    fn notification_contains_the_location_of_its_message() {
        let read = |text: &str| header(text);
        let expected = Header {
            uid: Some("x".to_owned()),
            id: 12,
        };
        assert_eq!(
            read(r#"{"uid":"x","type":3,"attachmentId":"12"}"#).unwrap(),
            Some(expected)
        );
        assert_eq!(read(r#"{"attachmentId":7}"#).unwrap().unwrap().id, 7);
        assert_eq!(read(r#"{"data":{"attachmentId":7}}"#).unwrap(), None);
        assert_eq!(read("{}").unwrap(), None);
        for wrong in [
            r#"{"attachmentId":"x"}"#,
            r#"{"attachmentId":[]}"#,
            r#"{"attachmentId""#,
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn envelopes_are_texts_if_they_are_short() {
        for length in [0, 1, 5_999, 6_000] {
            let bytes = Bytes::from(vec![0xff; length]);
            match envelope(bytes.clone()) {
                Body::Text(text) => {
                    assert!(text.len() <= MAX_TEXT && length < 6_000);
                    assert_eq!(read_envelope(text.as_bytes()).unwrap(), bytes);
                }
                Body::Attached { payload, .. } => assert_eq!((payload, length), (bytes, 6_000)),
            }
        }
        assert!(read_envelope(b"\xff").is_err());
    }

    #[test]
    fn a_million_numbers_of_attachments_keep_their_value() {
        let own = NodeId::new("me").unwrap();
        floats::pass_a_million(|args| {
            let written = write_message("other", &floats::broadcast(args)).unwrap();
            let Body::Attached { payload, .. } = message("other", 1, written).unwrap() else {
                panic!("it is too long for a notification");
            };
            let parsed = read_message(&own, &Nsp::ROOT, payload).unwrap();
            let ParsedMessage::Publication(_, parsed, None) = parsed else {
                panic!("{parsed:?}");
            };
            floats::broadcast_args(&parsed)
        });
    }
}
