//! Commands about conversations: making, renaming, deleting and listing them.

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::form::{hyphenated, whole_or_none};
use crate::service::rules::event::events;

events! {
    CREATE_CONVERSATION: CreateConversation =
        "create_conversation", ChatManage, Changes, Anyone, object,
        "makes a conversation, of which the sender is the owner";
    RENAME_CONVERSATION: RenameConversation =
        "rename_conversation", ChatManage, Changes, Owner, object,
        "gives a conversation a new title";
    DELETE_CONVERSATION: DeleteConversation =
        "delete_conversation", ChatManage, Changes, Owner, object,
        "deletes a conversation with all that is in it";
    CONVERSATIONS: ListConversations = "conversations", ChatRead, Requests, Anyone, object,
        "lists the sender's conversations with what is unread";
}

/// `create_conversation`: a new one, of which the sender is the owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateConversation {
    pub(crate) title: Option<String>,
    pub(crate) member_ids: Vec<String>,
}

/// `rename_conversation`: a new title.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenameConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// 1 to 200 characters, no control characters.
    pub(crate) title: String,
}

/// `delete_conversation`: the conversation, with all that is in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// `conversations`: those of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListConversations {
    /// The `cursor` of the page before; without it, the first page.
    pub(crate) cursor: Option<String>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}
