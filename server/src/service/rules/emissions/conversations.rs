//! Events about conversations and their members.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, CONVERSATION, NOON};
use crate::store::{Conversation, DeletedConversation, Level, Time};

emissions! {
    CONVERSATION_UPDATED: Updated<'static>, Reliable = "conversation_updated",
        "a conversation was made, or has another title or other members",
        "who has joined, and in all tabs whoever was made or is no longer a member, or all members if it is the title; not the socket that did it", [Conversation, User],
        Updated {
            conversation: Cow::Owned(examples::conversation()),
            timestamp: examples::time(NOON),
        };
    CONVERSATION_DELETED: DeletedConversation, Reliable = "conversation_deleted",
        "a conversation was deleted with all that was in it",
        "who has joined, and all members in all tabs; not the socket that did it", [Conversation, User],
        examples::deleted_conversation();
    CONVERSATION_INTERRUPTED: Interruption, Reliable = "conversation:interrupted",
        "the server cannot read what was committed in a conversation, and emits nothing of it until it can; then everything follows in order",
        "who has joined at that server", [Conversation],
        Interruption { conversation_id: CONVERSATION };
    NOTIFICATION_LEVEL: NotificationLevel, Reliable = "notification_level",
        "a user has said of what in a conversation it wants to be notified",
        "the user's other tabs", [User],
        NotificationLevel { conversation_id: CONVERSATION, level: Level::Mentions };
}

/// `conversation:interrupted`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationInterrupted")]
pub(crate) struct Interruption {
    pub(crate) conversation_id: Uuid,
}

/// `notification_level`, and the acknowledgement of `set_notification_level`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationLevel {
    pub(crate) conversation_id: Uuid,
    pub(crate) level: Level,
}

/// `conversation_updated`.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConversationUpdated")]
pub(crate) struct Updated<'a> {
    pub(crate) conversation: Cow<'a, Conversation>,
    pub(crate) timestamp: Time,
}
