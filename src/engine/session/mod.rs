//! Sessions: one task each (the driver), and the table of all sessions.
//!
//! The driver reads the transports of its session, tracks its deadlines, runs its upgrade and its
//! end, and notifies the application.
//!
//! `http` imports this module to open and find sessions. The application implements its
//! [`Application`] trait. This module must not know HTTP or the listeners. [`Engine`] is defined
//! here because drivers hold it; `http` adds methods that only HTTP needs.

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
