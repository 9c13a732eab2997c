//! Connection state recovery: a client whose connection broke goes on as the same socket.
//!
//! What was lately sent to a client is kept by its outbox, and goes on being kept while it is away
//! (`engine/recent`). In here is who may ask for it: [`Sessions`] knows the secret of every
//! session, lets each be claimed once, and forgets them in time. It must not know what frames are.

mod channel;
pub(crate) mod fuzzing;
mod offer;
mod parked;
mod recoverable;
mod sessions;

pub(crate) use channel::{Channel, Numbered};
pub(crate) use offer::{Offer, Offset, Pid};
pub(crate) use recoverable::Recoverable;
pub(crate) use sessions::{Held, Sessions};
