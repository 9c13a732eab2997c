//! Effectively once: a repeated event gets the answer of the first one, and nothing is done twice.
//!
//! Stock clients with the option `retries` send an event again when its acknowledgement is late,
//! under a new id and without a mark: only the application knows by what two events are the same.
//!
//! Applications wrap a handler with this module before they register it; no other module imports
//! it. It sees an event and the answer of a handler, and must not know namespaces, connections or
//! incoming packets.

mod idempotent;
mod table;

pub use idempotent::{Idempotent, argument, field, idempotent};
