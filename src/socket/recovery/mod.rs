//! Connection state recovery, as data: a client whose connection broke goes on as the same socket.
//!
//! The outbox of a session keeps what was lately sent to its client, and goes on keeping it while the
//! client is away. This module decides who may ask for that: it has the secret of every socket,
//! the numbers of events, and the table in which sockets are kept until they expire. `core` holds these
//! tables, and `life` claims, keeps and ends sockets with them. Nothing in this module may know
//! what a socket or a frame is: the tables are generic over what they keep.

mod channel;
mod offer;
mod recoverable;
mod table;
#[cfg(feature = "cluster")]
mod unknown;

pub(crate) use channel::{Channel, Numbered};
#[cfg(any(feature = "cluster", feature = "fuzzing"))]
pub(crate) use offer::Offset;
pub(crate) use offer::{EventOffset, Last, Offer, Pid, Tag};
pub(crate) use recoverable::Recoverable;
pub(crate) use table::{KnownClient, RecoveryTable};
