//! The SQL of members.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use crate::store::change::conversations::postgres::read_back;
use crate::store::change::{Change, Conversation, Invite, MemberChange};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute};
use crate::store::postgres::{Postgres, read};
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        read!(self, client => is_member(client, conversation, Some(user)))
    }
}

pub(in crate::store) async fn is_member(
    client: &ClientWrapper,
    conversation: Uuid,
    user: Option<&str>,
) -> Result<bool, Error> {
    let found = client
        .query_opt_cached(
            "SELECT 1 FROM conversations
             WHERE id = $1 AND deleted_at IS NULL AND ($2::text IS NULL OR is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = $1 AND user_id = $2))",
            &[&conversation, &user],
            |_| Ok(()),
        )
        .await?;
    Ok(found.is_some())
}

pub(in crate::store) async fn change_member(
    client: &ClientWrapper,
    locked: &LockedRows,
    change: &MemberChange,
    invite: Option<&str>,
    now: Time,
) -> Result<Change<Conversation>, Error> {
    let id = change.conversation_id;
    let Some(room) = locked.rooms.get(&id) else {
        return Ok(Change::Absent);
    };
    let is_member = locked.admits(id, &change.by.user_id);
    if invite.is_none()
        && let Some(refused) = change.refused(room.owner.as_deref(), is_member)
    {
        return Ok(refused);
    }
    if change.transfers_ownership(room.owner.as_deref())
        && !transfer_ownership(client, change).await?
    {
        return Ok(Change::Conflict);
    }
    let changed = if change.removes {
        client
            .execute_cached(
                "DELETE FROM members WHERE conversation_id = $1 AND user_id = $2",
                &[&id, &change.user_id],
            )
            .await?
    // The member limit is checked before the invitation is used.
    } else if is_full(client, change, room.owner.as_deref()).await? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && execute(client, &Invite::take(hash, id, now)).await? == 0
    {
        return Ok(Change::Absent);
    } else {
        client
            .execute_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 VALUES ($1, $2, $3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
                &[&id, &change.user_id, &now.timestamp()],
            )
            .await?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_back(client, id).await.map(Change::Unchanged);
    }
    client
        .execute_cached(
            "UPDATE conversations SET updated_at = $2 WHERE id = $1",
            &[&id, &now.timestamp()],
        )
        .await?;
    read_back(client, id).await.map(Change::Done)
}

/// Makes the longest-standing other member the owner. Returns whether there is one.
async fn transfer_ownership(client: &ClientWrapper, change: &MemberChange) -> Result<bool, Error> {
    let changed = client
        .execute_cached(
            "UPDATE conversations SET owner_id = heir.user_id FROM (
                 SELECT user_id FROM members WHERE conversation_id = $1 AND user_id <> $2
                 ORDER BY joined_at, user_id LIMIT 1) AS heir
             WHERE id = $1",
            &[&change.conversation_id, &change.user_id],
        )
        .await?;
    Ok(changed > 0)
}

/// Returns whether the conversation is full for a new member. The conversation is locked, so no
/// concurrent change takes the last place.
async fn is_full(
    client: &ClientWrapper,
    change: &MemberChange,
    owner: Option<&str>,
) -> Result<bool, Error> {
    let most = i64::try_from(change.most(owner)).unwrap_or(i64::MAX);
    client
        .query_one_cached(
            "SELECT count(*) >= $3 AND count(*) FILTER (WHERE user_id = $2) = 0 AS is_full
             FROM members WHERE conversation_id = $1",
            &[&change.conversation_id, &change.user_id, &most],
            |row| row.try_get("is_full"),
        )
        .await
}
