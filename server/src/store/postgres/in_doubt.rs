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
use crate::store::change::annotations::postgres::detail;
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
    pub(super) witness: Witness,
    pub(super) reason: String,
}

/// Data that only this transaction can have stored.
#[derive(Debug)]
pub(super) enum Witness {
    Messages(Vec<Uuid>),
    /// A former text of a message, replaced at this time.
    Version {
        message: Uuid,
        version: i32,
        at: Timestamp,
    },
    Conversation {
        id: Uuid,
        at: Timestamp,
    },
    Member {
        conversation: Uuid,
        user: String,
        is_in: bool,
        at: Timestamp,
    },
    /// A new title, set at this time.
    Title {
        conversation: Uuid,
        at: Timestamp,
    },
    /// A step of a conversation with this detail.
    Annotation {
        conversation: Uuid,
        number: u64,
        detail: String,
    },
    /// A conversation that was deleted at this time.
    Deletion {
        conversation: Uuid,
        at: Timestamp,
    },
    /// No witness: the changes may be stored twice and are not emitted.
    Nothing,
}

impl Witness {
    /// Returns the best witness of a group with these results, which has created a conversation.
    pub(super) fn of(done: &[(Done, Revision)], created: Option<Uuid>, now: Time) -> Self {
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
            return Self::Messages(ids);
        }
        let at = now.timestamp();
        let mut best = created.map_or(Self::Nothing, |id| Self::Conversation { id, at });
        for (event, revision) in events() {
            match event {
                Committed::Annotated(annotated) => {
                    return Self::Annotation {
                        conversation: annotated.conversation_id(),
                        number: revision.changes,
                        detail: detail(annotated),
                    };
                }
                Committed::Edited(message) => {
                    // An edit increases the version, so the version that it replaced is the
                    // witness. A deletion does not increase it.
                    return Self::version(message.id, message.version.saturating_sub(1), at);
                }
                Committed::Deleted { message, .. } => {
                    return Self::version(message.id, message.version, at);
                }
                // The last member change is the witness, because it may undo earlier ones.
                Committed::Members {
                    conversation,
                    user_id,
                    removed,
                } => {
                    best = Self::Member {
                        conversation: conversation.id,
                        user: user_id.clone(),
                        is_in: !removed,
                        at,
                    };
                }
                Committed::Renamed(renamed) => {
                    let conversation = renamed.id;
                    best = Self::Title { conversation, at };
                }
                Committed::ConversationDeleted { deleted, .. } => {
                    let conversation = deleted.conversation_id;
                    return Self::Deletion { conversation, at };
                }
                Committed::Message(_) | Committed::Repeated(_) | Committed::Announced(_) => {}
            }
        }
        best
    }

    fn version(message: Uuid, version: u32, at: Timestamp) -> Self {
        Self::Version {
            message,
            version: i32::try_from(version).unwrap_or(i32::MAX),
            at,
        }
    }

    /// Returns whether the witness is stored, or `None` if there is no witness.
    async fn is_there(&self, client: &ClientWrapper) -> Result<Option<bool>, Error> {
        let row = match self {
            Self::Messages(ids) => {
                let sql = "SELECT EXISTS (SELECT 1 FROM messages WHERE id = ANY($1))";
                client.query_one(sql, &[ids]).await?
            }
            Self::Version {
                message,
                version,
                at,
            } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM message_versions
                    WHERE message_id = $1 AND version = $2 AND replaced_at = $3)";
                client.query_one(sql, &[message, version, at]).await?
            }
            Self::Conversation { id, at } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversations
                    WHERE id = $1 AND created_at = $2)";
                client.query_one(sql, &[id, at]).await?
            }
            Self::Member {
                conversation,
                user,
                is_in: true,
                at,
            } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM members
                    WHERE conversation_id = $1 AND user_id = $2 AND joined_at = $3)";
                client.query_one(sql, &[conversation, user, at]).await?
            }
            Self::Member {
                conversation,
                user,
                is_in: false,
                at,
            } => {
                let sql = "SELECT NOT EXISTS (SELECT 1 FROM members
                        WHERE conversation_id = $1 AND user_id = $2)
                    AND EXISTS (SELECT 1 FROM conversations WHERE id = $1 AND updated_at >= $3)";
                client.query_one(sql, &[conversation, user, at]).await?
            }
            Self::Title { conversation, at } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversations
                    WHERE id = $1 AND updated_at = $2)";
                client.query_one(sql, &[conversation, at]).await?
            }
            Self::Annotation {
                conversation,
                number,
                detail,
            } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversation_changes
                    WHERE conversation_id = $1 AND number = $2 AND detail = $3)";
                let number = signed(*number);
                client
                    .query_one(sql, &[conversation, &number, detail])
                    .await?
            }
            Self::Deletion { conversation, at } => {
                let sql = "SELECT EXISTS (SELECT 1 FROM conversations
                    WHERE id = $1 AND deleted_at = $2)";
                client.query_one(sql, &[conversation, at]).await?
            }
            // Without a witness, the transaction number must do: only changes that may be stored
            // twice are in doubt then.
            Self::Nothing => return Ok(None),
        };
        row.try_get(0).map(Some)
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
        if let Some(is_there) = self.witness.is_there(client).await? {
            return Ok(Some(is_there));
        }
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
