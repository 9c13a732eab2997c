//! Sessions: one task each, which reads the transports of its session, keeps its time, runs its
//! upgrade and its end, and tells the application; and the table of all of them.
//!
//! Whatever answers requests imports it to open and to find sessions, and the application above
//! implements the trait in here. It must not know HTTP, nor from which listener a client has come.
//! The struct of the whole engine is at home here, as drivers hold it: what HTTP needs of it is
//! added there, in methods of its own.

mod alarm;
mod application;
mod closing;
mod draining;
mod driver;
mod ending;
mod engine;
mod load_shedding;
mod opening;
mod polling;
mod raw;
mod sessions;
mod upgrade;

pub(crate) use application::{Application, SessionHandler};
#[cfg(test)]
pub(in crate::engine) use driver::Driver;
pub(crate) use engine::Engine;
pub(in crate::engine) use opening::Opening;
pub use raw::{RawEngine, RawSession};
