//! Transports of sessions: byte streams, and WebSockets on them.
//!
//! There are two kinds of streams, TCP and all others; further kinds are not added from outside. A
//! stream also knows how the messages on it are compressed ([`deflate`]), so that an idle
//! connection needs no memory for that. The outbox writes to streams, sessions read WebSockets from
//! them, and `http` creates them from connections. This module must not know its users: sessions,
//! queues or HTTP.

mod control_frames;
mod deflate;
mod open_connection;
mod packets;
mod stream;
mod wire;

pub(in crate::engine) use control_frames::{close_unused, pong, send_close_frame};
pub(in crate::engine) use deflate::{Encoding, Sender};
pub(in crate::engine) use open_connection::OpenConnection;
pub(in crate::engine) use packets::{PostedPackets, packet_from_binary, packet_from_text};
pub(in crate::engine) use stream::MAX_DISCARDED;
pub(crate) use stream::{Duplex, Stream};
pub(in crate::engine) use wire::{Flow, MESSAGES_PER_ITERATION, ReadOutcome, Wire};
