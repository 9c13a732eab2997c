//! Deletes conversations and purges their remains.

use rusqlite::{Connection, params};

use crate::store::change::conversations::sqlite::read_conversation;
use crate::store::change::members::sqlite::is_member;
use crate::store::change::{Change, DeletedConversation, Removal};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, execute, record};
use crate::store::statement::record;
use crate::store::write::DeletionOperation;
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn purge(
        &self,
        time: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| purge(connection, time, limit))
            .await
    }
}

/// A conversation, deleted or not.
struct FoundConversation {
    owner: Option<String>,
    is_open: bool,
    deleted_at: Option<Time>,
    deleted_by: Option<String>,
}

record! { FoundConversation => owner: "owner_id", is_open, deleted_at, deleted_by }

pub(in crate::store) fn delete_conversation(
    connection: &Connection,
    operation: &DeletionOperation,
    now: Time,
) -> rusqlite::Result<Change<Removal>> {
    let deletion = &operation.deletion;
    let id = deletion.conversation_id;
    let found: Option<FoundConversation> = connection.query_opt_cached(
        "SELECT owner_id, is_open, deleted_at, deleted_by FROM conversations WHERE id = ?1",
        [Id(id)],
        record,
    )?;
    let Some(found) = found else {
        return Ok(Change::Absent);
    };
    let owner = found.owner.as_deref();
    if let Some((deleted_at, deleted_by)) = found.deleted_at.zip(found.deleted_by) {
        let deleted = DeletedConversation {
            conversation_id: id,
            deleted_at,
            deleted_by,
        };
        return Ok(deletion.repeated(owner, deleted));
    }
    let is_member = is_member(connection, id, &deletion.by.user_id)?;
    if let Some(refused) = deletion.refused(owner, found.is_open, is_member) {
        return Ok(refused);
    }
    let member_ids = read_conversation(connection, id)?.member_ids;
    if operation.is_prevented_by(&member_ids) {
        return Ok(Change::Conflict);
    }
    for statement in deletion.statements(now) {
        execute(connection, &statement)?;
    }
    Ok(Change::Done(Removal {
        deleted: DeletedConversation {
            conversation_id: id,
            deleted_at: now,
            deleted_by: deletion.by.user_id.clone(),
        },
        member_ids,
    }))
}

pub(in crate::store) const PURGE: &str = "DELETE FROM messages WHERE number IN (
    SELECT messages.number FROM conversations JOIN messages
        ON messages.conversation_id = conversations.id
    WHERE conversations.deleted_at IS NOT NULL LIMIT ?1)";

/// Removes part of the remains of deleted conversations, referring rows first.
pub(in crate::store) fn purge(
    connection: &Connection,
    time: Time,
    limit: usize,
) -> rusqlite::Result<u64> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let messages = connection.execute_cached(PURGE, [limit])?;
    // Each call removes rows of one kind, so that the writer returns to its queue.
    if messages > 0 {
        return Ok(messages as u64);
    }
    let reads = connection.execute_cached(
        "DELETE FROM reads WHERE (conversation_id, user_id) IN (
             SELECT reads.conversation_id, reads.user_id FROM conversations JOIN reads
                 ON reads.conversation_id = conversations.id
             WHERE conversations.deleted_at IS NOT NULL LIMIT ?1)",
        [limit],
    )?;
    if reads > 0 {
        return Ok(reads as u64);
    }
    let rows = connection.execute_cached(
        "DELETE FROM conversations WHERE id IN (
             SELECT id FROM conversations WHERE deleted_at < ?1 LIMIT ?2)",
        params![time, limit],
    )?;
    Ok(rows as u64)
}
