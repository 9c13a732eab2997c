//! Commands about attending a conversation: joining, leaving, typing, presence and status.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::{Target, hyphenated, word};
use crate::service::rules::bounds::StatusText;
use crate::service::rules::commands::streams::Held;
use crate::service::rules::emissions::attendance::{self, Here, Present, Status, UserStatus};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION};
use crate::store::{Conversation, Level, Message, Messages, Opening};

events! {
    JOIN_CONVERSATION {
        event: "join_conversation", payload: Join, answer: Held<Joined>,
        permission: ChatRead, limit: Changes, room: Member, argument: id_or_object,
        does: "joins a conversation and reads the missed messages",
        example: {"conversationId": CONVERSATION, "lastSeq": 6},
        answered: Joined {
            conversation: examples::conversation(),
            users: vec![attendance::present()],
            statuses: vec![attendance::status()],
            missed: examples::page(),
            opening: Some(Opening {
                pins: vec![examples::pin()],
                notification_level: Level::All,
                others_read_seq: Some(6),
            }),
            streaming: Vec::new(),
        }.into(),
        call: Chat::join(socket), serial: true,
    }
    LEAVE_CONVERSATION {
        event: "leave_conversation", payload: Leave, answer: (),
        permission: ChatRead, limit: Changes, room: Member, argument: id_or_object,
        does: "leaves a conversation",
        example: {"conversationId": CONVERSATION},
        answered: (),
        call: Chat::leave(socket), serial: true,
    }
    TYPING {
        event: "typing", payload: SetTyping, answer: (),
        permission: ChatType, limit: Typing, room: Member, argument: object,
        does: "announces that the sender started or stopped typing",
        example: {"conversationId": CONVERSATION, "isTyping": true},
        answered: (),
        call: Chat::set_typing(socket), serial: true,
    }
    PRESENCE {
        event: "presence", payload: GetPresence, answer: Here,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "reads the users in a conversation",
        example: {"conversationId": CONVERSATION},
        answered: attendance::presence(),
        call: Chat::presence(socket),
    }
    SET_STATUS {
        event: "set_status", payload: SetStatus, answer: UserStatus,
        permission: ChatType, limit: Changes, room: Oneself, argument: object,
        does: "sets the sender's status: online, away, busy or offline, optionally with a text",
        example: {"status": "busy", "text": "in a meeting"},
        answered: attendance::status(),
        call: Chat::set_status(namespace, from), serial: true,
    }
    STATUSES {
        event: "statuses", payload: GetStatuses, answer: Statuses,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "reads the statuses of a conversation's users",
        example: {"conversationId": CONVERSATION},
        answered: Statuses {
            conversation_id: CONVERSATION,
            statuses: vec![attendance::status()],
        },
        call: Chat::statuses(),
    }
}

/// The acknowledgement of `join_conversation`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Joined {
    pub(crate) conversation: Conversation,
    pub(crate) users: Vec<Present>,
    /// The statuses of all members and of `users`, if they have set one.
    pub(crate) statuses: Vec<UserStatus>,
    #[serde(flatten)]
    pub(crate) missed: Messages,
    /// Absent if the store did not respond. Joining again returns it.
    #[serde(flatten)]
    pub(crate) opening: Option<Opening>,
    /// The messages that are being written, whatever the client knows of them. Left out if there
    /// are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) streaming: Vec<Arc<Message>>,
}

/// `join_conversation`: an id, or an object with the last `seq` that the client knows.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(crate) struct Join {
    pub(crate) conversation_id: Uuid,
    pub(crate) last_seq: Option<u64>,
}

impl From<Target> for Join {
    fn from(target: Target) -> Self {
        Self {
            conversation_id: target.conversation_id,
            last_seq: target.last_seq,
        }
    }
}

/// `leave_conversation`: an id, or an object with it.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(crate) struct Leave {
    pub(crate) conversation_id: Uuid,
}

impl From<Target> for Leave {
    fn from(target: Target) -> Self {
        Self {
            conversation_id: target.conversation_id,
        }
    }
}

/// `typing`: the user started or stopped typing.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetTyping {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) is_typing: bool,
}

/// `presence`: reads the users in a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GetPresence {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// `set_status`: sets the status of the sender, including the text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetStatus {
    #[serde(deserialize_with = "word")]
    pub(crate) status: Status,
    /// 1 to 80 characters, none of them control or invisible.
    #[schemars(with = "Option<StatusText>")]
    pub(crate) text: Option<String>,
}

/// `statuses`: reads the statuses of a conversation's users.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GetStatuses {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// The statuses of a conversation's users.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationStatuses")]
pub(crate) struct Statuses {
    pub(crate) conversation_id: Uuid,
    /// At most 1,000.
    pub(crate) statuses: Vec<UserStatus>,
}
