//! Connection state recovery, as data: a client whose connection broke goes on as the same socket.
//!
//! What was lately sent to a client is kept by its outbox, and goes on being kept while it is away.
//! In here is who may ask for it: the secret of every session, what was numbered, and the table in
//! which sessions wait and are forgotten in time. `core` holds these tables, and `life` claims,
//! parks and ends sessions with them. Nothing in here may know what a socket or a frame is: the
//! tables are generic over what they keep.

mod channel;
mod offer;
mod recoverable;
mod sessions;

pub(crate) use channel::{Channel, Numbered};
pub(crate) use offer::{Offer, Offset, Pid, Tag};
pub(crate) use recoverable::Recoverable;
pub(crate) use sessions::{Held, Sessions};
