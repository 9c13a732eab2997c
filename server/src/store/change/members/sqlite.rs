//! The SQL of members.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::change::conversations::sqlite::{owner, read_conversation};
use crate::store::change::{Change, Conversation, Invite, MemberChange};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id, execute, query};
use crate::store::statement::Single;
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
    let id = change.conversation_id;
    let Some(owner) = owner(connection, id)? else {
        return Ok(Change::Absent);
    };
    let is_member = is_member(connection, id, &change.by.user_id)?;
    if invite.is_none()
        && let Some(refused) = change.refused(owner.as_deref(), is_member)
    {
        return Ok(refused);
    }
    if change.transfers_ownership(owner.as_deref()) && execute(connection, &change.transfer())? == 0
    {
        return Ok(Change::Conflict);
    }
    let changed = if change.removes {
        execute(connection, &change.delete())?
    } else if let [Single(true)] = *query(connection, &change.is_full(owner.as_deref()))? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && execute(connection, &Invite::take(hash, id, now))? == 0
    {
        return Ok(Change::Absent);
    } else {
        execute(connection, &MemberChange::insert(id, &change.user_id, now))?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_conversation(connection, id).map(Change::Unchanged);
    }
    execute(connection, &change.touch(now))?;
    read_conversation(connection, id).map(Change::Done)
}
