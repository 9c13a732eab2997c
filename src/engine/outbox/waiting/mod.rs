//! The parts of a queue: queued frames, replaceable frames, frames retained for replay, batches
//! being written, the memory account, and the heaviest sessions.
//!
//! The rest of the outbox imports these parts; other modules see only the limits and the cost. The
//! parts must not know the queue that contains them or its session.

mod conflation;
mod frames;
mod heaviest;
mod memory_budget;
mod outgoing;
mod replay_buffer;

pub(in crate::engine::outbox) use conflation::Conflation;
pub(crate) use conflation::DropPolicy;
pub(in crate::engine::outbox) use frames::Frames;
pub(in crate::engine::outbox) use heaviest::HeaviestEntry;
pub(in crate::engine) use heaviest::{Class, Sheddable};
pub(in crate::engine::outbox) use memory_budget::FRAME_OVERHEAD;
pub(in crate::engine) use memory_budget::MemoryBudget;
pub(in crate::engine::outbox) use outgoing::Outgoing;
pub(crate) use replay_buffer::Limits;
pub(in crate::engine::outbox) use replay_buffer::{ReplayBuffer, RetainOutcome};
