//! Behaviour of the server in its protocols, tested from outside, on servers in their own
//! processes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/broker.rs"]
mod broker;

#[path = "../support/custom_parsers.rs"]
mod custom_parsers;

#[path = "../support/local.rs"]
mod local;

#[path = "../support/nats.rs"]
mod nats_server;

#[path = "../support/port.rs"]
mod port;

#[path = "../support/postgres.rs"]
mod postgres_server;

#[path = "../support/random.rs"]
mod random;

#[path = "../support/redis.rs"]
mod redis_server;

mod acks;
mod binary;
mod client;
mod client_files;
mod close_reasons;
mod cluster;
mod conn;
mod contracts;
mod custom_parser;
mod deflate;
mod errors;
mod failures;
mod floats;
mod hooks;
mod hostile;
mod lifecycle;
mod listeners;
mod mount;
mod namespaces;
mod namespaces_added;
mod once;
mod options;
mod ordering;
mod paced;
mod packets;
mod parameters;
mod parsers;
mod recovery;
mod revoked;
mod rooms;
mod slow;
mod sockets;
mod stop;
mod supervision;
mod testing;
mod volatile;
