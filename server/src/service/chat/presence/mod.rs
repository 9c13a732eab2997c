//! Presence and typing in a conversation, on all servers.
//!
//! Notices are limited by a budget. The sequencer and the chat's handle use this module. Its types
//! are plain data: events and the time go in, notices come out. It must not know sockets beyond
//! their ids, and must not wait.

pub(in crate::service) mod conversation;
pub(in crate::service) mod losses;
pub(in crate::service) mod notices;
pub(in crate::service) mod remote;
pub(in crate::service) mod typing;
