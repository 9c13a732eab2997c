//! Items that all modules of the engine import: the clock, unguessable ids, the id of a connection
//! in logs, the peer of a connection, a guard for gauges, and the gate that holds all sessions.
//!
//! This module contains only plain values and short functions. It must not depend on any other
//! module: not on connections, sessions or their contents.

mod clock;
mod connection_id;
mod gauge_guard;
mod log_scope;
mod peer;
mod random;
mod stall_gate;

pub(in crate::engine) use clock::now;
pub use connection_id::ConnectionId;
pub(in crate::engine) use gauge_guard::GaugeGuard;
pub(crate) use log_scope::LogSource;
pub use log_scope::{LogFields, LogScope, current_log_fields};
pub(crate) use peer::Peer;
pub(crate) use random::random_sid;
pub(crate) use stall_gate::{OnStall, StallGate};
