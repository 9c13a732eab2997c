//! What other servers say to an operation that asks, and why they do not.

use std::{fmt, sync::Arc};

use roomcast_protocol::socket::Args;

use super::NodeId;
use crate::names::SocketId;

/// One thing that a server says to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// The acknowledgement of one client.
    Acknowledgement {
        /// Who has acknowledged, if the other server says so.
        socket: Option<SocketId>,
        /// What the client has said; `None` if it has gone.
        args: Option<Args>,
    },
    /// Sockets: one argument, a list of objects with `id`, `rooms`, `handshake` and `data`.
    Sockets(Args),
    /// The answer of a server.
    Answer(Args),
}

/// Who has not answered a request, or not all of it.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Missing {
    /// The servers that are known by name.
    pub nodes: Vec<NodeId>,
    /// How many more there are, where the adapter only counts servers.
    pub unnamed: usize,
    /// Why the others could not be asked, or why nobody knows who they are.
    pub error: Option<AdapterError>,
}

impl Missing {
    /// Whether everybody has answered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.unnamed == 0 && self.error.is_none()
    }

    pub(crate) const fn nobody() -> Self {
        Self {
            nodes: Vec::new(),
            unnamed: 0,
            error: None,
        }
    }

    /// Nobody is known, because the other servers could not be asked.
    pub(crate) fn failed(error: AdapterError) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

/// Why something does not reach other servers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AdapterError {
    /// The adapter is closed.
    Closed,
    /// The queue is full: as much waits to be sent as may.
    Full,
    /// The transport carries nothing that large.
    TooLarge,
    /// The transport has not answered in time.
    Timeout,
    /// The transport has failed.
    Transport(Arc<dyn std::error::Error + Send + Sync>),
}

impl fmt::Display for AdapterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the adapter is closed",
            Self::Full => "too much waits for other servers",
            Self::TooLarge => "too large for other servers",
            Self::Timeout => "the transport between servers has not answered in time",
            Self::Transport(error) => {
                return write!(f, "the transport between servers has failed: {error}");
            }
        })
    }
}

/// There is no source, because the text says all that is known.
impl std::error::Error for AdapterError {}
