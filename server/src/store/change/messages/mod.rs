//! Messages: their rows, the rules for sending and changing them, and the methods of [`Store`].

mod notices;
#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;
pub(in crate::store) mod streams;

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

pub use notices::Notice;

use super::{Actor, Change, Quote, Reaction};
use crate::store::page::{Messages, Page};
use crate::store::statement::{Columns, Record, Single, Statement, record, values};
use crate::store::write::Write;
use crate::store::{Backend, Origin, Store, StoreError, Time};

/// One stored message: its row, and its JSON on the wire.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// A UUID of version 7: ids ascend in the order of storing.
    pub id: Uuid,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The place of the message in its conversation: 1, 2, 3 and so on, without a gap.
    pub seq: u64,
    /// The user who sent the message.
    pub user_id: String,
    /// The sender's name at the time of sending.
    pub user_name: String,
    /// The text, as it was sent. While the message is being written, the beginning of it.
    pub content: String,
    /// Whether the text still grows; see `message_appended`. Left out otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub streaming: bool,
    /// Whether the text ended before its author finished it. Left out otherwise.
    #[serde(default, skip_serializing_if = "is_false")]
    pub interrupted: bool,
    /// Why the author ended the text, if it gave a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted_reason: Option<String>,
    /// Written by a person or by a machine.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// A JSON object, as it was sent; `{}` if there was none.
    #[schemars(with = "Metadata")]
    pub metadata: Box<RawValue>,
    /// The message to which this message replies: in pages as it is at the time of reading, in
    /// events as it was when this message was sent. Left out if it no longer exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quote>,
    /// The users whom it mentions, as it was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// The reactions to it, in the order in which each emoji came first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// The id of the message that it answers, which is looked up for `reply_to`.
    #[serde(skip)]
    pub(crate) answers: Option<Uuid>,
    /// 1, and one more with each edit.
    pub version: u32,
    /// When it was stored.
    pub created_at: Time,
    /// When it was last edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Time>,
    /// When it was deleted; the row stays, so that `seq` has no gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

impl Message {
    /// Returns the row with a new text. The message must not be deleted.
    pub(in crate::store) fn edited(&self, content: String, now: Time) -> Self {
        Self {
            content,
            version: self.version.saturating_add(1),
            edited_at: Some(now),
            ..self.clone()
        }
    }

    /// Returns the row without text, metadata and reactions.
    pub(in crate::store) fn deleted(&self, now: Time) -> Self {
        Self {
            content: String::new(),
            streaming: false,
            interrupted: false,
            interrupted_reason: None,
            metadata: empty_object(),
            reactions: Vec::new(),
            deleted_at: Some(now),
            ..self.clone()
        }
    }

    /// Returns the value of the column `interrupted`.
    pub(in crate::store) fn interruption(&self) -> Option<&str> {
        let why = self.interrupted_reason.as_deref().unwrap_or_default();
        self.interrupted.then_some(why)
    }

    /// Returns whether the row may belong to a message that is being written: only such messages
    /// have no text.
    pub(in crate::store) fn may_stream(&self) -> bool {
        self.content.is_empty() && self.version == 1 && self.deleted_at.is_none()
    }

    /// Returns why an edit or deletion of this row is refused, if it is. `is_member` refers to the
    /// user who asks.
    pub(in crate::store) fn refuses<T>(&self, by: &Actor, is_member: bool) -> Option<Change<T>> {
        by.refused(Some(&self.user_id), is_member)
    }
}

/// The JSON schema of message metadata, which is stored as it was sent.
pub(crate) enum Metadata {}

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "imageUrl": {"type": ["string", "null"], "description": "An absolute `http` or `https` URL."},
                "timestamp": {"type": ["string", "null"], "description": "An RFC 3339 time."},
            },
            "additionalProperties": true,
        })
    }
}

/// A former state of a message, from before an edit or its deletion.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// 1 for the text as it was first sent.
    pub version: u32,
    /// The text.
    pub content: String,
    /// The metadata.
    pub metadata: Box<RawValue>,
    /// When it was replaced.
    pub replaced_at: Time,
    /// The user who has replaced it.
    pub replaced_by: String,
}

impl Record for Message {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let kind: String = row.get("type")?;
        let mentions: Option<Vec<String>> = row.get("mentions")?;
        let interrupted: Option<String> = row.get("interrupted")?;
        Ok(Self {
            id: row.get("id")?,
            conversation_id: row.get("conversation_id")?,
            seq: row.get("seq")?,
            user_id: row.get("user_id")?,
            user_name: row.get("user_name")?,
            content: row.get("content")?,
            streaming: false,
            interrupted: interrupted.is_some(),
            interrupted_reason: interrupted.filter(|reason| !reason.is_empty()),
            // A check constraint allows no other kind.
            kind: match &*kind {
                "ai" => MessageKind::Ai,
                _ => MessageKind::User,
            },
            metadata: row.get("metadata")?,
            reply_to: None,
            mentions: mentions.unwrap_or_default(),
            reactions: Vec::new(),
            answers: row.get("reply_to")?,
            version: row.get("version")?,
            created_at: row.get("created_at")?,
            edited_at: row.get("edited_at")?,
            deleted_at: row.get("deleted_at")?,
        })
    }
}

record! { Version => version, content, metadata, replaced_at, replaced_by }

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

/// Encodes a list of texts for the column `mentions`.
pub(in crate::store) fn list(texts: &[String]) -> String {
    serde_json::to_string(texts).expect("texts are JSON")
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".into()).expect("an empty object is JSON")
}

/// Who wrote a message: `"user"` or `"ai"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol of the chat closes the set"
)]
pub enum MessageKind {
    /// A person.
    #[default]
    User,
    /// A machine; who may say so is the service's rule.
    Ai,
}

impl MessageKind {
    /// Returns the word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ai => "ai",
        }
    }
}

/// A message to be stored; the store adds `id`, `seq`, `version` and `createdAt`.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The conversation it goes to.
    pub conversation_id: Uuid,
    /// The user who sends the message.
    pub user_id: String,
    /// The sender's name.
    pub user_name: String,
    /// The text.
    pub content: String,
    /// Written by a person or by a machine.
    pub kind: MessageKind,
    /// A JSON object.
    pub metadata: Box<RawValue>,
    /// An idempotency key: messages of a user with the same id are stored once.
    pub client_message_id: Option<String>,
    /// The message of the same conversation that it replies to.
    pub reply_to: Option<Uuid>,
    /// The mentioned members.
    pub mentions: Vec<String>,
    /// Creates the journal entry that is stored with the message for each mentioned member.
    pub notice: Option<Notice>,
    /// Identifies who extends the text of the message, if it is streamed.
    pub holder: Option<Uuid>,
}

impl NewMessage {
    /// Returns the row that is stored under `seq`. `original` is the quote of the message that it
    /// replies to.
    pub(in crate::store) fn stored(self, seq: u64, now: Time, original: Option<Quote>) -> Message {
        Message {
            // The lane creates the ids one after another, so that they ascend like `seq`.
            id: Uuid::now_v7(),
            conversation_id: self.conversation_id,
            seq,
            user_id: self.user_id,
            user_name: self.user_name,
            content: self.content,
            streaming: self.holder.is_some(),
            interrupted: false,
            interrupted_reason: None,
            kind: self.kind,
            metadata: self.metadata,
            reply_to: original,
            mentions: self.mentions,
            reactions: Vec::new(),
            answers: self.reply_to,
            version: 1,
            created_at: now,
            edited_at: None,
            deleted_at: None,
        }
    }
}

/// The outcome of storing a message.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle every outcome")]
pub enum Insert {
    /// The message is stored.
    Stored(Arc<Message>),
    /// The message was stored before under the same `client_message_id`. Contains that row.
    Repeated(Arc<Message>),
    /// The conversation does not exist, or the sender is not a member of it.
    Absent,
    /// The sender used the same `client_message_id` in another conversation.
    Conflict,
    /// The message replies to a message that is deleted or not in the conversation.
    NoOriginal,
    /// The message mentions a user who is not a member, at this index of `mentions`.
    NoMember(usize),
}

/// The author of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Authorship {
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The user who sent the message.
    pub user_id: String,
    /// Whether it has been deleted.
    pub is_deleted: bool,
}

record! { Authorship => conversation_id, user_id, is_deleted }

/// A new text for a message.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The message.
    pub message_id: Uuid,
    /// The user who edits the message: its author or an admin.
    pub by: Actor,
    /// The new text.
    pub content: String,
    /// The version that the editor has seen. The edit is refused if there is a newer version.
    pub version: Option<u32>,
}

impl Edit {
    /// Returns whether a message can be edited: a deleted one cannot.
    pub(crate) const fn is_possible(is_deleted: bool) -> bool {
        !is_deleted
    }
}

/// A request to delete a message: its row stays, without its text.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The message.
    pub message_id: Uuid,
    /// The user who deletes the message: its author or an admin.
    pub by: Actor,
}

/// A search in messages.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The words that a message must contain; see [`words`]. The last can be the beginning of a
    /// word.
    pub words: Vec<String>,
    /// The conversation to search; `None` searches all conversations of the user.
    pub conversation: Option<Uuid>,
    /// Only messages that are older than this message.
    pub before: Option<Uuid>,
}

/// Returns the words of a text for search in all stores: runs of letters and digits, in lower case.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

impl Store {
    /// Stores a message and waits until it is emitted.
    ///
    /// The message is submitted when the future is first polled. Dropping the future later only
    /// discards the answer.
    ///
    /// # Errors
    ///
    /// If it could not be stored. Then it is not and never will be stored, unless the outcome is
    /// unknown ([`StoreError::Unknown`], [`StoreError::TimedOut`]).
    pub async fn insert_message(
        &self,
        message: NewMessage,
        origin: Origin,
    ) -> Result<Insert, StoreError> {
        let is_told = message.notice.is_some();
        let conversation_id = message.conversation_id;
        let stored = self.submit(message, conversation_id, origin, Write::Message);
        if is_told {
            self.then_notify_feed(stored).await
        } else {
            stored.await
        }
    }

    /// Changes the text of a message, retains the old text as a version, and waits until that is
    /// emitted.
    ///
    /// The result for a deleted message is [`Change::Absent`], and for one that is being written
    /// [`Change::Conflict`].
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn edit_message(
        &self,
        edit: Edit,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        // The conversation is looked up first because it determines the lane. The conversation of a
        // message never changes.
        let Some(conversation_id) = self.conversation_of(edit.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(edit, conversation_id, origin, Write::Edit)
            .await
    }

    /// Removes text and metadata of a message, retains them as a version, and waits until that is
    /// emitted.
    ///
    /// The row stays, so that `seq` has no gap.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn delete_message(
        &self,
        delete: Delete,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let Some(conversation_id) = self.conversation_of(delete.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(delete, conversation_id, origin, Write::Delete)
            .await
    }

    /// Returns a page of at most `limit` messages, or `None` if the conversation is unknown or
    /// `user` is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn messages(
        &self,
        conversation: Uuid,
        user: &str,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.messages(conversation, Some(user), page, limit)).await)
    }

    /// Returns a page of at most `limit` messages regardless of membership, or `None` if the
    /// conversation is unknown.
    ///
    /// This is for exports and for the server itself.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn history(
        &self,
        conversation: Uuid,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.messages(conversation, None, page, limit)).await)
    }

    /// Returns at most `limit` of the newest messages that contain all the words, ascending.
    ///
    /// The last word also finds the words that begin with it, so that clients can search while a
    /// user types.
    ///
    /// Searches only conversations that `user` is a member of. Returns `None` if the search names a
    /// conversation that is unknown or has other members. Without words, nothing is found.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.search(user, search, limit)).await)
    }

    /// Returns the former texts of a message from before its edits or deletion, oldest first.
    ///
    /// This is for admins: membership is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        let select = Statement::new(
            "SELECT version, content, metadata, replaced_at, replaced_by FROM message_versions
             WHERE message_id = $1 ORDER BY version",
            values![message],
        );
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Returns the author of a message, or `None` if it is unknown. This is for admins: membership
    /// is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        let select = Statement::new(
            "SELECT m.conversation_id, m.user_id, m.deleted_at IS NOT NULL AS is_deleted
             FROM messages m JOIN conversations c ON c.id = m.conversation_id
             WHERE m.id = $1 AND c.deleted_at IS NULL",
            values![message],
        );
        Ok(self.rows(select).await?.pop())
    }

    /// Returns the conversation that a message belongs to, which never changes.
    pub(in crate::store) async fn conversation_of(
        &self,
        message: Uuid,
    ) -> Result<Option<Uuid>, StoreError> {
        let select = Statement::new(
            "SELECT conversation_id AS value FROM messages WHERE id = $1",
            values![message],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?.pop();
        Ok(found.map(|Single(conversation)| conversation))
    }

    /// Removes about `limit` of the oldest messages that were stored before `time`, with their
    /// versions.
    ///
    /// Each conversation loses its oldest messages only, so that the rest has no gap. Returns how
    /// many; 0 means that no such message is left.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    pub async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        each!(self, backend => backend.expire(time, limit).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            words("Hello, WORLD-2! \"quoted\" a.b_c"),
            ["hello", "world", "2", "quoted", "a", "b", "c"]
        );
        assert_eq!(words("Ärger Ελλάδα"), ["ärger", "ελλάδα"]);
        assert!(words(" \n\t*:'\"()-^ ").is_empty());
    }
}
