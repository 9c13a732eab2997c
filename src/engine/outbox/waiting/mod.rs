//! The things that make up a queue: frames, those that may give way, those that may be asked for
//! again, those on their way into the kernel, what all of them cost together, and who has most.
//!
//! The rest of the outbox is made of them and imports them; others see only the limits and the
//! cost. They must not know the queue they are in, nor whose it is.

mod frames;
mod heaviest;
mod lossy;
mod outgoing;
mod pressure;
mod recent;

pub(in crate::engine::outbox) use frames::Frames;
pub(in crate::engine::outbox) use heaviest::Filed;
pub(in crate::engine) use heaviest::{Class, Shed};
pub(in crate::engine::outbox) use lossy::Lossy;
pub(crate) use lossy::Yielding;
pub(in crate::engine::outbox) use outgoing::Outgoing;
pub(in crate::engine::outbox) use pressure::FRAME_OVERHEAD;
pub(in crate::engine) use pressure::Pressure;
pub(crate) use recent::Limits;
pub(in crate::engine::outbox) use recent::{Kept, Recent};
