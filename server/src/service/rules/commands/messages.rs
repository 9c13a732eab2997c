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
    MESSAGE: SendMessage => Stored = "message", ChatSend, Messages, Member, object,
        "stores a message and shows it to the conversation",
        {
            "conversationId": CONVERSATION,
            "content": "hello",
            "type": "user",
            "metadata": {"imageUrl": "https://example.org/ada.png", "timestamp": NOON},
            "clientMessageId": "5f1d",
            "confirmDelivery": true,
            "replyTo": REPLIED_TO,
            "mentions": [BOB],
        } => Stored { message: examples::reply().into() };
    EDIT_MESSAGE: EditMessage => Stored = "edit_message", ChatSend, Messages, Author, object,
        "gives a message a new text",
        {"messageId": MESSAGE_ID, "content": "hello, Bob", "version": 1} =>
        Stored { message: examples::edited().into() };
    DELETE_MESSAGE: DeleteMessage => Stored = "delete_message", ChatSend, Messages, Author, object,
        "takes the text out of a message",
        {"messageId": MESSAGE_ID} => Stored { message: examples::deleted().into() };
    ADD_REACTION: AddReaction => ReactionChange = "add_reaction", ChatSend, Changes, Member, object,
        "reacts to a message with an emoji",
        {"messageId": MESSAGE_ID, "emoji": THUMB} => examples::reacted();
    REMOVE_REACTION: RemoveReaction => ReactionChange = "remove_reaction", ChatSend, Changes, Member, object,
        "takes a reaction of the sender back",
        {"messageId": MESSAGE_ID, "emoji": THUMB} =>
        ReactionChange { added: false, count: 0, ..examples::reacted() };
    PIN_MESSAGE: PinMessage => Pinned = "pin_message", ChatManage, Changes, Owner, object,
        "pins a message to its conversation",
        {"messageId": REPLIED_TO} => Pinned { conversation_id: CONVERSATION, pin: examples::pin() };
    UNPIN_MESSAGE: UnpinMessage => Unpinned = "unpin_message", ChatManage, Changes, Owner, object,
        "takes the pin of a message away",
        {"messageId": REPLIED_TO} => examples::unpinned();
}

/// The acknowledgement of commands that store or change a message.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredMessage")]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
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
    /// Whether the sender wants the event `message_delivered`.
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
fn kind_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MessageKind>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("user") => Ok(Some(MessageKind::User)),
        Some("ai") => Ok(Some(MessageKind::Ai)),
        Some(other) => Err(de::Error::unknown_variant(other, &["user", "ai"])),
    }
}
