//! Sends events to one socket or to many, with or without acknowledgement.
//!
//! Applications reach this module through `api` and `apply`. The server itself sends as well, when
//! it tells a client that its credentials end. An event is encoded once, stamped if it may be
//! replayed, and pushed into outboxes; callers that want acknowledgements wait here. Nothing in
//! this module may start handlers, or know how clients connect and disconnect.

mod ack;
mod acks;
mod direct;
mod emit;
mod outgoing;

pub use ack::AckFuture;
pub use acks::Acks;
pub(crate) use acks::Question;
pub use direct::Direct;
pub use emit::Emitted;
pub(crate) use emit::{encode, mode, stream};
