//! The audit log: one row for each administrative act, inserted before the act and completed after
//! it. The rules are those of the service; this module only stores.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::store::statement::{Statement, record, values};
use crate::store::{Store, StoreError, Time};

/// An administrative act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row, callers construct it")]
pub struct AuditEntry {
    // A version 7 UUID, so that ids sort by time.
    #[expect(missing_docs, reason = "the description of the API needs no text")]
    pub id: Uuid,
    /// When the act began.
    #[serde(rename = "timestamp")]
    pub created_at: Time,
    /// The server that performed the act.
    pub node: String,
    /// How the act was requested: `http`, `socket`, `command` or `signal`.
    pub via: String,
    /// The user whose credentials the server has verified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The user of the operating system that the command line states. Nothing proves this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stated_user: Option<String>,
    /// The address of the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// The id of the Socket.IO connection in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connection_id: Option<String>,
    /// The name of the act: the `operationId` of an HTTP operation, or the name of an event.
    pub operation: String,
    /// The path of the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The body of the request, with masked values.
    pub request: Value,
    /// The state before the act. Null if there was none.
    pub before: Value,
    /// The state after the act, or the error.
    pub after: Value,
    /// `done`, `refused` or `failed`. Absent while the act runs, and if the server stopped before
    /// it could record the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When the act ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Selects entries, the newest first.
#[derive(Clone, Debug, Default)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct AuditQuery {
    /// Only entries with a smaller id.
    pub before: Option<Uuid>,
    /// Only acts of this user, verified or stated.
    pub user: Option<String>,
    /// Only acts with this name.
    pub operation: Option<String>,
    /// Maximum number of entries.
    pub limit: usize,
}

record! { AuditEntry =>
    id, created_at, node, via, user_id, stated_user, address, connection_id, operation, target,
    request, before: "state_before", after: "state_after", outcome, finished_at,
}

impl Store {
    /// Stores an act before it is performed, and afterwards again with its outcome.
    ///
    /// # Errors
    ///
    /// If it could not be stored. An act without an outcome must not be performed then.
    pub async fn record_act(&self, entry: AuditEntry) -> Result<(), StoreError> {
        // An insertion that was given up may happen after the one with the outcome.
        let insert = Statement::new(
            "INSERT INTO audit (id, created_at, node, via, user_id, stated_user, address,
                 connection_id, operation, target, request, state_before, state_after, outcome,
                 finished_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             ON CONFLICT (id) DO UPDATE SET state_before = excluded.state_before,
                 state_after = excluded.state_after, outcome = excluded.outcome,
                 finished_at = excluded.finished_at
             WHERE excluded.outcome IS NOT NULL",
            values![
                entry.id,
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
        );
        self.execute_timed(insert).await.map(drop)
    }

    /// Returns entries, the newest first.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        let select = Statement::new(
            "SELECT id, created_at, node, via, user_id, stated_user, address, connection_id, operation,
                 target, request, state_before, state_after, outcome, finished_at
             FROM audit
             WHERE (id < $1 OR $1 IS NULL)
                 AND (user_id = $2 OR stated_user = $2 OR $2 IS NULL)
                 AND (operation = $3 OR $3 IS NULL)
             ORDER BY id DESC LIMIT $4",
            values![query.before, query.user, query.operation, query.limit],
        );
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Removes entries older than a time, at most `limit`, and returns their number.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn expire_audit(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        let delete = Statement::new(
            "DELETE FROM audit WHERE id IN
                 (SELECT id FROM audit WHERE id < $1 ORDER BY id LIMIT $2)",
            values![time.first_id(), limit],
        );
        self.execute_timed(delete).await
    }
}
