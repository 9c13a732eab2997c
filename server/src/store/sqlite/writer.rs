//! The thread that writes: it groups what waits into one transaction.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::mpsc;

use super::changes::{self, annotations};
use super::{deletion, sql};
use crate::metrics::{Counter, Metrics};
use crate::store::in_progress::InProgress;
use crate::store::lane::{self, Commit, Done, Lanes, PendingAnswer, Reply, Write};
use crate::store::rows::Revision;
use crate::store::{StoreError, Time};

/// What waits for the writer.
#[derive(Debug)]
pub(super) enum Order {
    Write(Write),
    Job(Job),
    /// Store what waits, take nothing more, answer when the database is closed.
    Close(Reply<()>),
}

/// SQL that nobody hears of but the one who waits for its answer.
pub(super) struct Job {
    run: Box<Query>,
    answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

type Query = dyn Fn(&Connection) -> rusqlite::Result<()> + Send;

impl Job {
    pub(super) fn new<T: Send + 'static>(
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> (Self, PendingAnswer<T>) {
        let (reply, answer) = lane::request();
        let value = Arc::new(Mutex::new(None));
        let found = Arc::clone(&value);
        let job = Self {
            run: Box::new(move |connection| {
                // The job may run twice: the value of the attempt that is committed replaces the
                // one before.
                *value.lock() = Some(query(connection)?);
                Ok(())
            }),
            answer: Box::new(move |result| {
                let value = found.lock().take();
                reply.send(result.and_then(|()| value.ok_or(StoreError::Failed)));
            }),
        };
        (job, answer)
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").finish_non_exhaustive()
    }
}

/// The only connection that writes, and the way out for what it stored.
pub(super) struct Writer {
    connection: Connection,
    commits: Lanes<Commit>,
    healthy: Arc<AtomicBool>,
    /// The transactions that are being stored.
    changes: Arc<InProgress>,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        commits: Lanes<Commit>,
        healthy: Arc<AtomicBool>,
        changes: Arc<InProgress>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            connection,
            commits,
            healthy,
            changes,
            metrics,
        }
    }

    /// Stores what comes, up to `limit` changes a transaction, until every sender is gone or one
    /// asks to close.
    pub(super) fn run(mut self, mut waiting: mpsc::Receiver<Order>, limit: usize) {
        let mut group = Vec::new();
        let mut closing = None;
        // All that has come meanwhile becomes one transaction: a commit waits for the disk,
        // whatever is in it.
        while self.receive(&mut waiting, &mut group, limit) > 0 {
            if group.iter().any(|order| matches!(order, Order::Close(_))) {
                waiting.close();
            }
            let mut group = std::mem::take(&mut group);
            if self.commits.is_any_closed() {
                // With nobody left to emit a change, it is not stored.
                let emitted = |order| self.if_emitted(order);
                group = group.into_iter().filter_map(emitted).collect();
            }
            closing = self.store(group).or(closing);
        }
        // The last connection to close folds the write-ahead log into the database.
        if let Err((_, error)) = self.connection.close() {
            tracing::warn!(%error, "could not close the database");
        }
        if let Some(reply) = closing {
            reply.send(Ok(()));
        }
    }

    /// Waits for changes. While the database does not store, it is tried again and again, so that
    /// readiness recovers without changes of clients.
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
                    Err(error) => tracing::debug!(%error, "the store still refuses to store"),
                }
                probed = Instant::now();
            }
            std::thread::sleep(PAUSE);
        }
        waiting.blocking_recv_many(group, limit)
    }

    /// Makes a change that needs room on the disk, and takes it back.
    fn probe(&mut self) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(PROBE)?;
        transaction.commit()
    }

    /// Stores a group in one transaction. If that fails, each change is tried by itself, so that
    /// one bad change does not fail the others, and a nearly full disk takes what still fits.
    fn store(&mut self, group: Vec<Order>) -> Option<Reply<()>> {
        let mut closing = None;
        match self.transact(&group) {
            Ok(changes) => {
                for (order, done) in group.into_iter().zip(changes) {
                    closing = self.hand_on(order, done).or(closing);
                }
            }
            // With the database locked each single change would wait for it anew, and the queue
            // behind them all.
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

    /// One transaction; on an error nothing of it remains. What was done is none for what is no
    /// [`Write`].
    fn transact(&mut self, group: &[Order]) -> rusqlite::Result<Vec<Option<(Done, Revision)>>> {
        let _step = self.changes.begin();
        let transaction = self
            .connection
            // The lock is taken at once: one that is taken with the first change could fail in the
            // middle of the group.
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        // All changes of a group have one time; their order is in their numbers.
        let now = Time::now();
        let done = group
            .iter()
            .map(|order| {
                Ok(match order {
                    Order::Write(write) => Some(apply(&transaction, write, now)?),
                    Order::Job(job) => {
                        (job.run)(&transaction)?;
                        None
                    }
                    Order::Close(_) => None,
                })
            })
            .collect::<rusqlite::Result<Vec<_>>>()?;
        transaction.commit()?;
        let stored = done
            .iter()
            .flatten()
            .filter(|(done, _)| done.is_new_message());
        self.committed(stored.count());
        Ok(done)
    }

    /// Hands a stored change to who emits it, or answers at once where nothing is emitted.
    fn hand_on(&self, order: Order, done: Option<(Done, Revision)>) -> Option<Reply<()>> {
        match (order, done) {
            (Order::Write(write), Some((done, revision))) => {
                // A lane that is full blocks this thread, which is wanted: nothing may be stored
                // faster than it is emitted.
                let lane = self.commits.of(write.conversation_id());
                if let Some(commit) = write.settle(done, revision) {
                    // With nobody left to emit the change, it is not acknowledged: nobody knows.
                    let _ = lane.blocking_send(commit);
                }
                None
            }
            (Order::Job(job), _) => {
                (job.answer)(Ok(()));
                None
            }
            (order, _) => refuse(order),
        }
    }

    /// Refuses what others are to hear of, if nobody is left who emits it.
    fn if_emitted(&self, order: Order) -> Option<Order> {
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
            tracing::info!("the store works again");
        }
    }

    fn failed(&self, error: &rusqlite::Error) {
        if self.healthy.swap(false, Ordering::Relaxed) {
            tracing::error!(%error, "the store refuses to store");
        } else {
            tracing::debug!(%error, "the store still refuses to store");
        }
    }
}

/// A change that takes pages of the file, in one transaction that leaves nothing of it.
const PROBE: &str = "CREATE TABLE roomcast_probe (bytes blob);
    INSERT INTO roomcast_probe VALUES (zeroblob(16384));
    DROP TABLE roomcast_probe";
/// The interval between two probes of a database that does not store.
const PROBE_INTERVAL: Duration = Duration::from_millis(500);
/// The interval between two looks for changes while the database does not store.
const PAUSE: Duration = Duration::from_millis(20);

/// Carries a change out, and says how far its conversation has come.
fn apply(connection: &Connection, write: &Write, now: Time) -> rusqlite::Result<(Done, Revision)> {
    let done = match write {
        Write::Message { message, .. } => {
            Done::Message(sql::insert_message(connection, message, now)?)
        }
        Write::Conversation { conversation, .. } => {
            Done::Conversation(sql::insert_conversation(connection, conversation, now)?)
        }
        Write::Edit { edit, .. } => Done::Changed(changes::edit(connection, edit, now)?),
        Write::Delete { delete, .. } => Done::Changed(changes::delete(connection, delete, now)?),
        Write::Annotate { annotate, .. } => {
            Done::Annotated(annotations::annotate(connection, annotate, now)?)
        }
        Write::Member { change, invite, .. } => {
            let invite = invite.as_deref();
            Done::Member(changes::change_member(connection, change, invite, now)?)
        }
        Write::Rename { rename, .. } => Done::Member(changes::rename(connection, rename, now)?),
        Write::Deletion { deletion, .. } => {
            Done::Deletion(deletion::delete_conversation(connection, deletion, now)?)
        }
        Write::Read { read, .. } => Done::Read(changes::mark_read(connection, read)?),
    };
    let id = write.conversation_id();
    if done.is_change() {
        // The number is given in the transaction of the change, under which nobody else numbers.
        sql::count_change(connection, id)?;
    }
    let known = sql::revision(connection, id)?;
    Ok((
        done,
        known.map(|(revision, _)| revision).unwrap_or_default(),
    ))
}

/// Tells who waits that the change is not stored; closing is never refused.
fn refuse(order: Order) -> Option<Reply<()>> {
    match order {
        Order::Write(write) => write.refuse(StoreError::Failed),
        Order::Job(job) => (job.answer)(Err(StoreError::Failed)),
        Order::Close(reply) => return Some(reply),
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
        let metrics = Arc::default();
        let supervisor = Supervisor::new(&metrics);
        let config = config::Store::default();
        let (store, _commits) = Sqlite::open(path.clone(), &config, metrics, &supervisor).unwrap();
        let fill = "CREATE TABLE ballast AS SELECT zeroblob(262144) AS bytes";
        store.write(move |c| c.execute_batch(fill)).await.unwrap();
        // A number below that of the pages is taken for that of the pages.
        let limit = |c: &Connection| c.query_row("PRAGMA max_page_count = 1", [], |_| Ok(()));
        store.write(limit).await.unwrap();
        assert!(store.is_healthy());

        let more = "CREATE TABLE more AS SELECT zeroblob(65536) AS bytes";
        let refused = store.write(move |c| c.execute_batch(more)).await;
        assert_eq!(refused, Err(StoreError::Failed));
        let full = Instant::now();
        while full.elapsed() < SEVERAL_PROBES {
            assert!(!store.is_healthy());
            tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
        }

        let operator = Connection::open(path).unwrap();
        operator.execute_batch("DROP TABLE ballast").unwrap();
        let freed = Instant::now();
        while !store.is_healthy() {
            assert!(freed.elapsed() < DEADLINE, "it has room");
            tokio::time::sleep(Duration::from_millis(20)).await; // The pace of asking.
        }
        store.write(move |c| c.execute_batch(more)).await.unwrap();
    }
}
