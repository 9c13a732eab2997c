//! One suite for every store, and tests of what only one of them does.

#![cfg(any(feature = "postgres", feature = "sqlite"))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

mod annotations;
mod audit;
mod blocks;
#[cfg(feature = "postgres")]
#[path = "../support/broker.rs"]
mod broker;
mod changes;
mod conversations;
mod deletion;
mod deliveries;
#[cfg(feature = "postgres")]
#[path = "../support/grants.rs"]
mod documented;
mod emission;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod export;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
mod feed;
#[cfg(feature = "postgres")]
mod groups;
mod harness;
mod invites;
mod journals;
mod keys;
#[cfg(feature = "postgres")]
mod leases;
mod logins;
mod order;
#[cfg(feature = "postgres")]
mod plans;
#[cfg(feature = "postgres")]
#[path = "../support/port.rs"]
mod port;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod publications;
mod quotas;
#[path = "../support/random.rs"]
mod random;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod retention;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod server;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statuses;
mod store;
#[path = "../support/mod.rs"]
mod support;
#[cfg(feature = "postgres")]
mod tls;
