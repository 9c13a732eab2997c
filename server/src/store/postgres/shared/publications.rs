//! The SQL of publications. Each statement may be repeated.
//!
//! A query is tried once, and its failure does not open the circuit breaker. No caller waits for
//! it, and it is polled again soon.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};

use crate::store::postgres::Postgres;
use crate::store::postgres::failure::{Failure, Fault};
use crate::store::postgres::reading::once;
use crate::store::postgres::sql::CachedStatements;
use crate::store::{Audience, NUMBERING_BATCH, Publication, PublicationFault, StoreError};

impl Postgres {
    pub(in crate::store) async fn number_publications(&self) -> Result<i64, PublicationFault> {
        once!(self, client => number(client)).map_err(denied)
    }

    pub(in crate::store) async fn publications_after(
        &self,
        position: i64,
        limit: usize,
    ) -> Result<Vec<Publication>, PublicationFault> {
        once!(self, client => after(client, position, limit)).map_err(denied)
    }

    pub(in crate::store) async fn refuse_publication(
        &self,
        position: i64,
        reason: &str,
    ) -> Result<(), PublicationFault> {
        once!(self, client => refuse(client, position, reason)).map_err(denied)
    }

    pub(in crate::store) async fn publication_place(
        &self,
        node: &str,
        oldest: Duration,
    ) -> Result<Option<i64>, PublicationFault> {
        once!(self, client => place(client, node, oldest)).map_err(denied)
    }

    pub(in crate::store) async fn note_publication_place(
        &self,
        node: &str,
        position: i64,
    ) -> Result<(), PublicationFault> {
        once!(self, client => note(client, node, position)).map_err(denied)
    }

    pub(in crate::store) async fn forget_publications(
        &self,
        keep: Duration,
        most: i64,
    ) -> Result<bool, PublicationFault> {
        once!(self, client => forget(client, keep, most)).map_err(denied)
    }
}

/// Converts a failed query to the error that tells whether an operator must act.
fn denied(failure: Failure) -> PublicationFault {
    // Waiting does not help a statement that is rejected or that lacks a right or a table.
    if matches!(failure.fault, Fault::Bad | Fault::Missing) {
        PublicationFault::Denied(failure.reason)
    } else {
        PublicationFault::Store(StoreError::Failed)
    }
}

async fn number(client: &ClientWrapper) -> Result<i64, Error> {
    client
        .query_one_cached(
            "SELECT roomcast_number_publications($1)",
            &[&NUMBERING_BATCH],
            |row| row.try_get(0),
        )
        .await
}

async fn after(
    client: &ClientWrapper,
    position: i64,
    limit: usize,
) -> Result<Vec<Publication>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    client
        .query_cached(
            "SELECT position, target, name, event, payload::text AS payload, refused IS NOT NULL AS is_refused
             FROM publications WHERE position > $1 ORDER BY position LIMIT $2",
            &[&position, &limit],
            publication,
        )
        .await
}

fn publication(row: &Row) -> Result<Publication, Error> {
    let name: Option<String> = row.try_get("name")?;
    let name = name.unwrap_or_default();
    let audience = match row.try_get("target")? {
        "room" => Audience::Room(name),
        "user" => Audience::User(name),
        // A check constraint allows no other target.
        _ => Audience::Everyone,
    };
    Ok(Publication {
        position: row.try_get("position")?,
        audience,
        event: row.try_get("event")?,
        payload: row.try_get("payload")?,
        is_refused: row.try_get("is_refused")?,
    })
}

async fn refuse(client: &ClientWrapper, position: i64, reason: &str) -> Result<(), Error> {
    client
        .execute_cached(
            "UPDATE publications SET refused = left($2, 200) WHERE position = $1 AND refused IS NULL",
            &[&position, &reason],
        )
        .await?;
    Ok(())
}

/// Returns the position at which a server resumes.
///
/// If the database has lost rows, the recorded position may be past its end; then the server
/// resumes at the end.
async fn place(client: &ClientWrapper, node: &str, oldest: Duration) -> Result<Option<i64>, Error> {
    client
        .query_opt_cached(
            "SELECT least(h.position, greatest(n.position, (
                 SELECT max(p.position) FROM publications p
                 WHERE p.numbered_at < clock_timestamp() - $2 * interval '1 second')))
             FROM publication_nodes n CROSS JOIN publication_head h WHERE n.node = $1",
            &[&node, &oldest.as_secs_f64()],
            |row| row.try_get(0),
        )
        .await
}

async fn note(client: &ClientWrapper, node: &str, position: i64) -> Result<(), Error> {
    client
        .execute_cached(
            "INSERT INTO publication_nodes (node, position, told_at) VALUES ($1, $2, clock_timestamp())
             ON CONFLICT (node) DO UPDATE SET position = $2, told_at = clock_timestamp()",
            &[&node, &position],
        )
        .await?;
    Ok(())
}

/// Removes old publications. Skips rows that another server is removing.
async fn forget(client: &ClientWrapper, keep: Duration, most: i64) -> Result<bool, Error> {
    let removed: i64 = client
        .query_one_cached(
            "WITH old AS MATERIALIZED (
                 SELECT id FROM publications
                 WHERE position IS NOT NULL AND refused IS NULL AND (
                     numbered_at < clock_timestamp() - $1 * interval '1 second'
                     OR position <= (SELECT position FROM publication_head) - $2)
                 ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED),
             refused AS MATERIALIZED (
                 SELECT id FROM publications
                 WHERE refused IS NOT NULL AND (
                     numbered_at < clock_timestamp() - interval '7 days'
                     OR position <= (
                         SELECT position FROM publications WHERE refused IS NOT NULL
                         ORDER BY position DESC OFFSET 10000 LIMIT 1))
                 ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED),
             gone AS (
                 DELETE FROM publications p USING (TABLE old UNION ALL TABLE refused) o
                 WHERE p.id = o.id RETURNING 1),
             used AS MATERIALIZED (
                 SELECT key FROM publication_keys WHERE used_at < clock_timestamp() - interval '24 hours'
                 LIMIT $3 FOR UPDATE SKIP LOCKED),
             free AS (DELETE FROM publication_keys k USING used WHERE k.key = used.key RETURNING 1),
             nodes AS (
                 DELETE FROM publication_nodes WHERE told_at < clock_timestamp() - interval '1 day')
             SELECT greatest((SELECT count(*) FROM gone), (SELECT count(*) FROM free))",
            &[&keep.as_secs_f64(), &most, &MAX_REMOVED_PUBLICATIONS],
            |row| row.try_get(0),
        )
        .await?;
    Ok(removed >= MAX_REMOVED_PUBLICATIONS)
}

/// The maximum number of rows of each kind that one statement removes.
const MAX_REMOVED_PUBLICATIONS: i64 = 10_000;
