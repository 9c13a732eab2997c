//! Connection state recovery, as data: a client with a broken connection resumes its socket.
//!
//! The outbox of a session stores recent events for its client, also while the client is
//! disconnected. This module decides which client may receive them. It contains the secret of every
//! socket, the numbers of events, and the table of recoverable sockets with their expiry. `core`
//! holds these tables, and `life` uses them to claim, store and end sockets.
//!
//! The official server keeps one log of events per namespace. Here, several tasks push to a room
//! concurrently, so the order in which a session receives events is not the order of a log.
//! Therefore each session retains its own frames. The offset is the same for all recipients, so
//! that a broadcast stays one frame.
//!
//! This module must not know sockets or frames. The tables are generic over their values.

mod channel;
mod offer;
mod recoverable;
mod table;
mod unknown;

pub(crate) use channel::{Channel, Numbered};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use offer::Offset;
pub(crate) use offer::{EventOffset, LastOffset, Offer, Pid, Tag};
pub(crate) use recoverable::Recoverable;
pub(crate) use table::{KnownClient, RecoveryTable};
