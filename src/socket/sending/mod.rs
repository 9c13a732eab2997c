//! An event's way out: to one socket or to many, with or without an answer.
//!
//! Applications come in here through `api` and `apply`; the server itself sends as well, when it tells a client
//! that its credentials end. An event is encoded once, stamped if it may be asked for again, and
//! pushed into outboxes; who waits for answers waits here. Nothing in here may start handlers, or
//! know how clients come and go.

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
