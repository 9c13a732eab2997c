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
        summary: "a conversation was created, or its title or members have changed",
        to: "sockets in the conversation, and all sockets of users who became members or are no longer members, or of all members if the title has changed; not the sending socket",
        rooms: [Conversation, User],
        example: Updated {
            conversation: Cow::Owned(examples::conversation()),
            timestamp: examples::time(NOON),
        },
    }
    CONVERSATION_DELETED {
        event: "conversation_deleted", payload: DeletedConversation, delivery: Reliable,
        summary: "a conversation was deleted with all its content",
        to: "sockets in the conversation, and all sockets of its members; not the sending socket",
        rooms: [Conversation, User],
        example: examples::deleted_conversation(),
    }
    CONVERSATION_INTERRUPTED {
        event: "conversation:interrupted", payload: Interruption, delivery: Reliable,
        summary: "the server cannot read the committed changes of a conversation, and emits none of its events until it can; then it emits all in order",
        to: "sockets in the conversation on that server", rooms: [Conversation],
        example: Interruption { conversation_id: CONVERSATION },
    }
    NOTIFICATION_LEVEL {
        event: "notification_level", payload: NotificationLevel, delivery: Reliable,
        summary: "a user has set the notification level of a conversation",
        to: "the user's other sockets", rooms: [User],
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
