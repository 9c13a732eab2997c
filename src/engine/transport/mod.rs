//! What a session is read from and written to: byte streams, and the WebSockets on them.
//!
//! There are two kinds of streams, TCP and everything else, and no third one is added from outside.
//! The outbox holds streams to write to them, sessions read WebSockets from them, and whoever
//! answers requests makes them out of connections. This module must not know who does so: it has no
//! idea of sessions, of queues or of HTTP.

mod farewell;
mod stream;
mod wire;

pub(in crate::engine) use farewell::{dismiss, goodbye, pong};
pub(in crate::engine) use stream::MAX_DISCARDED;
pub(crate) use stream::{Duplex, Stream};
pub(in crate::engine) use wire::{Flow, MESSAGES_PER_TURN, ReadOutcome, Wire};
