//! The room router: the rooms of a namespace, their members, and the delivery of a frame to all of
//! them.
//!
//! `core` holds these tables in namespaces and sockets, and forwards joins, leaves and sends. Here,
//! a member of a room is an id and an outbox. This module must not know sockets, namespaces, events
//! or the application. Under a lock, it only calls a filter with the id of a recipient.

mod members;
mod router;

pub(crate) use members::{Collected, Except, Joined, Members, Observed, Pushing, RoomCell, Tally};
pub(crate) use router::Rooms;
