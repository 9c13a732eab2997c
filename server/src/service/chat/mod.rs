//! The chat: messages, conversations and their members, and what goes out to those who are there.
//!
//! What gateways call are methods of the handle, one file for each feature: `messages`, `history`,
//! `conversations`, `members`, `invites`, `attendance`. Those that somebody asks for take an
//! [`Allowed`](super::Allowed) command. `emission` takes what was stored, `sequencer` emits it in its order,
//! `presence` says who is there, and `servers` takes over what other servers do. Gateways and the composition root come in here. Nothing in here may know how
//! an event is parsed, or whether a user's role was proven by a token or a login.

mod attendance;
mod coming;
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

pub(in crate::service) use attendance::Whereabouts;
pub(crate) use attendance::{FoundStatus, Pins, ReadPins, ReadStatus, WhoIsIn};
pub(crate) use conversations::{FoundConversation, ReadConversation};
pub(crate) use handle::Chat;
pub(crate) use history::ReadMessages;
pub(crate) use retention::Retention;
pub(in crate::service) use sequencer::{
    conversations::is_room_of_conversation,
    delivery::{is_user_room, user_room},
};
pub(crate) use servers::{ConversationNews, Leases, Leaving, Lost};
