//! What is done once per worker for all sessions that belong to it: writing what is queued, and
//! sending pings at their time.
//!
//! An outbox holds the flusher of its worker, and the engine runs it. This module knows sessions only
//! by what it does for them, which is writing and beating. It must not know outboxes, or each would
//! import the other.

mod flusher;
mod heartbeats;
mod timer_wheel;

pub(crate) use flusher::Flusher;
pub(in crate::engine::outbox) use flusher::{Flush, give_back};
pub(in crate::engine) use heartbeats::Heartbeats;
pub(in crate::engine::outbox) use heartbeats::{Beat, Rhythm};
pub(in crate::engine) use timer_wheel::TimerId;
