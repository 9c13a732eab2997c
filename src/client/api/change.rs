use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::{ClientError, DisconnectReason};

/// A change of the connection that all sockets of a [`Client`](super::Client) share.
///
/// The variants correspond to the events of the official client's `Manager`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Change {
    /// `open`: a session is open. The sockets connect to their namespaces next.
    Open,
    /// `close`: the session has ended.
    Close(DisconnectReason),
    /// `error`: no session could be opened, with the reason.
    Error(String),
    /// `reconnect_attempt`: an attempt begins. The first attempt is 1.
    ReconnectAttempt(u32),
    /// `reconnect`: this attempt opened a session.
    Reconnect(u32),
    /// `reconnect_error`: an attempt failed, with the reason.
    ReconnectError(String),
    /// `reconnect_failed`: the last attempt failed. The client tries again when the application
    /// connects a socket.
    ReconnectFailed,
}

/// Why a socket could not connect: the argument of the event `connect_error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectError {
    /// The server's message, or why the server is unreachable. `timeout` if the server did not
    /// answer in time.
    pub message: String,
    /// The data that the server sent with the message.
    pub data: Option<Value>,
}

/// Formats the message only.
impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.message)
    }
}

impl std::error::Error for ConnectError {}

impl ConnectError {
    pub(crate) fn of(error: &ClientError) -> Self {
        let (message, data) = if let ClientError::Refused { message, data, .. } = error {
            (message.clone(), data.clone())
        } else if let ClientError::Timeout(_) = error {
            ("timeout".to_owned(), None)
        } else {
            (error.to_string(), None)
        };
        Self { message, data }
    }
}
