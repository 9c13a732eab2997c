//! The SQL of conversations.

use rusqlite::{Connection, params};
use uuid::Uuid;

use super::last_message_columns;
use crate::store::change::members::sqlite::{is_member, last_seq};
use crate::store::change::read_marks::sqlite::unread;
use crate::store::change::{
    Change, Conversation, Cursor, Level, List, ListedConversation, MemberChange, Membership,
    NewConversation, Rename, Revision,
};
use crate::store::page::PageBuilder;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, execute, one_more, record, unsigned};
use crate::store::statement::Pair;
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn membership(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Membership>, StoreError> {
        let user = user.map(str::to_owned);
        self.read(move |connection| membership(connection, conversation, user.as_deref()))
            .await
    }

    pub(in crate::store) async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        let user = user.to_owned();
        self.read(move |connection| conversations(connection, &user, before, limit))
            .await
    }
}

/// Stores a conversation unless its id exists, and reads it.
pub(in crate::store) fn insert_conversation(
    connection: &Connection,
    new: &NewConversation,
    now: Time,
) -> rusqlite::Result<Conversation> {
    if execute(connection, &new.insert(now))? > 0 {
        for user in new.owner_id.iter().chain(&new.member_ids) {
            execute(connection, &MemberChange::insert(new.id, user, now))?;
        }
    }
    read_conversation(connection, new.id)
}

pub(in crate::store) fn read_conversation(
    connection: &Connection,
    id: Uuid,
) -> rusqlite::Result<Conversation> {
    let member_ids = connection.query_cached(
        "SELECT user_id FROM members WHERE conversation_id = ?1 ORDER BY user_id",
        [Id(id)],
        |row| row.get(0),
    )?;
    connection.query_one_cached(
        "SELECT title, owner_id, created_at, updated_at FROM conversations WHERE id = ?1",
        [Id(id)],
        |row| {
            Ok(Conversation {
                id,
                title: row.get("title")?,
                owner_id: row.get("owner_id")?,
                member_ids,
                created_at: row.get("created_at")?,
                updated_at: row.get("updated_at")?,
            })
        },
    )
}

pub(in crate::store) fn rename(
    connection: &Connection,
    rename: &Rename,
    now: Time,
) -> rusqlite::Result<Change<Conversation>> {
    let id = Id(rename.conversation_id);
    let found: Option<Pair<Option<String>, Option<String>>> = connection.query_opt_cached(
        "SELECT owner_id AS key, title AS value FROM conversations
         WHERE id = ?1 AND deleted_at IS NULL",
        [&id],
        record,
    )?;
    let Some(Pair(owner, title)) = found else {
        return Ok(Change::Absent);
    };
    let is_member = is_member(connection, rename.conversation_id, &rename.by.user_id)?;
    if let Some(refused) = rename.refused(owner.as_deref(), is_member) {
        return Ok(refused);
    }
    if title.as_ref() == Some(&rename.title) {
        return read_conversation(connection, rename.conversation_id).map(Change::Unchanged);
    }
    connection.execute_cached(
        "UPDATE conversations SET title = ?2, updated_at = ?3 WHERE id = ?1",
        params![id, rename.title, now],
    )?;
    read_conversation(connection, rename.conversation_id).map(Change::Done)
}

/// Returns a conversation as a user sees it, or `None` if it is unknown or the user is not a
/// member.
fn membership(
    connection: &Connection,
    conversation: Uuid,
    user: Option<&str>,
) -> rusqlite::Result<Option<Membership>> {
    // One transaction reads revision and members, so that they are consistent.
    let transaction = connection.unchecked_transaction()?;
    if last_seq(&transaction, conversation, user)?.is_none() {
        return Ok(None);
    }
    let Some((revision, is_open)) = revision(&transaction, conversation)? else {
        return Ok(None);
    };
    Ok(Some(Membership {
        conversation: read_conversation(&transaction, conversation)?,
        last_seq: revision.seq,
        changes: revision.changes,
        is_open,
    }))
}

/// Returns the owner of a conversation, if it has one, or `None` if it is unknown.
pub(in crate::store) fn owner(
    connection: &Connection,
    conversation: Uuid,
) -> rusqlite::Result<Option<Option<String>>> {
    connection.query_opt_cached(
        "SELECT owner_id FROM conversations WHERE id = ?1 AND deleted_at IS NULL",
        [Id(conversation)],
        |row| row.get(0),
    )
}

/// Returns the revision of a conversation, and whether it is open to everyone.
pub(in crate::store) fn revision(
    connection: &Connection,
    conversation: Uuid,
) -> rusqlite::Result<Option<(Revision, bool)>> {
    connection.query_opt_cached(
        "SELECT last_seq, changes, is_open FROM conversations WHERE id = ?1",
        [Id(conversation)],
        |row| Ok((record(row)?, row.get("is_open")?)),
    )
}

/// Counts a change that is not a message.
pub(in crate::store) fn count_change(
    connection: &Connection,
    conversation: Uuid,
) -> rusqlite::Result<()> {
    connection.execute_cached(
        "UPDATE conversations SET changes = changes + 1 WHERE id = ?1",
        [Id(conversation)],
    )?;
    Ok(())
}

/// Returns a user's conversations, those with the newest activity first.
fn conversations(
    connection: &Connection,
    user: &str,
    before: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<List> {
    // One transaction reads all rows, so that they are consistent.
    let transaction = connection.unchecked_transaction()?;
    let mut statement = transaction.prepare_cached(concat!(
        "SELECT c.id, c.last_seq, coalesce(r.seq, 0) AS read_seq, l.level,
             max(c.updated_at, coalesce(m.created_at, '')) AS active_at, ",
        last_message_columns!(),
        " FROM conversations c
             LEFT JOIN reads r ON r.conversation_id = c.id AND r.user_id = ?1
             LEFT JOIN notification_levels l ON l.conversation_id = c.id AND l.user_id = ?1
             LEFT JOIN messages m ON m.conversation_id = c.id AND m.seq = c.last_seq
         WHERE (c.id IN (SELECT conversation_id FROM members WHERE user_id = ?1)
                 OR c.id IN (SELECT id FROM conversations WHERE is_open))
             AND (?3 IS NULL OR (active_at, c.id) < (?3, ?4) OR active_at > ?5)
         ORDER BY active_at DESC, c.id DESC LIMIT ?2",
    ))?;
    let (time, id, first) = (
        before.map(|before| before.active_at),
        before.map(|before| Id(before.id)),
        before.map(|before| before.first),
    );
    let mut rows = statement.query(params![user, one_more(limit), time, id, first])?;
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
            last_message: record(row)?,
        };
        if !builder.push(listed) {
            break;
        }
    }
    Ok(builder.finish(before))
}
