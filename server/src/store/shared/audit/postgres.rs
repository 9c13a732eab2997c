//! The SQL of the audit log. Each change may be repeated.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};

use super::{AuditChange, AuditEntry, AuditQuery};
use crate::store::postgres::sql::{CachedStatements, optional_time, time};
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn change_audit(
        &self,
        change: AuditChange,
    ) -> Result<u64, StoreError> {
        change!(self, client => apply(client, &change))
    }

    pub(in crate::store) async fn audit(
        &self,
        query: AuditQuery,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
        read!(self, client => client.query_cached(
            "SELECT * FROM audit
             WHERE ($1::uuid IS NULL OR id < $1)
                 AND ($2::text IS NULL OR user_id = $2 OR stated_user = $2)
                 AND ($3::text IS NULL OR operation = $3)
             ORDER BY id DESC LIMIT $4",
            &[&query.before, &query.user, &query.operation, &limit],
            entry,
        ))
    }
}

/// Applies a change, and returns the number of changed rows.
async fn apply(client: &ClientWrapper, change: &AuditChange) -> Result<u64, Error> {
    match change {
        AuditChange::Begin(entry) => {
            client
                .execute_cached(
                    "INSERT INTO audit (id, created_at, node, via, user_id, stated_user, address,
                         connection_id, operation, target, request, state_before, state_after,
                         outcome, finished_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
                     ON CONFLICT DO NOTHING",
                    &[
                        &entry.id,
                        &entry.created_at.timestamp(),
                        &entry.node,
                        &entry.via,
                        &entry.user_id,
                        &entry.stated_user,
                        &entry.address,
                        &entry.connection_id,
                        &entry.operation,
                        &entry.target,
                        &entry.request,
                        &entry.before,
                        &entry.after,
                        &entry.outcome,
                        &entry.finished_at.map(Time::timestamp),
                    ],
                )
                .await
        }
        AuditChange::End(entry) => {
            client
                .execute_cached(
                    "UPDATE audit SET state_before = $2, state_after = $3, outcome = $4,
                         finished_at = $5 WHERE id = $1",
                    &[
                        &entry.id,
                        &entry.before,
                        &entry.after,
                        &entry.outcome,
                        &entry.finished_at.map(Time::timestamp),
                    ],
                )
                .await
        }
        AuditChange::Expire { before, limit } => {
            let limit = i64::try_from(*limit).unwrap_or(i64::MAX);
            client
                .execute_cached(
                    "DELETE FROM audit WHERE id IN
                         (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2)",
                    &[before, &limit],
                )
                .await
        }
    }
}

fn entry(row: &Row) -> Result<AuditEntry, Error> {
    Ok(AuditEntry {
        id: row.try_get("id")?,
        created_at: time(row, "created_at")?,
        node: row.try_get("node")?,
        via: row.try_get("via")?,
        user_id: row.try_get("user_id")?,
        stated_user: row.try_get("stated_user")?,
        address: row.try_get("address")?,
        connection_id: row.try_get("connection_id")?,
        operation: row.try_get("operation")?,
        target: row.try_get("target")?,
        request: row.try_get("request")?,
        before: row.try_get("state_before")?,
        after: row.try_get("state_after")?,
        outcome: row.try_get("outcome")?,
        finished_at: optional_time(row, "finished_at")?,
    })
}
