//! Tells the other servers of a store who is here, and hears who is there.
//!
//! A server has a lease and renews it. What it tells counts as long; when it is killed or stands still
//! for longer, its users are gone for the others, which know when its lease ends and look at that moment. What it told is
//! removed a lease later, when all have seen that. One that wakes up finds out when it renews, takes a new
//! lease under a new id, and tells everything again.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

use crate::metrics::{Counter, Metrics};
use crate::service::chat::handle::Chat;
use crate::service::chat::presence::conversation::Going;
use crate::service::chat::presence::remote::{Gone, SharedPresence, present_there};
use crate::service::chat::sequencer::conversations::{Arrival, Looks};
use crate::store::{self, Here, StoreError};
use crate::supervisor::Supervisor;
use roomcast::Namespace;

/// The lease of this server, kept by a task.
#[derive(Debug)]
pub(crate) struct Leases {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Leases {
    /// Starts to keep a lease that lasts this long without being renewed.
    pub(crate) fn start(
        chat: Chat,
        namespace: Namespace,
        store: store::Leases,
        lease: Duration,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        // A new keeper takes a new lease and tells everything; that of the old one runs out.
        let keep = move || {
            let keeper = Keeper {
                chat: chat.clone(),
                namespace: namespace.clone(),
                store: store.clone(),
                lease,
                metrics: Arc::clone(&metrics),
                held: None,
            };
            keeper.run(stopped.clone())
        };
        let task = supervisor.start("lease", keep);
        Self { stop, task }
    }

    /// Takes back what was told, as far as the store answers.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = self.task.await;
    }
}

struct Keeper {
    chat: Chat,
    namespace: Namespace,
    store: store::Leases,
    lease: Duration,
    metrics: Arc<Metrics>,
    held: Option<HeldLease>,
}

/// The lease as far as this server knows.
#[derive(Clone, Copy)]
struct HeldLease {
    node: Uuid,
    /// When it has to be renewed, and others looked at.
    due: Instant,
    /// When the next lease of another server ends that is not renewed until then.
    next_end: Option<Instant>,
}

impl HeldLease {
    /// When others are to be looked at.
    fn next_look(&self) -> Instant {
        self.next_end.map_or(self.due, |end| end.min(self.due))
    }
}

/// The lease has run out, or never was.
struct Lost;

impl Keeper {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        // A lease is renewed after a third of its time, so that two attempts may fail before it
        // runs out.
        let longest = TURN.min(self.lease / 3).max(Duration::from_millis(1));
        loop {
            let began = Instant::now();
            let turn = self.turn();
            tokio::select! {
                biased;
                // A turn may be dropped at any point: each of its statements bears being repeated,
                // and the lease is ended below.
                _ = stopped.wait_for(|stopped| *stopped) => break,
                done = turn => match done {
                    Ok(()) => {}
                    // The log of the store says why; the lease counts until it runs out.
                    Err(error) => tracing::debug!(%error, "presence is not shared at the moment"),
                }
            }
            // Clients that join wait for the next turn, but the turns leave the store most of its time.
            let shortest = (began.elapsed() * REST).clamp(SHORTEST, PACE.min(longest));
            let rest = async {
                // A crowd that comes at once is told in a few turns instead of one for each user.
                sleep(PACE.min(longest)).await;
                let end = Instant::now() + longest.saturating_sub(PACE);
                let next_look = self.held.map_or(end, |held| held.next_look());
                let _ = timeout_at(end.min(next_look), self.chat.stirred()).await;
            };
            let hurried = async {
                sleep(shortest).await;
                self.chat.hurried().await;
            };
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                () = hurried => {}
                () = rest => {}
            }
        }
        if let Some(held) = self.held {
            let ended = timeout(LAST_WORD, self.store.end(held.node)).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::warn!("others will see who was here until the lease has run out");
            }
        }
    }

    async fn turn(&mut self) -> Result<(), StoreError> {
        // Taken before anything is told: what these clients have changed is told in this turn, and the others are looked
        // up behind that. Of two that join at two servers at the same time, at least one finds the other.
        let arrivals = self.chat.take_arrivals();
        let held = match self.held {
            // More has changed than could be kept, so the others are made to forget this server
            // before it tells everything again.
            Some(held) if self.chat.shared_is_incomplete() => {
                self.store.end(held.node).await?;
                self.take().await?
            }
            Some(held) if Instant::now() < held.next_look() => held,
            Some(held) if Instant::now() < held.due => self.look(held).await?,
            Some(held) => {
                // The time counts from before the question, since the database counts from later.
                let due = Instant::now() + self.lease / 3;
                if self.store.renew(held.node, self.lease).await? {
                    let held = HeldLease { due, ..held };
                    self.held = Some(held);
                    self.look(held).await?
                } else {
                    self.lose();
                    self.take().await?
                }
            }
            None => self.take().await?,
        };
        let node = match self.tell(held.node).await? {
            Ok(()) => held.node,
            Err(Lost) => {
                self.lose();
                // A lease that has run out is never renewed: the others may have removed what was
                // told under it, so a new id is taken.
                let held = self.take().await?;
                // If the new lease is lost as well, the next turn goes on from there.
                let _ = self.tell(held.node).await?;
                held.node
            }
        };
        let looks = self.chat.take_looks();
        let mut stirred: Vec<Uuid> = looks.keys().copied().collect();
        stirred.extend(arrivals.iter().map(|arrival| arrival.id));
        stirred.sort_unstable();
        stirred.dedup();
        self.look_at(node, &stirred, &looks).await?;
        arrivals.into_iter().for_each(Arrival::resolve);
        Ok(())
    }

    fn lose(&mut self) {
        self.held = None;
        self.metrics.count(Counter::LeasesLost);
        tracing::warn!(
            lease = ?self.lease,
            "the lease ran out, others have seen nobody here meanwhile: telling everything again"
        );
    }

    async fn take(&mut self) -> Result<HeldLease, StoreError> {
        let held = HeldLease {
            node: Uuid::new_v4(),
            due: Instant::now() + self.lease / 3,
            next_end: None,
        };
        // The lease is known before it is stored, so that it is taken back whatever happens; one that
        // is not stored cannot be renewed.
        self.held = Some(held);
        // Everybody is marked before the lease is stored, so that whoever comes meanwhile is told
        // as well.
        self.chat.share_all();
        if let Err(error) = self.store.take(held.node, self.lease).await {
            self.held = None;
            return Err(error);
        }
        tracing::debug!(node = %held.node, "has a lease");
        self.look(held).await
    }

    /// Tells what has changed here.
    async fn tell(&self, node: Uuid) -> Result<Result<(), Lost>, StoreError> {
        loop {
            let rows = self.chat.take_shared(BATCH);
            if rows.is_empty() {
                return Ok(Ok(()));
            }
            let here: Vec<Here> = rows.iter().map(here).collect();
            match self.store.tell(node, &here).await {
                // Others are woken only behind the commit, or they would look and find nothing new.
                Ok(true) => self.chat.announce_shared(&rows),
                Ok(false) => return Ok(Err(Lost)),
                Err(error) => {
                    // The rows were taken from the list, and would be forgotten with the error.
                    self.chat.restore_shared(rows);
                    return Err(error);
                }
            }
        }
    }

    /// Looks who is at the others in the conversations of this one, and when to do so next; removes what servers told that
    /// have been dead for long.
    async fn look(&mut self, held: HeldLease) -> Result<HeldLease, StoreError> {
        // A server that was killed cannot take back what it told, so any other one does; not before all others must have
        // looked, which otherwise would not know why its users are gone.
        let dead = self.store.bury(self.lease).await?;
        if dead > 0 {
            self.metrics.add(Counter::NodesExpired, dead);
            tracing::info!(
                dead,
                "servers whose leases ran out: nobody is there any more"
            );
        }
        // The end is asked for first: a lease that ends between the two questions is looked at a second time.
        let next_end = self.store.next_end(held.node).await?;
        // The time counts from behind the answer, so that the lease has ended by then.
        let next_end = next_end.map(|end| Instant::now() + end);
        let held = HeldLease { next_end, ..held };
        let all = self.chat.shared_conversations();
        self.look_at(held.node, &all, &self.chat.take_looks())
            .await?;
        self.held = Some(held);
        Ok(held)
    }

    /// Looks who is at the others in these conversations.
    async fn look_at(&self, node: Uuid, all: &[Uuid], looks: &Looks) -> Result<(), StoreError> {
        let untold = Gone::new();
        for conversations in all.chunks(BATCH) {
            let mut rows = self
                .store
                .remote_presence(node, conversations)
                .await?
                .into_iter()
                .peekable();
            // Rows and conversations are both in the order of ids.
            let mut conversations = conversations.to_vec();
            conversations.sort_unstable();
            for id in conversations {
                let mut there = Vec::new();
                // A conversation without rows is told as well: nobody is there is news, too.
                let mut gone = Cow::Borrowed(looks.get(&id).unwrap_or(&untold));
                while let Some(row) = rows.next_if(|row| row.conversation_id <= id) {
                    if row.connections > 0 {
                        there.push(present_there(&row));
                    } else {
                        // Its server is dead, so nobody will tell how the user has gone.
                        let gone = gone.to_mut();
                        gone.entry(row.user_id.into()).or_insert(Going::Lost);
                    }
                }
                self.chat.set_remote(&self.namespace, id, there, &gone);
            }
        }
        Ok(())
    }
}

fn here(shared: &SharedPresence) -> Here {
    let present = shared.present.as_ref();
    Here {
        conversation_id: shared.conversation_id,
        user_id: shared.user_id.to_string(),
        name: present.map_or_else(String::new, |present| present.name.to_string()),
        connections: present.map_or(0, |present| {
            u32::try_from(present.connections).unwrap_or(u32::MAX)
        }),
        since: present.map_or_else(store::Time::now, |present| present.since),
    }
}

/// The longest time from a change to its being told.
const TURN: Duration = Duration::from_secs(1);
/// The shortest time between two turns.
const PACE: Duration = Duration::from_millis(100);

/// The shortest time between two turns while clients wait that join, if the store is quick.
const SHORTEST: Duration = Duration::from_millis(5);
/// How many times as long as a turn has taken the next one waits then.
const REST: u32 = 4;

/// Users told, and conversations asked for, in one statement.
const BATCH: usize = 500;

/// How long the store may take to forget this server when it stops.
const LAST_WORD: Duration = Duration::from_secs(2);
