//! Commands about messages: sending, editing, deleting, reacting, pinning.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::form::{hyphenated, hyphenated_or_none, whole_or_none};
use crate::service::rules::bounds::{
    ClientId, Emoji, GivenMetadata, MENTIONS, MessageText, UserId,
};
use crate::service::rules::event::events;
use crate::service::rules::examples::{
    self, BOB, CONVERSATION, MESSAGE_ID, NOON, REPLIED_TO, THUMB,
};
use crate::store::{Message, MessageKind, Pinned, ReactionChange, Unpinned};

events! {
    MESSAGE {
        event: "message", payload: SendMessage, answer: Stored,
        permission: ChatSend, limit: Messages, room: Member, argument: object,
        does: "stores a message and sends it to the conversation",
        example: {
            "conversationId": CONVERSATION,
            "content": "hello",
            "type": "user",
            "metadata": {"imageUrl": "https://example.org/ada.png", "timestamp": NOON},
            "clientMessageId": "5f1d",
            "confirmDelivery": true,
            "replyTo": REPLIED_TO,
            "mentions": [BOB],
        },
        answered: Stored { message: examples::reply().into() },
        call: Chat::send(from),
    }
    EDIT_MESSAGE {
        event: "edit_message", payload: EditMessage, answer: Stored,
        permission: ChatSend, limit: Messages, room: Author, argument: object,
        does: "replaces the text of a message",
        example: {"messageId": MESSAGE_ID, "content": "hello, Bob", "version": 1},
        answered: Stored { message: examples::edited().into() },
        call: Chat::edit(from),
        moderates: Message,
    }
    DELETE_MESSAGE {
        event: "delete_message", payload: DeleteMessage, answer: Stored,
        permission: ChatSend, limit: Messages, room: Author, argument: object,
        does: "removes the text of a message",
        example: {"messageId": MESSAGE_ID},
        answered: Stored { message: examples::deleted().into() },
        call: Chat::delete(from),
        moderates: Message,
    }
    ADD_REACTION {
        event: "add_reaction", payload: AddReaction, answer: ReactionChange,
        permission: ChatSend, limit: Changes, room: Member, argument: object,
        does: "reacts to a message with an emoji",
        example: {"messageId": MESSAGE_ID, "emoji": THUMB},
        answered: examples::reacted(),
        call: Chat::add_reaction(from),
    }
    REMOVE_REACTION {
        event: "remove_reaction", payload: RemoveReaction, answer: ReactionChange,
        permission: ChatSend, limit: Changes, room: Member, argument: object,
        does: "removes a reaction of the sender",
        example: {"messageId": MESSAGE_ID, "emoji": THUMB},
        answered: ReactionChange { added: false, count: 0, ..examples::reacted() },
        call: Chat::remove_reaction(from),
    }
    PIN_MESSAGE {
        event: "pin_message", payload: PinMessage, answer: Pinned,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "pins a message to its conversation",
        example: {"messageId": REPLIED_TO},
        answered: Pinned { conversation_id: CONVERSATION, pin: examples::pin() },
        call: Chat::pin(from),
        moderates: Message,
    }
    UNPIN_MESSAGE {
        event: "unpin_message", payload: UnpinMessage, answer: Unpinned,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "unpins a message",
        example: {"messageId": REPLIED_TO},
        answered: examples::unpinned(),
        call: Chat::unpin(from),
        moderates: Message,
    }
}

/// The acknowledgement of commands that store or change a message.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredMessage")]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
}

impl From<Arc<Message>> for Stored {
    fn from(message: Arc<Message>) -> Self {
        Self { message }
    }
}

/// `message`: stores a message and sends it to the conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[schemars(with = "MessageText")]
    pub(crate) content: String,
    #[serde(rename = "type")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    #[schemars(with = "Option<String>", extend("enum" = ["user", "ai", null]))]
    #[serde(default, deserialize_with = "kind_or_none")]
    pub(crate) kind: Option<MessageKind>,
    /// Stored unchanged, at most 4,096 bytes (`chat.metadata_bytes`).
    #[schemars(with = "Option<GivenMetadata>")]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// A message sent again under the same id is stored only once.
    #[schemars(with = "Option<ClientId>")]
    pub(crate) client_message_id: Option<String>,
    /// Whether the server sends `message_delivered` to the sending socket.
    pub(crate) confirm_delivery: Option<bool>,
    /// The message of the same conversation that this one replies to.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) reply_to: Option<Uuid>,
    /// The mentioned users: at most 20, all members, without duplicates.
    #[schemars(with = "Option<Vec<UserId>>", length(max = MENTIONS), extend("uniqueItems" = true))]
    pub(crate) mentions: Option<Vec<String>>,
}

/// `edit_message`: sets a new text.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EditMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    #[schemars(with = "MessageText")]
    pub(crate) content: String,
    /// The version that the editor saw. Any other version is a conflict.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) version: Option<u32>,
}

/// `delete_message`: removes the text of a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}

/// `add_reaction`: adds an emoji to a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddReaction {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    #[schemars(with = "Emoji")]
    pub(crate) emoji: String,
}

/// `remove_reaction`: removes an emoji of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoveReaction {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    #[schemars(with = "Emoji")]
    pub(crate) emoji: String,
}

/// `pin_message`: pins a message to its conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PinMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}

/// `unpin_message`: unpins a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnpinMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}

/// Deserializes a kind from a string only. A derived enum also accepts `{"user": null}`.
pub(super) fn kind_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MessageKind>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("user") => Ok(Some(MessageKind::User)),
        Some("ai") => Ok(Some(MessageKind::Ai)),
        Some(other) => Err(de::Error::unknown_variant(other, &["user", "ai"])),
    }
}
