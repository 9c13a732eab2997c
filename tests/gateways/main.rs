//! The events of the product over real connections to the real server.

#![cfg(all(feature = "server", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod changes;
mod chat;
mod client;
mod config;
mod credentials;
mod durability;
mod guard;
mod guests;
mod limits;
mod presence;
mod security;
mod server;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "tls")]
mod tls;
