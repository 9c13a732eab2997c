//! Commands about earlier messages: reading, searching, and marking as read.

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::form::{hyphenated, hyphenated_or_none, whole, whole_or_none};
use crate::service::rules::bounds::{SearchQuery, not_both};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION};
use crate::store::{Messages, ReadMark};

events! {
    MESSAGE_HISTORY: ReadHistory => Messages = "message_history", ChatRead, Requests, Member, object,
        "reads a page of messages",
        {"conversationId": CONVERSATION, "beforeSeq": 8, "limit": 1} => examples::page();
    MARK_READ: MarkAsRead => ReadMark = "mark_read", ChatRead, Requests, Member, object,
        "notes how far the sender has read",
        {"conversationId": CONVERSATION, "seq": 7} => ReadMark { seq: 7, unread: 0, advanced: true };
    MESSAGE_SEARCH: SearchMessages => Messages = "message_search", ChatRead, Requests, Member, object,
        "finds messages that have all the words",
        {"query": "hello", "conversationId": CONVERSATION} => examples::page();
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
