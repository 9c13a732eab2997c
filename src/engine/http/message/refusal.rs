//! Why requests are refused: the official codes, and what is made of them for a hook.

use http::StatusCode;
use roomcast_protocol::engine::Transport;

use crate::{
    engine::admission::{ConnectionError, EngineRequest, ErrorContext},
    limit::{Reason, Refused},
    metrics::Counter,
};

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::http) enum RequestError {
    /// `transport` is none of the server's.
    UnknownTransport,
    /// `sid` is no open session's.
    UnknownSession(Unknown),
    /// Only `GET` opens a session.
    BadMethod,
    /// The request is too large, or asks for what is switched off.
    BadRequest,
    /// There is more of the headers that prove who a client is than is kept of them.
    CredentialsTooLarge,
    /// `Origin` is no origin, or there are two.
    InvalidOrigin,
    /// The session is on another transport, or the request says one and uses another.
    TransportMismatch(Transport),
    /// A session cannot be opened like this: a WebSocket without its headers, or the reverse.
    TransportHandshake,
    /// No id could be made for the session.
    IdGeneration(Box<str>),
    /// The origin may not.
    ForeignOrigin,
    /// The application does not allow it.
    Denied(Box<str>),
    /// Too many sessions wait to be allowed.
    Busy,
    /// Sessions are opened too fast; in so many seconds there may be room.
    Crowded(u64),
    /// The server is about to stop; in so many seconds there may be another one.
    Draining(u64),
    /// The request pretends to be handed on by another server.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "nobody looks whether it is")
    )]
    Forged,
    /// The guard says no.
    Refused(Refused),
    /// `EIO` is not 4.
    UnsupportedVersion,
    /// The WebSocket handshake is malformed (RFC 6455, 4.2.1).
    BadHandshake,
    /// `Sec-WebSocket-Version` is not 13.
    BadWebSocketVersion,
}

/// Why nobody knows a session. Its client is told the same of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::http) enum Unknown {
    /// `sid` has not the form of an id, or comes twice.
    Malformed,
    /// There was no such session here, or it has ended so long ago that it is forgotten.
    Never,
    /// It has ended.
    Over,
    /// It is another server's, and no server is registered that has such sessions.
    Unowned,
    /// It is another server's, from which no answer can be had.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "no request is handed on")
    )]
    Unreached,
    /// Another server has handed the request on to this one, which has not such sessions either.
    Misdirected,
}

impl Unknown {
    /// For the log.
    fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "session id malformed",
            Self::Never => "session id unknown",
            Self::Over => "session over",
            Self::Unowned => "session of no known server",
            Self::Unreached => "session not reached",
            Self::Misdirected => "session of a third server",
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Malformed => Counter::RejectedSessionMalformed,
            Self::Never => Counter::RejectedSession,
            Self::Over => Counter::RejectedSessionOver,
            Self::Unowned => Counter::RejectedSessionUnowned,
            Self::Unreached => Counter::RejectedSessionUnreached,
            Self::Misdirected => Counter::RejectedSessionMisdirected,
        }
    }
}

impl RequestError {
    /// Number and text in the body of the answer, and its HTTP status: the one table of
    /// the official codes.
    pub(in crate::engine::http) fn answer(&self) -> (u16, &str, StatusCode) {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::UnknownTransport => (0, "Transport unknown", bad),
            Self::UnknownSession(_) => (1, "Session ID unknown", bad),
            Self::BadMethod => (2, "Bad handshake method", bad),
            Self::BadRequest
            | Self::InvalidOrigin
            | Self::TransportMismatch(_)
            | Self::TransportHandshake
            | Self::IdGeneration(_)
            | Self::BadHandshake => (3, "Bad request", bad),
            Self::CredentialsTooLarge => (
                3,
                "Bad request",
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            ),
            Self::BadWebSocketVersion => (3, "Bad request", StatusCode::UPGRADE_REQUIRED),
            Self::ForeignOrigin => (4, "Forbidden", StatusCode::FORBIDDEN),
            Self::Forged => (4, "Forbidden", StatusCode::FORBIDDEN),
            Self::Denied(message) => (4, message, StatusCode::FORBIDDEN),
            // The official server has no such refusals. They have the code of a forbidden request,
            // and a status by which clients and load balancers know what to do.
            Self::Busy => (4, "Too many requests", StatusCode::SERVICE_UNAVAILABLE),
            Self::Crowded(_) => (4, "Too many connections", StatusCode::SERVICE_UNAVAILABLE),
            Self::Draining(_) => (4, "Server is stopping", StatusCode::SERVICE_UNAVAILABLE),
            Self::Refused(refused) => match refused.reason {
                Reason::Blocked => (4, "Forbidden", StatusCode::FORBIDDEN),
                Reason::Full => (4, "Too many connections", StatusCode::SERVICE_UNAVAILABLE),
                Reason::Rate | Reason::Address => {
                    (4, "Too many connections", StatusCode::TOO_MANY_REQUESTS)
                }
            },
            Self::UnsupportedVersion => (5, "Unsupported protocol version", bad),
        }
    }

    /// Seconds after which trying again may make sense.
    pub(super) fn retry_after(&self) -> Option<u64> {
        match self {
            Self::Busy => Some(1),
            Self::Crowded(seconds) | Self::Draining(seconds) => Some(*seconds),
            Self::Refused(refused) => Some(refused.retry_after.as_secs_f64().ceil() as u64),
            Self::UnknownTransport
            | Self::UnknownSession(_)
            | Self::BadMethod
            | Self::BadRequest
            | Self::CredentialsTooLarge
            | Self::InvalidOrigin
            | Self::TransportMismatch(_)
            | Self::TransportHandshake
            | Self::IdGeneration(_)
            | Self::ForeignOrigin
            | Self::Forged
            | Self::Denied(_)
            | Self::UnsupportedVersion
            | Self::BadHandshake
            | Self::BadWebSocketVersion => None,
        }
    }

    /// Why the request was refused, for the log. Nothing of it is in the words of the client.
    pub(in crate::engine::http) fn reason(&self) -> &str {
        if matches!(self, Self::ForeignOrigin) {
            "origin not allowed"
        } else if matches!(self, Self::Forged) {
            "not handed on by a server"
        } else if matches!(self, Self::Denied(_)) {
            "denied by the application"
        } else if let Self::UnknownSession(unknown) = self {
            unknown.reason()
        } else {
            self.answer().1
        }
    }

    pub(in crate::engine::http) fn counter(&self) -> Counter {
        match self {
            Self::UnknownTransport => Counter::RejectedTransport,
            Self::UnknownSession(unknown) => unknown.counter(),
            Self::BadMethod => Counter::RejectedMethod,
            Self::BadRequest
            | Self::CredentialsTooLarge
            | Self::InvalidOrigin
            | Self::TransportMismatch(_)
            | Self::TransportHandshake
            | Self::IdGeneration(_) => Counter::RejectedRequest,
            Self::ForeignOrigin | Self::Denied(_) => Counter::RejectedForbidden,
            Self::Forged => Counter::RejectedForged,
            Self::Busy => Counter::RejectedBusy,
            Self::Crowded(_) => Counter::RejectedCrowded,
            Self::Draining(_) => Counter::RejectedDraining,
            Self::Refused(_) => Counter::RejectedLimited,
            Self::UnsupportedVersion => Counter::RejectedVersion,
            Self::BadHandshake | Self::BadWebSocketVersion => Counter::RejectedHandshake,
        }
    }

    /// What a hook is told of a request.
    pub(in crate::engine::http) fn tell(&self, request: EngineRequest) -> ConnectionError {
        // The hook learns the official code and text; the context has what the application said.
        let is_denied = matches!(
            self,
            Self::Forged
                | Self::Denied(_)
                | Self::Busy
                | Self::Crowded(_)
                | Self::Draining(_)
                | Self::Refused(_)
        );
        let official = if is_denied {
            &Self::ForeignOrigin
        } else {
            self
        };
        let (code, message, _) = official.answer();
        ConnectionError {
            code,
            message: message.to_owned(),
            context: self.context(&request),
            request,
        }
    }

    fn context(&self, request: &EngineRequest) -> ErrorContext {
        let query = |name| request.query_value(name).unwrap_or_default();
        match self {
            Self::UnknownTransport => ErrorContext::UnknownTransport {
                transport: query("transport"),
            },
            Self::UnknownSession(_) => ErrorContext::UnknownSid { sid: query("sid") },
            Self::BadMethod => ErrorContext::BadHandshakeMethod {
                method: request.method().to_string(),
            },
            Self::BadRequest | Self::CredentialsTooLarge => ErrorContext::BadRequest,
            Self::InvalidOrigin => ErrorContext::InvalidOrigin {
                origin: request.lossy_header("origin"),
            },
            Self::TransportMismatch(previous) => ErrorContext::TransportMismatch {
                transport: query("transport"),
                previous_transport: *previous,
            },
            Self::TransportHandshake | Self::BadHandshake | Self::BadWebSocketVersion => {
                ErrorContext::TransportHandshakeError
            }
            Self::IdGeneration(error) => ErrorContext::IdGenerationError {
                error: error.to_string(),
            },
            Self::ForeignOrigin => ErrorContext::Forbidden {
                message: format!("origin {}", request.lossy_header("origin")),
            },
            Self::Forged => ErrorContext::Forbidden {
                message: self.reason().to_owned(),
            },
            Self::Denied(message) => ErrorContext::Forbidden {
                message: message.to_string(),
            },
            Self::Busy => ErrorContext::Forbidden {
                message: "Too many requests".to_owned(),
            },
            Self::Crowded(_) => ErrorContext::Forbidden {
                message: "Too many connections".to_owned(),
            },
            Self::Draining(_) => ErrorContext::Forbidden {
                message: "Server is stopping".to_owned(),
            },
            Self::Refused(refused) => ErrorContext::Forbidden {
                message: refused.reason.name().to_owned(),
            },
            Self::UnsupportedVersion => ErrorContext::UnsupportedProtocolVersion {
                protocol: query("EIO"),
            },
        }
    }
}
