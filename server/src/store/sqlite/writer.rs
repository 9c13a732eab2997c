//! The writer thread, which stores the queued changes in grouped transactions.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::space::{self, Space};
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::metrics::{Counter, Metrics};
use crate::store::change::Revision;
use crate::store::change::annotations::sqlite as annotations;
use crate::store::change::conversations::sqlite as conversations;
use crate::store::change::deletion::sqlite as deletion;
use crate::store::change::erasure::sqlite as erasure;
use crate::store::change::members::sqlite as members;
use crate::store::change::messages::sqlite as messages;
use crate::store::change::messages::streams::sqlite as streams;
use crate::store::change::read_marks::sqlite as read_marks;
use crate::store::in_progress::InProgress;
use crate::store::lane::{Commit, Lanes};
use crate::store::write::{Done, MemberOperation, PendingAnswer, Reply, Write, request};
use crate::store::{StoreError, Time};

/// An order that waits for the writer.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "most orders are writes, and a box each would cost more"
)]
pub(super) enum Order {
    Write(Write),
    Job(Job),
    /// Stores the queued changes, accepts no more, and replies when the database is closed.
    Close(Reply<()>),
}

/// SQL without an event: only its caller gets the result.
pub(super) struct Job {
    run: Box<Query>,
    refuse: Box<dyn FnOnce(StoreError) + Send>,
}

/// Returns what sends the result to the caller, once the transaction is committed.
type Query = dyn Fn(&Connection) -> rusqlite::Result<Answer> + Send;

type Answer = Box<dyn FnOnce() + Send>;

impl Job {
    pub(super) fn new<T: Send + 'static>(
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> (Self, PendingAnswer<T>) {
        let (reply, answer) = request();
        let refused = reply.clone();
        let job = Self {
            run: Box::new(move |connection| {
                let (value, reply) = (query(connection)?, reply.clone());
                let answer: Answer = Box::new(move || reply.send(Ok(value)));
                Ok(answer)
            }),
            refuse: Box::new(move |error| refused.send(Err(error))),
        };
        (job, answer)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// The only write connection, and the queues of commits to emit.
pub(super) struct Writer {
    connection: Connection,
    commits: Lanes<Commit>,
    healthy: Arc<AtomicBool>,
    /// The transactions in progress.
    changes: Arc<InProgress>,
    space: Arc<Space>,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        commits: Lanes<Commit>,
        healthy: Arc<AtomicBool>,
        changes: Arc<InProgress>,
        space: Arc<Space>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            connection,
            commits,
            healthy,
            changes,
            space,
            metrics,
        }
    }

    /// Stores changes, up to `limit` per transaction, until all senders are dropped or a close
    /// order arrives.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>, limit: usize) {
        let mut group = Vec::new();
        let mut closing = None;
        // Everything that arrived in the meantime becomes one transaction: a commit waits for the
        // disk, whatever its size.
        while self.receive(&mut waiting, &mut group, limit) > 0 {
            if group.iter().any(|order| matches!(order, Order::Close(_))) {
                waiting.close();
            }
            let mut group = std::mem::take(&mut group);
            if self.commits.is_any_closed() {
                // Without an emitter, a change is not stored.
                let emitted = |order| self.refuse_without_emitter(order);
                group = group.into_iter().filter_map(emitted).collect();
            }
            closing = self.store(group).or(closing);
        }
        // The last connection to close merges the write-ahead log into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "could not close the database");
        }
        if let Some(reply) = closing {
            reply.send(Ok(()));
        }
    }

    /// Waits for changes. While the database does not accept changes, probes it repeatedly, so that
    /// readiness recovers without changes from clients.
    fn receive(
        &mut self,
        waiting: &mut mpsc::Receiver<Order>,
        group: &mut Vec<Order>,
        limit: usize,
    ) -> usize {
        let mut probed = Instant::now();
        while !self.healthy.load(Ordering::Relaxed) {
            while group.len() < limit
                && let Ok(order) = waiting.try_recv()
            {
                group.push(order);
            }
            if !group.is_empty() || (waiting.is_closed() && waiting.is_empty()) {
                return group.len();
            }
            if probed.elapsed() >= PROBE_INTERVAL {
                match self.probe() {
                    Ok(()) => self.works(),
                    Err(error) => {
                        tracing::debug!(%error, "the store still does not accept changes");
                    }
                }
                probed = Instant::now();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
        waiting.blocking_recv_many(group, limit)
    }

    /// Makes a change that needs disk space, and undoes it.
    fn probe(&mut self) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(PROBE)?;
        transaction.commit()
    }

    /// Stores a group in one transaction. If that fails, retries each change alone.
    ///
    /// So one rejected change does not fail the rest, and a nearly full disk accepts the changes
    /// that fit.
    fn store(&mut self, group: Vec<Order>) -> Option<Reply<()>> {
        let mut closing = None;
        match self.transact(&group) {
            Ok(applied) => {
                drop(group);
                for applied in applied {
                    closing = self.settle(applied).or(closing);
                }
            }
            // While the database is locked, each single change would wait for the lock again and
            // delay the queue.
            Err(error) if group.len() == 1 || is_locked(&error) => {
                self.failed(&error);
                for order in group {
                    closing = refuse(order).or(closing);
                }
            }
            Err(_) => {
                for order in group {
                    closing = self.store(vec![order]).or(closing);
                }
            }
        }
        closing
    }

    /// Runs one transaction; an error rolls everything back.
    fn transact(&mut self, group: &[Order]) -> rusqlite::Result<Vec<Applied>> {
        let _step = self.changes.begin();
        let transaction = self
            .connection
            // The transaction takes the write lock at its beginning. If the first change took it,
            // it could fail in the middle of the group.
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // All changes of a group have the same time; their numbers give their order.
        let now = Time::now();
        let applied = group
            .iter()
            .map(|order| {
                Ok(match order {
                    Order::Write(write) => apply(&transaction, write, now)?,
                    Order::Job(job) => Applied::Job((job.run)(&transaction)?),
                    Order::Close(reply) => Applied::Close(reply.clone()),
                })
            })
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let used_pages = space::used_pages(&transaction)?;
        transaction.commit()?;
        self.space.note(used_pages);
        let stored = applied.iter().filter(
            |applied| matches!(applied, Applied::Change { done, .. } if done.is_new_message()),
        );
        self.committed(stored.count());
        Ok(applied)
    }

    /// Sends a stored change to the emitter, or replies immediately if it has no event. Returns the
    /// reply of a close order.
    fn settle(&self, applied: Applied) -> Option<Reply<()>> {
        match applied {
            Applied::Change {
                conversation,
                done,
                revision,
            } => {
                if let Some(commit) = done.settle(revision) {
                    // A full lane blocks this thread intentionally: storing must not be faster than
                    // emitting. Without an emitter, the change is not acknowledged; the sender gets
                    // `StoreError::Unknown`.
                    let _ = self.commits.of(conversation).blocking_send(commit);
                }
                None
            }
            Applied::Job(answer) => {
                answer();
                None
            }
            Applied::Close(reply) => Some(reply),
        }
    }

    /// Refuses a change that must be emitted if the emitter of its lane has ended.
    fn refuse_without_emitter(&self, order: Order) -> Option<Order> {
        match order {
            Order::Write(write) if self.commits.of(write.conversation_id()).is_closed() => {
                write.refuse(StoreError::Closed);
                None
            }
            order @ (Order::Write(_) | Order::Job(_) | Order::Close(_)) => Some(order),
        }
    }

    fn committed(&self, stored: usize) {
        self.metrics.add(Counter::MessagesStored, stored as u64);
        self.metrics.count(Counter::StoreCommits);
        self.works();
    }

    fn works(&self) {
        if !self.healthy.swap(true, Ordering::Relaxed) {
            tracing::info!("the store accepts changes again");
        }
    }

    fn failed(&self, error: &rusqlite::Error) {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "the store does not accept changes");
        } else {
            tracing::debug!(%error, "the store still does not accept changes");
        }
    }
}

/// Writes pages of the file in one transaction, and leaves nothing behind.
const PROBE: &str = "CREATE TABLE roomcast_probe (bytes blob);
    INSERT INTO roomcast_probe VALUES (zeroblob(16384));
    DROP TABLE roomcast_probe";
/// The interval between two probes of a database that does not store.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The polling interval for changes while the database does not accept changes.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What follows the commit of an order.
enum Applied {
    Change {
        conversation: Uuid,
        done: Done,
        revision: Revision,
    },
    Job(Answer),
    Close(Reply<()>),
}

/// Applies a change and returns its outcome with the revision of its conversation.
fn apply(connection: &Connection, write: &Write, now: Time) -> rusqlite::Result<Applied> {
    let done = match write {
        Write::Message(new) => new.done(messages::insert_message(connection, &new.operation, now)?),
        Write::Conversation(new) => new.done(conversations::insert_conversation(
            connection,
            &new.operation,
            now,
        )?),
        Write::Edit(edit) => edit.done(messages::edit(connection, &edit.operation, now)?),
        Write::Finish(end) => end.done(streams::finish(connection, &end.operation, now)?),
        Write::Delete(delete) => delete.done(messages::delete(connection, &delete.operation, now)?),
        Write::Erase(erase) => {
            erase.done(erasure::erase_author(connection, &erase.operation, now)?)
        }
        Write::Annotate(annotate) => {
            annotate.done(annotations::annotate(connection, &annotate.operation, now)?)
        }
        Write::Member(member) => {
            let MemberOperation { change, invite } = &member.operation;
            let invite = invite.as_deref();
            member.done(members::change_member(connection, change, invite, now)?)
        }
        Write::Rename(rename) => {
            rename.done(conversations::rename(connection, &rename.operation, now)?)
        }
        Write::Deletion(deletion) => {
            let outcome = deletion::delete_conversation(connection, &deletion.operation, now)?;
            deletion.done(outcome)
        }
        Write::Read(read) => read.done(read_marks::mark_read(connection, &read.operation)?),
    };
    let conversation = write.conversation_id();
    if done.is_change() {
        // The number is assigned in the change's transaction; no concurrent transaction assigns
        // numbers.
        conversations::count_change(connection, conversation)?;
    }
    let known = conversations::revision(connection, conversation)?;
    Ok(Applied::Change {
        conversation,
        done,
        revision: known.map(|(revision, _)| revision).unwrap_or_default(),
    })
}

/// Notifies the caller that the change is not stored. Close orders are never refused.
fn refuse(order: Order) -> Option<Reply<()>> {
    match order {
        Order::Write(write) => write.refuse(StoreError::Failed),
        Order::Job(job) => (job.refuse)(StoreError::Failed),
        Order::Close(reply) => return Some(reply),
    }
    None
}

/// Returns whether another process has locked the database: an immediate retry would only wait
/// again.
fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    )
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config;
    use crate::store::sqlite::Sqlite;
    use crate::supervisor::Supervisor;

    /// Much longer than the interval between two probes.
    const SEVERAL_PROBES: Duration = Duration::from_secs(2);
    const DEADLINE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_full_database_is_unhealthy_until_it_has_room() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("chat.db");
        let metrics = Arc::<Metrics>::default();
        let supervisor = Supervisor::new(&Arc::default());
        let config = config::Store::default();
        let opened = Sqlite::open(path.clone(), &config, Arc::clone(&metrics), &supervisor);
        let (store, _commits) = opened.unwrap();
        let fill = "CREATE TABLE ballast AS SELECT zeroblob(262144) AS bytes";
        store.write(move |c| c.execute_batch(fill)).await.unwrap();
        // A limit below the current page count sets it to the current page count.
        let limit = |c: &Connection| c.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()));
        store.write(limit).await.unwrap();
        assert!(store.is_healthy());
        assert_eq!(metrics.counter(Counter::StoreErrors), 0);

        let more = "CREATE TABLE more AS SELECT zeroblob(65536) AS bytes";
        let refused = store.write(move |c| c.execute_batch(more)).await;
        assert_eq!(refused, Err(StoreError::Failed));
        assert_eq!(metrics.counter(Counter::StoreErrors), 1);
        let full = Instant::now();
        while full.elapsed() < SEVERAL_PROBES {
            assert!(!store.is_healthy());
            tokio::time::sleep(Duration::from_millis(20)).await; // The polling interval.
        }

        let operator = Connection::open(path).unwrap();
        operator.execute_batch("DROP TABLE ballast").unwrap();
        let freed = Instant::now();
        while !store.is_healthy() {
            assert!(freed.elapsed() < DEADLINE, "it has room");
            tokio::time::sleep(Duration::from_millis(20)).await; // The polling interval.
        }
        store.write(move |c| c.execute_batch(more)).await.unwrap();
    }
}
