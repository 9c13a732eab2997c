//! The chat: messages, conversations and their members, and the events that clients receive.
//!
//! Gateways call methods of the handle, one file per feature: `messages`, `history`,
//! `conversations`, `members`, `invites`, `attendance`. Methods that execute a client's command
//! take an [`Allowed`](super::Allowed) command.
//!
//! `emission` receives commits, `sequencer` emits them in order, `presence` tracks the users in
//! each conversation, and `servers` applies the changes of other servers. Gateways and the
//! composition root call this module. It must not know how an event is parsed, or whether a token
//! or a login proved a user's role.

mod attendance;
mod connections;
mod conversations;
mod emission;
mod handle;
mod history;
mod invites;
mod members;
mod messages;
pub(in crate::service) mod presence;
mod retention;
pub(in crate::service) mod sequencer;
mod servers;

pub(in crate::service) use attendance::UserLocations;
pub(crate) use attendance::{FoundStatus, Pins, ReadPins, ReadStatus, WhoIsIn};
pub(crate) use conversations::{
    ConversationList, FindConversations, FoundConversation, ReadConversation,
};
pub(crate) use handle::Chat;
pub(crate) use history::ReadMessages;
pub(crate) use messages::streams::{RequestWriter, WriteEnd, Written};
pub(crate) use retention::Retention;
pub(in crate::service) use sequencer::{
    conversations::is_room_of_conversation,
    delivery::{is_user_room, user_room},
};
pub(crate) use servers::{ConversationNews, HandoverData, HandoverError, Leases, StatusNews};
