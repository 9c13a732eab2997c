//! The SQL of invitations.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::change::Invite;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, unsigned};
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn insert_invite(
        &self,
        invite: Invite,
        limit: usize,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| insert(connection, &invite, limit, Time::now()))
            .await
    }

    pub(in crate::store) async fn invite(
        &self,
        token_hash: &str,
    ) -> Result<Option<Invite>, StoreError> {
        let token_hash = token_hash.to_owned();
        let find = move |connection: &Connection| find(connection, &token_hash, Time::now());
        self.read(find).await
    }

    pub(in crate::store) async fn count_invites(
        &self,
        conversation: Uuid,
    ) -> Result<u64, StoreError> {
        self.read(move |connection| count(connection, conversation, Time::now()))
            .await
    }

    pub(in crate::store) async fn delete_invites(
        &self,
        conversation: Uuid,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| remove(connection, conversation, Time::now()))
            .await
    }
}

/// Removes invalid invitations of the conversation, then stores this one unless `limit` others are
/// left. Returns whether it is stored.
fn insert(
    connection: &Connection,
    invite: &Invite,
    limit: usize,
    now: Time,
) -> rusqlite::Result<bool> {
    let id = Id(invite.conversation_id);
    connection.execute_cached(
        "DELETE FROM invites WHERE conversation_id = ?1 AND (expires_at <= ?2 OR uses_left = 0)",
        params![id, now],
    )?;
    let inserted = connection.execute_cached(
        "INSERT INTO invites (token_hash, conversation_id, created_by, expires_at, uses_left)
         SELECT ?1, ?2, ?3, ?4, ?5
         WHERE (SELECT count(*) FROM invites WHERE conversation_id = ?2) < ?6",
        params![
            invite.token_hash,
            id,
            invite.created_by,
            invite.expires_at,
            invite.uses_left,
            i64::try_from(limit).unwrap_or(i64::MAX)
        ],
    )?;
    Ok(inserted > 0)
}

/// Returns a valid invitation to an existing conversation.
fn find(connection: &Connection, token_hash: &str, now: Time) -> rusqlite::Result<Option<Invite>> {
    connection.query_opt_cached(
        "SELECT invites.* FROM invites JOIN conversations ON conversations.id = conversation_id
         WHERE token_hash = ?1 AND expires_at > ?2 AND uses_left IS NOT 0
             AND deleted_at IS NULL",
        params![token_hash, now],
        |row| {
            Ok(Invite {
                token_hash: row.get("token_hash")?,
                conversation_id: row.get::<_, Id>("conversation_id")?.0,
                created_by: row.get("created_by")?,
                expires_at: row.get("expires_at")?,
                uses_left: row.get("uses_left")?,
            })
        },
    )
}

/// Counts one use of an invitation. Returns `false` if no valid invitation to the conversation has
/// this hash.
pub(in crate::store) fn take(
    connection: &Connection,
    token_hash: &str,
    conversation: Uuid,
    now: Time,
) -> rusqlite::Result<bool> {
    let taken = connection.execute_cached(
        "UPDATE invites SET uses_left = uses_left - 1
         WHERE token_hash = ?1 AND conversation_id = ?2 AND expires_at > ?3
             AND uses_left IS NOT 0",
        params![token_hash, Id(conversation), now],
    )?;
    Ok(taken > 0)
}

/// Removes the invitations to a conversation. Returns how many were valid.
pub(in crate::store) fn remove(
    connection: &Connection,
    conversation: Uuid,
    now: Time,
) -> rusqlite::Result<u64> {
    let valid = count(connection, conversation, now)?;
    connection.execute_cached(
        "DELETE FROM invites WHERE conversation_id = ?1",
        [Id(conversation)],
    )?;
    Ok(valid)
}

/// Returns the number of valid invitations to a conversation.
fn count(connection: &Connection, conversation: Uuid, now: Time) -> rusqlite::Result<u64> {
    let valid: i64 = connection.query_one_cached(
        "SELECT count(*) FROM invites
         WHERE conversation_id = ?1 AND expires_at > ?2 AND uses_left IS NOT 0",
        params![Id(conversation), now],
        |row| row.get(0),
    )?;
    Ok(unsigned(valid))
}
