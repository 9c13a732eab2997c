//! Roomcast: a Socket.IO server.

pub mod config;
mod engine;
pub mod http;
pub mod metrics;
pub mod store;

pub use config::Config;
pub use engine::{Handshake, RawEngine, RawSession};
