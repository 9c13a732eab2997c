//! Changes of stored data: edits, deletions, members, read marks, expiry.
//!
//! The writer thread calls these functions within the transaction of a group, so that membership
//! cannot change between check and write. `annotations` contains reactions, pins and levels, and
//! their queries. This module must not end the transaction or emit events.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::queries::unread;
use super::sql::{self, Id, last_seq, read_conversation, signed, unsigned};
use crate::store::Time;
use crate::store::change::annotations::sqlite::shown;
use crate::store::change::invites::sqlite as invites;
use crate::store::change::{Actor, Change, Delete, Edit, MarkRead, MemberChange, ReadMark, Rename};
use crate::store::rows::{Conversation, Message};

pub(super) fn edit(
    connection: &Connection,
    edit: &Edit,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let old = match changeable(connection, edit.message_id, &edit.by)? {
        Ok(message) if Edit::is_possible(message.deleted_at.is_some()) => message,
        Ok(_) => return Ok(Change::Absent),
        Err(refused) => return Ok(refused),
    };
    if edit.version.is_some_and(|version| version != old.version) {
        return Ok(Change::Conflict);
    }
    let new = old.edited(edit.content.clone(), now);
    replace(connection, &old, &new, &edit.by, now)?;
    Ok(Change::Done(Arc::new(new)))
}

pub(super) fn delete(
    connection: &Connection,
    delete: &Delete,
    now: Time,
) -> rusqlite::Result<Change<Arc<Message>>> {
    let old = match changeable(connection, delete.message_id, &delete.by)? {
        Ok(message) if message.deleted_at.is_none() => message,
        Ok(message) => return Ok(Change::Unchanged(Arc::new(message))),
        Err(refused) => return Ok(refused),
    };
    let new = old.deleted(now);
    replace(connection, &old, &new, &delete.by, now)?;
    Ok(Change::Done(Arc::new(new)))
}

/// Returns a message that `by` may change, or the refusal.
fn changeable(
    connection: &Connection,
    id: Uuid,
    by: &Actor,
) -> rusqlite::Result<Result<Message, Change<Arc<Message>>>> {
    let message = connection
        .prepare_cached("SELECT * FROM messages WHERE id = ?1")?
        .query_row([Id(id)], sql::message)
        .optional()?;
    let Some(message) = message else {
        return Ok(Err(Change::Absent));
    };
    let message = shown(connection, message)?;
    if last_seq(connection, message.conversation_id, None)?.is_none() {
        return Ok(Err(Change::Absent));
    }
    let is_member = sql::is_member(connection, message.conversation_id, &by.user_id)?;
    Ok(match message.refuses(by, is_member) {
        Some(refused) => Err(refused),
        None => Ok(message),
    })
}

fn replace(
    connection: &Connection,
    old: &Message,
    new: &Message,
    by: &Actor,
    now: Time,
) -> rusqlite::Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO message_versions
                 (message_id, version, content, metadata, replaced_at, replaced_by)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            Id(old.id),
            old.version,
            old.content,
            old.metadata.get(),
            now,
            by.user_id
        ])?;
    connection
        .prepare_cached(
            "UPDATE messages SET content = ?2, metadata = ?3, version = ?4, edited_at = ?5,
                 deleted_at = ?6 WHERE id = ?1",
        )?
        .execute(params![
            Id(new.id),
            new.content,
            new.metadata.get(),
            new.version,
            new.edited_at,
            new.deleted_at
        ])?;
    Ok(())
}

pub(super) fn change_member(
    connection: &Connection,
    change: &MemberChange,
    invite: Option<&str>,
    now: Time,
) -> rusqlite::Result<Change<Conversation>> {
    let id = Id(change.conversation_id);
    let owner = connection
        .prepare_cached("SELECT owner_id FROM conversations WHERE id = ?1 AND deleted_at IS NULL")?
        .query_row([&id], |row| row.get::<_, Option<String>>(0))
        .optional()?;
    let Some(owner) = owner else {
        return Ok(Change::Absent);
    };
    let is_member = sql::is_member(connection, change.conversation_id, &change.by.user_id)?;
    if invite.is_none()
        && let Some(refused) = change.refused(owner.as_deref(), is_member)
    {
        return Ok(refused);
    }
    if change.transfers_ownership(owner.as_deref()) && !transfer_ownership(connection, change)? {
        return Ok(Change::Conflict);
    }
    let changed = if change.removes {
        connection
            .prepare_cached("DELETE FROM members WHERE conversation_id = ?1 AND user_id = ?2")?
            .execute(params![id, change.user_id])?
    } else if is_full(connection, change, owner.as_deref())? {
        return Ok(Change::Conflict);
    } else if let Some(hash) = invite
        && !is_member
        // A member who follows the link again does not use it up.
        && !invites::take(connection, hash, change.conversation_id, now)?
    {
        return Ok(Change::Absent);
    } else {
        connection
            .prepare_cached(
                "INSERT INTO members (conversation_id, user_id, joined_at)
                 VALUES (?1, ?2, ?3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            )?
            .execute(params![id, change.user_id, now])?
    };
    // Nothing has changed, so the revision stays and no event is emitted.
    if changed == 0 {
        return read_conversation(connection, change.conversation_id).map(Change::Unchanged);
    }
    connection
        .prepare_cached("UPDATE conversations SET updated_at = ?2 WHERE id = ?1")?
        .execute(params![id, now])?;
    read_conversation(connection, change.conversation_id).map(Change::Done)
}

/// Makes the longest-standing other member the owner. Returns whether there is one.
fn transfer_ownership(connection: &Connection, change: &MemberChange) -> rusqlite::Result<bool> {
    let changed = connection
        .prepare_cached(
            "UPDATE conversations SET owner_id = heir.user_id FROM (
                 SELECT user_id FROM members WHERE conversation_id = ?1 AND user_id <> ?2
                 ORDER BY joined_at, user_id LIMIT 1) AS heir
             WHERE id = ?1",
        )?
        .execute(params![Id(change.conversation_id), change.user_id])?;
    Ok(changed > 0)
}

pub(super) fn rename(
    connection: &Connection,
    rename: &Rename,
    now: Time,
) -> rusqlite::Result<Change<Conversation>> {
    let id = Id(rename.conversation_id);
    let found = connection
        .prepare_cached(
            "SELECT owner_id, title FROM conversations WHERE id = ?1 AND deleted_at IS NULL",
        )?
        .query_row([&id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((owner, title)): Option<(Option<String>, Option<String>)> = found else {
        return Ok(Change::Absent);
    };
    let is_member = sql::is_member(connection, rename.conversation_id, &rename.by.user_id)?;
    if let Some(refused) = rename.refused(owner.as_deref(), is_member) {
        return Ok(refused);
    }
    if title.as_ref() == Some(&rename.title) {
        return read_conversation(connection, rename.conversation_id).map(Change::Unchanged);
    }
    connection
        .prepare_cached("UPDATE conversations SET title = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute(params![id, rename.title, now])?;
    read_conversation(connection, rename.conversation_id).map(Change::Done)
}

/// Returns whether the conversation is full for a new member.
fn is_full(
    connection: &Connection,
    change: &MemberChange,
    owner: Option<&str>,
) -> rusqlite::Result<bool> {
    let most = i64::try_from(change.most(owner)).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "SELECT count(*) >= ?3 AND count(*) FILTER (WHERE user_id = ?2) = 0
             FROM members WHERE conversation_id = ?1",
        )?
        .query_row(
            params![Id(change.conversation_id), change.user_id, most],
            |row| row.get(0),
        )
}

pub(super) fn mark_read(
    connection: &Connection,
    read: &MarkRead,
) -> rusqlite::Result<Option<ReadMark>> {
    let Some(last) = last_seq(connection, read.conversation_id, Some(&read.user_id))? else {
        return Ok(None);
    };
    let before: Option<i64> = connection
        .prepare_cached("SELECT seq FROM reads WHERE conversation_id = ?1 AND user_id = ?2")?
        .query_row(params![Id(read.conversation_id), read.user_id], |row| {
            row.get(0)
        })
        .optional()?;
    let seq: i64 = connection
        .prepare_cached(
            "INSERT INTO reads (conversation_id, user_id, seq) VALUES (?1, ?2, ?3)
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET seq = max(seq, excluded.seq)
             RETURNING seq",
        )?
        .query_row(
            params![
                Id(read.conversation_id),
                read.user_id,
                signed(read.seq).min(last)
            ],
            |row| row.get(0),
        )?;
    Ok(Some(ReadMark {
        seq: unsigned(seq),
        unread: unread(connection, read.conversation_id, &read.user_id, seq)?,
        advanced: seq > before.unwrap_or(0),
    }))
}

/// Removes the oldest messages of each affected conversation.
pub(super) fn expire(connection: &Connection, time: Time, limit: usize) -> rusqlite::Result<u64> {
    let removed = connection
        .prepare_cached(
            "DELETE FROM messages WHERE number IN (
                 SELECT messages.number FROM messages JOIN (
                     SELECT conversation_id, max(seq) AS seq FROM (
                         SELECT conversation_id, seq FROM messages
                         WHERE id < ?1 AND created_at < ?2 ORDER BY id LIMIT ?3)
                     GROUP BY conversation_id) AS old
                 ON messages.conversation_id = old.conversation_id AND messages.seq <= old.seq)",
        )?
        .execute(params![
            Id(time.first_id()),
            time,
            i64::try_from(limit).unwrap_or(i64::MAX)
        ])?;
    Ok(removed as u64)
}
