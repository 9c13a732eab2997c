//! What waits to be sent to a session, and how it leaves.
//!
//! An outbox is the sending side of a session: everybody who has something for a client holds one,
//! and whoever comes first writes what is queued. Sessions and whatever answers requests import
//! this room, and so does all that sends from outside of the engine. It must not know drivers: what
//! it wants of one it leaves in a queue, and wakes it.
//!
//! The handle and the queue it guards are two files that know each other, as a queue names the
//! outbox that has taken over what it kept; all others know them in one direction.

mod batch;
mod control;
mod handle;
mod parked;
mod pings;
mod polls;
mod queue;
mod replay;
#[cfg(feature = "fuzzing")]
mod unattended;
mod waiting;
mod worker;

pub(crate) use batch::Batch;
pub(in crate::engine) use control::{Control, PostAnswer};
pub(in crate::engine) use handle::Attaching;
#[cfg(test)]
pub(in crate::engine) use handle::Inner;
pub(crate) use handle::{Mode, Outbox, Push};
pub(in crate::engine) use parked::{Parked, PollAnswer};
pub(in crate::engine) use polls::Polled;
pub(in crate::engine) use queue::{Budget, Sink};
#[cfg(feature = "fuzzing")]
pub(crate) use unattended::Unattended;
pub(in crate::engine) use waiting::Pressure;
pub(crate) use waiting::{Limits, Yielding};
pub(crate) use worker::Flusher;
pub(in crate::engine) use worker::{Heartbeats, Place};
