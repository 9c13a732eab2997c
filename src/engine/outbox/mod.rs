//! What waits to be sent to a session, and how it leaves.
//!
//! An outbox is the sending side of a session. Everybody who has something for a client holds a
//! handle to it, and whoever comes first writes what is queued. Sessions, whatever answers
//! requests, and all that sends from outside of the engine import this module. It must not know
//! drivers: what it wants of a driver it leaves in a queue, and wakes the driver.
//!
//! The states of an outbox and the transitions between them are described in [`states`].

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
