//! What waits to be sent to a session, and how it leaves.
//!
//! An outbox is the sending side of a session: everybody who has something for a client holds one,
//! and whoever comes first writes what is queued. Sessions and whatever answers requests import
//! this room, and so does all that sends from outside of the engine. It must not know drivers: what
//! it wants of one it leaves in a queue, and wakes it.
//!
//! What an outbox can be in, and what becomes of it, is told in [`states`].

mod batch;
mod flushing;
mod handle;
mod handover;
mod pings;
mod polls;
mod push;
mod queue;
mod requests;
mod states;
#[cfg(feature = "fuzzing")]
mod unattended;
mod waiting;
mod worker;

pub(crate) use batch::Batch;
pub(crate) use handle::Outbox;
#[cfg(test)]
pub(in crate::engine) use handle::OutboxInner;
pub(in crate::engine) use handle::{Attaching, Rest};
pub(in crate::engine) use polls::Polled;
pub(crate) use push::{Mode, Push};
pub(in crate::engine) use requests::{Control, PendingPoll, PollAnswer, PostAnswer};
pub(in crate::engine) use states::{Budget, Sink};
#[cfg(feature = "fuzzing")]
pub(crate) use unattended::Unattended;
pub(in crate::engine) use waiting::MemoryBudget;
pub(crate) use waiting::{DropPolicy, Limits};
pub(crate) use worker::Flusher;
pub(in crate::engine) use worker::{Heartbeats, TimerId};
