//! Conversations: their rows, their order in a list, and their titles.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::{Actor, Change, Level, Quote};
use crate::store::statement::{Columns, Pair, Record, Single, Statement, record, values};
use crate::store::write::Write;
use crate::store::{Backend, Origin, Store, StoreError, Time};

/// A conversation: its row, and its JSON on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationInfo")]
pub struct Conversation {
    /// The id of the conversation.
    pub id: Uuid,
    /// The title of the conversation, if it has one.
    pub title: Option<String>,
    /// The user who created the conversation, or `None` if the server created it.
    pub owner_id: Option<String>,
    /// The members in the order of their ids; empty if the conversation is open to everyone.
    pub member_ids: Vec<String>,
    /// When it was made.
    pub created_at: Time,
    /// When its title or members last changed.
    pub updated_at: Time,
}

/// A conversation to be stored.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// The id of the conversation.
    pub id: Uuid,
    /// The title of the conversation, if it has one.
    pub title: Option<String>,
    /// The owner, who is a member even if `member_ids` does not contain the owner's id.
    pub owner_id: Option<String>,
    /// The members; duplicates are ignored.
    pub member_ids: Vec<String>,
    /// Whether every user counts as a member.
    pub is_open: bool,
}

impl NewConversation {
    /// Returns the statement that stores it, unless its id exists.
    pub(in crate::store) fn insert(&self, now: Time) -> Statement {
        let (title, owner) = (self.title.clone(), self.owner_id.clone());
        Statement::new(
            "INSERT INTO conversations (id, title, owner_id, is_open, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO NOTHING",
            values![self.id, title, owner, self.is_open, now],
        )
    }

    /// Returns the conversation that exists from the start in development, open to everyone.
    #[must_use]
    pub fn lobby() -> Self {
        Self {
            id: Uuid::from_u128(0x00000000_0000_4000_8000_000000000001),
            title: Some("Lobby".into()),
            owner_id: None,
            member_ids: Vec::new(),
            is_open: true,
        }
    }
}

/// A conversation as one of its members sees it.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The conversation.
    pub conversation: Conversation,
    /// The `seq` of its newest message; 0 if it has none.
    pub last_seq: u64,
    /// The number of changes that are not messages.
    pub changes: u64,
    /// Whether every user counts as a member.
    pub is_open: bool,
}

impl Membership {
    /// Returns the revision of the conversation.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision {
            seq: self.last_seq,
            changes: self.changes,
        }
    }
}

/// The position of a conversation in its history.
///
/// Every commit in a conversation takes one step under one lock. A new message increases `seq`; an
/// edit, a deletion, a new title or a member change increases `changes`. So the revisions of a
/// conversation are totally ordered, by these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a position in an order")]
pub struct Revision {
    /// The `seq` of the newest message.
    pub seq: u64,
    /// The number of the newest change.
    pub changes: u64,
}

record! { Revision => seq: "last_seq", changes }

/// A new title for a conversation.
#[derive(Clone, Debug)]
pub struct Rename {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The new title.
    pub title: String,
    /// The user who asks for the change: the owner or an admin.
    pub by: Actor,
}

impl Rename {
    /// Returns why the change is refused, if it is. `is_member` refers to the user who asks.
    pub(in crate::store) fn refused<T>(
        &self,
        owner: Option<&str>,
        is_member: bool,
    ) -> Option<Change<T>> {
        self.by.refused(owner, is_member)
    }
}

/// One of a user's conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListedConversation")]
pub struct ListedConversation {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// The `seq` of its newest message; 0 if it has none.
    pub last_seq: u64,
    /// The last `seq` that the user has read.
    pub read_seq: u64,
    /// Messages of others after that which are not deleted; counted up to 1,000.
    pub unread: u64,
    /// Of what the user wants to be notified in it.
    pub notification_level: Level,
    /// Its newest message, unless it has none or its retention has removed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_message: Option<LastMessage>,
}

impl ListedConversation {
    /// Returns the time of its newest message, or of the last change of its title or members if
    /// that is later.
    fn active_at(&self) -> Time {
        let changed_at = self.conversation.updated_at;
        let message = self.last_message.as_ref();
        message.map_or(changed_at, |last| last.created_at.max(changed_at))
    }
}

/// The beginning of the newest message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct LastMessage {
    /// The beginning of the message.
    #[serde(flatten)]
    pub quote: Quote,
    /// When it was sent.
    pub created_at: Time,
}

impl Record for Option<LastMessage> {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let Some(id) = row.get("message_id")? else {
            return Ok(None);
        };
        let quote = Quote {
            id,
            seq: row.get("last_seq")?,
            user_id: row.get("message_user_id")?,
            user_name: row.get("message_user_name")?,
            excerpt: row.get("message_excerpt")?,
            edited_at: row.get("message_edited_at")?,
            deleted_at: row.get("message_deleted_at")?,
        };
        let created_at = row.get("message_created_at")?;
        Ok(Some(LastMessage { quote, created_at }))
    }
}

/// The columns of a [`LastMessage`], from the table `m`.
#[cfg(any(feature = "postgres", feature = "sqlite"))]
macro_rules! last_message_columns {
    () => {
        "m.id AS message_id, m.user_id AS message_user_id, m.user_name AS message_user_name,
         substr(m.content, 1, 200) AS message_excerpt, m.created_at AS message_created_at,
         m.edited_at AS message_edited_at, m.deleted_at AS message_deleted_at"
    };
}

#[cfg(any(feature = "postgres", feature = "sqlite"))]
use last_message_columns;

/// A page of a user's conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationPage")]
pub struct List {
    /// The conversations, those with the newest message or change of title or members first.
    pub conversations: Vec<ListedConversation>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cursor: Option<Cursor>,
    /// Whether the user has more.
    pub has_more: bool,
}

/// A conversation without the ids of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationSummary {
    /// The id of the conversation.
    pub id: Uuid,
    /// The title of the conversation, if it has one.
    pub title: Option<String>,
    /// The user who created the conversation, or `None` if the server created it.
    pub owner_id: Option<String>,
    /// Whether every user counts as a member.
    pub open: bool,
    /// The number of its members; 0 if it is open to everyone.
    pub members: u64,
    /// The `seq` of its newest message; 0 if it has none.
    pub last_seq: u64,
    /// When it was made.
    pub created_at: Time,
    /// When its title or members last changed.
    pub updated_at: Time,
}

record! { ConversationSummary =>
    id, title, owner_id, open: "is_open", members, last_seq, created_at, updated_at,
}

/// The query of summaries, with the condition on the ids.
macro_rules! summaries {
    ($ids:literal) => {
        concat!(
            "SELECT id, title, owner_id, is_open, last_seq, created_at, updated_at,
                 (SELECT count(*) FROM members WHERE conversation_id = conversations.id) AS members
             FROM conversations WHERE id ",
            $ids,
            " AND deleted_at IS NULL ORDER BY id"
        )
    };
}

/// The end of a page. The next page has the conversations after it, and before those the ones that
/// have come to the front of the list since the first page was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
#[expect(clippy::exhaustive_structs, reason = "a position in an order")]
pub struct Cursor {
    /// The newest activity of the conversations listed so far.
    pub first: Time,
    /// The time of the last activity of the last conversation.
    pub active_at: Time,
    /// The id of that conversation.
    pub id: Uuid,
}

impl Cursor {
    /// Returns the end of a page that began after `before`.
    pub(in crate::store) fn after(
        page: &[ListedConversation],
        before: Option<Self>,
    ) -> Option<Self> {
        let (first, last) = (page.first()?.active_at(), page.last()?);
        Some(Self {
            first: before.map_or(first, |before| before.first.max(first)),
            active_at: last.active_at(),
            id: last.conversation.id,
        })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.first, self.active_at, self.id)
    }
}

/// The error for a text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no fields")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    /// Parses what [`Display`](fmt::Display) has written, and no other spelling of it.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let mut parts = text.splitn(3, '_');
        let mut next = || parts.next().ok_or(InvalidCursor);
        let cursor = Self {
            first: next()?.parse().map_err(|_| InvalidCursor)?,
            active_at: next()?.parse().map_err(|_| InvalidCursor)?,
            id: next()?.parse().map_err(|_| InvalidCursor)?,
        };
        // A cursor has only one spelling, so clients cannot construct other positions.
        (cursor.to_string() == text)
            .then_some(cursor)
            .ok_or(InvalidCursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Store {
    /// Stores a conversation unless its id exists, and returns the stored conversation.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_conversation(
        &self,
        conversation: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let (id, origin) = (conversation.id, Origin::default());
        let made = self.submit(conversation, id, origin, Write::Conversation);
        self.then_notify_feed(made).await
    }

    /// Changes the title of a conversation and waits until that is emitted. Only the owner or an
    /// admin may do so.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn rename_conversation(
        &self,
        rename: Rename,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        let conversation_id = rename.conversation_id;
        self.submit(rename, conversation_id, origin, Write::Rename)
            .await
    }

    /// Returns a conversation as `user` sees it, or `None` if it is unknown or `user` is not a
    /// member.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn membership(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.membership(conversation, Some(user))).await)
    }

    /// Returns a conversation regardless of membership, or `None` if it is unknown.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn conversation(&self, conversation: Uuid) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.membership(conversation, None)).await)
    }

    /// Returns at most `limit` of the conversations that `user` is a member of, with unread counts.
    ///
    /// Starts after `before`, if given.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.conversations(user, before, limit)).await)
    }

    /// Returns the ids and titles of at most `limit` conversations, in the order of their ids after
    /// `after`, if given.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversation_titles(
        &self,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<(Uuid, Option<String>)>, StoreError> {
        let select = Statement::new(
            "SELECT id AS key, title AS value FROM conversations
             WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2",
            values![after.unwrap_or_default(), limit],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?;
        Ok(found
            .into_iter()
            .map(|Pair(id, title)| (id, title))
            .collect())
    }

    /// Returns those of these conversations that exist, in the order of their ids.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversation_summaries(
        &self,
        ids: Vec<Uuid>,
    ) -> Result<Vec<ConversationSummary>, StoreError> {
        let select = Statement::new(summaries!("= ANY($1)"), values![ids])
            .for_sqlite(summaries!("IN (SELECT value FROM json_each($1))"));
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Returns the ids of at most `limit` conversations that `user` is a member of.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversation_ids(
        &self,
        user: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let select = Statement::new(
            "SELECT id AS value FROM conversations
             WHERE id IN (SELECT conversation_id FROM members WHERE user_id = $1
                 UNION SELECT id FROM conversations WHERE is_open) AND deleted_at IS NULL
             LIMIT $2",
            values![user, limit],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?;
        Ok(found.into_iter().map(|Single(id)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_parses_only_its_own_spelling() {
        let text = "2025-01-31T13:00:00.000Z_2025-01-31T12:00:00.000Z_0f8fad5b-d9cb-469f-a165-70867728950e";
        let cursor: Cursor = text.parse().unwrap();
        assert_eq!(cursor.to_string(), text);
        for wrong in [
            "",
            "_",
            "x",
            "2025-01-31T12:00:00.000Z_0f8fad5b-d9cb-469f-a165-70867728950e",
            "2025-01-31T13:00:00.000Z_2025-01-31T12:00:00Z_0f8fad5b-d9cb-469f-a165-70867728950e",
            "2025-01-31T13:00:00.000Z_2025-01-31T12:00:00.000Z_0F8FAD5B-d9cb-469f-a165-70867728950e",
            "2025-01-31T13:00:00.000Z_2025-01-31T12:00:00.000Z_0f8fad5b-d9cb-469f-a165-70867728950e_",
            "2025-01-31T13:00:00.000Z_2025-01-31T12:00:00.000Z 0f8fad5b-d9cb-469f-a165-70867728950e",
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong}");
        }
    }
}
