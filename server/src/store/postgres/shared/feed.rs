//! The SQL of the change feed. Each statement may be repeated.
//!
//! A mark is a snapshot, which tells for each transaction whether it had ended. Rows that a
//! snapshot does not show were written by transactions from its `xmin` on, in any commit order.
//! `changes_kept` holds the first transaction from which the feed is complete.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, read};
use crate::store::shared::FeedCursor;
use crate::store::{Changed, FeedMark, FeedPage, StoreError};

impl Postgres {
    /// Returns the end of the feed. Deletes rows of future transactions, and resets `changes_kept`
    /// if it holds one.
    ///
    /// A database restored from another database's dump has such rows. No mark would show them, so
    /// each read would return them again.
    pub(in crate::store) async fn feed_end(&self) -> Result<FeedMark, StoreError> {
        read!(self, client => client.query_one_cached(
            "WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS now),
                 foreign_rows AS (
                     DELETE FROM changes WHERE changed_in >= (SELECT pg_snapshot_xmax(now) FROM s)),
                 foreign_since AS (
                     UPDATE changes_kept SET since = '0'
                     WHERE since > (SELECT pg_snapshot_xmax(now) FROM s))
             SELECT now::text AS snapshot FROM s",
            &[],
            |row| row.try_get("snapshot").map(FeedMark::at),
        ))
    }

    pub(in crate::store) async fn read_feed(
        &self,
        mark: &FeedMark,
        limit: usize,
    ) -> Result<Option<FeedPage>, StoreError> {
        read!(self, client => read(client, mark, limit))
    }

    /// Removes at most [`PAGE`] of the oldest rows: those of transactions before all that ran at
    /// `below`, and those beyond the newest `most`. Returns whether there may be more.
    ///
    /// Rows of the oldest running transaction and of later ones are retained, because it may still
    /// commit rows that no reader has read.
    pub(in crate::store) async fn shorten_feed(
        &self,
        below: Option<&FeedMark>,
        most: usize,
    ) -> Result<bool, StoreError> {
        let below = below.map(|mark| &mark.snapshot);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        read!(self, client => client.query_one_cached(
            "WITH below AS MATERIALIZED (
                 SELECT greatest(pg_snapshot_xmin($1::text::pg_snapshot), (
                     SELECT changed_in FROM changes
                     WHERE changed_in < pg_snapshot_xmin(pg_current_snapshot())
                     ORDER BY changed_in DESC, id DESC OFFSET $2 LIMIT 1)) AS changed_in),
             told AS (
                 UPDATE changes_kept SET since = below.changed_in
                 FROM below WHERE since < below.changed_in),
             old AS MATERIALIZED (
                 SELECT c.changed_in, c.id FROM changes c
                 WHERE c.changed_in < (SELECT changed_in FROM below)
                 ORDER BY c.changed_in, c.id LIMIT $3 FOR UPDATE SKIP LOCKED),
             gone AS (
                 DELETE FROM changes c USING old
                 WHERE c.changed_in = old.changed_in AND c.id = old.id RETURNING 1)
             SELECT count(*) FROM gone",
            &[&below, &most, &PAGE],
            |row| row.try_get(0),
        ))
        .map(|removed: i64| removed >= PAGE)
    }
}

/// Returns at most `limit` rows that a mark does not show, ordered by transaction. Returns `None`
/// if some may have been removed, or if the mark is newer than the database: it then belongs to
/// another database, or this one has lost transactions.
async fn read(
    client: &ClientWrapper,
    mark: &FeedMark,
    limit: usize,
) -> Result<Option<FeedPage>, Error> {
    let (changed_in, id) = match &mark.reading {
        Some(reading) => (Some(&reading.changed_in), reading.id),
        None => (None, 0),
    };
    let count = i64::try_from(limit).unwrap_or(i64::MAX);
    let statement = client
        .prepare_cached(
            "WITH s AS MATERIALIZED (
                 SELECT pg_current_snapshot() AS now, m.mark, pg_snapshot_xmin(m.mark) AS oldest
                 FROM (SELECT $1::text::pg_snapshot AS mark) m)
             SELECT s.now::text AS snapshot,
                 s.oldest > pg_snapshot_xmax(s.now)
                     OR coalesce(s.oldest < (SELECT since FROM changes_kept), true) AS is_unusable,
                 c.changed_in::text, c.id, c.topic, c.key
             FROM s LEFT JOIN LATERAL (
                 SELECT c.changed_in, c.id, c.topic, c.key FROM changes c
                 WHERE (c.changed_in, c.id) > (coalesce($2::text::xid8, s.oldest), $3::bigint)
                     AND NOT pg_visible_in_snapshot(c.changed_in, s.mark)
                 ORDER BY c.changed_in, c.id LIMIT $4) c ON true
             ORDER BY c.changed_in, c.id",
        )
        .await?;
    let rows = client
        .query(&statement, &[&mark.snapshot, &changed_in, &id, &count])
        .await?;
    let mut changes = Vec::new();
    let mut next = mark.clone();
    for row in &rows {
        // Such a mark is rejected as a whole, because the missing changes are unknown.
        if row.try_get("is_unusable")? {
            return Ok(None);
        }
        // A row committed between two pages may sort before the second. So the mark after the last
        // page is the snapshot of the first: the next read returns what that does not show.
        let first = mark.reading.as_ref().map(|reading| &reading.snapshot);
        let snapshot = first.map_or_else(|| row.try_get("snapshot"), |first| Ok(first.clone()))?;
        let Some(topic) = row.try_get("topic")? else {
            next = FeedMark::at(snapshot);
            continue;
        };
        let key = row.try_get("key")?;
        changes.push(Changed { topic, key });
        next.reading = Some(FeedCursor {
            snapshot,
            changed_in: row.try_get("changed_in")?,
            id: row.try_get("id")?,
        });
    }
    if changes.len() < limit
        && let Some(reading) = next.reading.take()
    {
        next = FeedMark::at(reading.snapshot);
    }
    let has_more = next.reading.is_some();
    Ok(Some(FeedPage {
        changes,
        next,
        has_more,
    }))
}

/// The maximum number of rows that one statement removes.
const PAGE: i64 = 10_000;
