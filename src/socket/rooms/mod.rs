//! The router of rooms: who is in which room of a namespace, and how one frame reaches all of them.
//!
//! Namespaces and sockets, which hold these tables, come in from `core`, and so does whoever joins,
//! leaves or sends. A member in here is an id and an outbox. Nothing in here may know sockets,
//! namespaces, events or the application, and it calls nobody back while it holds a lock but with
//! the id of a recipient.

mod joined;
mod members;
mod router;

pub(crate) use joined::Joined;
pub(crate) use members::{Except, Members, Pushing, RoomCell, Tally};
pub(crate) use router::Rooms;
