//! Reasons for refusing requests: the official codes, and their representation for hooks.

use http::StatusCode;
use roomcast_protocol::engine::Transport;

use crate::{
    engine::admission::{ConnectionError, EngineRequest, ErrorContext},
    limit::{Reason, Refused, RetryAfter},
    metrics::Counter,
};

/// The reason for refusing a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine::http) enum RequestError {
    /// `transport` is not a transport of the server.
    UnknownTransport,
    /// `sid` is not the id of an open session.
    UnknownSession(Unknown),
    /// Only `GET` opens a session.
    BadMethod,
    /// The request is too large, or requires a disabled feature.
    BadRequest,
    /// The credential headers are larger than the stored maximum.
    CredentialsTooLarge,
    /// `Origin` is invalid, or present twice.
    InvalidOrigin,
    /// The session uses another transport, or the request names one transport and uses another.
    TransportMismatch(Transport),
    /// The handshake is inconsistent: WebSocket without the upgrade headers, or the reverse.
    TransportHandshake,
    /// No id could be generated for the session.
    IdGeneration(Box<str>),
    /// The origin is not allowed.
    ForeignOrigin,
    /// The application denied the request.
    Denied(Box<str>),
    /// Too many sessions wait to be admitted.
    Busy(RetryAfter),
    /// Too many sessions are opened.
    Crowded(RetryAfter),
    /// The server is draining.
    Draining(RetryAfter),
    /// The request has forged forwarding headers.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "forwarding headers are not checked")
    )]
    Forged,
    /// The guard refused the request.
    Refused(Refused),
    /// `EIO` is not a revision that the server accepts.
    UnsupportedVersion,
    /// The client polls with scripts (JSONP), which the server does not support.
    ScriptPolling,
    /// The WebSocket handshake is malformed (RFC 6455, 4.2.1).
    BadHandshake,
    /// `Sec-WebSocket-Version` is not 13.
    BadWebSocketVersion,
}

/// Why a session is unknown. Clients receive the same response for all reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::http) enum Unknown {
    /// `sid` does not have the form of an id, or is present twice.
    Malformed,
    /// This server never had such a session, or it ended so long ago that its id is no longer
    /// stored.
    Never,
    /// The session has ended.
    Ended,
    /// The session belongs to another server, but no registered server owns it.
    Unowned,
    /// The session belongs to another server, which cannot be reached.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "no request is forwarded")
    )]
    Unreached,
    /// Another server forwarded the request to this server, which does not own the session either.
    Misdirected,
}

impl Unknown {
    /// Returns the reason for the log.
    fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "session id malformed",
            Self::Never => "session id unknown",
            Self::Ended => "session over",
            Self::Unowned => "session of no known server",
            Self::Unreached => "session not reached",
            Self::Misdirected => "session of a third server",
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Malformed => Counter::RejectedSessionMalformed,
            Self::Never => Counter::RejectedSession,
            Self::Ended => Counter::RejectedSessionOver,
            Self::Unowned => Counter::RejectedSessionUnowned,
            Self::Unreached => Counter::RejectedSessionUnreached,
            Self::Misdirected => Counter::RejectedSessionMisdirected,
        }
    }
}

/// The message for clients that poll with scripts.
const NO_JSONP: &str = "JSONP is not supported: use polling without `j`, or WebSocket";

impl RequestError {
    /// Returns the code and message in the body of the response, and its HTTP status: the table of
    /// official codes.
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
            Self::ForeignOrigin | Self::Forged => (4, "Forbidden", StatusCode::FORBIDDEN),
            Self::Denied(message) => (4, message, StatusCode::FORBIDDEN),
            // The official server has no such refusals. They use the code of a forbidden request,
            // and a status that tells clients and load balancers how to react.
            Self::Busy(_) => (4, "Too many requests", StatusCode::SERVICE_UNAVAILABLE),
            Self::Crowded(_) => (4, "Too many connections", StatusCode::SERVICE_UNAVAILABLE),
            Self::Draining(_) => (4, "Server is stopping", StatusCode::SERVICE_UNAVAILABLE),
            Self::Refused(refused) => match refused.reason {
                Reason::Blocked => (4, "Forbidden", StatusCode::FORBIDDEN),
                Reason::Full => (4, "Too many connections", StatusCode::SERVICE_UNAVAILABLE),
                Reason::Rate | Reason::Address => {
                    (4, "Too many connections", StatusCode::TOO_MANY_REQUESTS)
                }
            },
            Self::ScriptPolling => (3, NO_JSONP, bad),
            Self::UnsupportedVersion => (5, "Unsupported protocol version", bad),
        }
    }

    /// Returns the time after which a retry may succeed.
    pub(super) fn retry_after(&self) -> Option<RetryAfter> {
        if let Self::Busy(after) | Self::Crowded(after) | Self::Draining(after) = self {
            Some(*after)
        } else if let Self::Refused(refused) = self {
            Some(RetryAfter::new(refused.retry_after))
        } else {
            None
        }
    }

    /// Returns the reason for the log. It contains no text from the client.
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
            | Self::ScriptPolling
            | Self::IdGeneration(_) => Counter::RejectedRequest,
            Self::ForeignOrigin | Self::Denied(_) => Counter::RejectedForbidden,
            Self::Forged => Counter::RejectedForged,
            Self::Busy(_) => Counter::RejectedBusy,
            Self::Crowded(_) => Counter::RejectedHandshakeRate,
            Self::Draining(_) => Counter::RejectedDraining,
            Self::Refused(_) => Counter::RejectedLimited,
            Self::UnsupportedVersion => Counter::RejectedVersion,
            Self::BadHandshake | Self::BadWebSocketVersion => Counter::RejectedHandshake,
        }
    }

    /// Returns the description for a hook.
    pub(in crate::engine::http) fn describe(&self, request: EngineRequest) -> ConnectionError {
        // The hook receives the official code and message; the context contains the text of the
        // application.
        let is_denied = matches!(
            self,
            Self::Forged
                | Self::Denied(_)
                | Self::Busy(_)
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
        let forbidden = |message: &str| ErrorContext::Forbidden {
            message: message.to_owned(),
        };
        match self {
            Self::UnknownTransport => ErrorContext::UnknownTransport {
                transport: query("transport"),
            },
            Self::UnknownSession(_) => ErrorContext::UnknownSid { sid: query("sid") },
            Self::BadMethod => ErrorContext::BadHandshakeMethod {
                method: request.method().to_string(),
            },
            Self::BadRequest | Self::CredentialsTooLarge | Self::ScriptPolling => {
                ErrorContext::BadRequest
            }
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
            Self::ForeignOrigin => forbidden(&format!("origin {}", request.lossy_header("origin"))),
            Self::Forged => forbidden(self.reason()),
            Self::Denied(_) | Self::Busy(_) | Self::Crowded(_) | Self::Draining(_) => {
                forbidden(self.answer().1)
            }
            Self::Refused(refused) => forbidden(refused.reason.name()),
            Self::UnsupportedVersion => ErrorContext::UnsupportedProtocolVersion {
                protocol: query("EIO"),
            },
        }
    }
}
