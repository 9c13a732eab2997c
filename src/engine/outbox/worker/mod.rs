//! Tasks that run once per worker for all of its sessions: writing queued frames and sending due
//! pings.
//!
//! An outbox holds the flusher of its worker, and the engine runs it. This module knows sessions
//! only through [`Flush`] and [`PingTarget`]. It must not know outboxes, because each would then
//! import the other.

mod flusher;
mod heartbeats;
mod timer_wheel;

pub(crate) use flusher::Flusher;
pub(in crate::engine::outbox) use flusher::{Flush, give_back};
pub(in crate::engine) use heartbeats::Heartbeats;
pub(in crate::engine::outbox) use heartbeats::{PingTarget, PingTiming};
pub(in crate::engine) use timer_wheel::TimerId;
