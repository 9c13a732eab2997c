//! The changes of a group other than new messages: conversations, edits, members, read marks.

use std::sync::Arc;

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::super::queries::{message, message_columns, read_conversation, signed, unsigned};
use super::LockedRows;
use crate::store::Time;
use crate::store::change::annotations::postgres::show;
use crate::store::change::invites::postgres::take;
use crate::store::change::{
    Actor, Change, Delete, Edit, MAX_UNREAD_COUNT, MarkRead, MemberChange, ReadMark, Rename,
};
use crate::store::rows::{Conversation, Message, NewConversation};

/// Stores a conversation unless its id exists, and reads it. Returns also whether it is new.
pub(super) async fn insert_conversation(
    client: &ClientWrapper,
    new: &NewConversation,
    now: Time,
) -> Result<(Conversation, bool), Error> {
    let insert = client
        .prepare_cached(
            "INSERT INTO conversations (id, title, owner_id, is_open, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (id) DO NOTHING",
        )
        .await?;
    let values: [&(dyn ToSql + Sync); 5] = [
        &new.id,
        &new.title,
        &new.owner_id,
        &new.is_open,
        &now.timestamp(),
    ];
    let is_new = client.execute(&insert, &values).await? > 0;
    if is_new {
        let members: Vec<&str> = new
            .owner_id
            .iter()
            .chain(&new.member_ids)
            .map(String::as_str)
            .collect();
        let insert = client
            .prepare_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 SELECT $1, unnest($2::text[]), $3 ON CONFLICT (conversation_id, user_id) DO NOTHING",
            )
            .await?;
        client
            .execute(&insert, &[&new.id, &members, &now.timestamp()])
            .await?;
    }
    Ok((read_back(client, new.id).await?, is_new))
}

pub(in crate::store) async fn read_back(
    client: &ClientWrapper,
    id: Uuid,
) -> Result<Conversation, Error> {
    let read = client
        .prepare_cached(
            "SELECT id, title, owner_id, created_at, updated_at,
                 ARRAY(SELECT user_id FROM members WHERE conversation_id = $1
                     ORDER BY user_id) AS member_ids FROM conversations WHERE id = $1",
        )
        .await?;
    let row = client.query_one(&read, &[&id]).await?;
    read_conversation(&row)
}

/// Returns the number of changes of a conversation, not counting messages.
pub(super) async fn changes_of(client: &ClientWrapper, id: Uuid) -> Result<u64, Error> {
    let read = client
        .prepare_cached("SELECT changes FROM conversations WHERE id = $1")
        .await?;
    let row = client.query_one(&read, &[&id]).await?;
    row.try_get(0).map(unsigned)
}

pub(super) async fn change_text(
    client: &ClientWrapper,
    locked: &LockedRows,
    edit: &Edit,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, locked, edit.message_id, &edit.by).await? {
        Ok(message) if Edit::is_possible(message.deleted_at.is_some()) => message,
        Ok(_) => return Ok(Change::Absent),
        Err(refused) => return Ok(refused),
    };
    if edit.version.is_some_and(|version| version != old.version) {
        return Ok(Change::Conflict);
    }
    let new = old.edited(edit.content.clone(), now);
    replace(client, &old, &new, &edit.by, now).await?;
    Ok(Change::Done(Arc::new(new)))
}

pub(super) async fn remove_text(
    client: &ClientWrapper,
    locked: &LockedRows,
    delete: &Delete,
    now: Time,
) -> Result<Change<Arc<Message>>, Error> {
    let old = match changeable(client, locked, delete.message_id, &delete.by).await? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(message) => return Ok(Change::Unchanged(Arc::new(message))),
        Err(refused) => return Ok(refused),
    };
    let new = old.deleted(now);
    replace(client, &old, &new, &delete.by, now).await?;
    Ok(Change::Done(Arc::new(new)))
}

/// Returns a message that `by` may change, or the refusal. The lock of the conversation keeps it
/// unchanged.
async fn changeable(
    client: &ClientWrapper,
    locked: &LockedRows,
    id: Uuid,
    by: &Actor,
) -> Result<Result<Message, Change<Arc<Message>>>, Error> {
    let statement = client
        .prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE id = $1"
        ))
        .await?;
    let Some(row) = client.query_opt(&statement, &[&id]).await? else {
        return Ok(Err(Change::Absent));
    };
    let mut found = [Arc::new(message(&row)?)];
    show(client, &mut found, None).await?;
    let [message] = found;
    let message = Arc::unwrap_or_clone(message);
    if !locked.rooms.contains_key(&message.conversation_id) {
        return Ok(Err(Change::Absent));
    }
    let is_member = locked.admits(message.conversation_id, &by.user_id);
    Ok(match message.refuses(by, is_member) {
        Some(refused) => Err(refused),
        None => Ok(message),
    })
}

async fn replace(
    client: &ClientWrapper,
    old: &Message,
    new: &Message,
    by: &Actor,
    now: Time,
) -> Result<(), Error> {
    let statement = client
        .prepare_cached(
            "WITH kept AS (
                 INSERT INTO message_versions
                     (message_id, version, content, metadata, replaced_at, replaced_by)
                 SELECT id, version, content, metadata, $7, $8 FROM messages WHERE id = $1)
             UPDATE messages SET content = $2, metadata = $3, version = $4, edited_at = $5,
                 deleted_at = $6 WHERE id = $1",
        )
        .await?;
    let optional = |time: Option<Time>| time.map(Time::timestamp);
    let version = i32::try_from(new.version).unwrap_or(i32::MAX);
    let (edited, deleted): (Option<Timestamp>, Option<Timestamp>) =
        (optional(new.edited_at), optional(new.deleted_at));
    client
        .execute(
            &statement,
            &[
                &old.id,
                &new.content,
                &new.metadata.get(),
                &version,
                &edited,
                &deleted,
                &now.timestamp(),
                &by.user_id,
            ],
        )
        .await
        .map(|_| ())
}

pub(super) async fn change_member(
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
        let statement = client
            .prepare_cached("DELETE FROM members WHERE conversation_id = $1 AND user_id = $2")
            .await?;
        client.execute(&statement, &[&id, &change.user_id]).await?
    // The member limit is checked before the invitation is used.
    } else if is_full(client, change, room.owner.as_deref()).await? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && !take(client, hash, id, now).await?
    {
        return Ok(Change::Absent);
    } else {
        let statement = client
            .prepare_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 VALUES ($1, $2, $3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            )
            .await?;
        client
            .execute(&statement, &[&id, &change.user_id, &now.timestamp()])
            .await?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_back(client, id).await.map(Change::Unchanged);
    }
    let statement = client
        .prepare_cached("UPDATE conversations SET updated_at = $2 WHERE id = $1")
        .await?;
    client.execute(&statement, &[&id, &now.timestamp()]).await?;
    read_back(client, id).await.map(Change::Done)
}

/// Makes the longest-standing other member the owner. Returns whether there is one.
async fn transfer_ownership(client: &ClientWrapper, change: &MemberChange) -> Result<bool, Error> {
    let statement = client
        .prepare_cached(
            "UPDATE conversations SET owner_id = heir.user_id FROM (
                 SELECT user_id FROM members WHERE conversation_id = $1 AND user_id <> $2
                 ORDER BY joined_at, user_id LIMIT 1) AS heir
             WHERE id = $1",
        )
        .await?;
    let changed = client
        .execute(&statement, &[&change.conversation_id, &change.user_id])
        .await?;
    Ok(changed > 0)
}

/// Changes the title of a conversation.
pub(super) async fn rename(
    client: &ClientWrapper,
    locked: &LockedRows,
    rename: &Rename,
    now: Time,
) -> Result<Change<Conversation>, Error> {
    let id = rename.conversation_id;
    let Some(room) = locked.rooms.get(&id) else {
        return Ok(Change::Absent);
    };
    let is_member = locked.admits(id, &rename.by.user_id);
    if let Some(refused) = rename.refused(room.owner.as_deref(), is_member) {
        return Ok(refused);
    }
    let statement = client
        .prepare_cached(
            "UPDATE conversations SET title = $2, updated_at = $3
             WHERE id = $1 AND title IS DISTINCT FROM $2",
        )
        .await?;
    let changed = client
        .execute(&statement, &[&id, &rename.title, &now.timestamp()])
        .await?;
    let conversation = read_back(client, id).await?;
    Ok(if changed > 0 {
        Change::Done(conversation)
    } else {
        Change::Unchanged(conversation)
    })
}

/// Returns whether the conversation is full for a new member. The conversation is locked, so no
/// concurrent change takes the last place.
async fn is_full(
    client: &ClientWrapper,
    change: &MemberChange,
    owner: Option<&str>,
) -> Result<bool, Error> {
    let statement = client
        .prepare_cached(
            "SELECT count(*) >= $3 AND count(*) FILTER (WHERE user_id = $2) = 0 AS is_full
             FROM members WHERE conversation_id = $1",
        )
        .await?;
    let most = i64::try_from(change.most(owner)).unwrap_or(i64::MAX);
    let row = client
        .query_one(
            &statement,
            &[&change.conversation_id, &change.user_id, &most],
        )
        .await?;
    row.try_get("is_full")
}

pub(super) async fn mark_read(
    client: &ClientWrapper,
    locked: &LockedRows,
    read: &MarkRead,
) -> Result<Option<ReadMark>, Error> {
    let id = read.conversation_id;
    let Some(room) = locked
        .rooms
        .get(&id)
        .filter(|_| locked.admits(id, &read.user_id))
    else {
        return Ok(None);
    };
    let statement = client
        .prepare_cached(
            "WITH before AS (SELECT seq FROM reads WHERE conversation_id = $1 AND user_id = $2),
             mark AS (
                 INSERT INTO reads (conversation_id, user_id, seq) VALUES ($1, $2, $3)
                 ON CONFLICT (conversation_id, user_id)
                     DO UPDATE SET seq = greatest(reads.seq, excluded.seq)
                 RETURNING seq)
             SELECT mark.seq, mark.seq > coalesce((SELECT seq FROM before), 0) AS advanced,
                 (SELECT count(*) FROM (SELECT 1 FROM messages m
                 WHERE m.conversation_id = $1 AND m.seq > mark.seq AND m.user_id <> $2
                     AND m.deleted_at IS NULL LIMIT $4) u) AS unread FROM mark",
        )
        .await?;
    let seq = signed(read.seq.min(room.last_seq));
    let row = client
        .query_one(
            &statement,
            &[&id, &read.user_id, &seq, &signed(MAX_UNREAD_COUNT)],
        )
        .await?;
    Ok(Some(ReadMark {
        seq: unsigned(row.try_get("seq")?),
        unread: unsigned(row.try_get("unread")?),
        advanced: row.try_get("advanced")?,
    }))
}
