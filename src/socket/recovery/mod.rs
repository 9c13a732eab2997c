//! Connection state recovery: a client whose connection broke goes on as the same socket.
//!
//! What was lately sent to a client is kept by its outbox, and goes on being kept while it is away
//! (`engine/recent`). In here is who may ask for it: [`Sessions`] knows the secret of every
//! session, lets each be claimed once, and forgets them in time. It must not know what frames are.

mod channel;
pub(crate) mod fuzzing;
mod offer;
mod parked;
mod sessions;

pub(crate) use channel::{Channel, Numbered};
pub(crate) use offer::{Offer, Offset, Pid};
pub(crate) use sessions::{Held, Sessions};

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
