//! Events about messages.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, ADA, CONVERSATION, MESSAGE_ID, NOON};
use crate::store::{Message, Pinned, ReactionChange, Time, Unpinned};

emissions! {
    MESSAGE: Message, Confirmed = "message", "a message was stored",
        "who has joined, but the sending socket", [Conversation], examples::reply();
    MESSAGE_EDITED: Message, Reliable = "message_edited", "a message has a new text",
        "who has joined, but the sending socket", [Conversation], examples::edited();
    MESSAGE_DELETED: Deleted<'static>, Reliable = "message_deleted", "a message has lost its text",
        "who has joined, but the sending socket", [Conversation], Deleted {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            seq: 7,
            deleted_at: Some(examples::time(NOON)),
            deleted_by: ADA,
        };
    MESSAGE_DELIVERED: Delivered, Reliable = "message_delivered",
        "how many have confirmed a message", "the sending socket, if it wanted `confirmDelivery`", [], Delivered {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            expected: 2,
            delivered: 2,
            timed_out: false,
        };
    MESSAGE_READ: Read<'static>, Reliable = "message_read", "somebody has read on to a message",
        "the user's other tabs, and who has joined where there are at most 50 sockets", [Conversation, User], Read {
            conversation_id: CONVERSATION,
            user_id: ADA,
            seq: 7,
        };
    MESSAGE_REACTION: ReactionChange, Reliable = "message_reaction",
        "somebody has reacted to a message, or has taken that back",
        "who has joined, but the sending socket", [Conversation], examples::reacted();
    MESSAGE_PINNED: Pinned, Reliable = "message_pinned", "a message was pinned to its conversation",
        "who has joined, but the sending socket", [Conversation],
        Pinned { conversation_id: CONVERSATION, pin: examples::pin() };
    MESSAGE_UNPINNED: Unpinned, Reliable = "message_unpinned", "a message is pinned no longer",
        "who has joined, but the sending socket", [Conversation], examples::unpinned();
}

/// `message_deleted`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageDeleted")]
pub(crate) struct Deleted<'a> {
    pub(crate) conversation_id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) seq: u64,
    #[schemars(with = "Time")]
    pub(crate) deleted_at: Option<Time>,
    pub(crate) deleted_by: &'a str,
}

/// `message_delivered`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageDelivered")]
pub(crate) struct Delivered {
    pub(crate) conversation_id: Uuid,
    pub(crate) message_id: Uuid,
    /// Sockets that were asked to confirm: all in the conversation except the sender's.
    pub(crate) expected: usize,
    /// Sockets that confirmed in time.
    pub(crate) delivered: usize,
    /// Whether the timeout ended before all sockets confirmed.
    pub(crate) timed_out: bool,
}

/// `message_read`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageRead")]
pub(crate) struct Read<'a> {
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: &'a str,
    /// The `seq` of the last message that the user has read.
    pub(crate) seq: u64,
}
