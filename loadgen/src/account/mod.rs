//! The account of a run: numbers of messages, times, faults, the messages that a chat has stored, and
//! the resources that the processes have used.
//!
//! `clients` and `play` fill it in, and `report` reads it. Of the other folders it imports only `load`,
//! for the plan and the stamps. It must not know how messages travel, nor in which words or shape its
//! figures are told: figures go in, figures come out, and those of several threads add up.

mod completion;
mod ledger;
mod process;
mod stats;
mod stored;
mod times;

pub(crate) use ledger::{Arrival, Total, Track};
pub(crate) use process::{Process, Samples};
pub(crate) use stats::Stats;
pub(crate) use stored::{Book, Stored};
pub(crate) use times::Times;
