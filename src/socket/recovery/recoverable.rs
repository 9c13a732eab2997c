//! What a socket and the outboxes are told when sessions can be recovered.

use super::offer::Pid;
use crate::{config, engine::Limits};

/// What the outboxes are told to keep.
pub(crate) fn limits(recovery: &config::Recovery) -> Limits {
    Limits {
        messages: recovery.max_messages,
        bytes: recovery.max_bytes,
        total: recovery.max_total_bytes,
    }
}

/// What a socket has whose session can be recovered.
#[derive(Debug)]
pub(crate) struct Recoverable {
    pub(crate) pid: Pid,
    /// Whether it has been.
    pub(crate) recovered: bool,
}

impl Recoverable {
    pub(crate) fn new() -> Self {
        Self {
            pid: Pid::random(),
            recovered: false,
        }
    }

    /// The same, after the client has come back.
    pub(crate) fn again(&self) -> Self {
        Self {
            pid: self.pid,
            recovered: true,
        }
    }
}
