//! The first packet of a session, and the answer to `CONNECT`.

use std::time::Duration;

use bytes::Bytes;
use roomcast_protocol::{engine::SessionConfig, socket};
use serde::Deserialize;
use serde_json::Value;

use super::{ClientError, answer};

/// The `OPEN` packet of a server. The session id may have any format.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Handshake {
    pub(super) sid: String,
    #[serde(default)]
    upgrades: Vec<String>,
    ping_interval: u64,
    ping_timeout: u64,
    /// Servers before 4.1 do not send this value.
    #[serde(default)]
    pub(super) max_payload: u64,
}

impl Handshake {
    /// Parses the packet `0`.
    pub(super) fn read(text: &[u8]) -> Result<Self, ClientError> {
        text.strip_prefix(b"0")
            .and_then(|json| serde_json::from_slice(json).ok())
            .filter(|handshake: &Self| !handshake.sid.is_empty() && handshake.sid.len() <= 256)
            .ok_or_else(|| match text.is_empty() {
                true => ClientError::NotSocketIo("its handshake is empty".into()),
                false => answer::unexpected_response(text),
            })
    }

    /// Parses the packet `0` at the start of a polling payload. Also returns the rest of the
    /// payload.
    pub(super) fn read_payload(body: &Bytes) -> Result<(Self, Option<Bytes>), ClientError> {
        use roomcast_protocol::engine::payload::SEPARATOR;
        match body.iter().position(|&byte| byte == SEPARATOR) {
            Some(end) => Ok((Self::read(&body.slice(..end))?, Some(body.slice(end + 1..)))),
            None => Ok((Self::read(body)?, None)),
        }
    }

    pub(super) fn offers_websocket(&self) -> bool {
        self.upgrades.iter().any(|name| name == "websocket")
    }

    /// Returns the announced times, limited to one day.
    pub(super) fn times(&self) -> SessionConfig {
        let time = |millis| Duration::from_millis(millis).min(Duration::from_secs(86_400));
        SessionConfig {
            ping_interval: time(self.ping_interval),
            ping_timeout: time(self.ping_timeout),
            upgrade_timeout: Duration::from_secs(10),
        }
    }
}

/// The payload of the server's answer to `CONNECT`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Admission {
    /// The id of the socket.
    pub(super) sid: String,
    /// The secret of a recoverable session.
    pub(super) pid: Option<String>,
}

impl Admission {
    pub(super) fn read(packet: &socket::Packet) -> Result<Self, ClientError> {
        packet.args.get(0).map_err(|_| {
            ClientError::NotSocketIo(
                "its answer to CONNECT has no socket id (protocol 5 has one)".into(),
            )
        })
    }
}

/// Returns the size of an event that waits for the answer to `CONNECT`, in bytes.
pub(super) fn weight(packet: &socket::Packet) -> usize {
    size_of::<socket::Packet>() + packet.event_name_bytes().len() + packet.args.size()
}

/// Returns the error in a `CONNECT_ERROR`.
pub(super) fn refusal(packet: &socket::Packet) -> ClientError {
    #[derive(Deserialize)]
    struct Refusal {
        message: String,
        data: Option<Value>,
    }
    let Refusal { message, data } = packet.args.get(0).unwrap_or_else(|_| Refusal {
        // In protocols before 5 the payload is a plain string.
        message: packet.args.get(0).unwrap_or_default(),
        data: None,
    });
    let code = data.as_ref().and_then(|data| data.get("code"));
    ClientError::Refused {
        code: code.and_then(Value::as_str).unwrap_or_default().to_owned(),
        message: answer::shorten(message.as_bytes()),
        data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_may_be_anything_short() {
        let open = br#"0{"sid":"6f1c-uuid","upgrades":["websocket","x"],"pingInterval":300,"pingTimeout":200}"#;
        let handshake = Handshake::read(open).unwrap();
        assert_eq!(handshake.sid, "6f1c-uuid");
        assert!(handshake.offers_websocket());
        assert_eq!(handshake.times().ping_interval, Duration::from_millis(300));
        assert_eq!(handshake.max_payload, 0);
    }

    #[test]
    fn times_beyond_a_day_are_clamped() {
        let open =
            br#"0{"sid":"a","upgrades":[],"pingInterval":18446744073709551615,"pingTimeout":1}"#;
        let times = Handshake::read(open).unwrap().times();
        assert_eq!(times.ping_interval, Duration::from_secs(86_400));
    }

    #[test]
    fn invalid_handshake_is_not_a_socketio_server() {
        let long = format!(
            r#"0{{"sid":"{}","pingInterval":1,"pingTimeout":1}}"#,
            "x".repeat(257)
        );
        for text in ["", "<html>", "0", "0{}", r#"0{"sid":"a"}"#, "4hello", &long] {
            let error = Handshake::read(text.as_bytes()).unwrap_err();
            assert!(
                matches!(error, ClientError::NotSocketIo(_)),
                "{text}: {error}"
            );
        }
    }
}
