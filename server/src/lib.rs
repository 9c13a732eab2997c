//! The server on top of the library: authenticated chat with presence, delivery confirmations and
//! storage, rate limits, and an HTTP API.
//!
//! The public items are for its own binary, tests and benchmarks.

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

/// Entry points of benchmarks; not part of the API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::limit::bench::Limited;
}
