//! The SQL of messages: storing, changing, reading and searching them.
//!
//! The writer thread calls the changes within the transaction of a group, so that membership cannot
//! change between check and write.

use std::fmt::Write as _;
use std::sync::Arc;

use rusqlite::{Connection, named_params, params};
use uuid::Uuid;

use crate::store::change::annotations::sqlite::{notify, references, shown, shown_page};
use crate::store::change::members::sqlite::{is_member, last_seq};
use crate::store::change::messages::list;
use crate::store::change::messages::streams::{self, sqlite::begin};
use crate::store::change::{Actor, Change, Delete, Edit, Insert, Message, NewMessage, Search};
use crate::store::page::{Messages, Page, PageBuilder};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{
    CachedStatements, Id, execute, one_more, record, signed, unsigned,
};
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let user = user.map(str::to_owned);
        self.read(move |connection| {
            // One transaction reads membership and messages, so that a removed user gets
            // nothing newer than the removal.
            let transaction = connection.unchecked_transaction()?;
            if last_seq(&transaction, conversation, user.as_deref())?.is_none() {
                return Ok(None);
            }
            messages(&transaction, conversation, page, limit, user.as_deref()).map(Some)
        })
        .await
    }

    pub(in crate::store) async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let user = user.to_owned();
        self.read(move |connection| self::search(connection, &user, &search, limit))
            .await
    }

    /// Removes the oldest messages of each affected conversation.
    pub(in crate::store) async fn expire(
        &self,
        time: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let removed = connection.execute_cached(
                "DELETE FROM messages WHERE number IN (
                     SELECT messages.number FROM messages JOIN (
                         SELECT conversation_id, max(seq) AS seq FROM (
                             SELECT conversation_id, seq FROM messages
                             WHERE id < ?1 AND created_at < ?2 ORDER BY id LIMIT ?3)
                         GROUP BY conversation_id) AS old
                     ON messages.conversation_id = old.conversation_id AND messages.seq <= old.seq)",
                params![
                    Id(time.first_id()),
                    time,
                    i64::try_from(limit).unwrap_or(i64::MAX)
                ],
            )?;
            Ok(removed as u64)
        })
        .await
    }
}

/// Stores a message with the next `seq` of its conversation, unless it was stored before.
pub(in crate::store) fn insert_message(
    connection: &Connection,
    new: &NewMessage,
    now: Time,
) -> rusqlite::Result<Insert> {
    let Some(last_seq) = last_seq(connection, new.conversation_id, Some(&new.user_id))? else {
        return Ok(Insert::Absent);
    };
    if let Some(client_message_id) = &new.client_message_id
        && let Some(message) = sent(connection, &new.user_id, client_message_id)?
    {
        return Ok(if message.conversation_id == new.conversation_id {
            Insert::Repeated(Arc::new(shown(connection, message)?))
        } else {
            Insert::Conflict
        });
    }
    let original = match references(connection, new)? {
        Ok(original) => original,
        Err(Some(place)) => return Ok(Insert::NoMember(place)),
        Err(None) => return Ok(Insert::NoOriginal),
    };
    let message = new.clone().stored(unsigned(last_seq) + 1, now, original);
    connection.execute_cached(
        "INSERT INTO messages (id, conversation_id, seq, user_id, user_name, content, type,
             metadata, client_message_id, reply_to, mentions, version, created_at)
         VALUES (:id, :conversation_id, :seq, :user_id, :user_name, :content, :type,
             :metadata, :client_message_id, :reply_to, :mentions, :version, :created_at)",
        named_params! {
            ":id": Id(message.id),
            ":conversation_id": Id(message.conversation_id),
            ":seq": last_seq + 1,
            ":user_id": message.user_id,
            ":user_name": message.user_name,
            ":content": message.content,
            ":type": message.kind.as_str(),
            ":metadata": message.metadata.get(),
            ":client_message_id": new.client_message_id,
            ":reply_to": new.reply_to.map(Id),
            ":mentions": (!new.mentions.is_empty()).then(|| list(&new.mentions)),
            ":version": message.version,
            ":created_at": message.created_at,
        },
    )?;
    connection
        // Only the writer assigns numbers, so reading and incrementing is safe within its
        // transaction.
        .execute_cached(
            "UPDATE conversations SET last_seq = ?2 WHERE id = ?1",
            params![Id(message.conversation_id), last_seq + 1],
        )?;
    if let Some(holder) = new.holder {
        begin(connection, &message, holder)?;
    }
    // The notifications are stored in the message's transaction, so that both or neither exist.
    if let Some(notice) = &new.notice {
        notify(connection, notice, &message)?;
    }
    Ok(Insert::Stored(Arc::new(message)))
}

/// Returns the row of a message, without its quote and reactions.
pub(in crate::store) fn find(
    connection: &Connection,
    id: Uuid,
) -> rusqlite::Result<Option<Message>> {
    connection.query_opt_cached("SELECT * FROM messages WHERE id = ?1", [Id(id)], record)
}

/// Returns the message that a user sent with this client id.
fn sent(connection: &Connection, user: &str, id: &str) -> rusqlite::Result<Option<Message>> {
    connection.query_opt_cached(
        "SELECT * FROM messages WHERE user_id = ?1 AND client_message_id = ?2",
        [user, id],
        record,
    )
}

pub(in crate::store) fn edit(
    connection: &Connection,
    edit: &Edit,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let old = match changeable(connection, edit.message_id, &edit.by)? {
        Ok(message) if Edit::is_possible(message.deleted_at.is_some()) => message,
        Ok(_) => return Ok(Change::Absent),
        Err(refused) => return Ok(refused),
    };
    if old.streaming || edit.version.is_some_and(|version| version != old.version) {
        return Ok(Change::Conflict);
    }
    let new = old.edited(edit.content.clone(), now);
    replace(connection, &old, &new, &edit.by, now)?;
    Ok(Change::Done(Arc::new(new)))
}

pub(in crate::store) fn delete(
    connection: &Connection,
    delete: &Delete,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let old = match changeable(connection, delete.message_id, &delete.by)? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(message) => return Ok(Change::Unchanged(Arc::new(message))),
        Err(refused) => return Ok(refused),
    };
    let new = old.deleted(now);
    replace(connection, &old, &new, &delete.by, now)?;
    if old.streaming {
        execute(connection, &streams::delete(old.id))?;
    }
    Ok(Change::Done(Arc::new(new)))
}

/// Returns a message that `by` may change, or the refusal.
fn changeable(
    connection: &Connection,
    id: Uuid,
    by: &Actor,
) -> rusqlite::Result<Result<Message, Change<Arc<Message>>>> {
    let Some(message) = find(connection, id)? else {
        return Ok(Err(Change::Absent));
    };
    let message = shown(connection, message)?;
    if last_seq(connection, message.conversation_id, None)?.is_none() {
        return Ok(Err(Change::Absent));
    }
    let is_member = is_member(connection, message.conversation_id, &by.user_id)?;
    Ok(match message.refuses(by, is_member) {
        Some(refused) => Err(refused),
        None => Ok(message),
    })
}

pub(in crate::store) fn replace(
    connection: &Connection,
    old: &Message,
    new: &Message,
    by: &Actor,
    now: Time,
) -> rusqlite::Result<()> {
    connection.execute_cached(
        "INSERT INTO message_versions
             (message_id, version, content, metadata, replaced_at, replaced_by)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            Id(old.id),
            old.version,
            old.content,
            old.metadata.get(),
            now,
            by.user_id
        ],
    )?;
    connection.execute_cached(
        "UPDATE messages SET content = ?2, metadata = ?3, version = ?4, edited_at = ?5,
             deleted_at = ?6, interrupted = ?7 WHERE id = ?1",
        params![
            Id(new.id),
            new.content,
            new.metadata.get(),
            new.version,
            new.edited_at,
            new.deleted_at,
            new.interruption()
        ],
    )?;
    Ok(())
}

pub(in crate::store) const ASCENDING: &str = "SELECT * FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq LIMIT ?4";
pub(in crate::store) const DESCENDING: &str = "SELECT * FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND seq < ?3 ORDER BY seq DESC LIMIT ?4";

/// Returns a page of messages.
pub(in crate::store) fn messages(
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
        if !builder.push(Arc::new(record(row)?)) {
            break;
        }
    }
    shown_page(connection, builder.finish(descending), reader, descending)
}

/// Searches in the order of message numbers, which is the order of storing.
///
/// The index then returns the newest message first and stops when there are enough. Any other order
/// would read all messages that contain a common word.
pub(in crate::store) const SEARCH: &str = "SELECT messages.* FROM messages_by_word JOIN messages
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

/// Returns the newest messages that contain all the words, the last as a prefix.
///
/// FTS5 collects the entries of all words with the prefix before it returns the first message. That
/// is linear in their number, and the timeout of the reader ends it.
pub(in crate::store) fn search(
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
        if !builder.push(Arc::new(record(row)?)) {
            break;
        }
    }
    let page = builder.finish(true);
    drop(rows);
    shown_page(connection, page, Some(user), true).map(Some)
}

/// Returns the words as an FTS5 query, each quoted so that none is an operator. The star makes the
/// last word a prefix.
fn all_of(words: &[String]) -> String {
    let mut query = String::new();
    for word in words {
        let _ = write!(query, "\"{}\" ", word.replace('"', ""));
    }
    query.push('*');
    query
}
