//! Handlers: what makes a function one, and handlers at work.
//!
//! `life` starts those of a socket's end in here, `inbound` those of events, and `api` takes
//! handlers from the application. A handler is called once in place, kept when it waits, and never
//! trusted not to panic. Nothing in here may know in which order events start or when a socket
//! ends; it is handed one call at a time.

mod detached;
mod handler;
pub(crate) mod incoming;
mod running;

pub(crate) use handler::erase;
pub use handler::{Handler, Parameter, State};
pub(crate) use incoming::Checking;
pub use incoming::Verdict;
pub(crate) use running::{Call, Running};
