//! The SQL of the audit log.

use rusqlite::{Connection, Row, params};

use super::{AuditChange, AuditEntry, AuditQuery};
use crate::store::StoreError;
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id};

impl Sqlite {
    pub(in crate::store) async fn change_audit(
        &self,
        change: AuditChange,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| apply(connection, &change))
            .await
    }

    pub(in crate::store) async fn audit(
        &self,
        query: AuditQuery,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |connection| {
            connection.query_cached(
                "SELECT * FROM audit
                 WHERE (?1 IS NULL OR id < ?1)
                     AND (?2 IS NULL OR user_id = ?2 OR stated_user = ?2)
                     AND (?3 IS NULL OR operation = ?3)
                 ORDER BY id DESC LIMIT ?4",
                params![
                    query.before.map(Id),
                    query.user,
                    query.operation,
                    i64::try_from(query.limit).unwrap_or(i64::MAX)
                ],
                entry,
            )
        })
        .await
    }
}

/// Applies a change, and returns the number of changed rows.
fn apply(connection: &Connection, change: &AuditChange) -> rusqlite::Result<u64> {
    let changed = match change {
        AuditChange::Begin(entry) => connection.execute_cached(
            "INSERT OR IGNORE INTO audit (id, created_at, node, via, user_id, stated_user, address,
                 connection_id, operation, target, request, state_before, state_after, outcome,
                 finished_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            params![
                Id(entry.id),
                entry.created_at,
                entry.node,
                entry.via,
                entry.user_id,
                entry.stated_user,
                entry.address,
                entry.connection_id,
                entry.operation,
                entry.target,
                entry.request,
                entry.before,
                entry.after,
                entry.outcome,
                entry.finished_at,
            ],
        )?,
        AuditChange::End(entry) => connection.execute_cached(
            "UPDATE audit SET state_before = ?2, state_after = ?3, outcome = ?4, finished_at = ?5
             WHERE id = ?1",
            params![
                Id(entry.id),
                entry.before,
                entry.after,
                entry.outcome,
                entry.finished_at
            ],
        )?,
        AuditChange::Expire { before, limit } => connection.execute_cached(
            "DELETE FROM audit WHERE id IN
                 (SELECT id FROM audit WHERE id < ?1 ORDER BY id LIMIT ?2)",
            params![Id(*before), i64::try_from(*limit).unwrap_or(i64::MAX)],
        )?,
    };
    Ok(changed as u64)
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    Ok(AuditEntry {
        id: row.get::<_, Id>("id")?.0,
        created_at: row.get("created_at")?,
        node: row.get("node")?,
        via: row.get("via")?,
        user_id: row.get("user_id")?,
        stated_user: row.get("stated_user")?,
        address: row.get("address")?,
        connection_id: row.get("connection_id")?,
        operation: row.get("operation")?,
        target: row.get("target")?,
        request: row.get("request")?,
        before: row.get("state_before")?,
        after: row.get("state_after")?,
        outcome: row.get("outcome")?,
        finished_at: row.get("finished_at")?,
    })
}
