//! Handlers: what makes a function a handler, and running handlers.
//!
//! `life` starts the handlers of a socket's end through this module, `inbound` those of events, and
//! `api` takes handlers from the application. A handler is called and polled once in place, kept as
//! a future when it waits, and never trusted not to panic. Nothing in this module may know in which
//! order events start or when a socket ends; it is given one call at a time.

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
pub use parameter::{ContractParameters, Data, Extension, Needs, Parameter, Parameters, State};
pub(crate) use parameter::{Unmet, unmet};
pub(crate) use running::{Call, Running};
