//! The things that make up a queue: frames, those that may give way, those that may be asked for
//! again, those on their way into the kernel, what all of them cost together, and who has most.
//!
//! The rest of the outbox is made of them and imports them; others see only the limits and the
//! cost. They must not know the queue they are in, nor whose it is.

mod conflation;
mod frames;
mod heaviest;
mod memory_budget;
mod outgoing;
mod replay_buffer;

pub(in crate::engine::outbox) use conflation::Conflation;
pub(crate) use conflation::DropPolicy;
pub(in crate::engine::outbox) use frames::Frames;
pub(in crate::engine::outbox) use heaviest::Filed;
pub(in crate::engine) use heaviest::{Class, Shed};
pub(in crate::engine::outbox) use memory_budget::FRAME_OVERHEAD;
pub(in crate::engine) use memory_budget::MemoryBudget;
pub(in crate::engine::outbox) use outgoing::Outgoing;
pub(crate) use replay_buffer::Limits;
pub(in crate::engine::outbox) use replay_buffer::{Kept, ReplayBuffer};
