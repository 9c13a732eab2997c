//! The router of rooms: which socket is in which room of a namespace, and how one frame reaches all
//! of them.
//!
//! `core` holds these tables in namespaces and sockets, and passes on whoever joins, leaves or sends.
//! A member of a room is an id and an outbox here. Nothing in this module may know sockets,
//! namespaces, events or the application. The only thing called under a lock is a filter, with
//! the id of a recipient.

mod joined;
mod members;
mod router;

pub(crate) use joined::Joined;
pub(crate) use members::{Except, Members, Pushing, RoomCell, Tally};
pub(crate) use router::Rooms;
