//! Who is in a conversation and who types, here and at other servers of the store, and what is told of it
//! within a budget.
//!
//! The sequencer and the chat's handle come in here. These are data: events and the time go in,
//! announcements come out. Nothing in here may know sockets beyond their ids, or wait for anything.

pub(in crate::service) mod conversation;
pub(in crate::service) mod elsewhere;
pub(in crate::service) mod notices;
pub(in crate::service) mod typing;
