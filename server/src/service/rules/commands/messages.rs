//! Commands about messages: sending, editing, deleting.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::form::{hyphenated, whole_or_none};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION, MESSAGE_ID, NOON};
use crate::store::{Message, MessageKind, Metadata};

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
        } => Stored { message: examples::message().into() };
    EDIT_MESSAGE: EditMessage => Stored = "edit_message", ChatSend, Messages, Author, object,
        "gives a message a new text",
        {"messageId": MESSAGE_ID, "content": "hello, Bob", "version": 1} =>
        Stored { message: examples::edited().into() };
    DELETE_MESSAGE: DeleteMessage => Stored = "delete_message", ChatSend, Messages, Author, object,
        "takes the text out of a message",
        {"messageId": MESSAGE_ID} => Stored { message: examples::deleted().into() };
}

/// The acknowledgement of what stores or changes a message.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StoredMessage")]
pub(crate) struct Stored {
    pub(crate) message: Arc<Message>,
}

/// `message`: store a message and show it to the conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// 1 to 10,000 characters (`chat.content_chars`), no control characters but tab and line ends.
    pub(crate) content: String,
    #[serde(rename = "type")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    #[schemars(with = "Option<String>", extend("enum" = ["user", "ai"]))]
    #[serde(default, deserialize_with = "kind_or_none")]
    pub(crate) kind: Option<MessageKind>,
    /// Kept as it is sent, at most 4,096 bytes (`chat.metadata_bytes`).
    #[schemars(with = "Option<Metadata>")]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// Sent again under the same id it is stored once.
    pub(crate) client_message_id: Option<String>,
    /// Whether the sender wants the event `message_delivered`.
    pub(crate) confirm_delivery: Option<bool>,
}

/// `edit_message`: a new text for a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EditMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    pub(crate) content: String,
    /// The version that the editor has seen; another one is a conflict.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) version: Option<u32>,
}

/// `delete_message`: take the text out of a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}

/// A word and nothing else: a derived enum takes `{"user": null}` as well.
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
