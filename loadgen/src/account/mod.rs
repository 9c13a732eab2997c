//! The figures of a run: message counts, times, errors, the messages that a chat has stored, and
//! the resource usage of the processes.
//!
//! `clients` and `play` fill it in, and `report` reads it. Of the other folders, it imports only
//! `load`, for the plan and the stamps. It must not know how messages are transported or how
//! figures are formatted. The figures of several threads can be merged.

mod completion;
mod ledger;
mod process;
mod stats;
mod stored;
mod times;

pub(crate) use ledger::{Arrival, SenderTotal, Track};
pub(crate) use process::{Process, Samples};
pub(crate) use stats::{Faults, Slow, Stats, Tally};
pub(crate) use stored::{Book, Stored};
pub(crate) use times::{Point, Times};
