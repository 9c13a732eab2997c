//! The client for applications, against a server in a process of its own.
//!
//! `official` has the cases of the official client's tests under their names. They run against the contract
//! server `client_suite` of this repository, and against the official server when
//! `TEST_SERVER_CLIENT_SUITE="node tests/interop/client_suite.mjs"` is set, as `tests/run interop` does.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod disconnect;
mod fake;
mod handlers;
mod official;
mod parsers;
mod proxy;
mod sessions;
mod suite;
mod tls;
