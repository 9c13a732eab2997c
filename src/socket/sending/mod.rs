//! Sends events to one socket or to many, with or without acknowledgements.
//!
//! Applications access this module through `api` and `apply`. The server also uses it, to notify
//! clients of expiring credentials. An event is encoded once, stamped if it is replayable, and
//! pushed into outboxes. Callers that request acknowledgements wait here.
//!
//! This module must not start handlers, or know how clients connect and disconnect.

mod ack;
mod acks;
mod direct;
mod emit;
mod outgoing;

pub use ack::AckFuture;
pub use acks::Acks;
pub(crate) use acks::BroadcastRequest;
pub use direct::Direct;
pub use emit::Emitted;
pub(crate) use emit::{encode, mode, stream};
