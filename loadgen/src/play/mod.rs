//! Runs from their beginning to their end: what is tried before, the threads, what is watched
//! meanwhile, and what is asked of the server afterwards.
//!
//! Nothing in this package imports it but the root, which gives [`run()`] and [`compare`] to whoever
//! starts a run. It imports all other folders. It must not know what a single client does with a
//! message, nor how a report looks.

mod chat;
mod interrupts;
mod open_files;
mod preflight;
mod progress;
mod run;
mod turns;

pub use run::{BenchError, run};
pub use turns::compare;
