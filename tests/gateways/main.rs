//! The events of the product over real connections to the real server.

#![cfg(feature = "sqlite")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod acknowledged;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod admins;
#[cfg(all(feature = "postgres", feature = "redis"))]
mod alerts;
mod annotations;
mod api;
mod audited;
mod backup;
#[cfg(feature = "postgres")]
#[path = "../support/broker.rs"]
mod broker;
mod bundled;
mod canary;
mod changes;
mod channels;
mod chat;
mod churn;
mod client;
mod command_line;
mod config;
mod confirm;
mod conflation;
mod continued;
mod conversations;
mod corrections;
mod credentials;
mod deletion;
#[cfg(feature = "postgres")]
#[cfg(feature = "postgres")]
#[path = "../support/grants.rs"]
mod documented;
mod durability;
mod erasure;
mod erasure_tables;
mod exact;
#[cfg(feature = "postgres")]
mod feed;
mod fitness;
mod guard;
mod guests;
mod health;
mod hooks;
mod html;
mod input;
mod invites;
mod join_limits;
#[cfg(feature = "postgres")]
mod joining;
#[cfg(feature = "postgres")]
mod leases;
mod limits;
mod log_floods;
mod logs;
#[cfg(feature = "postgres")]
mod lookups;
#[cfg(feature = "postgres")]
mod lost;
mod market;
mod memory;
mod mentions;
mod metrics;
#[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
#[path = "../support/nats.rs"]
mod nats_server;
#[cfg(feature = "postgres")]
mod nodes;
mod notification_history;
mod notifications;
#[cfg(feature = "postgres")]
mod order;
mod orders;
#[cfg(feature = "postgres")]
mod outage;
mod patience;
#[cfg(feature = "postgres")]
mod point_in_time;
#[path = "../support/port.rs"]
mod port;
#[cfg(feature = "postgres")]
#[path = "../support/postgres.rs"]
mod postgres;
mod presence;
mod price_ends;
mod prices;
#[path = "../support/proxy.rs"]
mod proxy;
#[cfg(feature = "postgres")]
mod publications;
mod published;
#[cfg(all(feature = "postgres", feature = "redis"))]
#[path = "../support/redis.rs"]
mod redis_server;
mod refused;
mod reloads;
mod retention;
#[cfg(feature = "postgres")]
mod rights;
mod rotation;
#[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
mod sealing;
#[cfg(feature = "postgres")]
mod secrets;
mod security;
mod sending;
mod server;
mod service_manager;
mod sides;
mod signals;
mod starting;
mod status;
mod store_health;
mod supervision;
#[path = "../support/mod.rs"]
mod support;
mod timestamps;
mod tls;
mod tls_edge;
mod tls_tickets;
mod tools;
mod trace;
mod traced;
mod trades;
mod unread;
mod withdrawals;
mod written;
