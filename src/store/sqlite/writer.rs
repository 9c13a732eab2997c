//! The thread that writes: it groups what waits into one transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::mpsc;

use super::{blocks, logins, sql};
use crate::metrics::{Counter, Metrics};
use crate::store::blocks::BlockChange;
use crate::store::lane::{Commit, Outcome, Reply};
use crate::store::logins::{LoginChange, LoginOutcome};
use crate::store::rows::{Conversation, Insert, NewConversation, NewMessage, Origin};
use crate::store::{StoreError, Time};

/// One change that waits to be stored.
#[derive(Debug)]
pub(super) enum Write {
    Message {
        message: NewMessage,
        origin: Origin,
        reply: Reply<Insert>,
    },
    Conversation {
        conversation: NewConversation,
        reply: Reply<Conversation>,
    },
    Logins {
        change: LoginChange,
        reply: Reply<LoginOutcome>,
    },
    Blocks {
        change: BlockChange,
        reply: Reply<()>,
    },
    /// Store what waits, take nothing more, answer when the database is closed.
    Close { reply: Reply<()> },
}

/// What a change came to within a transaction.
enum Change {
    Message(Outcome),
    Conversation(Conversation),
    Logins(LoginOutcome),
    Blocks,
    None,
}

/// The only connection that writes, and the way out for what it stored.
pub(super) struct Writer {
    connection: Connection,
    commits: mpsc::Sender<Commit>,
    healthy: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        commits: mpsc::Sender<Commit>,
        healthy: Arc<AtomicBool>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            connection,
            commits,
            healthy,
            metrics,
        }
    }

    /// Stores what comes, up to `limit` changes a transaction, until every sender is gone or one
    /// asks to close.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Write>, limit: usize) {
        let mut group = Vec::new();
        let mut closing = None;
        while waiting.blocking_recv_many(&mut group, limit) > 0 {
            if group
                .iter()
                .any(|write| matches!(write, Write::Close { .. }))
            {
                waiting.close();
            }
            closing = self.store(std::mem::take(&mut group)).or(closing);
        }
        // The last connection to close folds the write-ahead log into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "could not close the database");
        }
        if let Some(reply) = closing {
            reply.send(Ok(()));
        }
    }

    /// Stores a group in one transaction. If that fails, each change is tried by itself, so that
    /// one bad change does not fail the others, and a nearly full disk takes what still fits.
    fn store(&mut self, group: Vec<Write>) -> Option<Reply<()>> {
        let mut closing = None;
        match self.transact(&group) {
            Ok(changes) => {
                for (write, change) in group.into_iter().zip(changes) {
                    closing = self.hand_on(write, change).or(closing);
                }
            }
            Err(error) if group.len() == 1 || is_locked(&error) => {
                self.failed(&error);
                for write in group {
                    closing = refuse(write).or(closing);
                }
            }
            Err(_) => {
                for write in group {
                    closing = self.store(vec![write]).or(closing);
                }
            }
        }
        closing
    }

    /// One transaction; on an error nothing of it remains.
    fn transact(&mut self, group: &[Write]) -> rusqlite::Result<Vec<Change>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let now = Time::now();
        let changes = group
            .iter()
            .map(|write| {
                Ok(match write {
                    Write::Message { message, .. } => {
                        Change::Message(sql::insert_message(&transaction, message, now)?)
                    }
                    Write::Conversation { conversation, .. } => Change::Conversation(
                        sql::insert_conversation(&transaction, conversation, now)?,
                    ),
                    Write::Logins { change, .. } => {
                        Change::Logins(logins::apply(&transaction, change)?)
                    }
                    Write::Blocks { change, .. } => {
                        blocks::apply(&transaction, change)?;
                        Change::Blocks
                    }
                    Write::Close { .. } => Change::None,
                })
            })
            .collect::<rusqlite::Result<Vec<_>>>()?;
        transaction.commit()?;
        self.committed(&changes);
        Ok(changes)
    }

    /// Hands a stored change to who emits it, or answers at once where nothing is emitted.
    fn hand_on(&self, write: Write, change: Change) -> Option<Reply<()>> {
        match (write, change) {
            (Write::Message { origin, reply, .. }, Change::Message(outcome)) => {
                if let Some(commit) = outcome.commit(origin, reply) {
                    // With nobody left to emit, the message is stored all the same.
                    if let Err(mpsc::error::SendError(commit)) = self.commits.blocking_send(commit)
                    {
                        commit.resolve();
                    }
                }
                None
            }
            (Write::Conversation { reply, .. }, Change::Conversation(conversation)) => {
                reply.send(Ok(conversation));
                None
            }
            (Write::Logins { reply, .. }, Change::Logins(outcome)) => {
                reply.send(Ok(outcome));
                None
            }
            (Write::Blocks { reply, .. }, Change::Blocks) => {
                reply.send(Ok(()));
                None
            }
            (write, _) => refuse(write),
        }
    }

    fn committed(&self, changes: &[Change]) {
        let stored = changes
            .iter()
            .filter(|c| {
                matches!(
                    c,
                    Change::Message(Outcome::Row {
                        repeated: false,
                        ..
                    })
                )
            })
            .count();
        self.metrics.add(Counter::MessagesStored, stored as u64);
        self.metrics.count(Counter::StoreCommits);
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the store works again");
        }
    }

    fn failed(&self, error: &rusqlite::Error) {
        self.metrics.count(Counter::StoreErrors);
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "the store refuses to store");
        } else {
            tracing::debug!(%error, "the store still refuses to store");
        }
    }
}

/// Tells who waits that the change is not stored; closing is never refused.
fn refuse(write: Write) -> Option<Reply<()>> {
    match write {
        Write::Message { reply, .. } => reply.send(Err(StoreError::Failed)),
        Write::Conversation { reply, .. } => reply.send(Err(StoreError::Failed)),
        Write::Logins { reply, .. } => reply.send(Err(StoreError::Failed)),
        Write::Blocks { reply, .. } => reply.send(Err(StoreError::Failed)),
        Write::Close { reply } => return Some(reply),
    }
    None
}

/// Whether someone else has locked the database: trying again at once would only wait again.
fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}
