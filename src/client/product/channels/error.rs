use std::{error, fmt, time::Duration};

use serde_json::Value;

use crate::{Refusal, client::ClientError};

/// The error of a [`Channel`](super::Channel).
#[derive(Debug)]
#[non_exhaustive]
pub enum ChannelError {
    /// The server refused the request.
    Refused {
        /// The error code, such as `NOT_FOUND` or `RATE_LIMITED`.
        code: String,
        /// The error message for people.
        message: String,
        /// How long to wait before the request is sent again, if the server names a time.
        retry_after: Option<Duration>,
        /// The field of the request that is wrong, such as `data.items[1].price`, if it is one.
        field: Option<String>,
    },
    /// The request failed, or was not answered within the [`timeout`](super::Channel::timeout).
    Request(ClientError),
    /// The function for a [token](super::ChannelToken) failed. Contains its error.
    Token(String),
    /// The socket has a [`Subscription`](super::Subscription) to this channel.
    AlreadySubscribed,
}

impl ChannelError {
    /// Returns whether a later attempt to subscribe again may succeed.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            // Connections that the server has not yet given up count towards the limits of a user.
            Self::Refused { code, .. } => matches!(
                &**code,
                "RATE_LIMITED"
                    | "STORE_UNAVAILABLE"
                    | "BACKEND_UNAVAILABLE"
                    | "INTERNAL"
                    | "CONFLICT"
            ),
            Self::Request(error) => matches!(
                error,
                ClientError::Timeout(_) | ClientError::Disconnected(_) | ClientError::Full
            ),
            Self::Token(_) => true,
            Self::AlreadySubscribed => false,
        }
    }

    /// Returns whether the server refuses this field of the request.
    pub(super) fn is_about(&self, name: &str) -> bool {
        matches!(
            self,
            Self::Refused { code, field, .. }
                if code == "INVALID_PAYLOAD" && field.as_deref() == Some(name)
        )
    }

    /// Returns the time that the server names, or zero.
    pub(super) fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => retry_after.unwrap_or_default(),
            Self::Request(_) | Self::Token(_) | Self::AlreadySubscribed => Duration::ZERO,
        }
    }
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused { code, message, .. } => {
                write!(f, "the server refuses: {message} ({code})")
            }
            Self::Request(error) => error.fmt(f),
            Self::Token(error) => write!(f, "no token for the channel: {error}"),
            Self::AlreadySubscribed => f.write_str(
                "the socket is subscribed to this channel: use that subscription, or drop it first",
            ),
        }
    }
}

impl error::Error for ChannelError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        None // The message includes the source.
    }
}

impl From<ClientError> for ChannelError {
    fn from(error: ClientError) -> Self {
        let ClientError::Refused {
            code,
            message,
            data,
        } = error
        else {
            return Self::Request(error);
        };
        let data = data.unwrap_or_default();
        let retry_after = data.get("retryAfter").and_then(Value::as_u64);
        let field = data.pointer("/details/field").and_then(Value::as_str);
        Self::Refused {
            code,
            message,
            retry_after: retry_after.map(Duration::from_millis),
            field: field.map(str::to_owned),
        }
    }
}

/// An internal error of the client's application. The server receives no details.
impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        Self::internal().because(error.to_string())
    }
}
