//! Finds out whether a transaction whose commit got no response was committed.
//!
//! The database identifies transactions by number, but after a crash it may reuse the number of a
//! lost transaction. So this module looks for data that only this transaction can have stored: the
//! witness.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::sql::parameters;
use crate::store::Time;
use crate::store::change::annotations::postgres::detail;
use crate::store::change::{Committed, Revision};
use crate::store::statement::{Statement, values};
use crate::store::write::Done;

/// An in-doubt transaction, with everything that is needed to find its outcome.
#[derive(Debug)]
pub(super) struct InDoubtCommit {
    /// The transaction's number.
    pub(super) transaction: String,
    /// The PostgreSQL server process that ran it.
    pub(super) process: i32,
    /// The results of its changes, if it was committed.
    pub(super) done: Vec<(Done, Revision)>,
    /// Returns whether data is stored that only this transaction can have stored. `None` if there
    /// is no such data: the changes may be stored twice and are not emitted.
    pub(super) witness: Option<Statement>,
    pub(super) reason: String,
}

/// Returns a query for the best witness of a group with these results, which has created a
/// conversation.
pub(super) fn witness(
    done: &[(Done, Revision)],
    created: Option<Uuid>,
    now: Time,
) -> Option<Statement> {
    let events = || {
        done.iter()
            .filter_map(|(done, revision)| Some((done.event()?, revision)))
    };
    let ids = events().filter_map(|(event, _)| {
        let Committed::Message(message) = event else {
            return None;
        };
        Some(message.id)
    });
    let ids: Vec<Uuid> = ids.collect();
    if !ids.is_empty() {
        // New messages are the best witness: their ids are random and were never stored before.
        let sql = "SELECT EXISTS (SELECT 1 FROM messages WHERE id = ANY($1))";
        return Some(Statement::new(sql, values![ids]));
    }
    let mut best = created.map(|id| {
        let sql = "SELECT EXISTS (SELECT 1 FROM conversations WHERE id = $1 AND created_at = $2)";
        Statement::new(sql, values![id, now])
    });
    for (event, revision) in events() {
        match event {
            Committed::Annotated(annotated) => {
                return Some(Statement::new(
                    "SELECT EXISTS (SELECT 1 FROM conversation_changes
                         WHERE conversation_id = $1 AND number = $2 AND detail = $3)",
                    values![
                        annotated.conversation_id(),
                        revision.changes,
                        detail(annotated),
                    ],
                ));
            }
            Committed::Edited(message) => {
                // An edit increases the version, so the version that it replaced is the witness. A
                // deletion does not increase it.
                return Some(replaced(message.id, message.version.saturating_sub(1), now));
            }
            Committed::Deleted { message, .. } => {
                return Some(replaced(message.id, message.version, now));
            }
            // The last member change is the witness, because it may undo earlier ones.
            Committed::Members {
                conversation,
                user_id,
                removed,
            } => {
                let sql = if *removed {
                    "SELECT NOT EXISTS (SELECT 1 FROM members
                             WHERE conversation_id = $1 AND user_id = $2)
                         AND EXISTS (SELECT 1 FROM conversations
                             WHERE id = $1 AND updated_at >= $3)"
                } else {
                    "SELECT EXISTS (SELECT 1 FROM members
                         WHERE conversation_id = $1 AND user_id = $2 AND joined_at = $3)"
                };
                best = Some(Statement::new(
                    sql,
                    values![conversation.id, &**user_id, now],
                ));
            }
            Committed::Renamed(renamed) => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversations
                    WHERE id = $1 AND updated_at = $2)";
                best = Some(Statement::new(sql, values![renamed.id, now]));
            }
            Committed::ConversationDeleted { deleted, .. } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversations
                    WHERE id = $1 AND deleted_at = $2)";
                return Some(Statement::new(sql, values![deleted.conversation_id, now]));
            }
            Committed::Message(_) | Committed::Repeated(_) | Committed::Announced(_) => {}
        }
    }
    best
}

/// Returns a query for a former text of a message, replaced at this time.
fn replaced(message: Uuid, version: u32, at: Time) -> Statement {
    Statement::new(
        "SELECT EXISTS (SELECT 1 FROM message_versions
             WHERE message_id = $1 AND version = $2 AND replaced_at = $3)",
        values![message, version, at],
    )
}

impl InDoubtCommit {
    /// Returns whether the transaction was committed, or `None` if it is still running.
    pub(super) async fn outcome(&self, client: &ClientWrapper) -> Result<Option<bool>, Error> {
        // The transaction may still end until its server process has exited. The process is
        // terminated, so that the outcome does not have to wait for it.
        let running = client
            .query_opt(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid = $1 AND backend_xid = $2::text::xid",
                &[&self.process, &without_epoch(&self.transaction)],
            )
            .await?;
        if running.is_some() {
            return Ok(None);
        }
        // The witness has priority over the transaction number, which a database may have reused
        // after a crash.
        if let Some(witness) = &self.witness {
            let row = client
                .query_one(witness.postgres, &parameters(witness))
                .await?;
            return row.try_get(0).map(Some);
        }
        // Without a witness, the transaction number must do: only changes that may be stored twice
        // are in doubt then.
        let status = client
            .query_one(
                "SELECT pg_xact_status($1::text::xid8)",
                &[&self.transaction],
            )
            .await;
        let row = match status {
            Ok(row) => row,
            // The database lost the transaction in a crash, and has not reused its number yet.
            Err(error) if error.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => {
                return Ok(Some(false));
            }
            Err(error) => return Err(error),
        };
        Ok(match row.try_get::<_, Option<&str>>(0)? {
            Some("committed") => Some(true),
            Some("in progress") => None,
            _ => Some(false),
        })
    }
}

/// Returns a transaction number without the epoch, as `pg_stat_activity` lists it.
fn without_epoch(transaction: &str) -> String {
    let id: u64 = transaction.parse().unwrap_or(0);
    (id & u64::from(u32::MAX)).to_string()
}
