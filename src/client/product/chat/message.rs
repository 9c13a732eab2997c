//! Messages of the chat, and the payloads and answers of the events that write them.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;

/// A message to write, for [`MessageWriter::begin`](super::MessageWriter::begin).
///
/// The server checks the values; [`begin`](super::MessageWriter::begin) returns its refusal.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[must_use = "nothing is sent before `MessageWriter::begin`"]
pub struct NewMessage {
    conversation_id: String,
    #[serde(rename = "type")]
    kind: MessageKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mentions: Vec<String>,
    #[serde(skip)]
    pub(super) interval: Duration,
    #[serde(skip)]
    pub(super) timeout: Duration,
}

impl NewMessage {
    /// Returns a message for the conversation with this id, of which the user must be a member.
    pub fn new(conversation_id: impl Into<String>) -> Self {
        Self {
            conversation_id: conversation_id.into(),
            kind: MessageKind::User,
            metadata: None,
            reply_to: None,
            mentions: Vec::new(),
            interval: Duration::from_millis(40),
            timeout: Duration::from_secs(60),
        }
    }

    /// Sets who wrote the text. [`MessageKind::Ai`] requires the permission `chat:send_ai`. Default
    /// [`MessageKind::User`].
    pub fn kind(mut self, kind: MessageKind) -> Self {
        self.kind = kind;
        self
    }

    /// Sets the metadata: an object of at most 4,096 bytes. Default is none.
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }

    /// Sets the id of the message that this one replies to, of the same conversation. Default is
    /// none.
    pub fn reply_to(mut self, message_id: impl Into<String>) -> Self {
        self.reply_to = Some(message_id.into());
        self
    }

    /// Sets the ids of the mentioned users, at most 20. They are notified when the message is
    /// finished. Default is none.
    pub fn mentions<U: Into<String>>(mut self, user_ids: impl IntoIterator<Item = U>) -> Self {
        self.mentions = user_ids.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the minimum time between two pieces of text. Text that arrives in between is sent
    /// together. Default 40 ms, the interval at which the server sends text to readers.
    ///
    /// Values below 20 ms count as 20 ms, because the server accepts 50 pieces of a message per
    /// second. Values above 20 s count as 20 s, because it ends a message to which nothing is added
    /// for 30 s.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Sets how long the writer repeats a request, without a connection as well, while nothing
    /// moves the message on. Default 60 s.
    ///
    /// The server ends a message to which nothing is added for 30 s by default. With a longer
    /// timeout, a writer that reconnects later learns from the server that the message has ended.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }
}

/// What replaces the text or the metadata of a message at its end, for
/// [`MessageWriter::finish_with`](super::MessageWriter::finish_with).
#[derive(Clone, Debug, Default, Serialize)]
#[must_use = "nothing is sent before `MessageWriter::finish_with`"]
pub struct Correction {
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

impl Correction {
    /// Returns a correction that replaces nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the text.
    pub fn content(mut self, content: impl Into<String>) -> Self {
        self.content = Some(content.into());
        self
    }

    /// Replaces the metadata: an object of at most 4,096 bytes.
    pub fn metadata(mut self, metadata: impl Into<Value>) -> Self {
        self.metadata = Some(metadata.into());
        self
    }
}

/// A message as the server has stored it, without its reactions.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Message {
    /// The id, a UUID.
    pub id: String,
    /// The conversation of the message.
    pub conversation_id: String,
    /// The position of the message in its conversation: 1, 2, 3 and so on, without a gap.
    pub seq: u64,
    /// The author.
    pub user_id: String,
    /// The author's name when the message began.
    pub user_name: String,
    /// The text, or the part of it that the server has.
    pub content: String,
    /// Whether the text still grows.
    #[serde(default)]
    pub streaming: bool,
    /// Whether the text ended before its author finished it.
    #[serde(default)]
    pub interrupted: bool,
    /// The reason that the author gave for aborting the message.
    pub interrupted_reason: Option<String>,
    /// Who wrote the text.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// The metadata, an object. Empty if there is none.
    pub metadata: Value,
    /// The message that this one replies to, if it still exists.
    pub reply_to: Option<Quote>,
    /// The mentioned users.
    #[serde(default)]
    pub mentions: Vec<String>,
    /// 1, and one more with each change of the text, such as its end.
    pub version: u32,
    /// When the message was stored, in the format of RFC 3339.
    pub created_at: String,
    /// When it was last edited, in the same format.
    pub edited_at: Option<String>,
    /// When it was deleted, in the same format. The text is then empty.
    pub deleted_at: Option<String>,
}

/// The message that a reply quotes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Quote {
    /// The id.
    pub id: String,
    /// The position of the message in its conversation.
    pub seq: u64,
    /// The author.
    pub user_id: String,
    /// The author's name when the message was sent.
    pub user_name: String,
    /// The first 200 characters of the text.
    pub excerpt: String,
}

/// Who wrote a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum MessageKind {
    /// A person.
    #[default]
    User,
    /// A machine.
    Ai,
}

/// The request of a member that an author stop writing a message. The author decides.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct StopRequest {
    /// The conversation of the message.
    pub conversation_id: String,
    /// The message.
    pub message_id: String,
    /// The member who asks.
    pub user_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Begin<'a> {
    pub(super) client_message_id: &'a str,
    #[serde(flatten)]
    pub(super) new: &'a NewMessage,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Append<'a> {
    pub(super) message_id: &'a str,
    pub(super) offset: u64,
    pub(super) text: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Finish<'a> {
    pub(super) message_id: &'a str,
    pub(super) offset: u64,
    #[serde(flatten)]
    pub(super) correction: &'a Correction,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Abort<'a> {
    pub(super) message_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'a str>,
}

/// The acknowledgement of `begin_message`.
#[derive(Deserialize)]
pub(super) struct Begun {
    #[serde(rename = "success")]
    _success: Success,
    pub(super) message: Message,
    pub(super) offset: u64,
}

/// The acknowledgement of `append_message`.
#[derive(Deserialize)]
pub(super) struct Grown {
    #[serde(rename = "success")]
    _success: Success,
    /// The number of characters that the server has.
    pub(super) offset: u64,
    /// The number of characters that are stored.
    pub(super) stored: u64,
}

/// The acknowledgement of `finish_message` and `abort_message`.
#[derive(Deserialize)]
pub(super) struct Ended {
    #[serde(rename = "success")]
    _success: Success,
    pub(super) message: Message,
}

/// The value `true`, so that no refusal is read as an answer.
struct Success;

impl<'de> Deserialize<'de> for Success {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match bool::deserialize(deserializer)? {
            true => Ok(Self),
            false => Err(de::Error::custom("the request was refused")),
        }
    }
}
