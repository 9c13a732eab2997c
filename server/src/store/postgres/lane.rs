//! A lane: stores groups one after another, and resolves groups whose commit is in doubt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use roomcast::internal::while_awake;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::failure::{Failure, Fault};
use super::group::{Aborted, transact};
use super::health::Health;
use super::in_doubt::InDoubtCommit;
use crate::metrics::{Counter, Metrics};
use crate::store::StoreError;
use crate::store::change::Revision;
use crate::store::lane::Commit;
use crate::store::write::{Done, Write};

/// An order that waits in a lane.
#[derive(Debug)]
pub(super) enum Order {
    Write {
        write: Write,
        /// The change's slot in the queue, which all lanes share.
        _place: OwnedSemaphorePermit,
    },
    /// What another server has committed in a conversation, or a revision that it has reached.
    ///
    /// The lane forwards it after everything that it had committed when the announcement was
    /// queued. So this server's own commits are not mistaken for missed ones.
    Announced(Commit),
}

/// The task that stores the changes of some of the conversations.
pub(super) struct Lane {
    pub(super) pool: Pool,
    pub(super) commits: mpsc::Sender<Commit>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// One permit, shared by all lanes: its holder stores its group.
    pub(super) turn: Arc<Semaphore>,
    /// How many messages all lanes have stored.
    pub(super) stored: Arc<watch::Sender<u64>>,
    /// The maximum number of changes in one transaction.
    pub(super) group: usize,
    /// The timeout of one step of a transaction.
    pub(super) patience: Duration,
    /// The time for which a group is retried.
    pub(super) retry: Duration,
    /// Becomes true when the store closes.
    pub(super) closing: watch::Receiver<bool>,
}

impl Lane {
    /// Stores changes until the store closes and the queue is empty.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Order>) {
        let mut taken = Vec::new();
        while self.take(&mut waiting, &mut taken).await > 0 {
            let turn = self.turn().await;
            // Changes that arrived while waiting are stored with the rest.
            let room = self.group.max(1).saturating_sub(taken.len());
            taken.extend(std::iter::from_fn(|| waiting.try_recv().ok()).take(room));
            let (mut group, mut announced) = (Vec::new(), Vec::new());
            for order in taken.drain(..) {
                match order {
                    Order::Write { write, .. } => group.push(write),
                    Order::Announced(commit) => announced.push(commit),
                }
            }
            if self.commits.is_closed() {
                // Without an emitter, nothing is stored.
                refuse(group, StoreError::Closed);
                continue;
            }
            // The group is stored before the announcements are forwarded, because they were queued
            // after its commits.
            if !group.is_empty() {
                let _step = self.health.changes.begin();
                if let Some((group, doubt)) = self.store(group, turn).await {
                    self.resolve(group, doubt, &mut waiting).await;
                }
            }
            for commit in announced {
                let _ = self.commits.send(commit).await;
            }
        }
    }

    /// Waits until there is something to store, and takes it.
    async fn take(&self, waiting: &mut mpsc::Receiver<Order>, taken: &mut Vec<Order>) -> usize {
        let mut closing = self.closing.clone();
        let limit = self.group.max(1);
        tokio::select! {
            // Everything that arrived in the meantime becomes one transaction: the slower the
            // database, the larger the groups.
            count = waiting.recv_many(taken, limit) => return count,
            () = async { drop(closing.wait_for(|closing| *closing).await) } => {}
        }
        // No new changes are accepted from here on. Queued changes are still stored.
        waiting.close();
        waiting.recv_many(taken, limit).await
    }

    /// Waits briefly until no other lane stores. The wait is limited, because a lane may be blocked
    /// by a conversation that another session has locked.
    ///
    /// Concurrent inserts wait for the same pages, and a database with few processors switches
    /// between them. Sequential transactions are larger and take less time in total.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(LANE_TURN_TIMEOUT, self.turn.acquire())
            .await
            .ok()?
            .ok()
    }

    /// Stores a group, or notifies all its senders that it is not stored. Returns the group if its
    /// commit is in doubt.
    async fn store(
        &self,
        group: Vec<Write>,
        mut turn: Option<SemaphorePermit<'_>>,
    ) -> Option<(Vec<Write>, InDoubtCommit)> {
        // The senders in this group and in the queue wait, so retries have a deadline.
        let deadline = Instant::now() + self.retry;
        let mut pause = MIN_RETRY_DELAY;
        loop {
            let attempt = self.attempt(&group).await;
            // Other lanes may store while this lane forwards its commits or waits to retry.
            drop(turn.take());
            let failure = match attempt {
                Ok(done) => {
                    drop(group);
                    self.forward(done).await;
                    return None;
                }
                Err(Attempt::Suspended(wait)) => {
                    refuse(group, StoreError::Suspended(wait));
                    return None;
                }
                Err(Attempt::InDoubtCommit(doubt)) => return Some((group, doubt)),
                Err(Attempt::Failed(failure)) => failure,
            };
            tracing::debug!(reason = failure.reason, fault = ?failure.fault, "could not store");
            match failure.fault {
                Fault::Lost | Fault::Again if Instant::now() + pause < deadline => {
                    self.metrics.count(Counter::StoreRetries);
                    sleep(pause).await;
                    // The delay doubles, because all lanes of all servers retry at the same time.
                    pause = (pause * 2).min(MAX_RETRY_DELAY);
                }
                Fault::Full | Fault::Missing => {
                    self.health.fails(&failure);
                    refuse(group, StoreError::Failed);
                    return None;
                }
                Fault::Bad if group.len() > 1 => {
                    // One rejected change must not fail the rest of the group.
                    let mut rest = group.into_iter();
                    while let Some(write) = rest.next() {
                        let single = Box::pin(self.store(vec![write], None));
                        if let Some(doubt) = single.await {
                            // The remaining changes were not sent to the database, so they are
                            // certainly not stored.
                            refuse(rest.collect(), StoreError::Failed);
                            return Some(doubt);
                        }
                    }
                    return None;
                }
                Fault::Lost | Fault::Again => {
                    // The retries took all the time, so other changes would fail as well.
                    self.health.fails(&failure);
                    self.log_failure(&failure);
                    refuse(group, StoreError::Failed);
                    return None;
                }
                Fault::Bad => {
                    self.health.suspect();
                    self.log_failure(&failure);
                    refuse(group, StoreError::Failed);
                    return None;
                }
            }
        }
    }

    fn log_failure(&self, failure: &Failure) {
        if let Some(more) = self.health.failures.permit() {
            tracing::warn!(reason = failure.reason, more, "could not store");
        }
    }

    /// Runs one transaction on one connection. Discards the connection if the transaction broke it.
    async fn attempt(&self, group: &[Write]) -> Result<Vec<(Done, Revision)>, Attempt> {
        // While the breaker is open, the attempt does not wait for yet another timeout.
        let admission = self.health.breaker.admit().map_err(Attempt::Suspended)?;
        let client = match self.pool.get().await {
            Ok(client) => client,
            Err(error) => {
                admission.failed();
                return Err(Attempt::Failed(error.into()));
            }
        };
        match transact(&client, group, self.patience).await {
            Ok(done) => {
                admission.succeeded();
                self.health.stores();
                Ok(done)
            }
            Err(Aborted::Committing(doubt)) => {
                admission.failed();
                // The commit may still be running on this connection, so the pool must not reuse
                // it.
                discard_connection(client);
                Err(Attempt::InDoubtCommit(doubt))
            }
            Err(Aborted::Before(failure)) if failure.fault == Fault::Lost => {
                admission.failed();
                discard_connection(client);
                Err(Attempt::Failed(failure))
            }
            Err(Aborted::Before(failure)) => {
                // The database responded, so the breaker stays closed although the group was
                // rejected.
                admission.succeeded();
                // The transaction ends before the connection returns to the pool, or the next user
                // would be inside it.
                let undone = while_awake(self.patience, client.batch_execute("ROLLBACK")).await;
                if !matches!(undone, Some(Ok(()))) {
                    discard_connection(client);
                }
                Err(Attempt::Failed(failure))
            }
        }
    }

    /// Polls until the outcome of the commit is known. Then emits what was stored, or notifies the
    /// senders that nothing was.
    ///
    /// The senders wait no longer than [`Store`] allows, but stored changes must be emitted,
    /// however late.
    ///
    /// [`Store`]: crate::store::Store
    async fn resolve(
        &self,
        group: Vec<Write>,
        doubt: InDoubtCommit,
        waiting: &mut mpsc::Receiver<Order>,
    ) {
        tracing::warn!(
            reason = doubt.reason,
            changes = group.len(),
            "connection lost during a commit, checking whether it was stored"
        );
        self.metrics.count(Counter::StoreDoubts);
        let mut pause = MIN_RETRY_DELAY;
        let mut closing = self.closing.clone();
        let given_up = loop {
            match self.was_committed(&doubt).await {
                Ok(Some(true)) => {
                    tracing::info!("the in-doubt commit was stored");
                    drop(group);
                    self.forward(doubt.done).await;
                    return;
                }
                Ok(Some(false)) => {
                    tracing::info!("the in-doubt commit was not stored");
                    self.health.suspect();
                    refuse(group, StoreError::Failed);
                    return;
                }
                Ok(None) => {}
                Err(failure) => tracing::debug!(
                    reason = failure.reason,
                    "could not check an in-doubt commit"
                ),
            }
            // Changes that arrive now would wait for an unknown time, so they are refused. Nothing
            // may be stored in this lane in the meantime: if the group is committed, it must be
            // emitted first.
            while let Ok(order) = waiting.try_recv() {
                // Announcements may be dropped, because the next poll finds them again.
                if let Order::Write { write, .. } = order {
                    write.refuse(StoreError::Suspended(MAX_RETRY_DELAY));
                }
            }
            if *closing.borrow() {
                break group;
            }
            // On shutdown, the lane polls once more and then gives up.
            tokio::select! {
                () = sleep(pause) => {}
                _ = closing.changed() => {}
            }
            pause = (pause * 2).min(MAX_RETRY_DELAY);
        };
        tracing::error!("closing with an in-doubt commit: the last changes may not be stored");
        refuse(given_up, StoreError::Unknown);
    }

    /// Returns whether a transaction was committed, or `None` if it is still running.
    async fn was_committed(&self, doubt: &InDoubtCommit) -> Result<Option<bool>, Failure> {
        let client = self.pool.get().await?;
        let answer = while_awake(self.patience, doubt.outcome(&client)).await;
        let failure = match answer {
            Some(Ok(known)) => return Ok(known),
            Some(Err(error)) => error.into(),
            None => Failure::timed_out(),
        };
        discard_connection(client);
        Err(failure)
    }

    /// Sends stored changes to the emitter, or replies immediately to those without an event.
    async fn forward(&self, done: Vec<(Done, Revision)>) {
        let stored = done.iter().filter(|(done, _)| done.is_new_message());
        let stored = stored.count() as u64;
        self.metrics.add(Counter::MessagesStored, stored);
        self.stored
            .send_modify(|all| *all = all.saturating_add(stored));
        self.metrics.count(Counter::StoreCommits);
        // The group is in the order of its numbers, and stays so on the way to the emitter.
        for (done, revision) in done {
            if let Some(commit) = done.settle(revision) {
                // Without an emitter, the change is not acknowledged; the sender gets
                // `StoreError::Unknown`.
                let _ = self.commits.send(commit).await;
            }
        }
    }
}

/// The result of an attempt that is not known to have stored anything.
enum Attempt {
    /// The breaker is open.
    Suspended(Duration),
    Failed(Failure),
    InDoubtCommit(InDoubtCommit),
}

fn refuse(group: Vec<Write>, error: StoreError) {
    for write in group {
        write.refuse(error);
    }
}

/// Closes a connection that cannot be reused.
pub(super) fn discard_connection(client: Object) {
    drop(Object::take(client));
}

/// The maximum time that a lane waits for other lanes; several times the duration of a transaction
/// on a nearby database.
const LANE_TURN_TIMEOUT: Duration = Duration::from_millis(25);
/// The first delay between two attempts; [`MAX_RETRY_DELAY`] is the maximum.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(25);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(1);
