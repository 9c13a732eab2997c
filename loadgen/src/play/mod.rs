//! Plays runs: the preflight, the threads, their observation, and the final checks on the server.
//!
//! Only the root of this package imports this folder, and exports [`run()`] and [`compare`]. This
//! folder imports all other folders. It must not know what a single client does with a message, or
//! how a report looks.

mod chat;
mod interrupts;
mod open_files;
mod preflight;
mod progress;
mod run;
mod turns;

pub use run::{BenchError, run};
pub use turns::compare;
