//! Effectively once: a repeated event gets the answer of the first one, and nothing is done twice.
//!
//! Stock clients with the option `retries` send an event again when its acknowledgement is late,
//! under a new id and with no mark: only the application knows by what two events are the same.
//!
//! Applications wrap a handler in here before they register it; nobody else comes in. It sees an
//! event and the answer of a handler, and must not know namespaces, connections or how packets
//! come.

mod idempotent;
mod table;

pub use idempotent::{Idempotent, argument, field, idempotent};
