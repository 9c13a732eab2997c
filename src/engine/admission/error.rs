//! The error that describes a refused request to the application.

use std::fmt;

use roomcast_protocol::engine::Transport;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::view::EngineRequest;

/// A request that Engine.IO refused, like `connection_error` of the official server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionError {
    /// The refused request.
    pub request: EngineRequest,
    /// The error code in the response, 0 to 5.
    pub code: u16,
    /// The message in the response.
    pub message: String,
    /// The details of the error.
    pub context: ErrorContext,
}

/// The details of an invalid request.
///
/// It serializes as the `context` object of the official server. Values from the client are
/// unmodified, so treat them as untrusted when logging.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorContext {
    /// Code 0: the transport is not one of the configured transports.
    UnknownTransport {
        /// The value as the client sent it.
        transport: String,
    },
    /// Code 1: no session has this id.
    UnknownSid {
        /// The value as the client sent it.
        sid: String,
    },
    /// Code 2: only GET may open a session.
    BadHandshakeMethod {
        /// The value as the client sent it.
        method: String,
    },
    /// Code 3: `Origin` contains invalid characters, or is present twice.
    InvalidOrigin {
        /// The value as the client sent it.
        origin: String,
    },
    /// Code 3: the session uses another transport.
    TransportMismatch {
        /// The value as the client sent it.
        transport: String,
        /// The session's transport.
        previous_transport: Transport,
    },
    /// Code 3: a WebSocket request lacks the upgrade headers, or a polling request has them.
    TransportHandshakeError,
    /// Code 3: [`generate_id`](crate::Builder::generate_id) failed.
    IdGenerationError {
        /// The text of its error.
        error: String,
    },
    /// Code 3, for any other reason, such as a query that is too long.
    BadRequest,
    /// Code 4: [`allow_request`](crate::Builder::allow_request) or the origin check refused the
    /// request.
    Forbidden {
        /// The reason.
        message: String,
    },
    /// Code 5: `EIO` is not 4.
    UnsupportedProtocolVersion {
        /// The value as the client sent it; empty if it is missing.
        protocol: String,
    },
}

impl ErrorContext {
    /// Returns the name of the error; the official name if there is one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::UnknownTransport { .. } => "UNKNOWN_TRANSPORT",
            Self::UnknownSid { .. } => "UNKNOWN_SID",
            Self::BadHandshakeMethod { .. } => "BAD_HANDSHAKE_METHOD",
            Self::InvalidOrigin { .. } => "INVALID_ORIGIN",
            Self::TransportMismatch { .. } => "TRANSPORT_MISMATCH",
            Self::TransportHandshakeError => "TRANSPORT_HANDSHAKE_ERROR",
            Self::IdGenerationError { .. } => "ID_GENERATION_ERROR",
            Self::BadRequest => "BAD_REQUEST",
            Self::Forbidden { .. } => "FORBIDDEN",
            Self::UnsupportedProtocolVersion { .. } => "UNSUPPORTED_PROTOCOL_VERSION",
        }
    }

    fn field(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::UnknownTransport { transport } | Self::TransportMismatch { transport, .. } => {
                Some(("transport", transport))
            }
            Self::UnknownSid { sid } => Some(("sid", sid)),
            Self::BadHandshakeMethod { method } => Some(("method", method)),
            Self::InvalidOrigin { origin } => Some(("origin", origin)),
            Self::IdGenerationError { error } => Some(("error", error)),
            Self::Forbidden { message } => Some(("message", message)),
            Self::UnsupportedProtocolVersion { protocol } => Some(("protocol", protocol)),
            Self::TransportHandshakeError | Self::BadRequest => None,
        }
    }
}

impl Serialize for ErrorContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", self.name())?;
        if let Some((name, value)) = self.field() {
            map.serialize_entry(name, value)?;
        }
        if let Self::TransportMismatch {
            previous_transport, ..
        } = self
        {
            map.serialize_entry("previousTransport", previous_transport)?;
        }
        map.end()
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.context.name())
    }
}

/// There is no source, because the text contains the reason.
impl std::error::Error for ConnectionError {}

/// Writes the name of the error and the invalid value.
impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field() {
            Some((name, value)) => write!(f, "{}: {name} {value:?}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}
