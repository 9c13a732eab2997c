//! Replies to requests, and the reasons why replies are missing.

use std::{fmt, sync::Arc};

use roomcast_protocol::socket::Args;

use super::NodeId;
use crate::names::SocketId;

/// One item of a reply to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// The acknowledgement of one client.
    Acknowledgement {
        /// The socket that acknowledged, if the other server names it.
        socket: Option<SocketId>,
        /// The acknowledgement, or `None` if the client disconnected.
        args: Option<Args>,
    },
    /// Sockets: one argument, a list of objects with `id`, `rooms`, `handshake` and `data`.
    Sockets(Args),
    /// The answer of a server.
    Answer(Args),
}

/// The servers that have not answered a request completely.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Unanswered {
    /// The servers whose names are known.
    pub nodes: Vec<NodeId>,
    /// The number of further servers, if the adapter only counts servers.
    pub unnamed: usize,
    /// The error, if the other servers could not be queried or their names could not be determined.
    pub error: Option<AdapterError>,
}

impl Unanswered {
    /// Returns whether no answer is missing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.unnamed == 0 && self.error.is_none()
    }

    pub(crate) const fn none() -> Self {
        Self {
            nodes: Vec::new(),
            unnamed: 0,
            error: None,
        }
    }

    /// Creates the value for a request that could not be sent. No servers are known.
    pub(crate) fn failed(error: AdapterError) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

/// The reason why a message does not reach other servers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AdapterError {
    /// The adapter is closed.
    Closed,
    /// The queue is full.
    Full,
    /// The message is too large for the transport.
    TooLarge,
    /// The transport did not respond in time.
    Timeout,
    /// The transport failed.
    Transport(Arc<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for AdapterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the adapter is closed",
            Self::Full => "the queue for other servers is full",
            Self::TooLarge => "the message is too large for other servers",
            Self::Timeout => "the transport between servers has not answered in time",
            Self::Transport(error) => {
                return write!(f, "the transport between servers has failed: {error}");
            }
        })
    }
}

/// `source` is `None`, because the text contains all details.
impl std::error::Error for AdapterError {}
