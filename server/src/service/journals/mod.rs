//! Journals followed at this server: sockets get a snapshot, then every later entry once and in
//! order.
//!
//! The store numbers the entries. A server that appends an entry, or learns of another server's,
//! lets the journal *catch up*: with the journal's permit it reads the entries after the last
//! emitted revision and emits them in order.
//!
//! A subscription holds the permit too while it reads its snapshot and joins the room, so no entry
//! is missed or duplicated in between. Only stored entries are emitted, and no revision is skipped.
//! If an announcement is lost after a commit, the next one covers it.
//!
//! `market` and `notifications` define their kinds of journals ([`JournalKind`]) and what clients
//! receive of an entry ([`JournalEmitter`]). This module must not know a payload.

mod amending;
mod appending;
mod followed;
mod kind;
mod news;
mod pages;
mod payload;
mod snapshot;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use crate::metrics::{Inventoried, Inventory, Size};
use crate::service::fault::ServiceError;
use crate::service::hooks::{Hooks, Source};
use crate::service::rules::emission::Emission;
use crate::store::{Entry, JournalSweep, Store, StoreError, Time};
pub(in crate::service) use amending::{
    Amended, is_withdrawal, published, withdrawal, write_withdrawal,
};
pub(in crate::service) use appending::stored;
use followed::Followed;
pub(in crate::service) use followed::{EmittedThrough, JournalPermit};
pub(in crate::service) use kind::{
    Arriving, CategoryRule, JournalKind, SubscriptionKind, Topics, room_of,
};
pub(crate) use news::JournalNews;
pub(in crate::service) use pages::Part;
pub(in crate::service) use payload::{journal_of, read, user_of, write};
use roomcast::{Namespace, Room, Socket, errors::JoinError};
pub(in crate::service) use snapshot::Snapshot;

/// The journals followed at this server. Clones share their state.
#[derive(Clone)]
pub(crate) struct Journals(Arc<JournalsInner>);

struct JournalsInner {
    store: Store,
    hooks: Hooks,
    followed: Mutex<HashMap<String, Arc<Followed>>>,
    /// The journals that [`Journals::keep`] must emit soon.
    due: Mutex<Due>,
    stirred: Notify,
    /// Limits how many sockets read what they have missed at the same time.
    reading: Semaphore,
    /// Time for which a journal is followed after the last socket has left.
    ///
    /// A lost client may recover, and must not miss anything.
    linger: Duration,
    /// Retention time of closed entries.
    retention: Duration,
}

/// Journals that have new entries in the store.
#[derive(Debug, Default, PartialEq)]
struct Due {
    /// Some of them may have no followers here.
    names: BTreeSet<String>,
    /// Whether there were more than [`MAX_DUE`], so that every journal may have new entries.
    is_any: bool,
}

impl Due {
    fn extend(&mut self, names: impl Iterator<Item = String>) {
        self.names.extend(names);
        if self.names.len() > MAX_DUE {
            self.names = BTreeSet::new();
            self.is_any = true;
        }
    }
}

/// Emits the entries of a journal to clients.
pub(in crate::service) trait JournalEmitter: Send + Sync {
    /// Emits entries in order to the sockets in the journal's rooms at this server.
    fn emit(&self, to: &Namespace, journal: &str, entries: &[Entry]);

    /// Tells the sockets in the journal's rooms at this server that entries were removed before they
    /// were emitted, also those that are disconnected but recoverable.
    ///
    /// Most journals remove only entries that followers do not miss.
    fn emit_gap(&self, _to: &Namespace) {}

    /// Returns how long an entry may wait for further entries after the previous emission.
    ///
    /// The waiting entries are emitted together. Zero means that the entry does not wait.
    fn batch_window(&self, _entry: &Entry) -> Duration {
        Duration::ZERO
    }

    /// Returns whether followers receive the number of open entries after each emission.
    fn counts_open(&self) -> bool {
        false
    }

    /// Emits the number of open entries at a revision.
    fn emit_open_count(&self, _to: &Namespace, _journal: &str, _revision: u64, _open: u64) {}

    /// Returns whether an entry that does not wait is emitted together with directly following
    /// entries of this kind.
    fn is_gathered(&self, _entry: &Entry) -> bool {
        false
    }
}

/// What was read for a socket that begins to follow a journal.
pub(in crate::service) struct Attachment<T> {
    /// The revision of the journal when it was read.
    pub(in crate::service) revision: u64,
    /// Whether the socket joins the room.
    pub(in crate::service) joins: bool,
    pub(in crate::service) read: T,
}

impl Journals {
    /// Creates the journals. `window` is how long sessions can be recovered, `retention` how long
    /// closed entries are retained.
    pub(crate) fn new(
        store: Store,
        hooks: Hooks,
        window: Option<Duration>,
        retention: Duration,
    ) -> Self {
        Self(Arc::new(JournalsInner {
            store,
            hooks,
            followed: Mutex::default(),
            due: Mutex::default(),
            stirred: Notify::new(),
            reading: Semaphore::new(ATTACHING),
            linger: window.unwrap_or_default() + RECOVERY_MARGIN,
            retention,
        }))
    }

    pub(in crate::service) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Returns whether webhooks send this event.
    pub(in crate::service) fn hooks<T, D>(&self, event: &Emission<T, D>) -> bool {
        self.0.hooks.includes(event.policy().event)
    }

    /// Passes a stored object to webhooks, which send it if the event is configured and there is
    /// room.
    pub(in crate::service) fn hook<T: Serialize, D, U: Serialize>(
        &self,
        event: &Emission<T, D>,
        update: impl FnOnce() -> U,
    ) {
        self.hook_from(event, Source::Service, update);
    }

    /// Passes an object stored on behalf of a client to webhooks, as [`hook`](Self::hook) does.
    pub(in crate::service) fn hook_from<T: Serialize, D, U: Serialize>(
        &self,
        event: &Emission<T, D>,
        source: Source,
        update: impl FnOnce() -> U,
    ) {
        let event = event.policy().event;
        self.0.hooks.enqueue(event, source, update);
    }

    /// Schedules [`Journals::keep`] to emit all stored entries of these journals. Does not wait.
    pub(in crate::service) fn schedule(&self, names: impl Iterator<Item = String>) {
        self.0.due.lock().extend(names);
        self.0.stirred.notify_one();
    }

    /// Lets a socket follow a journal from the revision on that `read` has read up to.
    ///
    /// It is called again, with the permit of the journal, if the followers have received more than
    /// it has read.
    ///
    /// The socket joins the room if `read` tells so, otherwise it leaves it. No later entry is
    /// emitted before the returned permit is dropped, so that an answer that has what was read
    /// precedes every later entry.
    pub(in crate::service) async fn attach<T, R>(
        &self,
        journal: String,
        emitter: Arc<dyn JournalEmitter>,
        room: &Room,
        socket: &Socket,
        read: impl Fn() -> R,
    ) -> Result<(T, JournalPermit), ServiceError>
    where
        R: Future<Output = Result<Attachment<T>, ServiceError>>,
    {
        let followed = self.follow(journal, emitter, room);
        // Entries that are stored while `read` reads are emitted, so that the check below sees them.
        if !followed.has_begun() {
            acquire(&followed).await?.begin().await?;
        }
        // Reading without the permit delays no other follower.
        let reading = timeout(PERMIT_TIMEOUT, self.0.reading.acquire()).await;
        let reading = reading.map_err(|_| StoreError::TimedOut)?;
        let mut attachment = read().await?;
        let mut permit = acquire(&followed).await?;
        if permit.has_emitted_after(attachment.revision) {
            attachment = read().await?;
        }
        drop(reading);
        let Attachment {
            revision,
            joins,
            read,
        } = attachment;
        permit.emit_through(&socket.namespace(), revision).await?;
        if joins {
            // It may have been discarded in the meantime, because it was empty.
            followed.note_room(room);
            join(socket, room)?;
        } else {
            socket.leave(room);
        }
        Ok((read, permit))
    }

    /// Returns whether this server has emitted all entries of a journal to a room for as long as
    /// sessions can be recovered.
    pub(in crate::service) fn is_followed(&self, journal: &str, room: &Room) -> bool {
        let followed = self.0.followed.lock();
        followed
            .get(journal)
            .is_some_and(|followed| followed.has_room(room))
    }

    /// Removes a socket from the room of a journal whose entries are emitted without delay. Returns
    /// the last entry that this server has emitted to the socket, or `None` if it did not follow.
    pub(in crate::service) fn leave(
        &self,
        journal: &str,
        room: &Room,
        socket: &Socket,
    ) -> Option<EmittedThrough> {
        let followed = self.0.followed.lock().get(journal).cloned();
        let reached = followed.and_then(|followed| followed.leave(room, socket));
        socket.leave(room);
        reached
    }

    /// Returns the rooms of all followed journals.
    pub(in crate::service) fn rooms(&self) -> Vec<Room> {
        let followed = self.0.followed.lock();
        followed.values().flat_map(|one| one.rooms()).collect()
    }

    /// Stops following all journals, as after a long time without followers.
    #[cfg(test)]
    pub(in crate::service) fn forget(&self) {
        self.0.followed.lock().clear();
    }

    fn follow(&self, name: String, emitter: Arc<dyn JournalEmitter>, room: &Room) -> Arc<Followed> {
        let mut followed = self.0.followed.lock();
        let one = followed.entry(name).or_insert_with_key(|name| {
            Arc::new(Followed::new(name.clone(), emitter, self.0.store.clone()))
        });
        // The room is recorded under the lock of the map. Otherwise the journal might be discarded
        // before the socket has joined.
        one.note_room(room);
        Arc::clone(one)
    }

    /// Emits scheduled journals, retries failed reads, and discards unused journals and old entries
    /// for as long as it is polled.
    pub(crate) async fn run(self, namespace: Namespace) {
        tokio::join!(self.emit_due(&namespace), self.tidy(&namespace));
    }

    async fn emit_due(&self, namespace: &Namespace) {
        loop {
            let due = self.take_due();
            self.catch_up_all(namespace, due).await;
            self.0.stirred.notified().await;
        }
    }

    /// Takes the followed journals that are scheduled.
    ///
    /// They are in doubt from now on, so that a task that ends early leaves them to its successor.
    fn take_due(&self) -> Vec<Arc<Followed>> {
        let Due { names, is_any } = std::mem::take(&mut *self.0.due.lock());
        let followed = self.0.followed.lock();
        let due: Vec<_> = if is_any {
            followed.values().cloned().collect()
        } else {
            let due = names.iter().filter_map(|name| followed.get(name));
            due.cloned().collect()
        };
        let now = Instant::now();
        due.iter().for_each(|one| one.extend_doubt(now));
        due
    }

    /// Emits all stored entries of these journals to the followers at this server. Journals that
    /// cannot be read stay in doubt.
    async fn catch_up_all(&self, namespace: &Namespace, journals: Vec<Arc<Followed>>) {
        let catching_up = stream::iter(journals).for_each_concurrent(READERS, async |one| {
            if let Err(error) = one.catch_up(namespace, 0).await {
                tracing::debug!(%error, "could not read journal entries, retrying");
            }
        });
        catching_up.await;
    }

    async fn tidy(&self, namespace: &Namespace) {
        let mut ticks = tokio::time::interval(DOUBT_CHECK_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut closed, mut swept) = (Instant::now(), None::<Instant>);
        loop {
            ticks.tick().await;
            let doubtful: Vec<_> = {
                let followed = self.0.followed.lock();
                followed
                    .values()
                    .filter(|one| one.is_in_doubt())
                    .cloned()
                    .collect()
            };
            self.catch_up_all(namespace, doubtful).await;
            if closed.elapsed() >= CLOSE_INTERVAL {
                closed = Instant::now();
                self.close_idle(namespace);
            }
            if swept.is_none_or(|swept| swept.elapsed() >= SWEEP_INTERVAL) {
                swept = Some(Instant::now());
                self.sweep().await;
            }
        }
    }

    /// Discards journals whose rooms have been empty for long.
    fn close_idle(&self, namespace: &Namespace) {
        let now = Instant::now();
        let mut followed = self.0.followed.lock();
        followed.retain(|_, one| {
            let is_used = |room: &Room| namespace.local().to(room).count() > 0;
            // A task with another handle is about to subscribe a socket.
            one.update_rooms(now, self.0.linger, is_used) || Arc::strong_count(one) > 1
        });
        let used = followed.len();
        followed.shrink_to(used * 2);
    }

    async fn sweep(&self) {
        let now = Time::now();
        let sweep = JournalSweep {
            now,
            // Servers that catch up read replaced entries, so these are retained for as long as a
            // server may be isolated.
            replaced_before: now.before(REPLACED_RETENTION),
            closed_before: now.before(self.0.retention),
            limit: SWEEP_BATCH,
        };
        loop {
            match self.0.store.sweep_journals(sweep).await {
                Ok(removed) if removed >= SWEEP_BATCH as u64 => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "could not remove old journal entries");
                    return;
                }
            }
        }
    }
}

/// Waits for the permit of a journal.
async fn acquire(followed: &Arc<Followed>) -> Result<JournalPermit, StoreError> {
    // If the store does not answer, waiting subscriptions must not accumulate forever.
    let permit = timeout(PERMIT_TIMEOUT, followed.acquire()).await;
    permit.map_err(|_| StoreError::TimedOut)?
}

pub(in crate::service) fn join(socket: &Socket, room: &Room) -> Result<(), ServiceError> {
    match socket.join(room) {
        Ok(()) | Err(JoinError::Disconnected) => Ok(()),
        Err(_) => Err(ServiceError::Conflict("in too many rooms")),
    }
}

/// The maximum number of journals scheduled by name.
const MAX_DUE: usize = 10_000;
/// The number of journals read concurrently.
const READERS: usize = 4;
/// The number of sockets that read what they have missed at the same time.
const ATTACHING: usize = 8;
/// The timeout of a subscription for each permit.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval between checks of journals in doubt.
const DOUBT_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum time in which a change may still appear after the store failed to answer in time.
const DOUBT_TIMEOUT: Duration = Duration::from_secs(30);
/// The interval between checks for journals without followers.
const CLOSE_INTERVAL: Duration = Duration::from_secs(5);
/// The interval between removals of old entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// Retention time of a replaced entry. Servers isolated for longer emit only the newest entry of
/// each key.
const REPLACED_RETENTION: Duration = Duration::from_secs(3600);
/// The number of entries removed per statement.
const SWEEP_BATCH: usize = 1000;
/// How much longer a journal is followed than sessions can be recovered.
const RECOVERY_MARGIN: Duration = Duration::from_secs(10);

impl Inventoried for Journals {
    fn report(&self, inventory: &mut Inventory) {
        let followed: Vec<_> = {
            let followed = self.0.followed.lock();
            inventory.map("followed journals", &followed);
            followed.values().cloned().collect()
        };
        let mut sums = [Size::default(); 3];
        for journal in followed {
            for (sum, size) in sums.iter_mut().zip(journal.sizes()) {
                *sum += size;
            }
        }
        let [rooms, snapshots, entries] = sums;
        inventory.size("rooms of journals", rooms);
        inventory.size("snapshots of journals", snapshots);
        inventory.size("entries to emit", entries);
        inventory.add("due journals", self.0.due.lock().names.len() as u64, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn journal_is_scheduled_once_and_overflow_schedules_all() {
        let names = |range: std::ops::Range<usize>| range.map(|n| n.to_string());
        let mut due = Due::default();
        for _ in 0..3 {
            due.extend(names(0..MAX_DUE));
        }
        assert_eq!((due.names.len(), due.is_any), (MAX_DUE, false));
        due.extend(names(MAX_DUE..MAX_DUE + 1));
        let names = BTreeSet::new();
        assert_eq!(
            due,
            Due {
                names,
                is_any: true
            }
        );
    }
}
