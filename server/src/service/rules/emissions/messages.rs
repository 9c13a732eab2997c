//! Events about messages.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, ADA, BOB, CONVERSATION, MESSAGE_ID, NOON};
use crate::store::{Message, Pinned, ReactionChange, Time, Unpinned};

emissions! {
    MESSAGE {
        event: "message", payload: Message, delivery: Confirmed,
        summary: "a message was stored",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: examples::reply(),
    }
    MESSAGE_EDITED {
        event: "message_edited", payload: Message, delivery: Reliable,
        summary: "the text of a message was replaced",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: examples::edited(),
    }
    MESSAGE_APPENDED {
        event: "message_appended", payload: Appended<'static>, delivery: Reliable,
        summary: "the text of a message has grown",
        to: "sockets in the conversation, except the author's", rooms: [Conversation],
        example: Appended {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            seq: 7,
            offset: 5,
            text: ", Bob",
        },
    }
    MESSAGE_STOP_REQUESTED {
        event: "message_stop_requested", payload: StopRequested<'static>, delivery: Reliable,
        summary: "a member asks the author of a message that is being written to stop",
        to: "the author's sockets", rooms: [User],
        example: StopRequested {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            user_id: BOB,
        },
    }
    MESSAGE_DELETED {
        event: "message_deleted", payload: Deleted<'static>, delivery: Reliable,
        summary: "the text of a message was removed",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: Deleted {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            seq: 7,
            deleted_at: Some(examples::time(NOON)),
            deleted_by: ADA,
        },
    }
    MESSAGE_DELIVERED {
        event: "message_delivered", payload: Delivered, delivery: Reliable,
        summary: "how many sockets have confirmed a message",
        to: "the sending socket, if it set `confirmDelivery`", rooms: [],
        example: Delivered {
            conversation_id: CONVERSATION,
            message_id: MESSAGE_ID,
            expected: 2,
            delivered: 2,
            timed_out: false,
        },
    }
    MESSAGE_READ {
        event: "message_read", payload: Read<'static>, delivery: Reliable,
        summary: "a user has read all messages up to a `seq`",
        to: "the user's other sockets, and sockets in the conversation if there are at most 50",
        rooms: [Conversation, User],
        example: Read {
            conversation_id: CONVERSATION,
            user_id: ADA,
            seq: 7,
        },
    }
    MESSAGE_REACTION {
        event: "message_reaction", payload: ReactionChange, delivery: Reliable,
        summary: "a user has added or removed a reaction to a message",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: examples::reacted(),
    }
    MESSAGE_PINNED {
        event: "message_pinned", payload: Pinned, delivery: Reliable,
        summary: "a message was pinned to its conversation",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: Pinned { conversation_id: CONVERSATION, pin: examples::pin() },
    }
    MESSAGE_UNPINNED {
        event: "message_unpinned", payload: Unpinned, delivery: Reliable,
        summary: "a message was unpinned",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: examples::unpinned(),
    }
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

/// `message_appended`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageAppended")]
pub(crate) struct Appended<'a> {
    pub(crate) conversation_id: Uuid,
    pub(crate) message_id: Uuid,
    pub(crate) seq: u64,
    /// The number of characters (Unicode scalar values) before this text: the length of the text
    /// that the client has.
    pub(crate) offset: usize,
    pub(crate) text: &'a str,
}

/// `message_stop_requested`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageStopRequested")]
pub(crate) struct StopRequested<'a> {
    pub(crate) conversation_id: Uuid,
    pub(crate) message_id: Uuid,
    /// The user who asks.
    pub(crate) user_id: &'a str,
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
