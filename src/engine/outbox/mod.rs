//! Queues the frames of a session and writes them.
//!
//! An outbox is the sending side of a session. All code that sends to a client holds a handle to
//! it, and the first task that gets to it writes the queue. Sessions, HTTP request handlers, and
//! senders outside of the engine import this module. It must not know drivers: it leaves control
//! messages in a queue and wakes the driver.
//!
//! The outbox owns the transport of its session. `queue/states` describes the states of an outbox
//! and their transitions.

mod batch;
mod flushing;
mod handle;
mod handover;
mod pings;
mod polls;
mod push;
mod queue;
#[cfg(feature = "fuzzing")]
mod test_outboxes;
mod waiting;
mod worker;

pub(crate) use batch::Batch;
pub(in crate::engine) use handle::Attaching;
pub(crate) use handle::Outbox;
#[cfg(test)]
pub(in crate::engine) use handle::OutboxInner;
pub(in crate::engine) use polls::PollOutcome;
pub(crate) use push::{Mode, Push};
pub(in crate::engine) use queue::requests::{
    Control, PendingPoll, PollAnswer, PostAnswer, encode_payload,
};
pub(in crate::engine) use queue::{Budget, IterationRemains, Sink};
#[cfg(feature = "fuzzing")]
pub(crate) use test_outboxes::TestOutboxes;
pub(in crate::engine) use waiting::MemoryBudget;
pub(crate) use waiting::{DropPolicy, Limits};
pub(crate) use worker::Flusher;
pub(in crate::engine) use worker::{Heartbeats, TimerId};
