//! Commands about earlier messages: reading, searching, and marking as read.

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::form::{hyphenated, hyphenated_or_none, whole, whole_or_none};
use crate::service::rules::bounds::{SearchQuery, not_both};
use crate::service::rules::commands::streams::Held;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION};
use crate::store::{Messages, ReadMark};

events! {
    MESSAGE_HISTORY {
        event: "message_history", payload: ReadHistory, answer: Held<Messages>,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "reads a page of messages",
        example: {"conversationId": CONVERSATION, "beforeSeq": 8, "limit": 1},
        answered: examples::page().into(),
        call: Chat::history(socket),
    }
    MARK_READ {
        event: "mark_read", payload: MarkAsRead, answer: ReadMark,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "moves the sender's read position forward",
        example: {"conversationId": CONVERSATION, "seq": 7},
        answered: ReadMark { seq: 7, unread: 0, advanced: true },
        call: Chat::mark_read(socket),
    }
    MESSAGE_SEARCH {
        event: "message_search", payload: SearchMessages, answer: Messages,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "finds messages that contain all the words",
        example: {"query": "hello", "conversationId": CONVERSATION},
        answered: examples::page(),
        call: Chat::search(),
    }
}

/// `message_history`: reads a page of messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("not" = not_both(["beforeSeq", "afterSeq"], "integer")))]
pub(crate) struct ReadHistory {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// Only messages before this `seq`: the newest of them. Excludes `afterSeq`.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) before_seq: Option<u64>,
    /// Only messages after this `seq`: the oldest of them.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) after_seq: Option<u64>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}

/// `mark_read`: marks the messages up to this one as read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarkAsRead {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[serde(deserialize_with = "whole")]
    pub(crate) seq: u64,
}

/// `message_search`: finds messages that contain all the words.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchMessages {
    #[schemars(with = "SearchQuery")]
    pub(crate) query: String,
    /// Default: all conversations of the sender.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) conversation_id: Option<Uuid>,
    /// Only messages that are older than this one.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) before_id: Option<Uuid>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}
