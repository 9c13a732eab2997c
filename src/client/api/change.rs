use std::fmt;

use roomcast_protocol::engine::CloseReason;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::ClientError;

/// What happens to the connection that all sockets of a [`Client`](super::Client) share: the events
/// of the official client's `Manager`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// `open`: there is a session; the namespaces are entered now.
    Open,
    /// `close`: the session has ended.
    Close(DisconnectReason),
    /// `error`: there was no session to be had: why.
    Error(String),
    /// `reconnect_attempt`: an attempt begins, the first of which is 1.
    ReconnectAttempt(u32),
    /// `reconnect`: this attempt has brought a session.
    Reconnect(u32),
    /// `reconnect_error`: an attempt has failed: why.
    ReconnectError(String),
    /// `reconnect_failed`: that was the last attempt. The next one is made when a socket is told to
    /// connect.
    ReconnectFailed,
}

/// Why a socket was disconnected, in the words of the official client: what the event `disconnect`
/// has as its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server has disconnected the socket. It stays disconnected until it is told to connect.
    #[serde(rename = "io server disconnect")]
    ServerDisconnect,
    /// [`Socket::disconnect`](super::Socket::disconnect) was called.
    #[serde(rename = "io client disconnect")]
    ClientDisconnect,
    /// The server sent no ping within the times that it had announced.
    #[serde(rename = "ping timeout")]
    PingTimeout,
    /// The server has ended the session or the transport.
    #[serde(rename = "transport close")]
    TransportClose,
    /// The transport failed, or the server did not answer in time.
    #[serde(rename = "transport error")]
    TransportError,
    /// The server sent what is no packet.
    #[serde(rename = "parse error")]
    ParseError,
    /// [`Client::close`](super::Client::close) was called.
    #[serde(rename = "forced close")]
    ForcedClose,
}

impl DisconnectReason {
    /// Whether the client connects again by itself, if it may.
    #[must_use]
    pub const fn reconnects(self) -> bool {
        match self {
            Self::ServerDisconnect | Self::ClientDisconnect | Self::ForcedClose => false,
            Self::PingTimeout | Self::TransportClose | Self::TransportError | Self::ParseError => {
                true
            }
        }
    }

    /// The reason that an error of the connection is for sockets.
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Packet(_) => Self::ParseError,
            ClientError::Closed(CloseReason::PingTimeout) => Self::PingTimeout,
            ClientError::Closed(CloseReason::TransportClose) => Self::TransportClose,
            ClientError::Closed(CloseReason::ParseError) => Self::ParseError,
            ClientError::Closed(_)
            | ClientError::Options(_)
            | ClientError::Unreachable(_)
            | ClientError::Timeout(_)
            | ClientError::NotSocketIo(_)
            | ClientError::Status { .. }
            | ClientError::Refused { .. }
            | ClientError::Unexpected(_)
            | ClientError::Disconnected(_)
            | ClientError::Io(_)
            | ClientError::Frame(_)
            | ClientError::Full
            | ClientError::Encode(_)
            | ClientError::Answer(_) => Self::TransportError,
        }
    }
}

/// The words of the official client.
impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ServerDisconnect => "io server disconnect",
            Self::ClientDisconnect => "io client disconnect",
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
        })
    }
}

/// Why a socket could not connect: what the event `connect_error` has as its argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectError {
    /// What the server said, or why it could not be reached; `timeout` if it did not answer in time.
    pub message: String,
    /// What the server sent along.
    pub data: Option<Value>,
}

impl ConnectError {
    pub(crate) fn of(error: &ClientError) -> Self {
        match error {
            ClientError::Refused { message, data, .. } => Self {
                message: message.clone(),
                data: data.clone(),
            },
            ClientError::Timeout(_) => Self::new("timeout"),
            ClientError::Options(_)
            | ClientError::Unreachable(_)
            | ClientError::NotSocketIo(_)
            | ClientError::Status { .. }
            | ClientError::Unexpected(_)
            | ClientError::Disconnected(_)
            | ClientError::Closed(_)
            | ClientError::Io(_)
            | ClientError::Frame(_)
            | ClientError::Packet(_)
            | ClientError::Full
            | ClientError::Encode(_)
            | ClientError::Answer(_) => Self::new(error.to_string()),
        }
    }

    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            data: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_read_and_written_in_the_words_of_the_official_client() {
        for reason in [
            DisconnectReason::ServerDisconnect,
            DisconnectReason::ClientDisconnect,
            DisconnectReason::PingTimeout,
            DisconnectReason::TransportClose,
            DisconnectReason::TransportError,
            DisconnectReason::ParseError,
            DisconnectReason::ForcedClose,
        ] {
            let json = serde_json::to_value(reason).unwrap();
            assert_eq!(json, reason.to_string());
            assert_eq!(
                serde_json::from_value::<DisconnectReason>(json).unwrap(),
                reason
            );
        }
    }
}
