//! What a function of the application learns of a request that was refused.

use std::fmt;

use roomcast_protocol::engine::Transport;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::view::EngineRequest;

/// A request that Engine.IO has refused, as `connection_error` of the official server tells it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionError {
    /// The request.
    pub request: EngineRequest,
    /// 0 to 5, as in the answer.
    pub code: u16,
    /// The text in the answer.
    pub message: String,
    /// What exactly was wrong.
    pub context: ErrorContext,
}

/// What exactly was wrong with a request. Serialized it is the `context` object of the official
/// server. What comes from the client is as it came: treat it as such when logging it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorContext {
    /// Code 0: not one of the configured transports.
    UnknownTransport {
        /// The value as the client said it.
        transport: String,
    },
    /// Code 1: no session has this id.
    UnknownSid {
        /// The value as the client said it.
        sid: String,
    },
    /// Code 2: a session is opened by GET only.
    BadHandshakeMethod {
        /// The value as the client said it.
        method: String,
    },
    /// Code 3: `Origin` has characters that none has, or there are two.
    InvalidOrigin {
        /// The value as the client said it.
        origin: String,
    },
    /// Code 3: the session is on another transport.
    TransportMismatch {
        /// The value as the client said it.
        transport: String,
        /// The session's.
        previous_transport: Transport,
    },
    /// Code 3: a WebSocket without the headers of one, or the reverse.
    TransportHandshakeError,
    /// Code 3: [`generate_id`](crate::Builder::generate_id) failed.
    IdGenerationError {
        /// What it said.
        error: String,
    },
    /// Code 3 for any other reason, as a query that is too long.
    BadRequest,
    /// Code 4: [`allow_request`](crate::Builder::allow_request) or the rule of origins refused it.
    Forbidden {
        /// Why.
        message: String,
    },
    /// Code 5: `EIO` is not 4.
    UnsupportedProtocolVersion {
        /// The value as the client said it, which is empty if it did not.
        protocol: String,
    },
}

impl ErrorContext {
    /// The name of the reason, the official one where there is one.
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

/// The error has no source, because its text has the reason.
impl std::error::Error for ConnectionError {}

/// The name of the reason, and what was wrong.
impl fmt::Display for ErrorContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field() {
            Some((name, value)) => write!(f, "{}: {name} {value:?}", self.name()),
            None => f.write_str(self.name()),
        }
    }
}
