//! Commands about who attends a conversation: joining and leaving it, typing, and asking who is there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::{Target, hyphenated};
use crate::service::rules::emissions::attendance::{self, Here, Present};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION};
use crate::store::{Conversation, Messages};

events! {
    JOIN_CONVERSATION: Join => Joined = "join_conversation", ChatRead, Changes, Member, id_or_object,
        "joins a conversation and reads what was missed",
        {"conversationId": CONVERSATION, "lastSeq": 6} => Joined {
            conversation: examples::conversation(),
            users: vec![attendance::present()],
            missed: examples::page(),
        };
    LEAVE_CONVERSATION: Leave => () = "leave_conversation", ChatRead, Changes, Member, id_or_object,
        "leaves a conversation",
        {"conversationId": CONVERSATION} => ();
    TYPING: SetTyping => () = "typing", ChatType, Typing, Member, object,
        "shows that somebody types, or has stopped",
        {"conversationId": CONVERSATION, "isTyping": true} => ();
    PRESENCE: AskPresence => Here = "presence", ChatRead, Requests, Member, object,
        "reads who is in a conversation",
        {"conversationId": CONVERSATION} => attendance::presence();
}

/// What a client gets when it has joined a conversation.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Joined {
    pub(crate) conversation: Conversation,
    pub(crate) users: Vec<Present>,
    #[serde(flatten)]
    pub(crate) missed: Messages,
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

/// `typing`: a sign of typing, or its end.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetTyping {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) is_typing: bool,
}

/// `presence`: who is here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskPresence {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}
