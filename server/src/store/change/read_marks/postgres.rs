//! The SQL of read marks.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::store::change::{MAX_UNREAD_COUNT, MarkRead, ReadMark};
use crate::store::postgres::group::LockedRows;
use crate::store::postgres::sql::{CachedStatements, record, signed};
use crate::store::statement::record;

record! { ReadMark => seq, unread, advanced }

pub(in crate::store) async fn mark_read(
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
    let seq = signed(read.seq.min(room.last_seq));
    client
        .query_one_cached(
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
            &[&id, &read.user_id, &seq, &signed(MAX_UNREAD_COUNT)],
            |row| record(row).map(Some),
        )
        .await
}
