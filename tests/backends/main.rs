//! One suite for every store, and what only one of them can show.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod blocks;
mod harness;
mod logins;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
