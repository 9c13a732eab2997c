//! How a session ends and until when.

use std::time::{Duration, Instant};

use roomcast_protocol::{engine::CloseReason, websocket::CloseCode};

/// How long a peer may take to close its side after ours, or to come for the close packet after it
/// was answered what was queued before.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer has gone or must go: nothing is flushed.
    Gone,
    /// What is queued is flushed before the peer is told.
    Flush(CloseCode),
    /// The client said goodbye first, in a packet.
    Answered,
    /// The peer has closed its WebSocket, perhaps with a code, and will send nothing more.
    Closed(Option<CloseCode>),
}

/// A session that is over but for its transport.
pub(super) struct Ending {
    pub(super) reason: CloseReason,
    pub(super) end: End,
    pub(super) deadline: Instant,
    /// Set once everything has been written and only the peer's own end is awaited: bytes that may
    /// be read until then.
    pub(super) lingering: Option<usize>,
}

impl Ending {
    pub(super) fn new(reason: CloseReason, end: End, now: Instant, deadline: Instant) -> Self {
        let deadline = match end {
            End::Flush(_) => deadline,
            End::Gone | End::Answered | End::Closed(_) => deadline.min(now + LINGER),
        };
        Self {
            reason,
            end,
            deadline,
            lingering: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Ends within a moment.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.deadline = self.deadline.min(now + LINGER);
    }

    /// Whether the session ends by the wish of the client or the application, and not by a fault.
    pub(super) fn is_orderly(&self) -> bool {
        self.end != End::Gone
    }

    /// Whether polls that nobody had looked at when the session ended are answered. If not, only
    /// one that waited is.
    pub(super) fn takes_polls(&self) -> bool {
        self.end != End::Gone
    }
}

impl std::fmt::Debug for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ending")
            .field("reason", &self.reason)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}
