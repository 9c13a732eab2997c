//! Effectively-once handlers: a repeated event receives the first answer without a second effect.
//!
//! Stock clients with the option `retries` send an event again when its acknowledgement is late.
//! The repeat has a new id and no mark, so only the application can identify equal events.
//!
//! Applications wrap a handler with this module before they register it. No other module imports
//! it. It uses an event and the answer of a handler. It must not know namespaces, connections or
//! incoming packets.

mod idempotent;
mod table;

pub use idempotent::{Idempotent, argument, field, idempotent};
