//! What the engine wants of whatever runs on top of it.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::engine::{CloseReason, Message};

use crate::engine::{admission::Handshake, outbox::Outbox};

/// What runs on top of Engine.IO sessions. All but `open` is called from the session's
/// own task, so a connection needs no lock.
pub(crate) trait Application: Send + Sync + Sized + 'static {
    /// State of one session.
    type Connection: Send + 'static;

    /// A session has been opened.
    fn open(
        self: &Arc<Self>,
        session: Outbox,
        handshake: Arc<Handshake>,
        now: Instant,
    ) -> Self::Connection;

    /// A message has come in. An error ends the session.
    fn message(
        &self,
        connection: &mut Self::Connection,
        message: Message,
        now: Instant,
    ) -> Result<(), CloseReason>;

    /// Drives what waits. Ready ends the session.
    fn poll(&self, connection: &mut Self::Connection, cx: &mut Context<'_>) -> Poll<CloseReason>;

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self, connection: &Self::Connection) -> Option<Instant>;

    /// A deadline has come. An error ends the session.
    fn handle_timeout(
        &self,
        connection: &mut Self::Connection,
        now: Instant,
    ) -> Result<(), CloseReason>;

    /// The session has gone over to WebSocket.
    fn upgraded(&self, connection: &mut Self::Connection);

    /// The client has answered a ping.
    fn heartbeat(&self, _connection: &mut Self::Connection) {}

    /// Everything queued has left; only told once after [`Outbox::watch_drain`].
    fn drained(&self, _connection: &mut Self::Connection) {}

    /// More about why the session is about to end.
    fn describe(&self, _connection: &mut Self::Connection, _description: &'static str) {}

    /// The session is over. Called exactly once.
    fn close(&self, connection: Self::Connection, reason: CloseReason);
}
