//! The SQL of members.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use uuid::Uuid;

use crate::store::change::conversations::postgres::read_back;
use crate::store::change::{Change, Conversation, Invite, MemberChange};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, execute, query};
use crate::store::postgres::{Postgres, read};
use crate::store::statement::Single;
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
        && execute(client, &change.transfer()).await? == 0
    {
        return Ok(Change::Conflict);
    }
    let changed = if change.removes {
        execute(client, &change.delete()).await?
    // The member limit is checked before the invitation is used. The conversation is locked, so no
    // concurrent change takes the last place.
    } else if let [Single(true)] = *query(client, &change.is_full(room.owner.as_deref())).await? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && execute(client, &Invite::take(hash, id, now)).await? == 0
    {
        return Ok(Change::Absent);
    } else {
        execute(client, &MemberChange::insert(id, &change.user_id, now)).await?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_back(client, id).await.map(Change::Unchanged);
    }
    execute(client, &change.touch(now)).await?;
    read_back(client, id).await.map(Change::Done)
}
