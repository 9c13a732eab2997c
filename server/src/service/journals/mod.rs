//! Journals that somebody at this server follows: what was there when a socket subscribed, and everything that comes after it,
//! once and in order.
//!
//! The store numbers what is appended; whoever appends, or hears that another server has, lets the journal *catch up*: when
//! it has the turn, what is behind the last revision that was told is read from the store and told, in order. A subscription
//! takes a turn too while it reads its snapshot and joins the room, so that there is no gap and no double between the two. Only what
//! is stored is told, and no revision is passed over, so what is lost between a commit and its announcement is told by the next one.
//!
//! `market` and `notifications` say what an entry is for clients ([`Teller`]). Nothing in this module may know a payload.

mod amending;
mod followed;
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
use tokio::{sync::Notify, time::timeout};

use crate::service::fault::ServiceError;
use crate::service::hooks::{Hooks, Source};
use crate::service::rules::content::MAX_PAGE;
use crate::service::rules::emission::Emission;
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed};
use crate::store::{Append, Appended, Entry, JournalSweep, Store, StoreError, Time};
pub(in crate::service) use amending::{
    AmendTarget, Amended, Outcome, is_withdrawal, published, withdrawal, write_withdrawal,
};
use followed::Followed;
pub(crate) use news::JournalNews;
pub(in crate::service) use pages::{Part, WantedPage};
pub(in crate::service) use payload::{journal_of, read, user_of, write};
use roomcast::{JoinError, Namespace, Room, Socket};
use snapshot::Bounds;
pub(in crate::service) use snapshot::Snapshot;

/// The journals that are followed at this server. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Journals(Arc<JournalsInner>);

struct JournalsInner {
    store: Store,
    hooks: Hooks,
    followed: Mutex<HashMap<String, Arc<Followed>>>,
    /// What [`Journals::keep`] is to tell soon.
    due: Mutex<Due>,
    stirred: Notify,
    /// How long a journal is followed when the last socket has left: who was lost may come back and must have missed nothing.
    linger: Duration,
    /// How long closed entries are kept.
    keep: Duration,
}

/// Journals of which the store has more.
#[derive(Debug, Default, PartialEq)]
struct Due {
    /// Some of them may be followed by nobody here.
    names: BTreeSet<String>,
    /// There were more than [`MAX_DUE`], so that every journal may be one of them.
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

/// What entries of a journal are for clients.
pub(in crate::service) trait Teller: Send + Sync {
    /// Tells entries, in their order, to whoever is in the rooms of the journal at this server.
    fn tell(&self, to: &Namespace, journal: &str, entries: &[Entry]);

    /// How long an entry may wait for others after one that may wait was told; then all of them are told at once. Zero: not
    /// at all.
    fn patience(&self, _entry: &Entry) -> Duration {
        Duration::ZERO
    }

    /// Whether followers receive how many entries are open after each emission.
    fn counts_open(&self) -> bool {
        false
    }

    /// Emits how many entries were open at a revision.
    fn tell_open(&self, _to: &Namespace, _journal: &str, _revision: u64, _open: u64) {}

    /// Whether an entry that does not wait is emitted together with the entries of this kind that directly follow it.
    fn is_gathered(&self, _entry: &Entry) -> bool {
        false
    }
}

/// What somebody wants to follow.
pub(in crate::service) struct Subscription<'a, S: 'static> {
    /// The name of the journal.
    pub(in crate::service) journal: String,
    pub(in crate::service) category: Option<&'a str>,
    /// Open entries that the snapshot has at most.
    pub(in crate::service) open: usize,
    /// Newest entries that the snapshot has at most; beside open ones, the newest that are closed.
    pub(in crate::service) newest: usize,
    /// The revision that the client knows already: the snapshot then has only what is newer.
    pub(in crate::service) since: Option<u64>,
    /// Whether very many follow it, so that they share a snapshot as long as nothing new is told.
    pub(in crate::service) is_shared: bool,
    pub(in crate::service) room: Room,
    pub(in crate::service) teller: Arc<dyn Teller>,
    /// The event that says so to the socket.
    pub(in crate::service) event: &'static Emission<Subscribed<S>>,
}

impl Journals {
    /// `window` is how long sessions can be recovered.
    pub(crate) fn new(
        store: Store,
        hooks: Hooks,
        window: Option<Duration>,
        keep: Duration,
    ) -> Self {
        Self(Arc::new(JournalsInner {
            store,
            hooks,
            followed: Mutex::default(),
            due: Mutex::default(),
            stirred: Notify::new(),
            linger: window.unwrap_or_default() + SETTLING,
            keep,
        }))
    }

    pub(in crate::service) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Whether webhooks tell this event.
    pub(in crate::service) fn hooks<T, D>(&self, event: &Emission<T, D>) -> bool {
        self.0.hooks.wants(event.policy().event)
    }

    /// Says to webhooks what was stored, if they tell this event and have room for it.
    pub(in crate::service) fn hook<T: Serialize, D, U: Serialize>(
        &self,
        event: &Emission<T, D>,
        update: impl FnOnce() -> U,
    ) {
        self.hook_from(event, Source::Service, update);
    }

    /// Says to webhooks what was stored because of a client, as [`hook`](Self::hook) does.
    pub(in crate::service) fn hook_from<T: Serialize, D, U: Serialize>(
        &self,
        event: &Emission<T, D>,
        source: Source,
        update: impl FnOnce() -> U,
    ) {
        let event = event.policy().event;
        self.0.hooks.tell(event, source, update);
    }

    /// Stores an entry, then tells it to those who follow its journal here. Other servers hear of it from the store. Both
    /// happen also if whoever asks goes away.
    pub(in crate::service) async fn append(
        &self,
        namespace: &Namespace,
        append: Append,
    ) -> Result<Appended, StoreError> {
        let (journals, namespace) = (self.clone(), namespace.clone());
        let appending = tokio::spawn(async move {
            let name = append.journal.clone();
            let appended = journals.0.store.append(append).await;
            match &appended {
                Ok(Appended::Stored(entry)) => journals.tell(&namespace, &name, entry).await,
                Ok(Appended::There(_) | Appended::Absent | Appended::Full) => {}
                // The entry may be stored all the same, or be later.
                Err(_) => journals.look_again(&name),
            }
            appended
        });
        appending.await.unwrap_or(Err(StoreError::Unknown))
    }

    /// Appends entries in one transaction, and emits to the followers of their journals at this server all that is stored.
    /// Both happen also if the caller gives up. The outcomes are in the order of the entries.
    pub(in crate::service) async fn append_all(
        &self,
        namespace: &Namespace,
        mut appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        // Transactions lock several journals in the order of their names.
        let mut places: Vec<usize> = (0..appends.len()).collect();
        places.sort_by(|a, b| name_at(&appends, *a).cmp(name_at(&appends, *b)));
        appends.sort_by(|a, b| a.journal.cmp(&b.journal));
        let names: BTreeSet<String> = appends.iter().map(|one| one.journal.clone()).collect();
        let (journals, namespace) = (self.clone(), namespace.clone());
        let appending = tokio::spawn(async move {
            let appended = journals.0.store.append_all(appends).await;
            match &appended {
                Ok(_) => {
                    let followed: Vec<_> = {
                        let followed = journals.0.followed.lock();
                        let named = names.iter().filter_map(|name| followed.get(name));
                        named.cloned().collect()
                    };
                    journals.catch_up_all(&namespace, followed).await;
                }
                // The entries may be stored all the same, or be later.
                Err(_) => names.iter().for_each(|name| journals.look_again(name)),
            }
            appended
        });
        let appended = appending.await.unwrap_or(Err(StoreError::Unknown))?;
        let mut in_order: Vec<(usize, Appended)> = places.into_iter().zip(appended).collect();
        in_order.sort_by_key(|(place, _)| *place);
        Ok(in_order.into_iter().map(|(_, appended)| appended).collect())
    }

    /// Has those who follow journals here told all that there is, by [`Journals::keep`]. Nobody waits for that.
    pub(in crate::service) fn tell_soon(&self, names: impl Iterator<Item = String>) {
        self.0.due.lock().extend(names);
        self.0.stirred.notify_one();
    }

    /// Tells those who follow a journal here what was just stored.
    async fn tell(&self, namespace: &Namespace, name: &str, entry: &Entry) {
        let followed = self.0.followed.lock().get(name).cloned();
        if let Some(followed) = followed
            && let Err(error) = followed.tell_new(&self.0.store, namespace, entry).await
        {
            roomcast::throttled_log!(warn, %error, "what was published could not be read, and is told later");
        }
    }

    /// Has a journal looked at for a while.
    fn look_again(&self, name: &str) {
        if let Some(followed) = self.0.followed.lock().get(name) {
            followed.look_until(Instant::now() + DOUBT);
        }
    }

    /// Lets a socket follow a journal: it is told what there is, and then everything that comes. Subscribing again gives a new
    /// snapshot.
    pub(in crate::service) async fn subscribe<S: Serialize>(
        &self,
        subscription: Subscription<'_, S>,
        socket: &Socket,
        shape: impl FnOnce(Snapshot) -> S,
    ) -> Result<Subscribed<S>, ServiceError> {
        let Subscription {
            journal,
            category,
            open,
            newest,
            since,
            is_shared,
            room,
            teller,
            event,
        } = subscription;
        let whole = Bounds {
            open,
            newest,
            since: None,
        };
        // A client that knows a revision gets as much as a page has.
        let mut bounds = since.map_or(whole, |since| Bounds {
            open: 0,
            newest: MAX_PAGE,
            since: Some(since),
        });
        let followed = self.follow(journal, teller, &room);
        // A store that does not answer must not have subscriptions queue up without end behind it.
        let turn = timeout(PATIENCE, followed.turn()).await;
        let mut state = turn.map_err(|_| StoreError::TimedOut)??;
        let view = loop {
            let current = bounds.current(followed.name(), category);
            // Another server may have sent more than this one, so a client may know more than what is kept here.
            let kept = state
                .kept(&current)
                .filter(|view| is_shared && bounds.is_within(view));
            let view = match kept {
                Some(view) => view.clone(),
                None => {
                    let view = self.0.store.journal(current.clone()).await?;
                    let (store, namespace) = (&self.0.store, socket.namespace());
                    followed
                        // The others are told first up to the snapshot, so that the socket joins the
                        // room at exactly that revision.
                        .tell_through(&mut state, store, &namespace, view.revision)
                        .await?;
                    if is_shared {
                        state.keep(&current, &view);
                    }
                    view
                }
            };
            if bounds.is_within(&view) {
                break view;
            }
            // The revision is not of this journal, as after a database was restored: the client needs the whole.
            bounds = whole;
        };
        let counted = if followed.counts_open() && view.entries.len() > open {
            let (_, counted) = self
                .0
                .store
                .count_open(followed.name(), Time::now())
                .await?;
            counted
        } else {
            view.entries.len() as u64
        };
        let snapshot = Snapshot::of(view, bounds).named(followed.name(), category);
        // The socket joins within the turn: nothing is told between the snapshot and the joining.
        match socket.join(&room) {
            Ok(()) | Err(JoinError::Disconnected) => {}
            Err(_) => return Err(ServiceError::Conflict("in too many rooms")),
        }
        let subscribed = Subscribed {
            room: room.as_str().to_owned(),
            snapshot: shape(Snapshot {
                open: counted,
                ..snapshot
            }),
        };
        // The snapshot is queued within the turn, so that it comes before every update.
        event.emit_to(socket, &subscribed);
        Ok(subscribed)
    }

    /// Lets a socket follow a journal no longer.
    pub(in crate::service) fn unsubscribe(
        &self,
        room: &Room,
        socket: &Socket,
        event: &'static Emission<Unsubscribed>,
    ) -> Unsubscribed {
        socket.leave(room);
        let unsubscribed = Unsubscribed {
            room: room.as_str().to_owned(),
        };
        event.emit_to(socket, &unsubscribed);
        unsubscribed
    }

    /// Whether this server has told all of a journal in a room, for as long as sessions can be recovered.
    pub(in crate::service) fn is_followed(&self, journal: &str, room: &Room) -> bool {
        let followed = self.0.followed.lock();
        followed
            .get(journal)
            .is_some_and(|followed| followed.has_room(room))
    }

    /// Follows nothing any more, as after a long time without anybody who follows.
    #[cfg(test)]
    pub(in crate::service) fn forget(&self) {
        self.0.followed.lock().clear();
    }

    fn follow(&self, name: String, teller: Arc<dyn Teller>, room: &Room) -> Arc<Followed> {
        let mut followed = self.0.followed.lock();
        let one = followed
            .entry(name)
            .or_insert_with_key(|name| Arc::new(Followed::new(name.clone(), teller)));
        // The room is noted under the lock of the map, or the journal might be forgotten before the
        // socket has joined.
        one.note_room(room);
        Arc::clone(one)
    }

    /// Tells what is due, looks again at what could not be read, forgets what nobody follows any more and what is old, for as long
    /// as it is polled.
    pub(crate) async fn keep(self, namespace: Namespace) {
        tokio::join!(self.tell_due(&namespace), self.tidy(&namespace));
    }

    async fn tell_due(&self, namespace: &Namespace) {
        loop {
            let due = self.take_due();
            self.catch_up_all(namespace, due).await;
            self.0.stirred.notified().await;
        }
    }

    /// The followed journals that are due. They are in doubt from here on, so that a task that ends before it has told them
    /// leaves them to its successor.
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
        due.iter().for_each(|one| one.look_until(now));
        due
    }

    /// Tells those who follow these journals here all that there is. What cannot be read stays in doubt.
    async fn catch_up_all(&self, namespace: &Namespace, journals: Vec<Arc<Followed>>) {
        let catching_up = stream::iter(journals).for_each_concurrent(READERS, async |one| {
            if let Err(error) = one.catch_up(&self.0.store, namespace).await {
                tracing::debug!(%error, "what was published cannot be read yet");
            }
        });
        catching_up.await;
    }

    async fn tidy(&self, namespace: &Namespace) {
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut closed, mut swept) = (Instant::now(), None::<Instant>);
        loop {
            turns.tick().await;
            let doubtful: Vec<_> = {
                let followed = self.0.followed.lock();
                followed
                    .values()
                    .filter(|one| one.is_doubtful())
                    .cloned()
                    .collect()
            };
            self.catch_up_all(namespace, doubtful).await;
            if closed.elapsed() >= CLOSING {
                closed = Instant::now();
                self.close_idle(namespace);
            }
            if swept.is_none_or(|swept| swept.elapsed() >= SWEEPING) {
                swept = Some(Instant::now());
                self.sweep().await;
            }
        }
    }

    /// Forgets journals whose rooms have been empty for long.
    fn close_idle(&self, namespace: &Namespace) {
        let now = Instant::now();
        let mut followed = self.0.followed.lock();
        followed.retain(|_, one| {
            let is_used = |room: &Room| namespace.local().to(room).count() > 0;
            one.look_at_rooms(now, self.0.linger, is_used);
            // Whoever has another handle is about to subscribe.
            one.has_rooms() || Arc::strong_count(one) > 1
        });
        let used = followed.len();
        followed.shrink_to(used * 2);
    }

    async fn sweep(&self) {
        let now = Time::now();
        let sweep = JournalSweep {
            now,
            // Replaced entries are what servers read that have to catch up, so they are kept for as
            // long as one may be away.
            replaced_before: now.before(REPLACED),
            closed_before: now.before(self.0.keep),
            limit: SWEPT,
        };
        loop {
            match self.0.store.sweep_journals(sweep).await {
                Ok(removed) if removed >= SWEPT as u64 => {}
                Ok(_) => return,
                Err(error) => {
                    tracing::debug!(%error, "old entries of journals could not be removed");
                    return;
                }
            }
        }
    }
}

fn name_at(appends: &[Append], place: usize) -> &str {
    appends.get(place).map_or("", |append| &append.journal)
}

/// Journals that are told soon, by name.
const MAX_DUE: usize = 10_000;
/// Journals that are read at the same time.
const READERS: usize = 4;
/// How long a subscription waits for those before it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often what is in doubt is looked at.
const TURN: Duration = Duration::from_secs(1);
/// How long a change may still come that the store did not answer in time.
const DOUBT: Duration = Duration::from_secs(30);
/// How often journals are looked for that nobody follows.
const CLOSING: Duration = Duration::from_secs(5);
/// How often old entries are removed.
const SWEEPING: Duration = Duration::from_secs(60);
/// How long an entry is kept that was replaced: servers that were cut off for longer tell the newest of each key.
const REPLACED: Duration = Duration::from_secs(3600);
/// Entries that are removed at once.
const SWEPT: usize = 1000;
/// How much longer a journal is followed than sessions can be recovered.
const SETTLING: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_due_once_and_with_too_many_of_them_every_journal_is() {
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
