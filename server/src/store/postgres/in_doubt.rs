//! Finds out whether a transaction whose commit got no response was committed.
//!
//! The database identifies transactions by number, but after a crash it may reuse the number of a
//! lost transaction. So this module looks for data that only this transaction can have stored: the
//! witness.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::sql::signed;
use crate::store::Time;
use crate::store::change::{Committed, Revision};
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
    /// `None` if the transaction has stored no row that proves it: its changes may be stored twice
    /// and are not emitted.
    pub(super) witness: Option<Witness>,
    pub(super) reason: String,
}

/// Rows that only one transaction can have stored. Any of them proves that it was committed.
#[derive(Debug)]
pub(super) struct Witness {
    /// New messages. Their ids are random and were never stored before.
    messages: Vec<Uuid>,
    /// A new conversation, and when it was created.
    created: Option<Uuid>,
    now: Time,
    /// All other changes: the conversation and the number of each. If the transaction is lost,
    /// another one may take the number, but hardly one that began in the same microsecond.
    changed: Vec<Uuid>,
    numbers: Vec<i64>,
    /// The database's time at which the transaction began.
    began: Timestamp,
}

impl Witness {
    /// Returns the witness of a transaction with these results, which has created a conversation.
    /// `None` if it has stored none of these rows.
    pub(super) fn new(
        done: &[(Done, Revision)],
        created: Option<Uuid>,
        now: Time,
        began: Timestamp,
    ) -> Option<Self> {
        let (mut messages, mut changes) = (Vec::new(), Vec::new());
        for (done, revision) in done {
            match done.event() {
                Some(Committed::Message(message)) => messages.push(message.id),
                Some(Committed::Repeated(_) | Committed::Announced(_)) | None => {}
                Some(change) => changes.push((change.conversation_id(), signed(revision.changes))),
            }
        }
        let is_empty = messages.is_empty() && changes.is_empty() && created.is_none();
        let (changed, numbers) = changes.into_iter().unzip();
        (!is_empty).then_some(Self {
            messages,
            created,
            now,
            changed,
            numbers,
            began,
        })
    }

    /// Returns whether one of the rows is stored, or `None` if a change's row may have been removed
    /// since: changes are retained for an hour, and the newest thousand of each conversation.
    ///
    /// Removed messages and conversations count as never stored. Nobody can read them, and the
    /// deadlines of their senders have passed.
    async fn is_stored(&self, client: &ClientWrapper) -> Result<Option<bool>, Error> {
        let row = client
            .query_one(
                "WITH own (conversation, number) AS (SELECT * FROM unnest($4::uuid[], $5::int8[]))
                 SELECT EXISTS (SELECT 1 FROM messages WHERE id = ANY($1))
                     OR EXISTS (SELECT 1 FROM conversations WHERE id = $2 AND created_at = $3)
                     OR EXISTS (SELECT 1 FROM own JOIN conversation_changes c
                         ON c.conversation_id = own.conversation AND c.number = own.number
                             AND c.changed_at = $6) AS stored,
                     EXISTS (SELECT 1 FROM own JOIN conversations c ON c.id = own.conversation
                         WHERE c.changes >= own.number AND NOT EXISTS (
                             SELECT 1 FROM conversation_changes d
                             WHERE d.conversation_id = c.id AND d.number = own.number)) AS removed",
                &[
                    &self.messages,
                    &self.created,
                    &self.now.timestamp(),
                    &self.changed,
                    &self.numbers,
                    &self.began,
                ],
            )
            .await?;
        let (is_stored, is_removed): (bool, bool) =
            (row.try_get("stored")?, row.try_get("removed")?);
        Ok((is_stored || !is_removed).then_some(is_stored))
    }
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
        if let Some(witness) = &self.witness
            && let Some(is_stored) = witness.is_stored(client).await?
        {
            return Ok(Some(is_stored));
        }
        // Without a witness, the transaction number must do. Either the changes may be stored twice,
        // or the database was out of reach for so long that their rows may have been removed.
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
