//! The audit log: one row for each administrative act, inserted before the act and completed after
//! it. The rules are those of the service; this module only stores.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

use uuid::Uuid;

use crate::store::{Backend, Store, StoreError, Time};

/// An administrative act.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, callers construct it")]
pub struct AuditEntry {
    /// A version 7 UUID, so that ids sort by time.
    pub id: Uuid,
    /// When the act began.
    pub created_at: Time,
    /// The server that performed the act.
    pub node: String,
    /// How the act was requested: `http`, `socket`, `command` or `signal`.
    pub via: String,
    /// The user whose credentials the server has verified.
    pub user_id: Option<String>,
    /// The name that the command line states, without proof.
    pub stated_user: Option<String>,
    /// The address of the client.
    pub address: Option<String>,
    /// The connection of the client, if it is a Socket.IO connection.
    pub connection_id: Option<String>,
    /// The name of the act.
    pub operation: String,
    /// What the act is about.
    pub target: Option<String>,
    /// The request, as JSON without secrets.
    pub request: Option<String>,
    /// The state of the target before the act, as JSON.
    pub before: Option<String>,
    /// The state of the target after the act, as JSON.
    pub after: Option<String>,
    /// The outcome. `None` until the act has ended.
    pub outcome: Option<String>,
    /// When the act ended.
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

/// A change of the audit log.
#[derive(Clone, Debug)]
pub(in crate::store) enum AuditChange {
    /// Inserts an entry, unless it exists.
    Begin(Box<AuditEntry>),
    /// Sets what is known after the act.
    End(Box<AuditEntry>),
    /// Removes entries whose id is smaller, at most this many.
    Expire { before: Uuid, limit: usize },
}

impl Store {
    /// Stores an entry, before its act.
    ///
    /// # Errors
    ///
    /// If it could not be stored. The act must not be performed then.
    pub async fn begin_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let begin = AuditChange::Begin(Box::new(entry));
        self.change_audit(begin).await.map(drop)
    }

    /// Stores the outcome of an act, and the state after it.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn end_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let end = AuditChange::End(Box::new(entry));
        self.change_audit(end).await.map(drop)
    }

    /// Returns entries, the newest first.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.audit(query)).await)
    }

    /// Removes entries older than a time, at most `limit`, and returns their number.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn expire_audit(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        let before = time.first_id();
        self.change_audit(AuditChange::Expire { before, limit })
            .await
    }

    async fn change_audit(&self, change: AuditChange) -> Result<u64, StoreError> {
        each!(self, backend => {
            self.timed_answer(crate::metrics::Timing::StoreChange, backend.change_audit(change)).await
        })
    }
}
