use std::{fmt, io::Write as _, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{SessionId, Tag};

/// The handshake that a server sends first, as the data of packet `0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The session's id.
    pub sid: SessionId,
    /// The transports that the client may upgrade to.
    pub upgrades: Vec<Transport>,
    /// The interval between two pings of the server.
    pub ping_interval: Duration,
    /// The time within which the peer must answer a ping.
    pub ping_timeout: Duration,
    /// The largest polling payload or WebSocket message that the server accepts, in bytes.
    pub max_payload: u64,
}

impl Open {
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let wire: Received<'_> = serde_json::from_slice(json).ok()?;
        Some(Self {
            sid: SessionId::parse(&wire.sid)?,
            upgrades: wire
                .upgrades
                .iter()
                // A server may offer transports that are unknown here, such as WebTransport. They
                // are left out.
                .filter_map(|name| Transport::parse(name))
                .collect(),
            ping_interval: Duration::from_millis(wire.ping_interval),
            ping_timeout: Duration::from_millis(wire.ping_timeout),
            max_payload: wire.max_payload,
        })
    }

    pub(crate) fn write_json(&self, out: &mut Vec<u8>) {
        // Ids and transport names contain no character that JSON escapes.
        out.extend_from_slice(b"{\"sid\":\"");
        out.extend_from_slice(self.sid.sid.as_str().as_bytes());
        let tag = self.sid.tag.as_ref();
        out.extend_from_slice(tag.map_or("", Tag::as_str).as_bytes());
        out.extend_from_slice(b"\",\"upgrades\":[");
        for (i, transport) in self.upgrades.iter().enumerate() {
            let before: &[u8] = if i == 0 { b"\"" } else { b",\"" };
            out.extend_from_slice(before);
            out.extend_from_slice(transport.as_str().as_bytes());
            out.push(b'"');
        }
        let (interval, timeout) = (self.ping_interval, self.ping_timeout);
        let (interval, timeout) = (milliseconds(interval), milliseconds(timeout));
        let max_payload = self.max_payload;
        // Writing to a vector does not fail.
        let _ = write!(
            out,
            r#"],"pingInterval":{interval},"pingTimeout":{timeout},"maxPayload":{max_payload}}}"#
        );
    }
}

/// A transport of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "a session distinguishes exactly these two"
)]
pub enum Transport {
    /// HTTP long-polling.
    Polling,
    /// One WebSocket.
    WebSocket,
}

impl Transport {
    /// Returns the transport of this name, as in the `transport` query parameter.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "polling" => Some(Self::Polling),
            "websocket" => Some(Self::WebSocket),
            _ => None,
        }
    }

    /// Returns the name in the wire format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received<'a> {
    #[serde(borrow)]
    sid: std::borrow::Cow<'a, str>,
    #[serde(default)]
    upgrades: Vec<String>,
    ping_interval: u64,
    ping_timeout: u64,
    /// Servers before 4.1 do not send this value.
    #[serde(default)]
    max_payload: u64,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Open, Transport};
    use crate::SessionId;

    fn open() -> Open {
        Open {
            sid: SessionId::parse("lv_VI97HAXpY6yYWAAAC").unwrap(),
            upgrades: vec![Transport::WebSocket],
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
        }
    }

    const JSON: &str = r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

    #[test]
    fn the_handshake_has_the_official_keys_in_the_official_order() {
        let mut out = Vec::new();
        open().write_json(&mut out);
        assert_eq!(String::from_utf8(out).unwrap(), JSON);
        for (upgrades, text) in [
            (vec![], "[]"),
            (
                vec![Transport::WebSocket, Transport::Polling],
                r#"["websocket","polling"]"#,
            ),
        ] {
            let mut out = Vec::new();
            Open { upgrades, ..open() }.write_json(&mut out);
            let expected = JSON.replace(r#"["websocket"]"#, text);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
        let sid = SessionId::parse("lv_VI97HAXpY6yYWAAAC________").unwrap();
        let mut out = Vec::new();
        Open { sid, ..open() }.write_json(&mut out);
        let expected = JSON.replace("AAAC", "AAAC________");
        assert_eq!(String::from_utf8(out).unwrap(), expected, "with a tag");
    }

    #[test]
    fn a_handshake_is_read_back() {
        assert_eq!(Open::from_json(JSON.as_bytes()), Some(open()));
    }

    #[test]
    fn unknown_upgrades_and_keys_are_ignored() {
        let json = r#"{"sid":"lv_VI97HAXpY6yYWAAAC","upgrades":["websocket","webtransport"],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000,"x":1}"#;
        assert_eq!(Open::from_json(json.as_bytes()), Some(open()));
    }

    #[test]
    fn b13_a_handshake_with_a_foreign_id_is_none() {
        assert_eq!(
            Open::from_json(br#"{"sid":"__proto__","pingInterval":1,"pingTimeout":1}"#),
            None
        );
        assert_eq!(Open::from_json(b"{}"), None);
        assert_eq!(Open::from_json(b""), None);
    }

    #[test]
    fn transports_have_exactly_two_names() {
        assert_eq!(Transport::parse("polling"), Some(Transport::Polling));
        assert_eq!(Transport::parse("websocket"), Some(Transport::WebSocket));
        for name in [
            "",
            "abc",
            "__proto__",
            "constructor",
            "webtransport",
            "Polling",
        ] {
            assert_eq!(Transport::parse(name), None, "{name:?}");
        }
    }
}
