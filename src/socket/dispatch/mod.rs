//! Handlers: what makes a function one, and handlers at work.
//!
//! `life` starts those of a socket's end in here, `inbound` those of events, and `api` takes
//! handlers from the application. A handler is called once in place, kept when it waits, and never
//! trusted not to panic. Nothing in here may know in which order events start or when a socket
//! ends; it is handed one call at a time.

mod detached;
mod handler;
pub(crate) mod incoming;
mod middleware;
mod parameter;
mod running;

pub(crate) use handler::erase;
pub use handler::{Handler, Handling};
pub(crate) use incoming::MiddlewareRun;
pub use incoming::Verdict;
pub use middleware::Middleware;
pub use parameter::{Data, Extension, Needs, Parameter, Parameters, State};
pub(crate) use parameter::{Unmet, unmet};
pub(crate) use running::{Call, Running};
