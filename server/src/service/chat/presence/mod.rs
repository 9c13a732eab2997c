//! Who is in a conversation and who types, here and at other servers of the store, and what is told of it
//! within a budget; and what users say of themselves.
//!
//! The sequencer and the chat's handle come in here. These are data: events and the time go in,
//! announcements come out. Nothing in here may know sockets beyond their ids, or wait for anything.

pub(in crate::service) mod conversation;
pub(in crate::service) mod notices;
pub(in crate::service) mod remote;
pub(in crate::service) mod status;
pub(in crate::service) mod typing;
