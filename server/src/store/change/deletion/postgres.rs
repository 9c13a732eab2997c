//! Deletes conversations and purges their remains.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::store::change::conversations::postgres::read_back;
use crate::store::change::{Change, DeleteConversation, DeletedConversation, Removal};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, time};
use crate::store::postgres::{Postgres, read};
use crate::store::statement::EXPIRE_LOCK;
use crate::store::write::DeletionOperation;
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn purge(
        &self,
        time: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        read!(self, client => purge(client, time, limit))
    }
}

/// Deletes a conversation. Its row stays locked.
pub(in crate::store) async fn delete_conversation(
    client: &ClientWrapper,
    locked: &LockedRows,
    operation: &DeletionOperation,
    now: Time,
) -> Result<Change<Removal>, Error> {
    let deletion = &operation.deletion;
    let id = deletion.conversation_id;
    let Some(room) = locked.rooms.get(&id) else {
        return deleted_before(client, deletion).await;
    };
    let is_member = locked.admits(id, &deletion.by.user_id);
    if let Some(refused) = deletion.refused(room.owner.as_deref(), room.is_open, is_member) {
        return Ok(refused);
    }
    // The members are read before they are deleted, because they must be notified.
    let member_ids = read_back(client, id).await?.member_ids;
    if operation.is_prevented_by(&member_ids) {
        return Ok(Change::Conflict);
    }
    for statement in deletion.statements(now) {
        execute(client, &statement).await?;
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

async fn deleted_before(
    client: &ClientWrapper,
    deletion: &DeleteConversation,
) -> Result<Change<Removal>, Error> {
    let deleted = client
        .query_opt_cached(
            "SELECT owner_id, deleted_at, deleted_by FROM conversations
             WHERE id = $1 AND deleted_at IS NOT NULL",
            &[&deletion.conversation_id],
            |row| {
                let deleted = DeletedConversation {
                    conversation_id: deletion.conversation_id,
                    deleted_at: time(row, "deleted_at")?,
                    deleted_by: row.try_get("deleted_by")?,
                };
                Ok(deletion.repeated(row.try_get("owner_id")?, deleted))
            },
        )
        .await?;
    Ok(deleted.unwrap_or(Change::Absent))
}

/// Removes part of the remains of deleted conversations, referring rows first, unless another
/// server is doing so.
async fn purge(client: &ClientWrapper, before: Time, limit: usize) -> Result<u64, Error> {
    const MESSAGES: &str =
        "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT m.id FROM conversations c JOIN messages m ON m.conversation_id = c.id
             WHERE c.deleted_at IS NOT NULL LIMIT $2)
         DELETE FROM messages USING old, mine WHERE mine.locked AND messages.id = old.id";
    const READS: &str =
        "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT r.conversation_id, r.user_id FROM conversations c
                 JOIN reads r ON r.conversation_id = c.id
             WHERE c.deleted_at IS NOT NULL LIMIT $2)
         DELETE FROM reads USING old, mine WHERE mine.locked
             AND reads.conversation_id = old.conversation_id AND reads.user_id = old.user_id";
    const ROWS: &str = "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
         old AS MATERIALIZED (
             SELECT c.id FROM conversations c WHERE c.deleted_at < $3
                 AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.conversation_id = c.id) LIMIT $2)
         DELETE FROM conversations USING old, mine WHERE mine.locked AND conversations.id = old.id";
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    // Each call removes rows of one kind, in small transactions that hardly disturb writers.
    for sql in [MESSAGES, READS] {
        let removed = client.execute_cached(sql, &[&EXPIRE_LOCK, &limit]).await?;
        if removed > 0 {
            return Ok(removed);
        }
    }
    client
        .execute_cached(ROWS, &[&EXPIRE_LOCK, &limit, &before.timestamp()])
        .await
}
