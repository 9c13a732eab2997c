use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{ClientError, DisconnectReason};

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

/// Why a socket could not connect: what the event `connect_error` has as its argument.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectError {
    /// What the server said, or why it could not be reached; `timeout` if it did not answer in time.
    pub message: String,
    /// What the server sent along.
    pub data: Option<Value>,
}

/// The message alone.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl std::error::Error for ConnectError {}

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
