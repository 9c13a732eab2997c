//! Roomcast: a Socket.IO server.

pub mod config;
pub mod metrics;
pub mod store;
