//! The SQL of members.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::change::conversations::sqlite::{owner, read_conversation};
use crate::store::change::{Change, Conversation, Invite, MemberChange};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, execute};
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        let user = user.to_owned();
        self.read(move |connection| is_member(connection, conversation, &user))
            .await
    }
}

/// Returns whether a user is a member. Every user is a member of an open conversation.
pub(in crate::store) fn is_member(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
) -> rusqlite::Result<bool> {
    Ok(last_seq(connection, conversation, Some(user))?.is_some())
}

/// Returns the newest `seq` of a conversation, or `None` if it is unknown or `user` is not a
/// member.
pub(in crate::store) fn last_seq(
    connection: &Connection,
    conversation: Uuid,
    user: Option<&str>,
) -> rusqlite::Result<Option<i64>> {
    connection.query_opt_cached(
        "SELECT last_seq FROM conversations
         WHERE id = ?1 AND deleted_at IS NULL AND (?2 IS NULL OR is_open OR EXISTS (
             SELECT 1 FROM members WHERE conversation_id = ?1 AND user_id = ?2))",
        params![Id(conversation), user],
        |row| row.get(0),
    )
}

pub(in crate::store) fn change_member(
    connection: &Connection,
    change: &MemberChange,
    invite: Option<&str>,
    now: Time,
) -> rusqlite::Result<Change<Conversation>> {
    let id = Id(change.conversation_id);
    let Some(owner) = owner(connection, change.conversation_id)? else {
        return Ok(Change::Absent);
    };
    let is_member = is_member(connection, change.conversation_id, &change.by.user_id)?;
    if invite.is_none()
        && let Some(refused) = change.refused(owner.as_deref(), is_member)
    {
        return Ok(refused);
    }
    if change.transfers_ownership(owner.as_deref()) && !transfer_ownership(connection, change)? {
        return Ok(Change::Conflict);
    }
    let changed = if change.removes {
        connection.execute_cached(
            "DELETE FROM members WHERE conversation_id = ?1 AND user_id = ?2",
            params![id, change.user_id],
        )?
    } else if is_full(connection, change, owner.as_deref())? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && execute(connection, &Invite::take(hash, change.conversation_id, now))? == 0
    {
        return Ok(Change::Absent);
    } else {
        connection.execute_cached(
            "INSERT INTO members (conversation_id, user_id, joined_at)
             VALUES (?1, ?2, ?3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            params![id, change.user_id, now],
        )?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_conversation(connection, change.conversation_id).map(Change::Unchanged);
    }
    connection.execute_cached(
        "UPDATE conversations SET updated_at = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    read_conversation(connection, change.conversation_id).map(Change::Done)
}

/// Makes the longest-standing other member the owner. Returns whether there is one.
fn transfer_ownership(connection: &Connection, change: &MemberChange) -> rusqlite::Result<bool> {
    let changed = connection.execute_cached(
        "UPDATE conversations SET owner_id = heir.user_id FROM (
             SELECT user_id FROM members WHERE conversation_id = ?1 AND user_id <> ?2
             ORDER BY joined_at, user_id LIMIT 1) AS heir
         WHERE id = ?1",
        params![Id(change.conversation_id), change.user_id],
    )?;
    Ok(changed > 0)
}

/// Returns whether the conversation is full for a new member.
fn is_full(
    connection: &Connection,
    change: &MemberChange,
    owner: Option<&str>,
) -> rusqlite::Result<bool> {
    let most = i64::try_from(change.most(owner)).unwrap_or(i64::MAX);
    connection.query_one_cached(
        "SELECT count(*) >= ?3 AND count(*) FILTER (WHERE user_id = ?2) = 0
         FROM members WHERE conversation_id = ?1",
        params![Id(change.conversation_id), change.user_id, most],
        |row| row.get(0),
    )
}
