//! What a socket and its outbox need for recovery.

use super::offer::Pid;
use crate::{config, engine::Limits};

/// The limits of what outboxes keep for recovery.
pub(crate) fn limits(recovery: &config::Recovery) -> Limits {
    Limits {
        messages: recovery.max_messages,
        bytes: recovery.max_bytes,
        total: recovery.max_total_bytes,
    }
}

/// What a socket has whose client may come back as the same socket.
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) pid: Pid,
    /// Whether this socket was recovered.
    pub(crate) recovered: bool,
}

impl Recoverable {
    pub(crate) fn new() -> Self {
        Self {
            pid: Pid::random(),
            recovered: false,
        }
    }

    /// What a socket has whose client has been on another server.
    pub(crate) const fn from_elsewhere(pid: Pid) -> Self {
        Self {
            pid,
            recovered: true,
        }
    }

    /// What the next socket has, as which the client has come back.
    pub(crate) fn again(&self) -> Self {
        Self {
            pid: self.pid,
            recovered: true,
        }
    }
}
