//! What the engine wants of whatever runs on top of it.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::engine::{CloseReason, Message};

use crate::engine::{admission::Handshake, outbox::Outbox};

/// What runs on top of Engine.IO.
pub(crate) trait Application: Send + Sync + 'static {
    /// A session has been opened.
    fn open(
        &self,
        session: Outbox,
        handshake: Arc<Handshake>,
        now: Instant,
    ) -> Box<dyn SessionHandler>;
}

/// What runs on top of one session. It is called from the session's own task alone, so it needs no
/// lock.
pub(crate) trait SessionHandler: Send + 'static {
    /// A message has come in. An error ends the session.
    fn message(&mut self, message: Message, now: Instant) -> Result<(), CloseReason>;

    /// Drives what waits. Ready ends the session.
    fn poll(&mut self, _cx: &mut Context<'_>) -> Poll<CloseReason> {
        Poll::Pending
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// A deadline has come. An error ends the session.
    fn handle_timeout(&mut self, _now: Instant) -> Result<(), CloseReason> {
        Ok(())
    }

    /// The session has gone over to WebSocket.
    fn upgraded(&mut self) {}

    /// The client has answered a ping.
    fn heartbeat(&mut self) {}

    /// Whether something is under way that its client has asked for, or that is asked of it.
    fn is_busy(&self) -> bool {
        false
    }

    /// Everything queued has left; only told once after [`Outbox::watch_drain`].
    fn drained(&mut self) {}

    /// More about why the session is about to end.
    fn describe(&mut self, _description: &'static str) {}

    /// The session is over. Called exactly once.
    fn close(self: Box<Self>, _reason: CloseReason) {}
}
