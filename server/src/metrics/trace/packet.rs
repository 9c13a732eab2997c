//! Describes Socket.IO packets of observed connections.

use serde_json::{Map, Value};

use super::tracer::Detail;

/// A Socket.IO packet, as far as a trace shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet<'a> {
    pub(super) kind: Kind,
    /// The number of an acknowledgement.
    pub(super) ack_id: Option<u64>,
    /// The name of an event.
    event: Option<String>,
    /// The JSON content after the header.
    content: &'a [u8],
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Event,
    Ack,
    Connect,
    Disconnect,
    ConnectError,
    /// A packet in MessagePack or another format, which is not decoded.
    Other,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Ack => "ack",
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::ConnectError => "connect_error",
            Self::Other => "other",
        }
    }
}

impl<'a> Packet<'a> {
    /// Reads a packet without its Engine.IO type.
    pub(super) fn read(data: &'a [u8]) -> Self {
        let bytes = data.len();
        let other = Self {
            kind: Kind::Other,
            ack_id: None,
            event: None,
            content: &[],
            bytes,
        };
        let Some((kind, rest)) = data.split_first() else {
            return other;
        };
        let kind = match kind {
            b'0' => Kind::Connect,
            b'1' => Kind::Disconnect,
            b'2' | b'5' => Kind::Event,
            b'3' | b'6' => Kind::Ack,
            b'4' => Kind::ConnectError,
            _ => return other,
        };
        let (digits, after) = split_digits(rest);
        // Attachments are counted before a hyphen.
        let rest = match after.split_first() {
            Some((b'-', after)) if !digits.is_empty() => after,
            _ => rest,
        };
        // A namespace begins with a slash and ends with a comma.
        let rest = match rest.first() {
            Some(b'/') => match rest.iter().position(|byte| *byte == b',') {
                Some(comma) => rest.get(comma + 1..).unwrap_or_default(),
                None => &[],
            },
            _ => rest,
        };
        let (digits, content) = split_digits(rest);
        let ack_id = str::from_utf8(digits).ok().and_then(|id| id.parse().ok());
        Self {
            kind,
            ack_id,
            event: (kind == Kind::Event).then(|| name(content)).flatten(),
            content,
            bytes,
        }
    }

    /// Returns the fields of a line about the packet. The content of an event is included if the
    /// tracer is unmasked. Acknowledgements and connects are never included, because their answers
    /// and payloads may be secrets as a whole.
    pub(super) fn fields(&self, detail: Detail) -> Map<String, Value> {
        let mut fields = Map::new();
        match &self.event {
            Some(event) => fields.insert("event".into(), shortened(event).into()),
            None => fields.insert("packet".into(), self.kind.as_str().into()),
        };
        fields.insert("bytes".into(), self.bytes.into());
        if let Some(id) = self.ack_id {
            fields.insert("ackId".into(), id.into());
        }
        if detail == Detail::Unmasked && self.kind == Kind::Event {
            // Attachments follow the text after a record separator in the polling format.
            let text = self.content.split(|byte| *byte == RECORD_SEPARATOR).next();
            let payload = text.and_then(|text| serde_json::from_slice(text).ok());
            let list: Option<Vec<Value>> = payload;
            if let Some(list) = list {
                let arguments = list.into_iter().skip(1).collect();
                fields.insert("payload".into(), unmasked(Value::Array(arguments)));
            }
        }
        fields
    }
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// Reads the first string of a JSON list.
fn name(content: &[u8]) -> Option<String> {
    let text = content.strip_prefix(b"[")?;
    let mut values = serde_json::Deserializer::from_slice(text).into_iter::<String>();
    values.next()?.ok()
}

/// Cuts the name of an event, which the client chooses.
fn shortened(name: &str) -> String {
    name.chars().take(MAX_NAME).collect()
}

/// Returns a payload for an unmasked trace: without secrets, and omitted if it is long.
pub(crate) fn unmasked(mut payload: Value) -> Value {
    redact(&mut payload);
    let length = payload.to_string().len();
    if length > MAX_PAYLOAD {
        return format!("{length} bytes, too long to show").into();
    }
    payload
}

/// Replaces the values of fields that hold secrets.
fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.to_ascii_lowercase();
                if SECRETS.iter().any(|secret| name.contains(secret)) {
                    *value = "***".into();
                } else {
                    redact(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(redact),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Parts of the names of fields whose values are never shown.
const SECRETS: [&str; 8] = [
    "token",
    "secret",
    "password",
    "guestkey",
    "authorization",
    "cookie",
    "sessionid",
    "credential",
];
/// Separates packets in the body of a poll.
const RECORD_SEPARATOR: u8 = 0x1e;
/// Maximum length of a shown name in characters.
const MAX_NAME: usize = 64;
/// Maximum bytes of a shown payload.
const MAX_PAYLOAD: usize = 4096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn packets_are_described_without_their_content() {
        for (text, kind, ack_id, event) in [
            (
                r#"2["message",{"content":"x"}]"#,
                Kind::Event,
                None,
                Some("message"),
            ),
            (
                r#"217["message",{}]"#,
                Kind::Event,
                Some(17),
                Some("message"),
            ),
            (
                r#"2/admin,3["admin:stats"]"#,
                Kind::Event,
                Some(3),
                Some("admin:stats"),
            ),
            (
                r#"51-/admin,4["file",{}]"#,
                Kind::Event,
                Some(4),
                Some("file"),
            ),
            (r#"35[{"success":true}]"#, Kind::Ack, Some(5), None),
            (r#"0{"token":"x"}"#, Kind::Connect, None, None),
            ("1", Kind::Disconnect, None, None),
            (r#"2{"not":"a list"}"#, Kind::Event, None, None),
            ("2[7]", Kind::Event, None, None),
            ("", Kind::Other, None, None),
            ("\u{83}msgpack", Kind::Other, None, None),
            ("2/unfinished", Kind::Event, None, None),
        ] {
            let packet = Packet::read(text.as_bytes());
            assert_eq!(packet.kind, kind, "{text}");
            assert_eq!(packet.ack_id, ack_id, "{text}");
            assert_eq!(packet.event.as_deref(), event, "{text}");
            let fields = packet.fields(Detail::Masked);
            assert!(!fields.contains_key("payload"), "{text}");
        }
    }

    #[test]
    fn unmasked_payloads_contain_no_secrets() {
        let packet = Packet::read(
            br#"2["auth:refresh",{"token":"canary","a":[{"guestKey":"canary","b":1}]}]"#,
        );
        let fields = packet.fields(Detail::Unmasked);
        let expected = json!([{"token": "***", "a": [{"guestKey": "***", "b": 1}]}]);
        assert_eq!(fields["payload"], expected);
        for secret in [r#"0{"token":"canary"}"#, r#"31[{"token":"canary"}]"#] {
            let fields = Packet::read(secret.as_bytes()).fields(Detail::Unmasked);
            assert!(!Value::Object(fields).to_string().contains("canary"));
        }
        let long = json!({"content": "x".repeat(MAX_PAYLOAD)});
        assert!(unmasked(long).is_string());
    }
}
