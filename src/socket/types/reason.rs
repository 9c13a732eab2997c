use std::fmt;

use roomcast_protocol::engine::CloseReason;
use serde::{Deserialize, Serialize};

/// Why a socket was disconnected, with the texts of the official server.
///
/// A handler of `disconnecting` or `disconnect` may take it as its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The client left the namespace.
    #[serde(rename = "client namespace disconnect")]
    ClientNamespaceDisconnect,
    /// The server called [`Socket::disconnect`](crate::Socket::disconnect), or the principal
    /// expired.
    #[serde(rename = "server namespace disconnect")]
    ServerNamespaceDisconnect,
    /// The server closed the connection: the client joined no namespace in time, or sent an
    /// unexpected packet.
    #[serde(rename = "forced server close")]
    ForcedServerClose,
    /// The connection ended, for example because a tab was closed or the network was left.
    #[serde(rename = "transport close")]
    TransportClose,
    /// The connection failed.
    #[serde(rename = "transport error")]
    TransportError,
    /// The client answered no ping.
    #[serde(rename = "ping timeout")]
    PingTimeout,
    /// The client sent an invalid Engine.IO packet, or an invalid MessagePack packet.
    #[serde(rename = "parse error")]
    ParseError,
    /// The server closed the connection: an invalid Socket.IO packet in JSON, or
    /// [`Socket::drop_connection`](crate::Socket::drop_connection).
    #[serde(rename = "forced close")]
    ForcedClose,
    /// The server shuts down.
    #[serde(rename = "server shutting down")]
    ServerShuttingDown,
    /// The client was too slow, or sent faster than its events were handled.
    #[serde(rename = "overflow")]
    Overflow,
}

impl DisconnectReason {
    /// Returns the official server's name of the reason.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientNamespaceDisconnect => "client namespace disconnect",
            Self::ServerNamespaceDisconnect => "server namespace disconnect",
            Self::ForcedServerClose => "forced server close",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
            Self::ServerShuttingDown => "server shutting down",
            Self::Overflow => "overflow",
        }
    }

    /// Returns whether the client may recover its socket, if the server allows it; see
    /// [`Builder::recovery`](crate::Builder::recovery).
    ///
    /// The official server includes `server shutting down`. Here, the sessions are lost when the
    /// server stops.
    #[must_use]
    pub const fn is_recoverable(self) -> bool {
        match self {
            Self::ForcedServerClose
            | Self::TransportClose
            | Self::TransportError
            | Self::PingTimeout
            | Self::ForcedClose => true,
            Self::ClientNamespaceDisconnect
            | Self::ServerNamespaceDisconnect
            | Self::ParseError
            | Self::ServerShuttingDown
            | Self::Overflow => false,
        }
    }

    /// Returns whether one side disconnected on purpose. Then no data was lost, and clients do not
    /// reconnect by themselves.
    #[must_use]
    pub const fn is_deliberate(self) -> bool {
        matches!(
            self,
            Self::ClientNamespaceDisconnect | Self::ServerNamespaceDisconnect
        )
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<CloseReason> for DisconnectReason {
    fn from(reason: CloseReason) -> Self {
        match reason {
            CloseReason::TransportClose => Self::TransportClose,
            CloseReason::PingTimeout => Self::PingTimeout,
            CloseReason::ParseError => Self::ParseError,
            CloseReason::ForcedClose => Self::ForcedClose,
            CloseReason::ServerShutdown => Self::ServerShuttingDown,
            CloseReason::Overflow => Self::Overflow,
            // Future reasons of the engine count as transport errors.
            CloseReason::TransportError | _ => Self::TransportError,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::DisconnectReason;

    #[test]
    fn reason_is_written_as_in_the_official_server() {
        for reason in [
            DisconnectReason::ClientNamespaceDisconnect,
            DisconnectReason::ServerNamespaceDisconnect,
            DisconnectReason::ForcedServerClose,
            DisconnectReason::TransportClose,
            DisconnectReason::TransportError,
            DisconnectReason::PingTimeout,
            DisconnectReason::ParseError,
            DisconnectReason::ForcedClose,
            DisconnectReason::ServerShuttingDown,
            DisconnectReason::Overflow,
        ] {
            let json = serde_json::to_string(&reason).unwrap();
            assert_eq!(json, format!("\"{reason}\""));
            assert_eq!(
                serde_json::from_str::<DisconnectReason>(&json).unwrap(),
                reason
            );
        }
    }
}
