//! Events about conversations and their members.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, CONVERSATION, NOON};
use crate::store::{Conversation, DeletedConversation, Level, Time};

emissions! {
    CONVERSATION_UPDATED {
        event: "conversation_updated", payload: Updated<'static>, delivery: Reliable,
        tells: "a conversation was made, or has another title or other members",
        to: "who has joined, and in all tabs whoever was made or is no longer a member, or all members if it is the title; not the socket that did it",
        rooms: [Conversation, User],
        example: Updated {
            conversation: Cow::Owned(examples::conversation()),
            timestamp: examples::time(NOON),
        },
    }
    CONVERSATION_DELETED {
        event: "conversation_deleted", payload: DeletedConversation, delivery: Reliable,
        tells: "a conversation was deleted with all that was in it",
        to: "who has joined, and all members in all tabs; not the socket that did it",
        rooms: [Conversation, User],
        example: examples::deleted_conversation(),
    }
    CONVERSATION_INTERRUPTED {
        event: "conversation:interrupted", payload: Interruption, delivery: Reliable,
        tells: "the server cannot read what was committed in a conversation, and emits nothing of it until it can; then everything follows in order",
        to: "who has joined at that server", rooms: [Conversation],
        example: Interruption { conversation_id: CONVERSATION },
    }
    NOTIFICATION_LEVEL {
        event: "notification_level", payload: NotificationLevel, delivery: Reliable,
        tells: "a user has said of what in a conversation it wants to be notified",
        to: "the user's other tabs", rooms: [User],
        example: NotificationLevel { conversation_id: CONVERSATION, level: Level::Mentions },
    }
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
