//! One journal that is followed here: how far it was told, what waits to be told together, and in which rooms its followers are.

use std::{
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::Teller;
use crate::store::{Current, Entry, JournalView, Store, StoreError, Time};
use roomcast::{Namespace, Room};

pub(super) struct Followed {
    name: String,
    teller: Arc<dyn Teller>,
    /// What [`FollowedState::told`] says, for who only looks.
    told: AtomicU64,
    /// The time until which the store may have something of which nobody has heard.
    doubt: Mutex<Option<Instant>>,
    /// The rooms of those who follow it, and since when nobody was seen there; `None` if somebody is there or is about to be.
    rooms: Mutex<HashMap<Room, Option<Instant>>>,
    /// Whoever has the turn tells what is next, or subscribes, and has the state meanwhile.
    turn: Semaphore,
    state: Mutex<FollowedState>,
}

/// The right to tell what is next, with all that is needed for it.
pub(super) struct Turn<'a> {
    state: FollowedState,
    home: &'a Mutex<FollowedState>,
    _permit: SemaphorePermit<'a>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.home.lock() = std::mem::take(&mut self.state);
    }
}

impl Deref for Turn<'_> {
    type Target = FollowedState;

    fn deref(&self) -> &FollowedState {
        &self.state
    }
}

impl DerefMut for Turn<'_> {
    fn deref_mut(&mut self) -> &mut FollowedState {
        &mut self.state
    }
}

#[derive(Default)]
pub(super) struct FollowedState {
    /// The revision up to which all was told, or is in `waiting`; none before the first
    /// subscription.
    told: Option<u64>,
    /// What is told together with what comes until `window` ends.
    waiting: Vec<Entry>,
    window: Option<Instant>,
    /// Something was emitted after the number of open entries was.
    is_count_due: bool,
    /// Snapshots of what was sent up to now, by category and the number of entries that were read: a client that gets one gets
    /// all that follows it.
    kept: HashMap<KeptKey, JournalView>,
}

impl FollowedState {
    pub(super) fn kept(&self, current: &Current<'_>) -> Option<&JournalView> {
        // An owned key is made here, which costs less than the entries that are copied for it.
        self.kept.get(&key_of(current))
    }

    pub(super) fn keep(&mut self, current: &Current<'_>, view: &JournalView) {
        if self.told == Some(view.revision) && self.kept.len() < KEPT {
            self.kept.insert(key_of(current), view.clone());
        }
    }
}

/// The category, how many entries there are at most, and whether entries that withdraw their keys are among them.
type KeptKey = (Option<String>, usize, bool);

fn key_of(current: &Current<'_>) -> KeptKey {
    let category = current.category.map(str::to_owned);
    (category, current.newest, current.with_withdrawn)
}

impl Followed {
    pub(super) fn new(name: String, teller: Arc<dyn Teller>) -> Self {
        Self {
            name,
            teller,
            told: AtomicU64::new(0),
            doubt: Mutex::default(),
            rooms: Mutex::default(),
            turn: Semaphore::new(1),
            state: Mutex::default(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits for the turn, behind those who came before. It is never refused, since nobody closes the semaphore.
    pub(super) async fn turn(&self) -> Result<Turn<'_>, StoreError> {
        let permit = self.turn.acquire().await;
        Ok(Turn {
            // The state is moved out and comes back when the turn is dropped, so that no lock is
            // held across an await.
            _permit: permit.map_err(|_| StoreError::Closed)?,
            state: std::mem::take(&mut *self.state.lock()),
            home: &self.state,
        })
    }

    /// Whether something up to this revision was not told yet.
    pub(super) fn is_behind(&self, revision: u64) -> bool {
        self.told.load(Ordering::Acquire) < revision
    }

    pub(super) fn look_until(&self, time: Instant) {
        let mut doubt = self.doubt.lock();
        *doubt = (*doubt).max(Some(time));
    }

    /// Whether the store may have something of which nobody has heard.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubt.lock().is_some()
    }

    /// Tells all that the store has, if anybody has subscribed.
    pub(super) async fn catch_up(
        self: &Arc<Self>,
        store: &Store,
        namespace: &Namespace,
    ) -> Result<(), StoreError> {
        // The moment is taken before the store is read: a doubt that comes up while it is read
        // stays.
        let begin = Instant::now();
        let mut state = self.turn().await?;
        if state.told.is_some()
            && let Err(error) = self.read(&mut state, store, namespace, u64::MAX).await
        {
            self.look_until(begin);
            return Err(error);
        }
        self.tell_open(&mut state, store, namespace).await;
        self.doubt.lock().take_if(|until| *until <= begin);
        Ok(())
    }

    /// Tells an entry that was just stored here: by itself if it is the next one, since the store numbers entries without
    /// gaps, and otherwise with all that the store has.
    pub(super) async fn tell_new(
        self: &Arc<Self>,
        store: &Store,
        namespace: &Namespace,
        entry: &Entry,
    ) -> Result<(), StoreError> {
        if !self.is_behind(entry.revision) {
            return Ok(());
        }
        let begin = Instant::now();
        let mut state = self.turn().await?;
        let Some(told) = state.told.filter(|told| *told < entry.revision) else {
            return Ok(());
        };
        // The usual case costs no question to the store.
        if told + 1 == entry.revision {
            self.tell(&mut state, store, namespace, entry.clone());
            self.set_told(&mut state, entry.revision);
            self.tell_open(&mut state, store, namespace).await;
            return Ok(());
        }
        let read = self.read(&mut state, store, namespace, u64::MAX).await;
        if read.is_err() {
            self.look_until(begin);
        }
        self.tell_open(&mut state, store, namespace).await;
        read
    }

    /// Tells what there is up to the revision of a snapshot, and what waits: whoever joins now has all of that.
    pub(super) async fn tell_through(
        self: &Arc<Self>,
        state: &mut FollowedState,
        store: &Store,
        namespace: &Namespace,
        revision: u64,
    ) -> Result<(), StoreError> {
        if state.told.is_none() {
            self.set_told(state, revision);
        }
        self.read(state, store, namespace, revision).await?;
        self.tell_waiting(state, namespace);
        self.tell_open(state, store, namespace).await;
        Ok(())
    }

    /// Whether followers receive how many entries are open.
    pub(super) fn counts_open(&self) -> bool {
        self.teller.counts_open()
    }

    /// Emits how many entries are open, if something was emitted that may have changed it. If they cannot be counted, the
    /// journal stays in doubt, so that they are counted soon.
    async fn tell_open(&self, state: &mut FollowedState, store: &Store, namespace: &Namespace) {
        if !state.is_count_due || !self.counts_open() {
            return;
        }
        match store.count_open(&self.name, Time::now()).await {
            Ok((revision, open)) => {
                state.is_count_due = false;
                self.teller.tell_open(namespace, &self.name, revision, open);
            }
            Err(error) => {
                tracing::debug!(%error, "open entries of a journal could not be counted, trying again");
                self.look_until(Instant::now());
            }
        }
    }

    async fn read(
        self: &Arc<Self>,
        state: &mut FollowedState,
        store: &Store,
        namespace: &Namespace,
        through: u64,
    ) -> Result<(), StoreError> {
        while let Some(told) = state.told.filter(|told| *told < through) {
            let entries = store.journal_after(&self.name, told, through, PAGE).await?;
            let Some(last) = entries.last() else { break };
            let (last, is_all) = (last.revision, entries.len() < PAGE);
            let mut gathered = Vec::new();
            for entry in entries {
                if self.teller.is_gathered(&entry) {
                    state.waiting.retain(|waiting| waiting.key != entry.key);
                    gathered.push(entry);
                    continue;
                }
                self.tell_gathered(state, namespace, &mut gathered);
                self.tell(state, store, namespace, entry);
            }
            self.tell_gathered(state, namespace, &mut gathered);
            self.set_told(state, last);
            if is_all {
                break;
            }
        }
        // Entries up to there may have been removed meanwhile.
        if through != u64::MAX && state.told.is_some_and(|told| told < through) {
            self.set_told(state, through);
        }
        Ok(())
    }

    fn set_told(&self, state: &mut FollowedState, revision: u64) {
        if state.told != Some(revision) {
            // A kept snapshot would lack what is told from here on.
            state.kept = HashMap::new();
        }
        state.told = Some(revision);
        // Whoever only looks reads this without the turn, and must not see more than was told.
        self.told.store(revision, Ordering::Release);
    }

    /// Tells an entry, or lets it wait for others.
    fn tell(
        self: &Arc<Self>,
        state: &mut FollowedState,
        store: &Store,
        namespace: &Namespace,
        entry: Entry,
    ) {
        let patience = self.teller.patience(&entry);
        // What is acknowledged or replaced before it was told need not be told.
        // Only the newest entry of a key says what it is now, so older ones give way while they
        // wait.
        state.waiting.retain(|waiting| waiting.key != entry.key);
        if patience.is_zero() {
            state.is_count_due = true;
            self.teller.tell(namespace, &self.name, &[entry]);
            return;
        }
        let now = Instant::now();
        match state.window.filter(|end| *end > now) {
            None => {
                state.is_count_due = true;
                self.teller.tell(namespace, &self.name, &[entry]);
                state.window = Some(now + patience);
            }
            Some(end) => {
                let waiting = state.waiting.iter().map(|entry| entry.body.len());
                if waiting.sum::<usize>() + entry.body.len() > WAITING_BYTES {
                    self.tell_waiting(state, namespace);
                }
                if state.waiting.is_empty() {
                    self.tell_at(store, namespace, state.window.unwrap_or(end));
                }
                state.waiting.push(entry);
            }
        }
    }

    fn tell_gathered(
        &self,
        state: &mut FollowedState,
        namespace: &Namespace,
        gathered: &mut Vec<Entry>,
    ) {
        if !gathered.is_empty() {
            state.is_count_due = true;
            self.teller.tell(namespace, &self.name, gathered);
            gathered.clear();
        }
    }

    /// Tells what waits at the end of the window.
    fn tell_at(self: &Arc<Self>, store: &Store, namespace: &Namespace, end: Instant) {
        let (followed, store, namespace) = (Arc::clone(self), store.clone(), namespace.clone());
        tokio::spawn(async move {
            tokio::time::sleep_until(end.into()).await;
            if let Ok(mut state) = followed.turn().await {
                // If something else has told what waits meanwhile, nothing is left to tell.
                followed.tell_waiting(&mut state, &namespace);
                followed.tell_open(&mut state, &store, &namespace).await;
            }
        });
    }

    fn tell_waiting(&self, state: &mut FollowedState, namespace: &Namespace) {
        let waiting = std::mem::take(&mut state.waiting);
        if let Some(last) = waiting.last() {
            state.is_count_due = true;
            state.window = Some(Instant::now() + self.teller.patience(last));
            self.teller.tell(namespace, &self.name, &waiting);
        }
    }

    pub(super) fn note_room(&self, room: &Room) {
        self.rooms.lock().insert(room.clone(), None);
    }

    pub(super) fn has_room(&self, room: &Room) -> bool {
        self.rooms.lock().contains_key(room)
    }

    pub(super) fn has_rooms(&self) -> bool {
        !self.rooms.lock().is_empty()
    }

    /// Forgets rooms in which nobody was seen for so long, from the first look on that found nobody: who was there before may
    /// have left just then, however long ago the look before was.
    pub(super) fn look_at_rooms(
        &self,
        now: Instant,
        linger: Duration,
        is_used: impl Fn(&Room) -> bool,
    ) {
        self.rooms.lock().retain(|room, empty| {
            if is_used(room) {
                *empty = None;
                return true;
            }
            now.saturating_duration_since(*empty.get_or_insert(now)) < linger
        });
    }
}

/// Bytes of entries that wait to be told together; what would be more is told before the window ends.
const WAITING_BYTES: usize = 128 << 10;
/// Snapshots that are kept of one journal.
const KEPT: usize = 64;
/// Entries that are read at once.
const PAGE: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    struct Silent;

    impl Teller for Silent {
        fn tell(&self, _: &Namespace, _: &str, _: &[Entry]) {}
    }

    #[test]
    fn a_room_is_forgotten_so_long_after_it_was_found_empty_and_not_after_the_look_before() {
        const LINGER: Duration = Duration::from_secs(10);
        let followed = Followed::new("j".into(), Arc::new(Silent));
        let room = Room::from("r");
        followed.note_room(&room);
        let start = Instant::now();
        let look = |seconds, is_used| {
            let now = start + Duration::from_secs(seconds);
            followed.look_at_rooms(now, LINGER, |_| is_used);
            followed.has_room(&room)
        };
        assert!(look(0, true));
        // Nobody has looked for long, since the store did not answer; the last one may have left a moment ago.
        assert!(look(100, false));
        assert!(look(109, false));
        assert!(look(110, true), "who was away is back");
        assert!(look(119, false));
        assert!(look(128, false));
        assert!(!look(129, false));
    }
}
