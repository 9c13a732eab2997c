//! The SQL of read marks.

use rusqlite::{Connection, params};
use uuid::Uuid;

use crate::store::change::members::sqlite::last_seq;
use crate::store::change::{MAX_UNREAD_COUNT, MarkRead, ReadMark};
use crate::store::sqlite::sql::{CachedStatements, Id, signed, unsigned};

pub(in crate::store) fn mark_read(
    connection: &Connection,
    read: &MarkRead,
) -> rusqlite::Result<Option<ReadMark>> {
    let Some(last) = last_seq(connection, read.conversation_id, Some(&read.user_id))? else {
        return Ok(None);
    };
    let before: Option<i64> = connection.query_opt_cached(
        "SELECT seq FROM reads WHERE conversation_id = ?1 AND user_id = ?2",
        params![Id(read.conversation_id), read.user_id],
        |row| row.get(0),
    )?;
    let seq: i64 = connection.query_one_cached(
        "INSERT INTO reads (conversation_id, user_id, seq) VALUES (?1, ?2, ?3)
         ON CONFLICT (conversation_id, user_id) DO UPDATE SET seq = max(seq, excluded.seq)
         RETURNING seq",
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

pub(in crate::store) const UNREAD: &str = "SELECT count(*) FROM (SELECT 1 FROM messages
    WHERE conversation_id = ?1 AND seq > ?2 AND user_id <> ?3 AND deleted_at IS NULL LIMIT ?4)";

/// Returns the number of messages of other users after `read`, up to [`MAX_UNREAD_COUNT`].
pub(in crate::store) fn unread(
    connection: &Connection,
    conversation: Uuid,
    user: &str,
    read: i64,
) -> rusqlite::Result<u64> {
    connection.query_one_cached(
        UNREAD,
        params![Id(conversation), read, user, signed(MAX_UNREAD_COUNT)],
        |row| row.get(0).map(unsigned),
    )
}
