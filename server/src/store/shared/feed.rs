//! The change feed: notifies all servers of one store of changes that are not part of a
//! conversation.
//!
//! The feed names the table and the entry that changed; the table holds the current value. So an
//! entry may be read repeatedly, and two changes of one entry need no order.

#![cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        dead_code,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]

use uuid::Uuid;

use super::SharedBackend;
use crate::store::change::blocks::StoredBlock;
use crate::store::statement::{Columns, Record, Single, Statement, values};
use crate::store::{Revocation, Store, StoreError};
use roomcast::network::Block;

/// The change feed that the servers of one store share. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Feed(pub(super) SharedBackend);

/// A position in the feed up to which a reader has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMark {
    /// The database snapshot whose visible transactions have been read, in the database's text
    /// form.
    pub(in crate::store) snapshot: String,
    /// The end of the last page, if more pages follow.
    pub(in crate::store) reading: Option<FeedCursor>,
}

/// A position between two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct FeedCursor {
    /// The snapshot of the first page.
    pub(in crate::store) snapshot: String,
    /// The transaction of the last row.
    pub(in crate::store) changed_in: String,
    /// The id of the last row.
    pub(in crate::store) id: i64,
}

/// An entry that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Changed {
    /// What has changed: `revocations`, `blocks`, `user_statuses`, `journals`, `conversations`,
    /// `channel_ends`, or a topic of a newer version.
    pub topic: String,
    /// The entry, such as `KIND:VALUE` of a revocation, the id of a block, or `REVISION:NAME` of a
    /// journal. Without a key, any entry may have changed.
    pub key: Option<String>,
}

/// A page of the feed.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a result, callers destructure it"
)]
pub struct FeedPage {
    /// The changes in the order of their transaction ids, which is not the order of the commits.
    pub changes: Vec<Changed>,
    /// The position at which the next page begins.
    pub next: FeedMark,
    /// Whether the next page is already available.
    pub has_more: bool,
}

impl FeedMark {
    pub(in crate::store) const fn at(snapshot: String) -> Self {
        let reading = None;
        Self { snapshot, reading }
    }
}

impl Store {
    /// Adds a change that no table has to the feed, for all servers of the store. Does nothing if the
    /// store is not shared.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn add_change(&self, topic: &str, key: &str) -> Result<(), StoreError> {
        if !self.is_shared() {
            return Ok(());
        }
        let insert = Statement::new(
            "INSERT INTO changes (topic, key) VALUES ($1, $2)",
            values![topic, key],
        );
        let inserting = self.execute_timed(insert);
        self.then_notify_feed(inserting).await.map(drop)
    }
}

impl Feed {
    /// Returns the end of the feed. A reader that reads the tables afterwards misses no later
    /// change.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn end(&self) -> Result<FeedMark, StoreError> {
        // Deletes rows of future transactions, and resets `changes_kept` if it holds one. A
        // database restored from another database's dump has such rows. No mark would show them, so
        // each read would return them again.
        let end = Statement::new(
            "WITH s AS MATERIALIZED (SELECT pg_current_snapshot() AS now),
                 foreign_rows AS (
                     DELETE FROM changes WHERE changed_in >= (SELECT pg_snapshot_xmax(now) FROM s)),
                 foreign_since AS (
                     UPDATE changes_kept SET since = '0'
                     WHERE since > (SELECT pg_snapshot_xmax(now) FROM s))
             SELECT now::text AS value FROM s",
            values![],
        );
        let end = self.0.rows(end).await?.pop();
        let end = end.map(|Single(snapshot)| FeedMark::at(snapshot));
        end.ok_or(StoreError::Failed)
    }

    /// Returns at most `limit` changes after a mark, without gaps even under concurrent commits.
    ///
    /// Returns `None` if some of the changes are no longer stored. The caller must then read the
    /// tables.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn read(
        &self,
        mark: &FeedMark,
        limit: usize,
    ) -> Result<Option<FeedPage>, StoreError> {
        let reading = mark.reading.as_ref();
        let (changed_in, id) = reading.map(|last| (&*last.changed_in, last.id)).unzip();
        let read = Statement::new(
            READ,
            values![&*mark.snapshot, changed_in, id.unwrap_or(0), limit],
        );
        let rows: Vec<FeedRow> = self.0.rows(read).await?;
        let mut changes = Vec::new();
        let mut next = mark.clone();
        for row in rows {
            // Such a mark is rejected as a whole, because the missing changes are unknown.
            if row.is_unusable {
                return Ok(None);
            }
            // A row committed between two pages may sort before the second. So the mark after the
            // last page is the snapshot of the first: the next read returns what that does not
            // show.
            let snapshot = reading.map_or(row.snapshot, |first| first.snapshot.clone());
            let (Some(changed), Some((changed_in, id))) = (row.changed, row.place) else {
                next = FeedMark::at(snapshot);
                continue;
            };
            changes.push(changed);
            next.reading = Some(FeedCursor {
                snapshot,
                changed_in,
                id,
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

    /// Removes changes before `below` that all readers have read, and the oldest beyond about
    /// `most`.
    ///
    /// Returns `true` if there are more to remove.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn shorten(&self, below: Option<&FeedMark>, most: usize) -> Result<bool, StoreError> {
        // Rows of the oldest running transaction and of later ones are retained, because it may
        // still commit rows that no reader has read.
        let shorten = Statement::new(
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
             SELECT count(*) AS value FROM gone",
            values![below.map(|mark| &*mark.snapshot), most, MAX_REMOVED],
        );
        let removed = self.0.rows(shorten).await?.pop();
        Ok(removed.is_some_and(|Single(removed): Single<i64>| removed >= MAX_REMOVED))
    }

    /// Returns the existing revocations among these kinds and values.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations(&self, names: &[(&str, &str)]) -> Result<Vec<Revocation>, StoreError> {
        self.0.rows(Revocation::named(names)).await
    }

    /// Returns at most `limit` revocations after `last`, or from the first, ordered by kind and
    /// value.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations_after(
        &self,
        last: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        self.0.rows(Revocation::after(last, limit)).await
    }

    /// Returns the existing blocks among these ids.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn blocks(&self, ids: &[Uuid]) -> Result<Vec<Block>, StoreError> {
        let found = self.0.rows(StoredBlock::named(ids)).await;
        found.map(StoredBlock::valid)
    }
}

/// Returns at most `$4` rows that the mark `$1` does not show, ordered by transaction, after the
/// row `$2`, `$3`. A mark is unusable if some rows may have been removed, or if it is newer than
/// the database: it then belongs to another database, or this one has lost transactions.
///
/// A mark is a snapshot, which tells for each transaction whether it had ended. Rows that a
/// snapshot does not show were written by transactions from its `xmin` on, in any commit order.
/// `changes_kept` holds the first transaction from which the feed is complete.
const READ: &str = "WITH s AS MATERIALIZED (
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
             ORDER BY c.changed_in, c.id";
/// The maximum number of rows that one statement removes.
const MAX_REMOVED: i64 = 10_000;

struct FeedRow {
    snapshot: String,
    is_unusable: bool,
    place: Option<(String, i64)>,
    changed: Option<Changed>,
}

impl Record for FeedRow {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let (changed_in, id): (Option<String>, Option<i64>) =
            (row.get("changed_in")?, row.get("id")?);
        let (topic, key): (Option<String>, _) = (row.get("topic")?, row.get("key")?);
        Ok(Self {
            snapshot: row.get("snapshot")?,
            is_unusable: row.get("is_unusable")?,
            place: changed_in.zip(id),
            changed: topic.map(|topic| Changed { topic, key }),
        })
    }
}
