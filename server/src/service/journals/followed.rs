//! One followed journal: its position, the entries that wait to be emitted together, and its
//! followers' rooms.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::JournalEmitter;
use crate::metrics::Size;
use crate::store::{Current, Entry, JournalView, Store, StoreError, Stretch, Time};
use roomcast::{Namespace, Room, Socket};

pub(super) struct Followed {
    pub(super) name: String,
    emitter: Arc<dyn JournalEmitter>,
    store: Store,
    /// A copy of [`JournalState::emitted`] that can be read without the permit.
    emitted: AtomicU64,
    /// Whether [`JournalState::emitted`] is set.
    has_begun: AtomicBool,
    /// Until this time, the store may contain entries that were not emitted.
    doubt: Mutex<Option<Instant>>,
    /// The rooms of the followers, with the time at which a check first found each empty. `None` if
    /// a socket is in it or is about to join.
    rooms: Mutex<HashMap<Room, Option<Instant>>>,
    /// The holder of the permit emits entries or subscribes a socket, and owns the state
    /// meanwhile.
    permit: Arc<Semaphore>,
    state: Mutex<JournalState>,
    /// How far the entries were emitted. Locked while entries are emitted, so that a socket that
    /// leaves under the lock has been sent exactly the entries up to this position.
    reached: Mutex<Option<EmittedThrough>>,
}

/// The last entry that was emitted to the followers of a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct EmittedThrough {
    pub(in crate::service) revision: u64,
    /// When the entry was created. `None` if this server has not emitted it.
    pub(in crate::service) created_at: Option<Time>,
}

/// The permit to emit entries, with the state, which it returns when it is dropped.
pub(in crate::service) struct JournalPermit {
    state: JournalState,
    followed: Arc<Followed>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for JournalPermit {
    fn drop(&mut self) {
        *self.followed.state.lock() = std::mem::take(&mut self.state);
    }
}

#[derive(Default)]
struct JournalState {
    /// The revision up to which everything was emitted or is in `waiting`. `None` before the first
    /// subscription.
    emitted: Option<u64>,
    /// Entries that are emitted together at the end of `window`.
    waiting: Vec<Entry>,
    window: Option<Instant>,
    /// Whether entries were emitted after the last emission of the number of open entries.
    is_count_due: bool,
    /// Snapshots at the current position, by category, number of entries, and whether withdrawn
    /// entries are included. A client that gets one
    /// receives all later entries.
    cached: HashMap<SnapshotKey, JournalView>,
}

/// The category, the maximum number of entries, and whether entries that withdraw their keys are
/// included.
type SnapshotKey = (Option<String>, usize, bool);

fn snapshot_key(current: &Current<'_>) -> SnapshotKey {
    let category = current.category.map(str::to_owned);
    (category, current.newest, current.with_withdrawn)
}

impl Followed {
    /// Returns the sizes of the rooms, the snapshots and the waiting entries. The last two are zero
    /// while a task has the permit.
    pub(super) fn sizes(&self) -> [Size; 3] {
        let rooms = Size::of_map(&self.rooms.lock());
        let state = self.state.lock();
        let entries = Size::of::<Entry>(state.waiting.len(), state.waiting.capacity());
        [rooms, Size::of_map(&state.cached), entries]
    }

    pub(super) fn new(name: String, emitter: Arc<dyn JournalEmitter>, store: Store) -> Self {
        Self {
            name,
            emitter,
            store,
            emitted: AtomicU64::new(0),
            has_begun: AtomicBool::new(false),
            doubt: Mutex::default(),
            rooms: Mutex::default(),
            permit: Arc::new(Semaphore::new(1)),
            state: Mutex::default(),
            reached: Mutex::default(),
        }
    }

    /// Waits for the permit in order of arrival. Never fails, since the semaphore is never closed.
    pub(super) async fn acquire(self: &Arc<Self>) -> Result<JournalPermit, StoreError> {
        let permit = Arc::clone(&self.permit).acquire_owned().await;
        Ok(JournalPermit {
            // The state is moved out and returned when the permit is dropped, so that no lock is
            // held across an await.
            _permit: permit.map_err(|_| StoreError::Closed)?,
            state: std::mem::take(&mut *self.state.lock()),
            followed: Arc::clone(self),
        })
    }

    /// Returns whether entries up to this revision were not emitted yet.
    pub(super) fn is_lagging(&self, revision: u64) -> bool {
        self.emitted.load(Ordering::Acquire) < revision
    }

    pub(super) fn extend_doubt(&self, time: Instant) {
        let mut doubt = self.doubt.lock();
        *doubt = (*doubt).max(Some(time));
    }

    /// Returns whether the store may contain entries that were not emitted.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.doubt.lock().is_some()
    }

    /// Emits the stored entries after the last emitted one. Before the first subscription, it emits
    /// none. The journal has reached a revision `reached`, also if its entries were removed.
    pub(super) async fn catch_up(
        self: &Arc<Self>,
        namespace: &Namespace,
        reached: u64,
    ) -> Result<(), StoreError> {
        // The time is taken before the store is read, so that a doubt that arises during the read
        // remains.
        let begin = Instant::now();
        let mut permit = self.acquire().await?;
        if permit.state.emitted.is_some()
            && let Err(error) = permit.read(namespace, u64::MAX).await
        {
            self.extend_doubt(begin);
            return Err(error);
        }
        permit.skip_through(namespace, reached);
        permit.emit_open_count(namespace).await;
        self.doubt.lock().take_if(|until| *until <= begin);
        Ok(())
    }

    pub(super) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Emits an entry that this server just stored, or found stored.
    ///
    /// The store numbers entries without gaps. If the entry is the next one, it is emitted
    /// directly, otherwise with all stored entries after the last emitted one.
    pub(super) async fn emit_new(
        self: &Arc<Self>,
        namespace: &Namespace,
        entry: &Entry,
        is_new: bool,
    ) -> Result<(), StoreError> {
        let begin = Instant::now();
        let mut permit = if self.is_lagging(entry.revision) {
            self.acquire().await?
        } else {
            // Usually another task has emitted it.
            let revision = async || self.store.journal_revision(&self.name).await;
            if !is_new || revision().await? >= self.emitted.load(Ordering::Acquire) {
                return Ok(());
            }
            let mut permit = self.acquire().await?;
            if permit.has_emitted_after(revision().await?) {
                permit.return_to(namespace, entry.revision - 1);
            }
            permit
        };
        let emitted = permit.state.emitted;
        let Some(emitted) = emitted.filter(|emitted| *emitted < entry.revision) else {
            return Ok(());
        };
        // The usual case needs no query.
        let read = if emitted + 1 == entry.revision {
            permit.emit_or_batch(namespace, entry.clone());
            permit.set_emitted(entry.revision);
            Ok(())
        } else {
            permit.read(namespace, u64::MAX).await
        };
        if read.is_err() {
            self.extend_doubt(begin);
        }
        permit.emit_open_count(namespace).await;
        read
    }

    /// Returns whether followers receive the number of open entries.
    pub(super) fn counts_open(&self) -> bool {
        self.emitter.counts_open()
    }

    /// Emits entries, and notes the last one under the lock.
    fn emit(&self, namespace: &Namespace, entries: &[Entry]) {
        let mut reached = self.reached.lock();
        self.emitter.emit(namespace, &self.name, entries);
        if let Some(last) = entries.last() {
            *reached = Some(EmittedThrough {
                revision: last.revision,
                created_at: Some(last.created_at),
            });
        }
    }

    /// Removes a socket from a room. Returns the last entry that was emitted to it, or `None` if it
    /// was not in the room.
    pub(super) fn leave(&self, room: &Room, socket: &Socket) -> Option<EmittedThrough> {
        let reached = self.reached.lock();
        let is_in = socket.is_in(room.as_str());
        socket.leave(room);
        reached.filter(|_| is_in)
    }

    pub(super) fn note_room(&self, room: &Room) {
        self.rooms.lock().insert(room.clone(), None);
    }

    pub(super) fn has_room(&self, room: &Room) -> bool {
        self.rooms.lock().contains_key(room)
    }

    pub(super) fn rooms(&self) -> Vec<Room> {
        self.rooms.lock().keys().cloned().collect()
    }

    /// Discards rooms that have been empty for `linger`. Returns whether others are left.
    ///
    /// The time starts at the first check that found the room empty. Its last member may have left
    /// just before that check.
    pub(super) fn update_rooms(
        &self,
        now: Instant,
        linger: Duration,
        is_used: impl Fn(&Room) -> bool,
    ) -> bool {
        let mut rooms = self.rooms.lock();
        rooms.retain(|room, empty| {
            if is_used(room) {
                *empty = None;
                return true;
            }
            now.saturating_duration_since(*empty.get_or_insert(now)) < linger
        });
        !rooms.is_empty()
    }
}

impl JournalPermit {
    pub(super) fn cached(&self, current: &Current<'_>) -> Option<&JournalView> {
        // An owned key is created here, which costs less than copying the entries.
        self.state.cached.get(&snapshot_key(current))
    }

    pub(super) fn cache(&mut self, current: &Current<'_>, view: &JournalView) {
        let state = &mut self.state;
        if state.emitted == Some(view.revision) && state.cached.len() < MAX_SNAPSHOTS {
            state.cached.insert(snapshot_key(current), view.clone());
        }
    }

    /// Returns whether followers have received an entry after a revision.
    pub(super) fn has_emitted_after(&self, revision: u64) -> bool {
        let emitted = self.state.emitted;
        emitted.is_some_and(|emitted| emitted > revision)
    }

    /// Notes the current revision as emitted, before the first subscription.
    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        if self.state.emitted.is_none() {
            let Followed { store, name, .. } = &*self.followed;
            let revision = store.journal_revision(name).await?;
            self.move_to(revision);
        }
        Ok(())
    }

    /// Tells followers if the database has lost its newest commits, for example in a failover: they
    /// have received what no longer exists, and later entries get the same revisions.
    fn return_to(&mut self, namespace: &Namespace, revision: u64) {
        if self.has_emitted_after(revision) {
            self.followed.emitter.emit_gap(namespace);
            self.move_to(revision);
        }
    }

    /// Emits waiting entries and those up to the revision of the snapshot that a joining socket
    /// gets.
    pub(super) async fn emit_through(
        &mut self,
        namespace: &Namespace,
        revision: u64,
    ) -> Result<(), StoreError> {
        self.return_to(namespace, revision);
        if self.state.emitted.is_none() {
            self.move_to(revision);
        }
        self.read(namespace, revision).await?;
        self.emit_waiting(namespace);
        self.emit_open_count(namespace).await;
        Ok(())
    }

    /// Emits the number of open entries if emitted entries may have changed it.
    ///
    /// If counting fails, the journal stays in doubt, so that the count is repeated soon.
    async fn emit_open_count(&mut self, namespace: &Namespace) {
        if !self.state.is_count_due || !self.followed.counts_open() {
            return;
        }
        let Followed { store, name, .. } = &*self.followed;
        match store.count_open(name, Time::now()).await {
            Ok((revision, open)) => {
                self.state.is_count_due = false;
                let emitter = &self.followed.emitter;
                emitter.emit_open_count(namespace, name, revision, open);
            }
            Err(error) => {
                tracing::debug!(%error, "could not count open journal entries, retrying");
                self.followed.extend_doubt(Instant::now());
            }
        }
    }

    async fn read(&mut self, namespace: &Namespace, through: u64) -> Result<(), StoreError> {
        let followed = Arc::clone(&self.followed);
        while let Some(emitted) = self.state.emitted.filter(|emitted| *emitted < through) {
            let stretch = Stretch {
                journal: &followed.name,
                after: emitted,
                through,
                is_newest: false,
                limit: PAGE,
                bytes: PAGE_BYTES,
                unexpired_at: None,
            };
            let entries = followed.store.journal_stretch(stretch).await?;
            let Some(last) = entries.last() else { break };
            let bytes: usize = entries.iter().map(|entry| entry.body.len()).sum();
            let is_all = entries.len() < PAGE && bytes <= PAGE_BYTES;
            let last = last.revision;
            let mut gathered = Vec::new();
            let mut next = emitted + 1;
            for entry in entries {
                if entry.revision > next {
                    followed.emitter.emit_gap(namespace);
                }
                next = entry.revision + 1;
                if followed.emitter.is_gathered(&entry) {
                    let waiting = &mut self.state.waiting;
                    waiting.retain(|waiting| waiting.key != entry.key);
                    gathered.push(entry);
                    continue;
                }
                self.emit_gathered(namespace, &mut gathered);
                self.emit_or_batch(namespace, entry);
            }
            self.emit_gathered(namespace, &mut gathered);
            self.set_emitted(last);
            if is_all {
                break;
            }
        }
        if through != u64::MAX {
            self.skip_through(namespace, through);
        }
        Ok(())
    }

    /// Leaves out entries up to a revision that have been removed in the meantime.
    fn skip_through(&mut self, namespace: &Namespace, revision: u64) {
        if self.state.emitted.is_some_and(|emitted| emitted < revision) {
            self.followed.emitter.emit_gap(namespace);
            self.move_to(revision);
        }
    }

    /// Notes a revision as emitted whose entry was not emitted by this server.
    fn move_to(&mut self, revision: u64) {
        self.set_emitted(revision);
        *self.followed.reached.lock() = Some(EmittedThrough {
            revision,
            created_at: None,
        });
    }

    fn set_emitted(&mut self, revision: u64) {
        let (state, followed) = (&mut self.state, &self.followed);
        if state.emitted != Some(revision) {
            // Cached snapshots lack the entries that have just been emitted.
            state.cached = HashMap::new();
        }
        state.emitted = Some(revision);
        // Tasks without the permit read this value, and must not see more than was emitted or
        // waits.
        followed.emitted.store(revision, Ordering::Release);
        followed.has_begun.store(true, Ordering::Release);
    }

    /// Emits an entry, or lets it wait for other entries.
    fn emit_or_batch(&mut self, namespace: &Namespace, entry: Entry) {
        let (state, followed) = (&mut self.state, &self.followed);
        let window = followed.emitter.batch_window(&entry);
        // An entry that is acknowledged or replaced before its emission need not be emitted. Only
        // the newest entry of a key is current, so older entries are dropped while they wait.
        state.waiting.retain(|waiting| waiting.key != entry.key);
        if window.is_zero() {
            state.is_count_due = true;
            followed.emit(namespace, &[entry]);
            return;
        }
        let now = Instant::now();
        let Some(end) = state.window.filter(|end| *end > now) else {
            state.is_count_due = true;
            followed.emit(namespace, &[entry]);
            state.window = Some(now + window);
            return;
        };
        let waiting = state.waiting.iter().map(|entry| entry.body.len());
        if waiting.sum::<usize>() + entry.body.len() > WAITING_BYTES {
            self.emit_waiting(namespace);
        }
        if self.state.waiting.is_empty() {
            self.emit_waiting_at(namespace, self.state.window.unwrap_or(end));
        }
        self.state.waiting.push(entry);
    }

    fn emit_gathered(&mut self, namespace: &Namespace, gathered: &mut Vec<Entry>) {
        if !gathered.is_empty() {
            self.state.is_count_due = true;
            self.followed.emit(namespace, gathered);
            gathered.clear();
        }
    }

    /// Emits waiting entries at the end of the window.
    fn emit_waiting_at(&self, namespace: &Namespace, end: Instant) {
        let (followed, namespace) = (Arc::clone(&self.followed), namespace.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(end.into()).await;
            if let Ok(mut permit) = followed.acquire().await {
                // Entries that were emitted in the meantime wait no longer.
                permit.emit_waiting(&namespace);
                permit.emit_open_count(&namespace).await;
            }
        });
    }

    fn emit_waiting(&mut self, namespace: &Namespace) {
        let (state, followed) = (&mut self.state, &self.followed);
        let waiting = std::mem::take(&mut state.waiting);
        if let Some(last) = waiting.last() {
            state.is_count_due = true;
            state.window = Some(Instant::now() + followed.emitter.batch_window(last));
            followed.emit(namespace, &waiting);
        }
    }
}

/// The maximum size of waiting entries in bytes. Beyond it, they are emitted before the window
/// ends.
const WAITING_BYTES: usize = 128 << 10;
/// The maximum number of snapshots stored per journal.
const MAX_SNAPSHOTS: usize = 64;
/// The maximum number of entries per query.
const PAGE: usize = 100;
/// The number of bytes after which a query returns no further entry.
const PAGE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl JournalEmitter for Silent {
        fn emit(&self, _: &Namespace, _: &str, _: &[Entry]) {}
    }

    #[tokio::test]
    async fn room_is_discarded_a_fixed_time_after_it_was_found_empty() {
        const LINGER: Duration = Duration::from_secs(10);
        let store = Store::in_memory().await;
        let followed = Followed::new("j".into(), Arc::new(Silent), store);
        let room = Room::from("r");
        followed.note_room(&room);
        let start = Instant::now();
        let update = |seconds, is_used| {
            let now = start + Duration::from_secs(seconds);
            followed.update_rooms(now, LINGER, |_| is_used);
            followed.has_room(&room)
        };
        assert!(update(0, true));
        // No check was made for long, because the store did not answer. The last member may have
        // left just now.
        assert!(update(100, false));
        assert!(update(109, false));
        assert!(update(110, true), "a member has rejoined");
        assert!(update(119, false));
        assert!(update(128, false));
        assert!(!update(129, false));
    }
}
