//! Defines handlers and runs them.
//!
//! `life` starts the handlers of a disconnect through this module, and `inbound` those of events.
//! `api` accepts handlers from the application. A handler is called and polled once in place,
//! stored as a future if it waits, and guarded against panics.
//!
//! This module runs single calls. It must not know the order of events or when a socket ends.

mod detached;
mod handler;
pub(crate) mod incoming;
mod middleware;
mod parameter;
mod running;

pub(crate) use handler::erase;
pub use handler::{Handler, HandlerFuture};
pub use incoming::IntoIncoming;
pub(crate) use incoming::MiddlewareRun;
pub use middleware::Middleware;
pub use parameter::{
    ContractParameters, Data, Extension, Parameter, Parameters, Requirement, State,
};
pub(crate) use parameter::{Unmet, unmet};
pub(crate) use running::{Call, Running};
