//! Commands about messages whose text grows: beginning, appending, ending, asking to stop.

use std::any::Any;
use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::form::{hyphenated, hyphenated_or_none, whole};
use super::messages::{Stored, kind_or_none};
use crate::service::rules::bounds::{
    ClientId, GivenMetadata, MENTIONS, MoreText, Reason, StreamedText, UserId,
};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, BOB, CONVERSATION, MESSAGE_ID};
use crate::store::{Message, MessageKind};

events! {
    BEGIN_MESSAGE {
        event: "begin_message", payload: BeginMessage, answer: Begun,
        permission: ChatSend, limit: Messages, room: Member, argument: object,
        does: "stores the beginning of a message whose text follows in pieces",
        example: {
            "conversationId": CONVERSATION,
            "type": "user",
            "clientMessageId": "5f1e",
            "mentions": [BOB],
        },
        answered: Begun { message: examples::streaming().into(), offset: 0 },
        call: Chat::begin_message(from),
    }
    APPEND_MESSAGE {
        event: "append_message", payload: AppendMessage, answer: Appended,
        permission: ChatSend, limit: Appends, room: Writer, argument: object,
        does: "adds text to a message that is being written",
        example: {"messageId": MESSAGE_ID, "offset": 0, "text": "hello"},
        answered: Appended { offset: 5, stored: 0 },
        call: Chat::append_message(namespace, from), serial: true,
    }
    FINISH_MESSAGE {
        event: "finish_message", payload: FinishMessage, answer: Stored,
        permission: ChatSend, limit: Messages, room: Writer, argument: object,
        does: "ends a message that is being written",
        example: {"messageId": MESSAGE_ID, "offset": 10},
        answered: Stored { message: examples::finished().into() },
        call: Chat::finish_message(from), serial: true,
    }
    ABORT_MESSAGE {
        event: "abort_message", payload: AbortMessage, answer: Stored,
        permission: ChatSend, limit: Messages, room: Writer, argument: object,
        does: "ends a message that is being written where it is",
        example: {"messageId": MESSAGE_ID, "reason": "the model failed"},
        answered: Stored { message: examples::aborted().into() },
        call: Chat::abort_message(from), serial: true,
    }
    STOP_MESSAGE {
        event: "stop_message", payload: StopMessage, answer: (),
        permission: ChatSend, limit: Changes, room: Member, argument: object,
        does: "asks the author of a message that is being written to stop",
        example: {"messageId": MESSAGE_ID},
        answered: (),
        call: Chat::stop_message(namespace),
    }
}

/// The acknowledgement of `begin_message`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BegunMessage")]
pub(crate) struct Begun {
    pub(crate) message: Arc<Message>,
    /// The number of characters that are there: the author goes on from here.
    pub(crate) offset: usize,
}

/// The acknowledgement of `append_message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AppendedText")]
pub(crate) struct Appended {
    /// The number of characters that are there.
    pub(crate) offset: usize,
    /// The number of characters that are stored. The author keeps what follows.
    pub(crate) stored: usize,
}

/// An answer, and what is dropped once it is queued for the client.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Held<A> {
    pub(crate) answer: A,
    #[serde(skip)]
    #[expect(dead_code, reason = "its destructor acts")]
    pub(crate) held: Option<Box<dyn Any + Send>>,
}

impl<A> From<A> for Held<A> {
    fn from(answer: A) -> Self {
        Self { answer, held: None }
    }
}

impl<A: JsonSchema> JsonSchema for Held<A> {
    fn inline_schema() -> bool {
        A::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        A::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        A::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        A::json_schema(generator)
    }
}

/// `begin_message`: stores a message without text, which follows.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BeginMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[serde(rename = "type")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    #[schemars(with = "Option<String>", extend("enum" = ["user", "ai", null]))]
    #[serde(default, deserialize_with = "kind_or_none")]
    pub(crate) kind: Option<MessageKind>,
    /// Stored unchanged, at most 4,096 bytes (`chat.metadata_bytes`).
    #[schemars(with = "Option<GivenMetadata>")]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// A message begun again under the same id is stored only once, and goes on.
    #[schemars(with = "ClientId")]
    pub(crate) client_message_id: String,
    /// The message of the same conversation that this one replies to.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) reply_to: Option<Uuid>,
    /// The mentioned users, who are notified at the end: at most 20, all members, without
    /// duplicates.
    #[schemars(with = "Option<Vec<UserId>>", length(max = MENTIONS), extend("uniqueItems" = true))]
    pub(crate) mentions: Option<Vec<String>>,
}

/// `append_message`: adds text at a position.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AppendMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    /// The number of characters (Unicode scalar values) before this text.
    #[serde(deserialize_with = "whole")]
    pub(crate) offset: u64,
    /// At most 100,000 characters in all (`chat.streams.max_chars`). Text that is there already is
    /// accepted and not sent again.
    #[schemars(with = "MoreText")]
    pub(crate) text: String,
}

/// `finish_message`: ends a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FinishMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    /// The number of characters of the text that was appended.
    #[serde(deserialize_with = "whole")]
    pub(crate) offset: u64,
    /// Replaces the text that was appended.
    #[schemars(with = "Option<StreamedText>")]
    pub(crate) content: Option<String>,
    /// Replaces the metadata.
    #[schemars(with = "Option<GivenMetadata>")]
    pub(crate) metadata: Option<Box<RawValue>>,
}

/// `abort_message`: ends a message where it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AbortMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    /// Stored with the message.
    #[schemars(with = "Option<Reason>")]
    pub(crate) reason: Option<String>,
}

/// `stop_message`: asks the author to stop.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StopMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}
