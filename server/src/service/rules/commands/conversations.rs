//! Commands about conversations: creating, renaming, deleting and listing them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::form::{hyphenated, whole_or_none};
use crate::service::rules::bounds::{ConversationCursor, Title, UserId};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, BOB, CONVERSATION, NOON};
use crate::store::{
    Conversation, DeletedConversation, LastMessage, Level, List, ListedConversation,
};

events! {
    CREATE_CONVERSATION {
        event: "create_conversation", payload: CreateConversation, answer: Changed,
        permission: ChatManage, limit: Changes, room: Anyone, argument: object,
        does: "creates a conversation that the sender owns",
        example: {"title": "Engines", "memberIds": [BOB]},
        answered: Changed { conversation: examples::conversation() },
        call: Chat::create_conversation(namespace, from),
    }
    RENAME_CONVERSATION {
        event: "rename_conversation", payload: RenameConversation, answer: Changed,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "sets a new title for a conversation",
        example: {"conversationId": CONVERSATION, "title": "Engines"},
        answered: Changed { conversation: examples::conversation() },
        call: Chat::rename_conversation(from),
        moderates: Conversation,
    }
    DELETE_CONVERSATION {
        event: "delete_conversation", payload: DeleteConversation, answer: DeletedConversation,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "deletes a conversation with all its content",
        example: {"conversationId": CONVERSATION},
        answered: examples::deleted_conversation(),
        call: Chat::delete_conversation(from),
        moderates: Conversation,
    }
    CONVERSATIONS {
        event: "conversations", payload: ListConversations, answer: List,
        permission: ChatRead, limit: Requests, room: Anyone, argument: object,
        does: "lists the sender's conversations with their unread counts and newest messages",
        example: {"limit": 20},
        answered: List {
            conversations: vec![ListedConversation {
                conversation: examples::conversation(),
                last_seq: 7,
                read_seq: 6,
                unread: 1,
                notification_level: Level::All,
                last_message: Some(LastMessage {
                    quote: examples::quote(),
                    created_at: examples::time(NOON),
                }),
            }],
            cursor: None,
            has_more: false,
        },
        call: Chat::conversations(),
    }
}

/// The acknowledgement of commands that create or change a conversation.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChangedConversation")]
pub(crate) struct Changed {
    pub(crate) conversation: Conversation,
}

/// `create_conversation`: creates a conversation that the sender owns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateConversation {
    #[schemars(with = "Option<Title>")]
    pub(crate) title: Option<String>,
    /// At most 1,000 (`chat.members`).
    #[schemars(with = "Vec<UserId>", length(max = 1000))]
    pub(crate) member_ids: Vec<String>,
}

/// `rename_conversation`: sets a new title.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenameConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[schemars(with = "Title")]
    pub(crate) title: String,
}

/// `delete_conversation`: deletes a conversation with all its content.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// `conversations`: lists the conversations of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListConversations {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<ConversationCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}
