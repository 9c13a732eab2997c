//! The outcome of operations on other servers.

use std::sync::Arc;

use roomcast_protocol::socket::EncodeError;

use crate::{
    adapter::{AdapterError, Request, Unanswered},
    socket::types::EmitError,
};

/// The result of an operation on other servers.
pub(crate) enum RemoteOutcome {
    /// There are no other servers, the operation is local, or it failed on this server.
    None,
    /// The operation was published, and expects no answer.
    Published,
    /// The operation was published, and other servers will answer.
    Requested(Request),
    /// The operation was not published.
    Failed(Unpublished),
}

impl RemoteOutcome {
    /// Returns why the operation must not be applied to the sockets of this server either.
    pub(crate) fn refusal(&self) -> Option<EmitError> {
        match self {
            Self::Failed(Unpublished::Adapter(AdapterError::TooLarge)) => Some(EmitError::TooLarge),
            Self::Failed(_) | Self::None | Self::Published | Self::Requested(_) => None,
        }
    }
}

/// Why an operation was not published.
pub(crate) enum Unpublished {
    Encode(EncodeError),
    Adapter(AdapterError),
    /// Too many requests are pending.
    TooManyPending,
}

impl Unpublished {
    /// Converts this failure to that of a request whose answers are all missing.
    pub(crate) fn missing(self) -> Unanswered {
        Unanswered::failed(match self {
            Self::Adapter(error) => error,
            Self::Encode(error) => AdapterError::Transport(Arc::new(error)),
            Self::TooManyPending => AdapterError::Full,
        })
    }
}
