//! What is told of conversations and their members.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, NOON};
use crate::store::{Conversation, DeletedConversation, Time};

emissions! {
    CONVERSATION_UPDATED: Updated<'static>, Reliable = "conversation_updated",
        "a conversation was made, or has another title or other members",
        "who has joined, and in all tabs whoever was made or is no longer a member, or all members if it is the title; not the socket that did it",
        Updated {
            conversation: Cow::Owned(examples::conversation()),
            timestamp: examples::time(NOON),
        };
    CONVERSATION_DELETED: DeletedConversation, Reliable = "conversation_deleted",
        "a conversation was deleted with all that was in it",
        "who has joined, and all members in all tabs; not the socket that did it",
        examples::deleted_conversation();
}

/// `conversation_updated`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConversationUpdated")]
pub(crate) struct Updated<'a> {
    pub(crate) conversation: Cow<'a, Conversation>,
    pub(crate) timestamp: Time,
}
