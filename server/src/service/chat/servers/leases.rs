//! Publishes the presence of this server's users in the store, and reads that of other servers.
//!
//! A server holds a lease and renews it. Its published presence counts while the lease lasts. Other
//! servers know when the lease ends and look at that time. If the server was killed or paused for
//! longer, they then treat its users as lost. One lease duration later, when all servers have seen
//! this, the rows are removed.
//!
//! A server that resumes finds out when it renews its lease. It takes a new lease under a new id
//! and publishes everything again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::metrics::{Counter, Metrics};
use crate::service::chat::handle::Chat;
use crate::service::chat::presence::conversation::Departure;
use crate::service::chat::presence::remote::{Departures, SharedPresence, remote_present};
use crate::service::chat::sequencer::conversations::{Arrival, PresenceLookups};
use crate::service::feed::follower::{Failure, Followed, Follower, Intervals, Progress};
use crate::store::{self, PresenceEntry, StoreError};
use crate::supervisor::Supervisor;
use roomcast::Namespace;

/// The lease of this server, held by a task.
#[derive(Debug)]
pub(crate) struct Leases {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Leases {
    /// Starts a task that holds a lease, which expires after `lease` if it is not renewed.
    pub(crate) fn start(
        chat: Chat,
        namespace: Namespace,
        store: store::Leases,
        lease: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let follower = Follower::new("lease").measured(&metrics);
        // A new keeper takes a new lease and publishes everything. The old lease expires.
        let make_renewer = move || {
            let renewer = LeaseRenewer {
                chat: chat.clone(),
                namespace: namespace.clone(),
                store: store.clone(),
                lease,
                metrics: Arc::clone(&metrics),
                held: None,
                duration: Duration::ZERO,
            };
            renewer.run(follower.clone(), stopped.clone())
        };
        let task = supervisor.start("lease", make_renewer);
        Self { stop, task }
    }

    /// Stops the task and removes the published presence, if the store answers.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct LeaseRenewer {
    chat: Chat,
    namespace: Namespace,
    store: store::Leases,
    lease: Duration,
    metrics: Arc<Metrics>,
    held: Option<HeldLease>,
    /// The duration of the last iteration.
    duration: Duration,
}

/// The lease as known to this server.
#[derive(Clone, Copy)]
struct HeldLease {
    node: Uuid,
    /// When to renew the lease and look up other servers.
    due: Instant,
    /// When the next lease of another server ends if it is not renewed.
    next_end: Option<Instant>,
}

impl HeldLease {
    /// Returns when to look up other servers.
    fn next_lookup(&self) -> Instant {
        self.next_end.map_or(self.due, |end| end.min(self.due))
    }
}

/// The lease has expired or never existed.
struct Lost;

impl Followed for LeaseRenewer {
    async fn advance(&mut self) -> Result<Progress, Failure> {
        let began = Instant::now();
        // The lease counts until it expires.
        let result = self.renew().await;
        self.duration = began.elapsed();
        result?;
        Ok(Progress::Done { changed: false })
    }

    fn intervals(&self) -> Intervals {
        let longest = self.longest();
        let next_lookup = self.held.map_or(longest, |held| {
            held.next_lookup().saturating_duration_since(Instant::now())
        });
        Intervals {
            retry: MIN_INTERVAL,
            max_retry: longest,
            ..Intervals::every(next_lookup.clamp(MIN_INTERVAL.min(longest), longest))
        }
    }

    async fn woken(&mut self) {
        let longest = MIN_INTERVAL.min(self.longest());
        // Joining clients wait for the next iteration, but the iterations leave the store idle most
        // of the time.
        let shortest = (self.duration * IDLE_FACTOR).clamp(MIN_JOIN_INTERVAL.min(longest), longest);
        let hurried = async {
            sleep(shortest).await;
            self.chat.hurried().await;
        };
        // A crowd of joining users takes a few iterations instead of one per user.
        let stirred = async {
            sleep(longest).await;
            self.chat.stirred().await;
        };
        tokio::select! {
            () = hurried => {}
            () = stirred => {}
        }
    }
}

impl LeaseRenewer {
    async fn run(mut self, follower: Follower, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            biased;
            // An iteration may be dropped at any point. Its statements are idempotent, and the
            // lease is ended below.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = follower.run(&mut self) => {}
        }
        if let Some(held) = self.held {
            let ended = timeout(SHUTDOWN_TIMEOUT, self.store.end(held.node)).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!(
                    "could not end the presence lease, peers list this server's users until it expires"
                );
            }
        }
    }

    /// Returns the maximum time between two iterations.
    ///
    /// A lease is renewed after a third of its duration, so that two attempts may fail before it
    /// expires.
    fn longest(&self) -> Duration {
        MAX_INTERVAL
            .min(self.lease / 3)
            .max(Duration::from_millis(1))
    }

    /// Renews the lease if due, publishes changes, and reads those of other servers.
    async fn renew(&mut self) -> Result<(), StoreError> {
        // The arrivals are taken first: this iteration publishes their presence and then looks up
        // other servers. If two clients join at two servers simultaneously, at least one of them
        // finds the other.
        let arrivals = self.chat.take_arrivals();
        let held = match self.held {
            // Some changes were discarded, so the published presence is removed before everything
            // is published again.
            Some(held) if self.chat.shared_is_incomplete() => {
                self.store.end(held.node).await?;
                self.acquire().await?
            }
            Some(held) if Instant::now() < held.next_lookup() => held,
            Some(held) if Instant::now() < held.due => self.look_up(held).await?,
            Some(held) => {
                // The time is measured before the query, since the database measures from later.
                let due = Instant::now() + self.lease / 3;
                if self.store.renew(held.node, self.lease).await? {
                    let held = HeldLease { due, ..held };
                    self.held = Some(held);
                    self.look_up(held).await?
                } else {
                    self.lose();
                    self.acquire().await?
                }
            }
            None => self.acquire().await?,
        };
        let node = match self.publish(held.node).await? {
            Ok(()) => held.node,
            Err(Lost) => {
                self.lose();
                // An expired lease is never renewed: other servers may have removed its rows, so a
                // new id is used.
                let held = self.acquire().await?;
                // If the new lease is lost as well, the next iteration takes another.
                let _ = self.publish(held.node).await?;
                held.node
            }
        };
        let lookups = self.chat.take_lookups();
        let mut stirred: Vec<Uuid> = lookups.keys().copied().collect();
        stirred.extend(arrivals.iter().map(|arrival| arrival.id));
        stirred.sort_unstable();
        stirred.dedup();
        self.look_up_in(node, &stirred, &lookups).await?;
        arrivals.into_iter().for_each(Arrival::resolve);
        Ok(())
    }

    fn lose(&mut self) {
        self.held = None;
        self.metrics.count(Counter::LeasesLost);
        tracing::warn!(
            lease = ?self.lease,
            "presence lease expired, publishing all local users again"
        );
    }

    async fn acquire(&mut self) -> Result<HeldLease, StoreError> {
        let held = HeldLease {
            node: Uuid::new_v4(),
            due: Instant::now() + self.lease / 3,
            next_end: None,
        };
        // The lease is recorded before it is stored, so that it is ended in any case. A lease that
        // is not stored cannot be renewed.
        self.held = Some(held);
        // All users are marked before the lease is stored, so that users who join in the meantime
        // are published as well.
        self.chat.share_all();
        if let Err(error) = self.store.take(held.node, self.lease).await {
            self.held = None;
            return Err(error);
        }
        tracing::debug!(node = %held.node, "presence lease acquired");
        self.look_up(held).await
    }

    /// Publishes the presence changes of this server.
    async fn publish(&self, node: Uuid) -> Result<Result<(), Lost>, StoreError> {
        loop {
            let rows = self.chat.take_shared(BATCH);
            if rows.is_empty() {
                return Ok(Ok(()));
            }
            let entries: Vec<PresenceEntry> = rows.iter().map(local_entry).collect();
            match self.store.tell(node, &entries).await {
                // Other servers are notified only after the commit. Otherwise they would look and
                // find nothing new.
                Ok(true) => self.chat.announce_shared(&rows),
                Ok(false) => return Ok(Err(Lost)),
                Err(error) => {
                    // The rows were taken from the list, and would be lost with the error.
                    self.chat.restore_shared(rows);
                    return Err(error);
                }
            }
        }
    }

    /// Reads the users that other servers have in this server's conversations, and schedules the
    /// next lookup.
    ///
    /// Also removes the presence of servers whose leases expired at least one lease duration ago.
    async fn look_up(&mut self, held: HeldLease) -> Result<HeldLease, StoreError> {
        // A killed server cannot remove its own presence, so any other server does. It waits until
        // all servers must have looked, which otherwise would not know why the users are missing.
        let dead = self.store.remove_expired(self.lease).await?;
        if dead > 0 {
            self.metrics.add(Counter::NodesExpired, dead);
            tracing::info!(dead, "removed the presence of servers whose leases expired");
        }
        // The end is read first: a lease that ends between the two queries is looked up a second
        // time.
        let next_end = self.store.next_end(held.node).await?;
        // The time is measured after the answer, so that the lease has ended by then.
        let next_end = next_end.map(|end| Instant::now() + end);
        let held = HeldLease { next_end, ..held };
        let all = self.chat.shared_conversations();
        self.look_up_in(held.node, &all, &self.chat.take_lookups())
            .await?;
        self.held = Some(held);
        Ok(held)
    }

    /// Reads the users that other servers have in these conversations.
    async fn look_up_in(
        &self,
        node: Uuid,
        all: &[Uuid],
        lookups: &PresenceLookups,
    ) -> Result<(), StoreError> {
        let no_departures = Departures::new();
        for conversations in all.chunks(BATCH) {
            let mut rows = self
                .store
                .remote_presence(node, conversations)
                .await?
                .into_iter()
                .peekable();
            // Rows and conversations are both ordered by id.
            let mut conversations = conversations.to_vec();
            conversations.sort_unstable();
            for id in conversations {
                let mut remote = Vec::new();
                // Conversations without rows are updated as well, since they no longer have remote
                // users.
                let mut departures = Cow::Borrowed(lookups.get(&id).unwrap_or(&no_departures));
                while let Some(row) = rows.next_if(|row| row.conversation_id <= id) {
                    if row.connections > 0 {
                        remote.push(remote_present(&row));
                    } else {
                        // The server of this row has expired, so it never reports a reason.
                        let departures = departures.to_mut();
                        departures
                            .entry(row.user_id.into())
                            .or_insert(Departure::Lost);
                    }
                }
                self.chat
                    .set_remote(&self.namespace, id, remote, &departures);
            }
        }
        Ok(())
    }
}

fn local_entry(shared: &SharedPresence) -> PresenceEntry {
    let present = shared.present.as_ref();
    PresenceEntry {
        conversation_id: shared.conversation_id,
        user_id: shared.user_id.to_string(),
        name: present.map_or_else(String::new, |present| present.name.to_string()),
        connections: present.map_or(0, |present| {
            u32::try_from(present.connections).unwrap_or(u32::MAX)
        }),
        since: present.map_or_else(store::Time::now, |present| present.since),
    }
}

/// The maximum time until a change is published.
const MAX_INTERVAL: Duration = Duration::from_secs(1);
/// The minimum time between two iterations.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// The minimum time between two iterations while joining clients wait and the store is fast.
const MIN_JOIN_INTERVAL: Duration = Duration::from_millis(5);
/// While joining clients wait, the delay between iterations as a multiple of the last iteration's
/// duration.
const IDLE_FACTOR: u32 = 4;

/// The maximum number of users published, or conversations looked up, per statement.
const BATCH: usize = 500;

/// The timeout for ending the lease at shutdown.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
