//! The server on top of the library: authenticated chat with presence, confirmation of delivery and
//! storage, rate limits, and an HTTP API.
//!
//! What is public is for its own binary, tests and benches.

pub mod auth;
mod breaker;
pub mod cli;
pub mod config;
mod gateway;
pub mod http;
mod limit;
pub mod metrics;
mod server;
mod service;
pub mod store;
pub mod supervisor;

/// Entry points of benches; not part of the API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::limit::bench::Limited;
}
