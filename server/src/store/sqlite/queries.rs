//! The read queries: pages, lists, searches.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::sql::{Id, last_seq, message, metadata, read_conversation, signed, unsigned};
use crate::store::change::annotations::sqlite::shown_page;
use crate::store::change::{
    Authorship, Cursor, Level, List, ListedConversation, MAX_UNREAD_COUNT, Search,
};
use crate::store::rows::{Messages, Page, PageBuilder, Version};

pub(super) const ASCENDING: &str = "SELECT * FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?4";
pub(super) const DESCENDING: &str = "SELECT * FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4";

/// Returns a page of messages.
pub(super) fn messages(
    connection: &Connection,
    conversation: Uuid,
    page: Page,
    limit: usize,
    reader: Option<&str>,
) -> rusqlite::Result<Messages> {
    let (after, before, descending) = match page {
        Page::Newest => (0, i64::MAX, true),
        Page::Before(seq) => (0, signed(seq), true),
        Page::After(seq) => (signed(seq), i64::MAX, false),
        Page::Between { after, through } => {
            (signed(after), signed(through.saturating_add(1)), false)
        }
    };
    let mut statement =
        connection.prepare_cached(if descending { DESCENDING } else { ASCENDING })?;
    let mut rows = statement.query(params![Id(conversation), after, before, one_more(limit)])?;
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.next()? {
        if !builder.push(Arc::new(message(row)?)) {
            break;
        }
    }
    shown_page(connection, builder.finish(descending), reader, descending)
}

/// Returns a user's conversations, most recently changed first.
pub(super) fn conversations(
    connection: &Connection,
    user: &str,
    before: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<List> {
    // One transaction reads all rows, so that they are consistent.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare_cached(
        "SELECT id, last_seq, coalesce(reads.seq, 0) AS read_seq, level
         FROM conversations LEFT JOIN reads
             ON reads.conversation_id = conversations.id AND reads.user_id = ?1
         LEFT JOIN notification_levels
             ON notification_levels.conversation_id = conversations.id
                 AND notification_levels.user_id = ?1
         WHERE (id IN (SELECT conversation_id FROM members WHERE user_id = ?1)
                 OR id IN (SELECT id FROM conversations WHERE is_open))
             AND (?3 IS NULL OR (updated_at, id) < (?3, ?4))
         ORDER BY updated_at DESC, id DESC LIMIT ?2",
    )?;
    let (time, id) = (
        before.map(|before| before.updated_at),
        before.map(|before| Id(before.id)),
    );
    let mut rows = statement.query(params![user, one_more(limit), time, id])?;
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.next()? {
        let id = row.get::<_, Id>("id")?.0;
        let read_seq = row.get("read_seq")?;
        let listed = ListedConversation {
            conversation: read_conversation(&transaction, id)?,
            last_seq: unsigned(row.get("last_seq")?),
            read_seq: unsigned(read_seq),
            unread: unread(&transaction, id, user, read_seq)?,
            notification_level: Level::of(row.get::<_, Option<String>>("level")?.as_deref()),
        };
        if !builder.push(listed) {
            break;
        }
    }
    Ok(builder.finish())
}

pub(super) fn conversation_ids(
    connection: &Connection,
    user: &str,
    limit: usize,
) -> rusqlite::Result<Vec<Uuid>> {
    let mut statement = connection.prepare_cached(
        "SELECT conversation_id FROM members WHERE user_id = ?1
         UNION SELECT id FROM conversations WHERE is_open LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids = statement.query_map(params![user, limit], |row| row.get::<_, Id>(0))?;
    ids.map(|id| id.map(|id| id.0)).collect()
}

pub(super) fn contacts(
    connection: &Connection,
    user: &str,
    most_members: usize,
    limit: usize,
) -> rusqlite::Result<Vec<String>> {
    // The count stops at the limit, however large a conversation is.
    let mut statement = connection.prepare_cached(
        "WITH small AS MATERIALIZED (
             SELECT own.conversation_id FROM members own
             WHERE own.user_id = ?1 AND (SELECT count(*) FROM (SELECT 1 FROM members m
                 WHERE m.conversation_id = own.conversation_id LIMIT ?2 + 1)) <= ?2)
         SELECT DISTINCT m.user_id FROM small JOIN members m USING (conversation_id)
         WHERE m.user_id <> ?1 LIMIT ?3",
    )?;
    let [most_members, limit] =
        [most_members, limit].map(|number| i64::try_from(number).unwrap_or(i64::MAX - 1));
    let users = statement.query_map(params![user, most_members, limit], |row| row.get(0))?;
    users.collect()
}

pub(super) const UNREAD: &str = "SELECT count(*) FROM (SELECT 1 FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND user_id <> ?3 AND deleted_at IS NULL LIMIT ?4)";

/// Returns the number of messages of other users after `read`, up to [`MAX_UNREAD_COUNT`].
pub(super) fn unread(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
    read: i64,
) -> rusqlite::Result<u64> {
    connection.prepare_cached(UNREAD)?.query_row(
        params![Id(conversation), read, user, signed(MAX_UNREAD_COUNT)],
        |row| row.get(0).map(unsigned),
    )
}

/// Searches in the order of message numbers, which is the order of storing.
///
/// The index then returns the newest message first and stops when there are enough. Any other order
/// would read all messages that contain a common word.
pub(super) const SEARCH: &str = "SELECT messages.* FROM messages_by_word JOIN messages
        ON messages.number = messages_by_word.rowid
    WHERE messages_by_word MATCH ?1
        AND messages_by_word.rowid <= CASE WHEN ?2 IS NULL THEN 9223372036854775807
            ELSE coalesce((SELECT own.number - 1 FROM messages own WHERE own.id = ?2),
                (SELECT older.number FROM messages older
                    WHERE older.id < ?2 ORDER BY older.id DESC LIMIT 1), 0) END
        AND (?3 IS NULL OR messages.conversation_id = ?3)
        AND EXISTS (SELECT 1 FROM conversations
            WHERE conversations.id = messages.conversation_id AND (is_open OR EXISTS (
                SELECT 1 FROM members WHERE members.user_id = ?4
                    AND members.conversation_id = messages.conversation_id)))
    ORDER BY messages_by_word.rowid DESC LIMIT ?5";

/// Returns the newest messages that contain all the words.
pub(super) fn search(
    connection: &Connection,
    user: &str,
    search: &Search,
    limit: usize,
) -> rusqlite::Result<Option<Messages>> {
    // One transaction reads messages, quotes and reactions, so that they are consistent.
    let connection = &*connection.unchecked_transaction()?;
    if let Some(conversation) = search.conversation
        && last_seq(connection, conversation, Some(user))?.is_none()
    {
        return Ok(None);
    }
    if search.words.is_empty() {
        return Ok(Some(Messages::default()));
    }
    let mut statement = connection.prepare_cached(SEARCH)?;
    let mut rows = statement.query(params![
        all_of(&search.words),
        search.before.map(Id),
        search.conversation.map(Id),
        user,
        one_more(limit)
    ])?;
    let mut builder = PageBuilder::new(limit);
    while let Some(row) = rows.next()? {
        if !builder.push(Arc::new(message(row)?)) {
            break;
        }
    }
    let page = builder.finish(true);
    drop(rows);
    shown_page(connection, page, Some(user), true).map(Some)
}

/// Returns the words as an FTS5 query, each quoted so that none is an operator.
fn all_of(words: &[String]) -> String {
    let mut query = String::new();
    for word in words {
        let _ = write!(query, "\"{}\" ", word.replace('"', ""));
    }
    query
}

pub(super) fn versions(connection: &Connection, message: Uuid) -> rusqlite::Result<Vec<Version>> {
    connection
        .prepare_cached("SELECT * FROM message_versions WHERE message_id = ?1 ORDER BY version")?
        .query_map([Id(message)], |row| {
            Ok(Version {
                version: row.get("version")?,
                content: row.get("content")?,
                metadata: metadata(row)?,
                replaced_at: row.get("replaced_at")?,
                replaced_by: row.get("replaced_by")?,
            })
        })?
        .collect()
}

pub(super) fn conversation_of(
    connection: &Connection,
    message: Uuid,
) -> rusqlite::Result<Option<Uuid>> {
    connection
        .prepare_cached("SELECT conversation_id FROM messages WHERE id = ?1")?
        .query_row([Id(message)], |row| row.get::<_, Id>(0))
        .optional()
        .map(|id| id.map(|id| id.0))
}

pub(super) fn authorship(
    connection: &Connection,
    message: Uuid,
) -> rusqlite::Result<Option<Authorship>> {
    connection
        .prepare_cached(
            "SELECT conversation_id, user_id, messages.deleted_at IS NOT NULL
             FROM messages JOIN conversations ON conversations.id = conversation_id
             WHERE messages.id = ?1 AND conversations.deleted_at IS NULL",
        )?
        .query_row([Id(message)], |row| {
            Ok(Authorship {
                conversation_id: row.get::<_, Id>(0)?.0,
                user_id: row.get(1)?,
                is_deleted: row.get(2)?,
            })
        })
        .optional()
}

/// Returns `limit + 1`: the extra row shows whether there are more.
fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
