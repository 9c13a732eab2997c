//! The conversations in which somebody is, and the sockets that are in them.
//!
//! Everything that the members of a conversation see goes out under its own lock, in the order in
//! which it became true: messages, joining and leaving, typing, lists. Nothing under that lock waits
//! or calls a user's code. Locks are taken in the order conversation → a part of the table of sockets, a
//! part of the schedule, or changes; a part of the table of conversations is never held together with
//! another lock. Only who comes and goes takes a lock that all conversations share, that of the changes.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, Semaphore};
use uuid::Uuid;

use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Going, Presence, Tempo};
use crate::service::chat::presence::elsewhere::Shared;
use crate::service::chat::presence::typing::Typing;
use crate::service::chat::sequencer::confirming::{Questions, Waiting};
use crate::service::chat::sequencer::gate::Gate;
use crate::service::chat::sequencer::sharded::Sharded;
use crate::service::chat::sequencer::told::Told;
use crate::service::cluster::{Announcer, News, Typing as Typist};
use crate::service::rules::emissions::attendance::User;
use crate::service::rules::html::Rules;
use crate::store::{Commit, Committed, Revision};
use roomcast::{Room, SocketId};

/// All conversations in which somebody is. One that is left by everybody is forgotten.
#[derive(Debug)]
pub(in crate::service) struct Conversations {
    tempo: Tempo,
    common: Arc<Common>,
    live: Sharded<Mutex<HashMap<Uuid, Arc<Mutex<Live>>>>>,
    /// The conversations of each connected socket; as bounded as its rooms.
    sockets: Sharded<Mutex<HashMap<SocketId, Vec<Uuid>>>>,
    schedule: Sharded<Schedule>,
    /// Whom other servers have to be told of: users who are here, and some who have gone lately.
    changed: Mutex<Changes>,
    /// Conversations in which others are or were lately at other servers.
    looks: Mutex<Looks>,
    /// There is something in one of the two.
    stirred: Notify,
}

/// When something is due in some of the conversations.
#[derive(Debug, Default)]
struct Schedule {
    /// Each conversation at most once, by its next timeout.
    timeouts: Mutex<BTreeSet<(Instant, Uuid)>>,
    /// The earliest timeout has become earlier.
    earlier: Notify,
}

impl Schedule {
    /// Waits until a conversation has something due. It stays due until that is done.
    async fn next(&self) -> Uuid {
        loop {
            let first = self.timeouts.lock().first().copied();
            let Some((at, _)) = first else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.earlier.notified() => continue,
            }
            if let Some((due, id)) = self.timeouts.lock().first().copied()
                && due <= at
            {
                return id;
            }
        }
    }
}

/// Users of whom other servers have to be told, each once.
#[derive(Debug, Default)]
struct Changes {
    /// With how they have gone, if they have.
    users: BTreeMap<(Uuid, Arc<str>), Going>,
    /// There were more than [`MAX_CHANGES`], and they are forgotten.
    is_incomplete: bool,
}

impl Changes {
    fn extend(&mut self, users: impl Iterator<Item = ((Uuid, Arc<str>), Going)>) {
        self.users.extend(users);
        if self.users.len() > MAX_CHANGES {
            self.users = BTreeMap::new();
            self.is_incomplete = true;
        }
    }
}

/// What all conversations share.
#[derive(Debug)]
pub(in crate::service) struct Common {
    /// What is done with the texts of messages.
    pub(in crate::service) rules: Arc<Rules>,
    /// One permit for each confirmation that may still come.
    pub(in crate::service) confirmations: Arc<Semaphore>,
    /// Whether clients may be recovered: what asks to be confirmed would not be sent to them again.
    pub(in crate::service) has_recovery: bool,
    /// How long receivers may take to confirm a message.
    pub(in crate::service) confirm_timeout: Duration,
    /// Who tells other servers, if there is an adapter.
    pub(in crate::service) announcer: Option<Announcer>,
    /// What members were told who are in no conversation here.
    pub(in crate::service) told: Told,
    /// Messages of other servers that are about to be shown.
    pub(super) questions: Arc<Questions>,
    pub(in crate::service) metrics: Arc<Metrics>,
}

impl Common {
    pub(in crate::service) fn new(
        rules: Arc<Rules>,
        limits: &config::Chat,
        has_recovery: bool,
        announcer: Option<Announcer>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let places = limits.confirmations.min(Semaphore::MAX_PERMITS);
        Self {
            rules,
            confirmations: Arc::new(Semaphore::new(places)),
            has_recovery,
            confirm_timeout: limits.confirm_timeout,
            announcer,
            told: Told::default(),
            questions: Arc::default(),
            metrics,
        }
    }

    /// Whether members who are not in the conversation are to be told of something now; it is noted as told.
    /// What they are not told of is always news.
    pub(super) fn is_news(&self, event: &Committed, revision: Revision) -> bool {
        match event {
            Committed::Renamed(_)
            | Committed::Members { .. }
            | Committed::ConversationDeleted { .. } => {
                let told = &self.told;
                told.insert(event.conversation_id(), revision.changes)
            }
            Committed::Message(_)
            | Committed::Repeated(_)
            | Committed::Edited(_)
            | Committed::Deleted { .. }
            | Committed::Announced(_) => true,
        }
    }

    /// Lets other servers tell that somebody types here or has stopped.
    pub(in crate::service) fn announce_typing(&self, id: Uuid, user: &User, is_typing: bool) {
        if let Some(announcer) = &self.announcer {
            announcer.tell(News::Typing(Typist {
                conversation_id: id,
                user_id: Arc::clone(&user.user_id),
                name: Arc::clone(&user.name),
                is_typing,
            }));
        }
    }
}

/// Conversations whose presence is to be looked up soon, with those who have left them on purpose.
pub(in crate::service) type Looks = HashMap<Uuid, BTreeSet<Arc<str>>>;

/// A conversation in which somebody is, or may be again any moment.
#[derive(Debug)]
pub(in crate::service) struct Live {
    pub(in crate::service) common: Arc<Common>,
    pub(in crate::service) id: Uuid,
    pub(in crate::service) room: Room,
    pub(in crate::service) gate: Gate,
    pub(in crate::service) presence: Presence,
    pub(in crate::service) typing: Typing,
    /// What was stored and waits for something stored before it; none if nothing is missing.
    pub(in crate::service) parked: Option<VecDeque<Commit>>,
    /// How many are just about to join and need the gate.
    pins: usize,
    /// Until when a socket that was lost may come back as the same one: all that is emitted until
    /// then has to go out to the room, where it is kept for that socket.
    pub(in crate::service) kept_until: Option<Instant>,
    /// The number of the last change that removed a member: who has asked before that whether it is a
    /// member asks again.
    pub(in crate::service) removed_at: u64,
    /// Sockets that were just taken out, to be noted in the table of sockets.
    pub(in crate::service) expelled: Vec<SocketId>,
    scheduled: Option<Instant>,
    /// Taken out of the table; whoever still finds it looks again.
    is_gone: bool,
}

impl Live {
    fn new(id: Uuid, tempo: Tempo, common: Arc<Common>) -> Self {
        Self {
            common,
            id,
            room: room_of(id),
            gate: Gate::new(),
            presence: Presence::new(tempo),
            typing: Typing::default(),
            parked: None,
            pins: 0,
            kept_until: None,
            removed_at: 0,
            expelled: Vec::new(),
            scheduled: None,
            is_gone: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.pins == 0
            && self.presence.is_empty()
            && self.typing.is_empty()
            && self.parked.is_none()
            && self.kept_until.is_none()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // With nobody here there is nobody to tell.
        let timeouts = self
            .presence
            .poll_timeout()
            .into_iter()
            .chain(self.typing.poll_timeout())
            .chain(self.kept_until);
        if self.is_empty() {
            None
        } else {
            timeouts.min()
        }
    }
}

impl Conversations {
    pub(in crate::service) fn common(&self) -> &Common {
        &self.common
    }

    pub(in crate::service) fn announcer(&self) -> Option<&Announcer> {
        self.common.announcer.as_ref()
    }

    /// Another server wants to know who confirms a message, which is about to be shown here.
    pub(in crate::service) fn wait_for(&self, message: Uuid) -> Waiting {
        let common = &self.common;
        common.questions.wait_for(message, common.confirm_timeout)
    }

    /// Others have come or gone at another server; these have left.
    pub(in crate::service) fn look_soon(&self, id: Uuid, left: impl IntoIterator<Item = Arc<str>>) {
        let mut looks = self.looks.lock();
        // What finds no room is looked up with all the others.
        if looks.len() < MAX_LOOKS || looks.contains_key(&id) {
            let known = looks.entry(id).or_default();
            known.extend(left.into_iter().take(MAX_LEFT - known.len().min(MAX_LEFT)));
        }
        drop(looks);
        self.stirred.notify_one();
    }

    /// The conversations to be looked up soon.
    pub(in crate::service) fn take_looks(&self) -> Looks {
        std::mem::take(&mut *self.looks.lock())
    }

    /// Waits until other servers have to be told, or looked at, since this was waited for last.
    pub(in crate::service) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    pub(in crate::service) fn new(tempo: Tempo, common: Common) -> Self {
        Self {
            tempo,
            common: Arc::new(common),
            live: Sharded::new(),
            sockets: Sharded::new(),
            schedule: Sharded::new(),
            changed: Mutex::default(),
            looks: Mutex::default(),
            stirred: Notify::new(),
        }
    }

    /// What other servers have to be told, at most `limit` users, each as it is now.
    pub(in crate::service) fn take_shared(&self, limit: usize) -> Vec<Shared> {
        let mut taken = Vec::new();
        let mut changed = self.changed.lock();
        while taken.len() < limit
            && let Some(next) = changed.users.pop_first()
        {
            taken.push(next);
        }
        drop(changed);
        let as_it_is = |((conversation_id, user_id), going): ((Uuid, Arc<str>), Going)| {
            let present = self.with(conversation_id, |live| live.presence.shared(&user_id));
            Shared {
                conversation_id,
                user_id,
                present: present.flatten(),
                going,
            }
        };
        taken.into_iter().map(as_it_is).collect()
    }

    /// Takes back what could not be told.
    pub(in crate::service) fn restore_shared(&self, rows: Vec<Shared>) {
        let mut changed = self.changed.lock();
        for row in rows {
            let entry = changed.users.entry((row.conversation_id, row.user_id));
            entry.or_insert(row.going);
        }
        changed.extend(std::iter::empty());
    }

    /// Whether so much has changed that it could not be kept. What other servers know of this one is
    /// to be taken away then, and all told anew.
    pub(in crate::service) fn is_incomplete(&self) -> bool {
        self.changed.lock().is_incomplete
    }

    /// Other servers know nothing of this one: everybody who is here has to be told, and nothing of
    /// those who have gone.
    pub(in crate::service) fn share_all(&self) {
        *self.changed.lock() = Changes::default();
        for id in self.ids() {
            self.with(id, |live| live.presence.share_all());
        }
    }

    /// The conversations in which somebody is.
    pub(in crate::service) fn ids(&self) -> Vec<Uuid> {
        let ids = |part: &Mutex<HashMap<Uuid, _>>| part.lock().keys().copied().collect::<Vec<_>>();
        self.live.iter().flat_map(ids).collect()
    }

    /// The conversations in which one of these sockets is.
    pub(in crate::service) fn of_sockets(
        &self,
        sockets: impl Iterator<Item = SocketId>,
    ) -> BTreeSet<Uuid> {
        sockets
            .filter_map(|socket| self.sockets.of(socket).lock().get(&socket).cloned())
            .flatten()
            .collect()
    }

    /// Does something with a conversation, if somebody is in it.
    pub(in crate::service) fn with<R>(
        &self,
        id: Uuid,
        act: impl FnOnce(&mut Live) -> R,
    ) -> Option<R> {
        let found = self.live.of(id).lock().get(&id).cloned()?;
        let mut live = found.lock();
        if live.is_gone {
            return None;
        }
        let result = act(&mut live);
        self.settle(&found, live);
        Some(result)
    }

    /// Keeps a conversation, with nobody in it if need be, as long as the pin lives: from before it
    /// is read from the store until somebody has joined.
    pub(in crate::service) fn pin(&self, id: Uuid) -> Pin<'_> {
        loop {
            let found = match self.live.of(id).lock().entry(id) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    let live = Live::new(id, self.tempo, Arc::clone(&self.common));
                    Arc::clone(entry.insert(Arc::new(Mutex::new(live))))
                }
            };
            let mut live = found.lock();
            if live.is_gone {
                drop(live);
                self.forget(id, &found);
                continue;
            }
            live.pins += 1;
            return Pin {
                conversations: self,
                id,
            };
        }
    }

    /// After a change: puts the conversation's next timeout into the schedule, and forgets a
    /// conversation in which nobody is left.
    fn settle(&self, found: &Arc<Mutex<Live>>, mut live: MutexGuard<'_, Live>) {
        for socket in std::mem::take(&mut live.expelled) {
            self.exit(socket, live.id);
        }
        let changed = live.presence.take_changed();
        if !changed.is_empty() {
            let mut all = self.changed.lock();
            let of = |(user, going)| ((live.id, user), going);
            all.extend(changed.into_iter().map(of));
            drop(all);
            self.stirred.notify_one();
        }
        let next = live.poll_timeout();
        if next != live.scheduled {
            let schedule = self.schedule.of(live.id);
            let mut timeouts = schedule.timeouts.lock();
            if let Some(at) = live.scheduled {
                timeouts.remove(&(at, live.id));
            }
            if let Some(at) = next {
                timeouts.insert((at, live.id));
                if timeouts.first() == Some(&(at, live.id)) {
                    schedule.earlier.notify_one();
                }
            }
            live.scheduled = next;
        }
        if live.is_empty() {
            live.is_gone = true;
            let id = live.id;
            drop(live);
            self.forget(id, found);
        }
    }

    fn forget(&self, id: Uuid, gone: &Arc<Mutex<Live>>) {
        if let Entry::Occupied(entry) = self.live.of(id).lock().entry(id)
            && Arc::ptr_eq(entry.get(), gone)
        {
            entry.remove();
        }
    }

    /// A socket has connected and may join.
    pub(in crate::service) fn connect(&self, socket: SocketId) {
        self.sockets.of(socket).lock().insert(socket, Vec::new());
    }

    /// A socket has gone and joins nothing more. These are the conversations it was in.
    pub(in crate::service) fn disconnect(&self, socket: SocketId) -> Vec<Uuid> {
        let removed = self.sockets.of(socket).lock().remove(&socket);
        removed.unwrap_or_default()
    }

    /// Notes that a socket is in a conversation; false says that it has gone meanwhile. To be
    /// called under the conversation's lock, so that [`Conversations::disconnect`] either makes this
    /// fail or finds what it did.
    pub(in crate::service) fn enter(&self, socket: SocketId, conversation: Uuid) -> bool {
        match self.sockets.of(socket).lock().get_mut(&socket) {
            Some(own) => {
                if !own.contains(&conversation) {
                    own.push(conversation);
                }
                true
            }
            None => false,
        }
    }

    /// Notes that a socket has left a conversation.
    pub(in crate::service) fn exit(&self, socket: SocketId, conversation: Uuid) {
        if let Some(own) = self.sockets.of(socket).lock().get_mut(&socket) {
            own.retain(|id| *id != conversation);
        }
    }

    /// Says of each conversation that has something due that it has, until it does not, and never ends.
    /// That is done by [`Conversations::with`].
    pub(in crate::service) async fn time_out(&self, due: impl Fn(Uuid)) {
        let due = &due;
        let watch = async move |part: &Schedule| {
            loop {
                due(part.next().await);
            }
        };
        let mut parts: FuturesUnordered<_> = self.schedule.iter().map(watch).collect();
        let _: Option<()> = parts.next().await;
    }
}

/// Keeps a conversation in the table.
pub(in crate::service) struct Pin<'a> {
    conversations: &'a Conversations,
    id: Uuid,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.conversations.with(self.id, |live| live.pins -= 1);
    }
}

/// How many users are noted that other servers have to be told of: far more than change while these
/// are told, and a limit to what is kept while they cannot be.
const MAX_CHANGES: usize = 100_000;

/// How many conversations are noted that are to be looked up soon, and in each of them how many of those who have
/// left it.
const MAX_LOOKS: usize = 10_000;
const MAX_LEFT: usize = 1000;

/// The room of a conversation.
pub(in crate::service) fn room_of(id: Uuid) -> Room {
    Room::from(format!("{ROOM}{id}"))
}

/// The conversation whose room this is.
pub(in crate::service) fn conversation_of(room: &Room) -> Option<Uuid> {
    Uuid::try_parse(room.as_str().strip_prefix(ROOM)?).ok()
}

/// Whether the name of a room is one that only conversations have.
pub(in crate::service) fn is_room_of_conversation(room: &str) -> bool {
    room.starts_with(ROOM)
}

/// What the names of these rooms begin with.
const ROOM: &str = "conversation:";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::rules::emissions::attendance::User;
    use crate::store::Time;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn a_conversation_lives_while_somebody_joins_or_is_in_it() {
        let conversations = conversations();
        let id = Uuid::from_u128(1);
        assert_eq!(conversations.with(id, |_| ()), None);
        let pin = conversations.pin(id);
        let second = conversations.pin(id);
        drop(second);
        assert_eq!(conversations.with(id, |live| live.id), Some(id));
        join(&conversations, id, socket(1));
        drop(pin);
        assert_eq!(conversations.with(id, |live| live.id), Some(id));
        conversations.with(id, |live| {
            live.presence.leave(Instant::now(), socket(1), "ann")
        });
        assert_eq!(conversations.with(id, |_| ()), None);
        assert!(is_empty(&conversations));
    }

    #[test]
    fn a_pin_without_anybody_leaves_nothing_behind() {
        let conversations = conversations();
        drop(conversations.pin(Uuid::from_u128(1)));
        assert!(is_empty(&conversations));
    }

    #[test]
    fn a_socket_that_has_gone_enters_nothing() {
        let conversations = conversations();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert!(
            !conversations.enter(socket(1), first),
            "before it has connected"
        );
        conversations.connect(socket(1));
        assert!(conversations.enter(socket(1), first));
        assert!(conversations.enter(socket(1), second));
        assert!(conversations.enter(socket(1), first));
        conversations.exit(socket(1), second);
        assert_eq!(conversations.disconnect(socket(1)), [first]);
        assert!(!conversations.enter(socket(1), first));
        assert!(conversations.disconnect(socket(1)).is_empty());
        assert!(is_empty(&conversations));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earliest_timeout_of_all_conversations_comes_first() {
        let conversations = conversations();
        let (first, second) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let start = now();
        let later = start + Duration::from_secs(1);
        let due = Mutex::new(Vec::new());
        let waiting = conversations.time_out(|id| {
            conversations.with(id, |live| live.typing.handle_timeout(now()));
            due.lock().push((id, now().duration_since(start).as_secs()));
        });
        let both = async {
            while due.lock().len() < 2 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let waiting = async {
            tokio::select! {
                () = waiting => {}
                () = both => {}
            }
        };
        let typing = async {
            // Each is due earlier than what is being waited for until then.
            start_typing(&conversations, second, later);
            tokio::task::yield_now().await;
            start_typing(&conversations, first, start);
        };
        tokio::join!(waiting, typing);
        assert_eq!(*due.lock(), [(first, 6), (second, 7)]);
        assert!(is_empty(&conversations));
    }

    #[test]
    fn threads_that_come_and_go_leave_nothing_behind() {
        let conversations = conversations();
        let id = Uuid::from_u128(1);
        std::thread::scope(|scope| {
            for n in 0..4 {
                let conversations = &conversations;
                scope.spawn(move || {
                    for _ in 0..2000 {
                        let pin = conversations.pin(id);
                        join(conversations, id, socket(n));
                        drop(pin);
                        let left = conversations.with(id, |live| {
                            live.presence.leave(Instant::now(), socket(n), "ann");
                        });
                        assert_eq!(left, Some(()), "nobody else takes it away");
                    }
                });
            }
        });
        assert!(is_empty(&conversations));
    }

    #[test]
    fn other_servers_are_told_of_who_is_here_and_of_who_has_gone() {
        let conversations = sharing(true);
        let id = Uuid::from_u128(1);
        let pin = conversations.pin(id);
        join(&conversations, id, socket(1));
        drop(pin);
        let told = conversations.take_shared(10);
        let [row] = told.as_slice() else {
            panic!("{told:?}");
        };
        assert_eq!((row.conversation_id, &*row.user_id), (id, "ann"));
        assert_eq!(row.present.as_ref().unwrap().connections, 1);
        assert!(conversations.take_shared(10).is_empty());
        conversations.restore_shared(told);
        conversations.with(id, |live| {
            live.presence.leave(Instant::now(), socket(1), "ann");
        });
        let told = conversations.take_shared(10);
        assert_eq!(told.len(), 1);
        assert!(told.iter().all(|row| row.present.is_none()), "{told:?}");
        conversations.share_all();
        assert!(conversations.take_shared(10).is_empty(), "nobody is here");
        assert!(is_empty(&conversations));
    }

    fn conversations() -> Conversations {
        sharing(false)
    }

    fn sharing(is_shared: bool) -> Conversations {
        let tempo = Tempo {
            grace: GRACE,
            interval: Duration::from_millis(250),
            listed: 100,
            is_shared,
        };
        let rules = Arc::new(Rules::Text);
        let common = Common::new(rules, &config::Chat::default(), false, None, Arc::default());
        Conversations::new(tempo, common)
    }

    fn is_empty(conversations: &Conversations) -> bool {
        conversations.ids().is_empty()
            && conversations
                .sockets
                .iter()
                .all(|part| part.lock().is_empty())
            && conversations
                .schedule
                .iter()
                .all(|part| part.timeouts.lock().is_empty())
            && conversations.changed.lock().users.is_empty()
    }

    fn join(conversations: &Conversations, id: Uuid, socket: SocketId) {
        let user = User {
            user_id: "ann".into(),
            name: "Ann".into(),
        };
        let joined = conversations.with(id, |live| {
            live.presence
                .join(Instant::now(), socket, &user, Time::now());
        });
        assert_eq!(joined, Some(()), "pinned before");
    }

    fn start_typing(conversations: &Conversations, id: Uuid, now: Instant) {
        let user = User {
            user_id: "ann".into(),
            name: "Ann".into(),
        };
        let _pin = conversations.pin(id);
        conversations.with(id, |live| live.typing.start(now, &user, Some(socket(1))));
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn socket(n: u32) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }
}
