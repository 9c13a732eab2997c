//! A lane: stores groups one after another, and finds out what became of one that was cut off.

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{Object, Pool};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::doubt::Doubt;
use super::failure::{Failure, Fault};
use super::group::{Aborted, transact};
use super::health::Health;
use crate::metrics::{Counter, Metrics};
use crate::store::StoreError;
use crate::store::lane::{Commit, Done, Write};
use crate::store::rows::Revision;

/// What waits in a lane.
#[derive(Debug)]
pub(super) enum Order {
    Write {
        write: Write,
        /// The change's place in the queue of all lanes.
        _place: OwnedSemaphorePermit,
    },
    /// What another server has committed in a conversation, or how far it has come there. It is handed on behind
    /// all that this lane had committed when that was seen, so that nothing of this server's own is taken for
    /// missed.
    Announced(Commit),
}

/// Stores the changes of some of the conversations.
pub(super) struct Lane {
    pub(super) pool: Pool,
    pub(super) commits: mpsc::Sender<Commit>,
    pub(super) health: Arc<Health>,
    pub(super) metrics: Arc<Metrics>,
    /// One permit, which all lanes have in common: whoever has it stores its group.
    pub(super) turn: Arc<Semaphore>,
    /// How many messages all lanes have stored.
    pub(super) stored: Arc<watch::Sender<u64>>,
    /// Changes of one transaction at most.
    pub(super) group: usize,
    /// How long one step of a transaction may take.
    pub(super) patience: Duration,
    /// How long a group is tried again.
    pub(super) retry: Duration,
    /// Becomes true when the store closes.
    pub(super) closing: watch::Receiver<bool>,
}

impl Lane {
    /// Stores what comes until the store closes and nothing waits any more.
    pub(super) async fn run(self, mut waiting: mpsc::Receiver<Order>) {
        let mut taken = Vec::new();
        while self.take(&mut waiting, &mut taken).await > 0 {
            let turn = self.turn().await;
            // What has come meanwhile is stored with the rest.
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
                // With nobody left to emit the changes, nothing is stored.
                refuse(group, StoreError::Closed);
                continue;
            }
            // The group is stored before the announcements are handed on, since these were seen
            // behind its commits.
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

    /// Takes what waits, once there is something.
    async fn take(&self, waiting: &mut mpsc::Receiver<Order>, taken: &mut Vec<Order>) -> usize {
        let mut closing = self.closing.clone();
        let limit = self.group.max(1);
        tokio::select! {
            // All that has come meanwhile becomes one transaction: the slower the database, the
            // larger the groups.
            count = waiting.recv_many(taken, limit) => return count,
            () = async { drop(closing.wait_for(|closing| *closing).await) } => {}
        }
        // Nothing new is taken from here on, and what waits is still stored.
        waiting.close();
        waiting.recv_many(taken, limit).await
    }

    /// Waits until no other lane stores, but not for long: one whose conversation is locked by somebody else must not hold
    /// up the others.
    ///
    /// Transactions that insert at the same time wait for the same pages, and are switched on and off by a database that has
    /// few processors; one after the other they are larger and take less time together.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN, self.turn.acquire()).await.ok()?.ok()
    }

    /// Stores a group, or tells everybody in it that it is not stored. Comes back with it if nobody
    /// knows.
    async fn store(
        &self,
        group: Vec<Write>,
        mut turn: Option<SemaphorePermit<'_>>,
    ) -> Option<(Vec<Write>, Doubt)> {
        // The senders wait for this group and all that is behind it, so that trying again has an
        // end.
        let deadline = Instant::now() + self.retry;
        let mut pause = FIRST_PAUSE;
        loop {
            let attempt = self.attempt(&group).await;
            // It is the turn of others while this lane hands on what is stored, or waits to try again.
            drop(turn.take());
            let failure = match attempt {
                Ok(done) => {
                    self.hand_on(group, done).await;
                    return None;
                }
                Err(Attempt::Suspended(wait)) => {
                    refuse(group, StoreError::Suspended(wait));
                    return None;
                }
                Err(Attempt::Doubt(doubt)) => return Some((group, doubt)),
                Err(Attempt::Failed(failure)) => failure,
            };
            tracing::debug!(reason = failure.reason, fault = ?failure.fault, "could not store");
            match failure.fault {
                Fault::Lost | Fault::Again if Instant::now() + pause < deadline => {
                    self.metrics.count(Counter::StoreRetries);
                    sleep(pause).await;
                    // The pause doubles, since all lanes of all servers try again at the same time.
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Fault::Full | Fault::Missing => {
                    self.health.fails(&failure);
                    refuse(group, StoreError::Failed);
                    return None;
                }
                Fault::Bad if group.len() > 1 => {
                    // One bad change must not fail the others.
                    let mut rest = group.into_iter();
                    while let Some(write) = rest.next() {
                        let single = Box::pin(self.store(vec![write], None));
                        if let Some(doubt) = single.await {
                            // The rest was not sent to the database, so it is certain that it is
                            // not stored.
                            refuse(rest.collect(), StoreError::Failed);
                            return Some(doubt);
                        }
                    }
                    return None;
                }
                Fault::Lost | Fault::Again => {
                    // It was tried until no more time was left, so others would fail as well.
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

    /// One transaction on one connection. A connection that it broke is thrown away.
    async fn attempt(&self, group: &[Write]) -> Result<Vec<(Done, Revision)>, Attempt> {
        // With the breaker open nobody waits for a timeout that all others have waited for already.
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
                // The commit may still be under way on this connection, which must not serve
                // anybody else.
                throw_away(client);
                Err(Attempt::Doubt(doubt))
            }
            Err(Aborted::Before(failure)) if failure.fault == Fault::Lost => {
                admission.failed();
                throw_away(client);
                Err(Attempt::Failed(failure))
            }
            Err(Aborted::Before(failure)) => {
                // The database has answered, so the breaker stays closed although the group was
                // refused.
                admission.succeeded();
                // The transaction is ended before the connection goes back, or the next user would
                // be inside of it.
                let undone = timeout(self.patience, client.batch_execute("ROLLBACK")).await;
                if !matches!(undone, Ok(Ok(()))) {
                    throw_away(client);
                }
                Err(Attempt::Failed(failure))
            }
        }
    }

    /// Asks until the database says whether it committed: then what it stored is emitted, or everybody
    /// learns that it is not stored. The senders do not wait for longer than [`Store`] lets them, but
    /// what is stored must be emitted, however late.
    ///
    /// [`Store`]: crate::store::Store
    async fn resolve(&self, group: Vec<Write>, doubt: Doubt, waiting: &mut mpsc::Receiver<Order>) {
        tracing::warn!(
            reason = doubt.reason,
            changes = group.len(),
            "the connection was lost during a commit, looking whether it was stored"
        );
        self.metrics.count(Counter::StoreDoubts);
        let mut pause = FIRST_PAUSE;
        let mut closing = self.closing.clone();
        let given_up = loop {
            match self.was_committed(&doubt).await {
                Ok(Some(true)) => {
                    tracing::info!("it was stored");
                    self.hand_on(group, doubt.done).await;
                    return;
                }
                Ok(Some(false)) => {
                    tracing::info!("it was not stored");
                    self.health.suspect();
                    refuse(group, StoreError::Failed);
                    return;
                }
                Ok(None) => {}
                Err(failure) => tracing::debug!(reason = failure.reason, "cannot look"),
            }
            // The changes that came meanwhile would wait for an unknown time.
            // Nothing may be stored here meanwhile: if the group in doubt is committed, it has to
            // be emitted first.
            while let Ok(order) = waiting.try_recv() {
                // Announcements are found again.
                if let Order::Write { write, .. } = order {
                    write.refuse(StoreError::Suspended(LONGEST_PAUSE));
                }
            }
            if *closing.borrow() {
                break group;
            }
            // A store that closes asks once more and then gives up, since a stop must come to an
            // end.
            tokio::select! {
                () = sleep(pause) => {}
                _ = closing.changed() => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        tracing::error!("closing without knowing whether the last changes were stored");
        refuse(given_up, StoreError::Unknown);
    }

    /// Whether a transaction was committed; none if it is still under way.
    async fn was_committed(&self, doubt: &Doubt) -> Result<Option<bool>, Failure> {
        let client = self.pool.get().await?;
        let answer = timeout(self.patience, doubt.outcome(&client)).await;
        let failure = match answer {
            Ok(Ok(known)) => return Ok(known),
            Ok(Err(error)) => error.into(),
            Err(_) => Failure::timed_out(),
        };
        throw_away(client);
        Err(failure)
    }

    async fn hand_on(&self, group: Vec<Write>, done: Vec<(Done, Revision)>) {
        let stored = done.iter().filter(|(done, _)| done.is_new_message());
        let stored = stored.count() as u64;
        self.metrics.add(Counter::MessagesStored, stored);
        self.stored
            .send_modify(|all| *all = all.saturating_add(stored));
        self.metrics.count(Counter::StoreCommits);
        // The order of the group is that of its numbers, and is kept on the way to whoever emits.
        for (write, (done, revision)) in group.into_iter().zip(done) {
            if let Some(commit) = write.settle(done, revision) {
                // With nobody left to emit the change, it is not acknowledged: nobody knows.
                let _ = self.commits.send(commit).await;
            }
        }
    }
}

/// What came of an attempt that stored nothing, as far as is known.
enum Attempt {
    /// The breaker is open.
    Suspended(Duration),
    Failed(Failure),
    Doubt(Doubt),
}

fn refuse(group: Vec<Write>, error: StoreError) {
    for write in group {
        write.refuse(error);
    }
}

/// Closes a connection that cannot be used again.
pub(super) fn throw_away(client: Object) {
    drop(Object::take(client));
}

/// How long a lane waits for its turn; several times what a transaction takes where the database is near.
const TURN: Duration = Duration::from_millis(25);
/// The first and the longest pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
