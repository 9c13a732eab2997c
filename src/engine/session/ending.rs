//! The end of a session, and its deadline.

use std::time::{Duration, Instant};

use roomcast_protocol::websocket::CloseCode;

/// Maximum time for a peer to close its side after the server has closed its own. Also the maximum
/// time for a polling client to fetch the close packet after the last queued packets.
const LINGER: Duration = Duration::from_secs(1);

/// The kind of a session's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer is disconnected or must be disconnected: nothing is flushed.
    Disconnected,
    /// Queued frames are flushed before the close frame or packet is sent.
    Flush(CloseCode),
    /// The client sent a close packet.
    Answered,
    /// The peer has closed its WebSocket, possibly with a code, and sends nothing more.
    Closed(Option<CloseCode>),
}

/// The state of a session that has ended but whose transport is still open.
pub(super) struct Ending {
    pub(super) end: End,
    pub(super) deadline: Instant,
    /// Set once everything has been written and only the peer's close is awaited: the number of
    /// bytes that may still be read.
    pub(super) lingering: Option<usize>,
}

impl Ending {
    pub(super) fn new(end: End, now: Instant, deadline: Instant) -> Self {
        let mut ending = Self {
            end,
            deadline,
            lingering: None,
        };
        if !matches!(end, End::Flush(_)) {
            ending.hurry(now);
        }
        ending
    }

    /// Shortens the deadline to [`LINGER`].
    pub(super) fn hurry(&mut self, now: Instant) {
        self.deadline = self.deadline.min(now + LINGER);
    }

    /// Returns whether the client or the application ended the session, as opposed to a fault.
    /// After a fault only a waiting poll receives a response, and no poll that was unhandled when
    /// the session ended.
    pub(super) fn is_orderly(&self) -> bool {
        self.end != End::Disconnected
    }
}
