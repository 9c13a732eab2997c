//! Deletes conversations.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use crate::store::Time;
use crate::store::change::invites::postgres as invites;
use crate::store::change::{Change, DeleteConversation, DeletedConversation, Removal};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::group::changes::read_back;

/// Deletes a conversation. Its row stays locked.
pub(in crate::store) async fn delete_conversation(
    client: &ClientWrapper,
    locked: &LockedRows,
    deletion: &DeleteConversation,
    now: Time,
) -> Result<Change<Removal>, Error> {
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
    let update = client
        .prepare_cached(
            "UPDATE conversations SET title = NULL, deleted_at = $2, deleted_by = $3 WHERE id = $1",
        )
        .await?;
    let by = &deletion.by.user_id;
    client
        .execute(&update, &[&id, &now.timestamp(), by])
        .await?;
    let delete = client
        .prepare_cached("DELETE FROM members WHERE conversation_id = $1")
        .await?;
    client.execute(&delete, &[&id]).await?;
    invites::remove(client, id, now).await?;
    Ok(Change::Done(Removal {
        deleted: DeletedConversation {
            conversation_id: id,
            deleted_at: now,
            deleted_by: by.clone(),
        },
        member_ids,
    }))
}

async fn deleted_before(
    client: &ClientWrapper,
    deletion: &DeleteConversation,
) -> Result<Change<Removal>, Error> {
    let statement = client
        .prepare_cached(
            "SELECT owner_id, deleted_at, deleted_by FROM conversations
             WHERE id = $1 AND deleted_at IS NOT NULL",
        )
        .await?;
    let row = client
        .query_opt(&statement, &[&deletion.conversation_id])
        .await?;
    let read = |row: Row| {
        let owner: Option<String> = row.try_get("owner_id")?;
        let deleted = DeletedConversation {
            conversation_id: deletion.conversation_id,
            deleted_at: row.try_get::<_, Timestamp>("deleted_at")?.into(),
            deleted_by: row.try_get("deleted_by")?,
        };
        Ok(deletion.repeated(owner.as_deref(), deleted))
    };
    row.map_or(Ok(Change::Absent), read)
}
