//! Sessions: one task each (the driver), which reads the transports of its session, keeps its
//! deadlines, runs its upgrade and its end, and tells the application; and the table of all
//! sessions.
//!
//! `http` imports this module to open and to find sessions, and the application above implements
//! the trait in it. It must not know HTTP, nor from which listener a client has come. The struct of
//! the whole engine is defined here because drivers hold it; what only HTTP needs of it is added in
//! `http`, as further methods.

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
mod timer;
mod upgrade;

pub(crate) use application::{Application, SessionHandler};
#[cfg(test)]
pub(in crate::engine) use driver::Driver;
pub(crate) use engine::Engine;
pub(in crate::engine) use opening::Opening;
pub use raw::{RawEngine, RawSession};
