//! Messages whose text still grows: the row beside each, which has the text so far.
//!
//! The message itself stays empty until its end, so that growing text takes no revision of its
//! conversation and no place in the search index. Its end is a change like an edit.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::change::{Authorship, Change, Message, Notice};
use crate::store::statement::{Single, Statement, record, values};
use crate::store::write::Write;
use crate::store::{Origin, Store, StoreError, Time};

/// The stored part of a message that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct OpenStream {
    /// The conversation of the message.
    pub conversation_id: Uuid,
    /// The place of the message in its conversation.
    pub seq: u64,
    /// The text so far.
    pub text: String,
}

record! { OpenStream => conversation_id, seq, text }

/// A message that is being written, and its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct StreamPlace {
    /// The message.
    pub message_id: Uuid,
    /// Its conversation.
    pub conversation_id: Uuid,
}

record! { StreamPlace => message_id, conversation_id }

/// More text of a message that is being written.
#[derive(Clone, Debug, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "callers set every field")]
pub struct Extension {
    /// The message.
    pub message_id: Uuid,
    /// Who extends it. Refused if another has taken over.
    pub holder: Uuid,
    /// The number of characters before this text.
    #[serde(rename = "from_chars")]
    pub from: usize,
    /// The text.
    pub text: String,
    /// Its number of characters.
    pub chars: usize,
}

/// The end of a message that is being written.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "callers name the message")]
pub struct Finish {
    /// The message.
    pub message_id: Uuid,
    /// Who extends it. Refused if another has taken over. `None` ends it for everyone.
    pub holder: Option<Uuid>,
    /// The whole text. `None` takes the stored text.
    pub content: Option<String>,
    /// New metadata.
    pub metadata: Option<Box<RawValue>>,
    /// Why the text ends before its author finished it; empty if the author vanished.
    pub interrupted: Option<String>,
    /// Ends the message only if nothing was stored since.
    pub idle_since: Option<Time>,
    /// Creates the journal entry that is stored for each mentioned member.
    pub notice: Option<Notice>,
}

impl Finish {
    /// Returns the finished row, or why it is refused. `stored` is the row of the stream.
    pub(in crate::store) fn finished(
        &self,
        old: &Message,
        stored: &StoredStream,
    ) -> Result<Message, Change<Arc<Message>>> {
        let is_other = self.holder.is_some_and(|holder| holder != stored.holder);
        let is_active = self
            .idle_since
            .is_some_and(|since| stored.touched_at > since);
        if is_other || is_active {
            return Err(Change::Conflict);
        }
        let content = self.content.as_ref().unwrap_or(&stored.text);
        Ok(Message {
            content: content.clone(),
            metadata: self
                .metadata
                .clone()
                .unwrap_or_else(|| old.metadata.clone()),
            streaming: false,
            interrupted: self.interrupted.is_some(),
            interrupted_reason: self.interrupted.clone().filter(|why| !why.is_empty()),
            version: old.version.saturating_add(1),
            ..old.clone()
        })
    }
}

/// The row of a message that is being written.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct StoredStream {
    /// Who extends it.
    pub holder: Uuid,
    /// The text so far.
    pub text: String,
    /// When the store last took text.
    pub touched_at: Time,
}

record! { StoredStream => holder, text, touched_at }

/// The condition that the author of a message `s` may write in its conversation.
macro_rules! may_write {
    () => {
        "EXISTS (SELECT 1 FROM conversations c WHERE c.id = s.conversation_id
             AND c.deleted_at IS NULL AND (c.is_open OR EXISTS (SELECT 1 FROM members m
                 WHERE m.conversation_id = s.conversation_id AND m.user_id = s.user_id)))"
    };
}

/// Returns the statement that removes the row beside a message.
pub(in crate::store) fn delete(message: Uuid) -> Statement {
    Statement::new(
        "DELETE FROM message_streams WHERE message_id = $1",
        values![message],
    )
}

impl Store {
    /// Stores more text of messages, all in one transaction. Returns the messages that took it.
    ///
    /// A message that has ended, that another holder writes, or whose author may no longer write in
    /// the conversation, takes nothing.
    ///
    /// # Errors
    ///
    /// If it could not be stored. A repetition does not store a text twice.
    pub async fn extend_streams(&self, extensions: &[Extension]) -> Result<Vec<Uuid>, StoreError> {
        // One list, which SQLite parses once. Joined lists of columns are parsed for each row.
        let given = serde_json::to_string(extensions).unwrap_or_default();
        let extend = Statement::new(
            concat!(
                "UPDATE message_streams s
             SET text = CASE WHEN s.chars = d.from_chars THEN s.text || d.text ELSE s.text END,
                 chars = d.from_chars + d.chars, touched_at = $2
             FROM json_to_recordset($1::text::json) AS d (message_id uuid, holder uuid,
                 from_chars int8, text text, chars int8)
             WHERE s.message_id = d.message_id AND s.holder = d.holder
                 AND s.chars IN (d.from_chars, d.from_chars + d.chars) AND ",
                may_write!(),
                " RETURNING s.message_id AS value"
            ),
            values![given, Time::now()],
        )
        .for_sqlite(concat!(
            "UPDATE message_streams AS s
             SET text = CASE WHEN s.chars = d.start THEN s.text || d.more ELSE s.text END,
                 chars = d.start + d.added, touched_at = $2
             FROM (SELECT value ->> 'message_id' AS id, value ->> 'holder' AS owner,
                     value ->> 'from_chars' AS start, value ->> 'text' AS more,
                     value ->> 'chars' AS added
                 FROM json_each($1)) AS d
             WHERE s.message_id = d.id AND s.holder = d.owner
                 AND s.chars IN (d.start, d.start + d.added) AND ",
            may_write!(),
            " RETURNING message_id AS value"
        ));
        let taken = self.change_rows(extend).await?.into_iter();
        Ok(taken.map(|Single(message)| message).collect())
    }

    /// Makes `holder` the one who extends a message of this author, and returns what is stored.
    /// Returns `None` if no such message is being written, if its author may no longer write in the
    /// conversation, or if its holder is not less: each holder is greater than those from which it
    /// has taken over, so that late text is recognized.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn take_stream(
        &self,
        message: Uuid,
        author: &str,
        holder: Uuid,
    ) -> Result<Option<OpenStream>, StoreError> {
        let take = Statement::new(
            concat!(
                "UPDATE message_streams AS s SET holder = $3, touched_at = $4
                 WHERE message_id = $1 AND user_id = $2 AND holder < $3 AND ",
                may_write!(),
                " RETURNING conversation_id, text,
                     (SELECT seq FROM messages m WHERE m.id = message_id) AS seq"
            ),
            values![message, author, holder, Time::now()],
        );
        Ok(self
            .with_answer_timeout(self.change_rows(take))
            .await?
            .pop())
    }

    /// Returns the stored part of a message that is being written.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn stored_stream(&self, message: Uuid) -> Result<Option<StoredStream>, StoreError> {
        let select = select_stream(message);
        Ok(self.with_answer_timeout(self.rows(select)).await?.pop())
    }

    /// Returns who writes a message. The membership of the user who asks is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn stream_author(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        let select = Statement::new(
            "SELECT conversation_id, user_id, message_id IS NULL AS is_deleted
             FROM message_streams WHERE message_id = $1",
            values![message],
        );
        Ok(self.with_answer_timeout(self.rows(select)).await?.pop())
    }

    /// Returns the message that a user has stored under this id of its own.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn sent(&self, user: &str, client_id: &str) -> Result<Option<Uuid>, StoreError> {
        let select = Statement::new(
            "SELECT id AS value FROM messages WHERE user_id = $1 AND client_message_id = $2",
            values![user, client_id],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?.pop();
        Ok(found.map(|Single(id)| id))
    }

    /// Returns the messages of a conversation that are being written, at most [`STREAMS_READ`].
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn streams_in(&self, conversation: Uuid) -> Result<Vec<u64>, StoreError> {
        let select = Statement::new(
            "SELECT m.seq AS value FROM message_streams s JOIN messages m ON m.id = s.message_id
             WHERE s.conversation_id = $1 ORDER BY m.seq LIMIT $2",
            values![conversation, STREAMS_READ],
        );
        let found = self
            .with_answer_timeout(self.rows(select))
            .await?
            .into_iter();
        Ok(found.map(|Single(seq)| seq).collect())
    }

    /// Returns how many messages a user is writing.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn count_streams(&self, author: &str) -> Result<u64, StoreError> {
        let count = Statement::new(
            "SELECT count(*) AS value FROM message_streams WHERE user_id = $1",
            values![author],
        );
        let found = self.with_answer_timeout(self.rows(count)).await?.pop();
        Ok(found.map_or(0, |Single(count)| count))
    }

    /// Returns those of these messages that are still being written by these holders, and whose
    /// authors may write in their conversations.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn held_streams(&self, messages: Vec<Uuid>) -> Result<Vec<StreamHolder>, StoreError> {
        let select = Statement::new(
            concat!(
                "SELECT message_id, holder FROM message_streams s
                 WHERE message_id = ANY($1) AND ",
                may_write!()
            ),
            values![messages],
        )
        .for_sqlite(concat!(
            "SELECT message_id, holder FROM message_streams s
             WHERE message_id IN (SELECT value FROM json_each($1)) AND ",
            may_write!()
        ));
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Returns at most `limit` messages to which no text was added for this long.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn idle_streams(
        &self,
        since: Time,
        limit: usize,
    ) -> Result<Vec<StreamPlace>, StoreError> {
        let select = Statement::new(
            "SELECT message_id, conversation_id FROM message_streams
             WHERE touched_at < $1 ORDER BY touched_at LIMIT $2",
            values![since, limit],
        );
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Ends a message that is being written, and waits until that is emitted. It then has a second
    /// version, and is found by searches.
    ///
    /// The result is [`Change::Unchanged`] for a message that has ended, and [`Change::Conflict`]
    /// if another holder writes it.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn finish_stream(
        &self,
        finish: Finish,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let Some(conversation_id) = self.conversation_of(finish.message_id).await? else {
            return Ok(Change::Absent);
        };
        let is_told = finish.notice.is_some();
        let finished = self.submit(finish, conversation_id, origin, Write::Finish);
        if is_told {
            self.then_notify_feed(finished).await
        } else {
            finished.await
        }
    }
}

/// Who extends a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct StreamHolder {
    /// The message.
    pub message_id: Uuid,
    /// The holder.
    pub holder: Uuid,
}

record! { StreamHolder => message_id, holder }

/// Selects the [`StoredStream`] of a message.
fn select_stream(message: Uuid) -> Statement {
    Statement::new(
        "SELECT holder, text, touched_at FROM message_streams WHERE message_id = $1",
        values![message],
    )
}

/// Maximum number of messages that [`Store::streams_in`] returns.
pub const STREAMS_READ: usize = 100;
/// How much longer than its timeout nobody extends a message until another server ends it.
pub const IDLE_MARGIN: Duration = Duration::from_secs(2);
