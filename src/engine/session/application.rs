//! The interface between the engine and the layer above it.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::engine::{CloseReason, Message};

use crate::engine::{admission::Handshake, outbox::Outbox, primitives::LogSource};

/// The layer above Engine.IO.
pub(crate) trait Application: Send + Sync + 'static {
    /// Called when a session has been opened. Returns the handler of the session.
    fn open(
        &self,
        session: Outbox,
        handshake: Arc<Handshake>,
        now: Instant,
    ) -> Box<dyn SessionHandler>;
}

/// The layer above one session. It is called only by the session's own task, so it needs no lock.
pub(crate) trait SessionHandler: Send + 'static {
    /// Handles a message. An error ends the session.
    fn message(&mut self, message: Message, now: Instant) -> Result<(), CloseReason>;

    /// Drives pending work. `Ready` ends the session.
    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<CloseReason> {
        Poll::Pending
    }

    /// Drives work that has started, while all sessions are held after a stall of the process, and
    /// starts nothing. The work may hold what the application needs to catch up, such as a
    /// connection to its database.
    fn poll_started(&mut self, _cx: &mut Context<'_>) {}

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Called when a deadline has passed. An error ends the session.
    fn handle_timeout(&mut self, _now: Instant) -> Result<(), CloseReason> {
        Ok(())
    }

    /// Returns the client that log lines of the session are about.
    fn log_source(&self) -> Option<Arc<dyn LogSource>> {
        None
    }

    /// Called when the session has been upgraded to WebSocket.
    fn upgraded(&mut self) {}

    /// Called when the client has answered a ping.
    fn heartbeat(&mut self) {}

    /// Returns whether requests from or to the client are in flight.
    fn is_busy(&self) -> bool {
        false
    }

    /// Called once all queued frames have been sent, if [`Outbox::watch_drain`] was called.
    fn drained(&mut self) {}

    /// Passes details about the imminent end of the session.
    fn describe(&mut self, _description: &'static str) {}

    /// Called exactly once, when the session has ended.
    fn close(self: Box<Self>, _reason: CloseReason) {}
}
