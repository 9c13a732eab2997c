//! What became of a transaction whose commit was not answered.
//!
//! The database knows transactions by their numbers, but one that was lost in a crash may leave its number to
//! another. So what is looked for is something that only this one can have stored.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::group::annotations::detail;
use super::queries::signed;
use crate::store::Time;
use crate::store::change::Change;
use crate::store::lane::{Done, Write};
use crate::store::rows::Revision;

/// What is needed to find out whether a transaction was committed.
#[derive(Debug)]
pub(super) struct Doubt {
    /// The transaction's number.
    pub(super) transaction: String,
    /// The server process that ran it.
    pub(super) process: i32,
    /// What it came to, if it was committed.
    pub(super) done: Vec<(Done, Revision)>,
    pub(super) witness: Witness,
    pub(super) reason: String,
}

/// What only this transaction can have stored.
#[derive(Debug)]
pub(super) enum Witness {
    Messages(Vec<Uuid>),
    /// A former text of a message, kept at this time.
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
    /// A new title, given at this time.
    Title {
        conversation: Uuid,
        at: Timestamp,
    },
    /// A step of a conversation that says this.
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
    /// Only what may be stored twice and is not emitted.
    Nothing,
}

impl Witness {
    /// The best one for a group that came to this.
    pub(super) fn of(group: &[Write], done: &[(Done, Revision)], now: Time) -> Self {
        let ids = done.iter().filter_map(|(done, _)| done.new_message_id());
        let ids: Vec<Uuid> = ids.collect();
        if !ids.is_empty() {
            // New messages are the best witness: their ids are random and were never stored before.
            return Self::Messages(ids);
        }
        let at = now.timestamp();
        let mut best = Self::Nothing;
        for (write, (done, revision)) in group.iter().zip(done) {
            match (write, done) {
                (Write::Annotate { .. }, Done::Annotated(Change::Done(annotated))) => {
                    return Self::Annotation {
                        conversation: annotated.conversation_id(),
                        number: revision.changes,
                        detail: detail(annotated),
                    };
                }
                (Write::Edit { .. }, Done::Changed(Change::Done(message))) => {
                    // An edit makes a new version of what it keeps, a deletion does not.
                    return Self::version(message.id, message.version.saturating_sub(1), at);
                }
                (Write::Delete { .. }, Done::Changed(Change::Done(message))) => {
                    return Self::version(message.id, message.version, at);
                }
                (Write::Conversation { .. }, Done::Conversation(conversation))
                    if conversation.created_at == now =>
                {
                    let id = conversation.id;
                    best = Self::Conversation { id, at };
                }
                // The last change of members is the witness, since it may undo those before it.
                (Write::Member { change, .. }, Done::Member(Change::Done(_))) => {
                    best = Self::Member {
                        conversation: change.conversation_id,
                        user: change.user_id.clone(),
                        is_in: !change.removes,
                        at,
                    };
                }
                (Write::Rename { rename, .. }, Done::Member(Change::Done(_))) => {
                    let conversation = rename.conversation_id;
                    best = Self::Title { conversation, at };
                }
                (Write::Deletion { deletion, .. }, Done::Deletion(Change::Done(_))) => {
                    let conversation = deletion.conversation_id;
                    return Self::Deletion { conversation, at };
                }
                _ => {}
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

    /// Whether it is stored; none if there is nothing to look for.
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
            // Without a witness the number has to do: only what may be stored twice is in doubt
            // then.
            Self::Nothing => return Ok(None),
        };
        row.try_get(0).map(Some)
    }
}

impl Doubt {
    /// Whether the transaction was committed; none if it is still under way.
    pub(super) async fn outcome(&self, client: &ClientWrapper) -> Result<Option<bool>, Error> {
        // Until its server process is gone the transaction may still come to its end.
        // The process is ended as well, so that the answer does not depend on how long it would
        // hang on.
        let running = client
            .query_opt(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE pid = $1 AND backend_xid = $2::text::xid",
                &[&self.process, &low_half(&self.transaction)],
            )
            .await?;
        if running.is_some() {
            return Ok(None);
        }
        // The witness goes before the number of the transaction, which a database that has crashed
        // may have given again.
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
            // The transaction was forgotten in a crash, and its number is not given to another yet.
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

/// A transaction's number as the activity view has it, without the epoch.
fn low_half(transaction: &str) -> String {
    let id: u64 = transaction.parse().unwrap_or(0);
    (id & u64::from(u32::MAX)).to_string()
}
