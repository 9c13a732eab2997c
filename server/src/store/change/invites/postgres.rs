//! Invitations. Storing one may be repeated.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::store::change::Invite;
use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn insert_invite(
        &self,
        invite: Invite,
        limit: usize,
    ) -> Result<bool, StoreError> {
        change!(self, client => insert(client, &invite, limit, Time::now()))
    }

    pub(in crate::store) async fn invite(
        &self,
        token_hash: &str,
    ) -> Result<Option<Invite>, StoreError> {
        read!(self, client => find(client, token_hash, Time::now()))
    }

    pub(in crate::store) async fn count_invites(
        &self,
        conversation: Uuid,
    ) -> Result<u64, StoreError> {
        let valid: i64 = read!(self, client => client.query_one_cached(
            "SELECT count(*) FROM invites
             WHERE conversation_id = $1 AND expires_at > $2 AND uses_left IS DISTINCT FROM 0",
            &[&conversation, &Time::now().timestamp()],
            |row| row.try_get(0),
        ))?;
        Ok(valid.try_into().unwrap_or(0))
    }

    pub(in crate::store) async fn delete_invites(
        &self,
        conversation: Uuid,
    ) -> Result<u64, StoreError> {
        change!(self, client => remove(client, conversation, Time::now()))
    }
}

/// Stores an invitation, unless its conversation has `limit` other valid ones. Removes invalid
/// ones.
async fn insert(
    client: &ClientWrapper,
    invite: &Invite,
    limit: usize,
    now: Time,
) -> Result<bool, Error> {
    let uses_left = invite
        .uses_left
        .map(|uses| i32::try_from(uses).unwrap_or(i32::MAX));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let inserted = client
        .execute_cached(
            "WITH ended AS (
                 DELETE FROM invites
                 WHERE conversation_id = $2 AND (expires_at <= $6 OR uses_left = 0))
             INSERT INTO invites (token_hash, conversation_id, created_by, expires_at, uses_left)
             SELECT $1, $2, $3, $4, $5
             WHERE (SELECT count(*) FROM invites
                 WHERE conversation_id = $2 AND token_hash <> $1 AND expires_at > $6
                     AND uses_left IS DISTINCT FROM 0) < $7
             ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at",
            &[
                &invite.token_hash,
                &invite.conversation_id,
                &invite.created_by,
                &invite.expires_at.timestamp(),
                &uses_left,
                &now.timestamp(),
                &limit,
            ],
        )
        .await?;
    Ok(inserted > 0)
}

/// Returns a valid invitation to an existing conversation.
async fn find(
    client: &ClientWrapper,
    token_hash: &str,
    now: Time,
) -> Result<Option<Invite>, Error> {
    client
        .query_opt_cached(
            "SELECT token_hash, conversation_id, created_by, expires_at, uses_left
             FROM invites JOIN conversations ON conversations.id = conversation_id
             WHERE token_hash = $1 AND expires_at > $2 AND uses_left IS DISTINCT FROM 0
                 AND deleted_at IS NULL",
            &[&token_hash, &now.timestamp()],
            invite,
        )
        .await
}

fn invite(row: &Row) -> Result<Invite, Error> {
    let uses_left: Option<i32> = row.try_get("uses_left")?;
    let expires_at: jiff::Timestamp = row.try_get("expires_at")?;
    Ok(Invite {
        token_hash: row.try_get("token_hash")?,
        conversation_id: row.try_get("conversation_id")?,
        created_by: row.try_get("created_by")?,
        expires_at: expires_at.into(),
        uses_left: uses_left.map(|uses| uses.try_into().unwrap_or(0)),
    })
}

/// Uses an invitation for a new member of a conversation. Returns `false` if it is not valid.
pub(in crate::store) async fn take(
    client: &ClientWrapper,
    token_hash: &str,
    conversation: Uuid,
    now: Time,
) -> Result<bool, Error> {
    let taken = client
        .execute_cached(
            "UPDATE invites SET uses_left = uses_left - 1
             WHERE token_hash = $1 AND conversation_id = $2 AND expires_at > $3
                 AND uses_left IS DISTINCT FROM 0",
            &[&token_hash, &conversation, &now.timestamp()],
        )
        .await?;
    Ok(taken > 0)
}

/// Removes the invitations to a conversation. Returns how many were valid.
pub(in crate::store) async fn remove(
    client: &ClientWrapper,
    conversation: Uuid,
    now: Time,
) -> Result<u64, Error> {
    let valid: i64 = client
        .query_one_cached(
            "WITH removed AS (
                 DELETE FROM invites WHERE conversation_id = $1 RETURNING expires_at, uses_left)
             SELECT count(*) FROM removed
             WHERE expires_at > $2 AND uses_left IS DISTINCT FROM 0",
            &[&conversation, &now.timestamp()],
            |row| row.try_get(0),
        )
        .await?;
    Ok(valid.try_into().unwrap_or(0))
}
