//! The client library against a server in another process.
//!
//! `official` has the cases of the official client's tests under their names. They run against this
//! repository's contract server `client_suite`. With
//! `TEST_SERVER_CLIENT_SUITE="node tests/interop/client_suite.mjs"` they run against the official
//! server, as in `tests/run interop`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod channels;
mod disconnect;
mod fake;
mod handlers;
mod official;
mod parsers;
#[path = "../support/proxy.rs"]
mod proxy;
mod sessions;
mod suite;
mod tls;
mod writing;
