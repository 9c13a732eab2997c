use std::{fmt, io};

use roomcast_protocol::{DecodeError, engine::CloseReason, socket, websocket::FrameError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Refusal;

/// The error of a client: it could not connect, its connection ended, or a call failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// An option is invalid. Contains the description of the fault.
    Options(String),
    /// The address cannot be found or reached.
    Unreachable(io::Error),
    /// An operation timed out. Contains the name of the operation.
    Timeout(&'static str),
    /// The peer is not a Socket.IO server of protocol 5. Contains a description of its response.
    NotSocketIo(String),
    /// The server refused the session before any namespace was entered.
    Status {
        /// HTTP status code of the response.
        status: u16,
        /// Body of the response, shortened.
        message: String,
    },
    /// The server refused the namespace, or an event by its acknowledgement.
    Refused {
        /// Error code for programs. Empty if the server sends none.
        code: String,
        /// Error message for people.
        message: String,
        /// The attached data: the `data` of a `CONNECT_ERROR`, or the `error` of an
        /// acknowledgement.
        data: Option<Value>,
    },
    /// An unexpected event arrived. Contains its name.
    Unexpected(String),
    /// The socket is disconnected. Contains the reason.
    Disconnected(DisconnectReason),
    /// The connection or the session ended.
    Closed(CloseReason),
    /// The connection broke.
    Io(io::Error),
    /// The server broke RFC 6455 or sent more than `max_message` allows.
    Frame(FrameError),
    /// The server sent an invalid packet.
    Packet(DecodeError),
    /// The send queue exceeds `max_queued`.
    Full,
    /// The data to send cannot be encoded.
    Encode(socket::EncodeError),
    /// The acknowledgement does not match the expected type.
    Answer(socket::ArgumentError),
}

impl ClientError {
    /// Returns a constant name for tables and counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Options(_) => "options",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::NotSocketIo(_) => "not_socketio",
            Self::Status { .. } => "refused",
            Self::Refused { .. } => "namespace_refused",
            Self::Unexpected(_) => "unexpected_event",
            Self::Disconnected(_) => "disconnected",
            Self::Closed(reason) => reason.name(),
            Self::Io(_) => "transport_error",
            Self::Frame(_) => "frame_error",
            Self::Packet(_) => "parse_error",
            Self::Full => "queue_full",
            Self::Encode(_) => "encode_error",
            Self::Answer(_) => "answer_error",
        }
    }

    /// The error after the client's task has ended with its runtime.
    pub(super) const DRIVER_ENDED: Self = Self::Disconnected(DisconnectReason::ForcedClose);

    /// Returns a copy of the error, for a further caller that waits for the same outcome.
    pub(crate) fn copy(&self) -> Self {
        let io = |error: &io::Error| io::Error::new(error.kind(), error.to_string());
        match self {
            Self::Options(reason) => Self::Options(reason.clone()),
            Self::Unreachable(error) => Self::Unreachable(io(error)),
            Self::Timeout(reason) => Self::Timeout(reason),
            Self::NotSocketIo(reason) => Self::NotSocketIo(reason.clone()),
            Self::Status { status, message } => Self::Status {
                status: *status,
                message: message.clone(),
            },
            Self::Refused {
                code,
                message,
                data,
            } => Self::Refused {
                code: code.clone(),
                message: message.clone(),
                data: data.clone(),
            },
            Self::Unexpected(event) => Self::Unexpected(event.clone()),
            Self::Disconnected(reason) => Self::Disconnected(*reason),
            Self::Closed(reason) => Self::Closed(*reason),
            Self::Io(error) => Self::Io(io(error)),
            Self::Frame(error) => Self::Frame(*error),
            Self::Packet(error) => Self::Packet(*error),
            Self::Full => Self::Full,
            // `socket::EncodeError` contains a `serde_json` error, which cannot be cloned.
            Self::Encode(error) => Self::Options(error.to_string()),
            Self::Answer(error) => Self::Answer(error.clone()),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Options(reason) => f.write_str(reason),
            Self::Unreachable(error) => write!(f, "cannot connect: {error}"),
            Self::Timeout(reason) => write!(f, "{reason} took too long"),
            Self::NotSocketIo(reason) => write!(f, "not a Socket.IO server: {reason}"),
            Self::Status { status, message } => {
                write!(f, "the server refuses clients with status {status}")?;
                let separator = if message.is_empty() { "" } else { ": " };
                write!(f, "{separator}{message}")
            }
            Self::Refused { code, message, .. } if code.is_empty() => {
                write!(f, "the server refuses: {message}")
            }
            Self::Refused { code, message, .. } => {
                write!(f, "the server refuses: {message} ({code})")
            }
            Self::Unexpected(event) => write!(f, "the unexpected event `{event}` arrived"),
            Self::Disconnected(reason) => reason.fmt(f),
            Self::Closed(reason) => reason.fmt(f),
            Self::Io(error) => write!(f, "transport error: {error}"),
            Self::Frame(error) => write!(f, "transport error: {error}"),
            Self::Packet(error) => write!(f, "parse error: {error}"),
            Self::Full => f.write_str("the send queue is full"),
            Self::Encode(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        None // The message includes the source.
    }
}

impl From<DecodeError> for ClientError {
    fn from(error: DecodeError) -> Self {
        Self::Packet(error)
    }
}

/// An internal error of the client's application. The server receives no details.
impl From<ClientError> for Refusal {
    fn from(error: ClientError) -> Self {
        Self::internal().because(error.to_string())
    }
}

impl From<FrameError> for ClientError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

/// The reason why a socket was disconnected: the argument of the event `disconnect`.
///
/// The texts are those of the official client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The server disconnected the socket. It stays disconnected until the application connects it.
    #[serde(rename = "io server disconnect")]
    ServerDisconnect,
    /// [`Socket::disconnect`](crate::client::Socket::disconnect) was called.
    #[serde(rename = "io client disconnect")]
    ClientDisconnect,
    /// The server sent no ping within its announced interval and timeout.
    #[serde(rename = "ping timeout")]
    PingTimeout,
    /// The server ended the session or the transport.
    #[serde(rename = "transport close")]
    TransportClose,
    /// The transport failed, or the server did not answer in time.
    #[serde(rename = "transport error")]
    TransportError,
    /// The server sent an invalid packet.
    #[serde(rename = "parse error")]
    ParseError,
    /// [`Client::close`](crate::client::Client::close) was called.
    #[serde(rename = "forced close")]
    ForcedClose,
}

impl DisconnectReason {
    /// Returns whether the client reconnects by itself, if reconnection is enabled.
    #[must_use]
    pub const fn reconnects(self) -> bool {
        match self {
            Self::ServerDisconnect | Self::ClientDisconnect | Self::ForcedClose => false,
            Self::PingTimeout | Self::TransportClose | Self::TransportError | Self::ParseError => {
                true
            }
        }
    }

    /// Returns the disconnect reason for a connection error.
    pub(crate) fn of(error: &ClientError) -> Self {
        if let ClientError::Packet(_) = error {
            return Self::ParseError;
        }
        let ClientError::Closed(reason) = error else {
            return Self::TransportError;
        };
        match reason {
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::ParseError => Self::ParseError,
            CloseReason::TransportError
            | CloseReason::ForcedClose
            | CloseReason::ServerShutdown
            | CloseReason::Overflow
            | _ => Self::TransportError,
        }
    }
}

/// Writes the text of the official client.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disconnect_reason_serializes_as_in_the_official_client() {
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
