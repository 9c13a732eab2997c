//! The conversations in which somebody is, and the sockets that are in them.
//!
//! Everything that the members of a conversation see goes out under its own lock, in the order in
//! which it became true: messages, joining and leaving, typing, lists. Nothing under that lock waits
//! or calls a user's code. Locks are taken in the order conversation → table of sockets or schedule;
//! the table of conversations is never held together with another.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

use super::gate::Gate;
use super::presence::{Presence, Tempo};
use super::typing::Typing;
use crate::socket::{Room, SocketId};
use crate::store::Commit;

/// All conversations in which somebody is. One that is left by everybody is forgotten.
#[derive(Debug)]
pub(super) struct Conversations {
    tempo: Tempo,
    live: Mutex<HashMap<Uuid, Arc<Mutex<Live>>>>,
    /// The conversations of each connected socket; as bounded as its rooms.
    sockets: Mutex<HashMap<SocketId, Vec<Uuid>>>,
    /// Each conversation at most once, by its next timeout.
    schedule: Mutex<BTreeSet<(Instant, Uuid)>>,
    /// The earliest timeout has become earlier.
    earlier: Notify,
}

/// A conversation in which somebody is.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: Uuid,
    pub(super) room: Room,
    pub(super) gate: Gate,
    pub(super) presence: Presence,
    pub(super) typing: Typing,
    /// What was stored and waits for something stored before it; none if nothing is missing.
    pub(super) parked: Option<VecDeque<Commit>>,
    /// How many are just about to join and need the gate.
    pins: usize,
    scheduled: Option<Instant>,
    /// Taken out of the table; whoever still finds it looks again.
    is_gone: bool,
}

impl Live {
    fn new(id: Uuid, tempo: Tempo) -> Self {
        Self {
            id,
            room: Room::from(format!("{ROOM}{id}")),
            gate: Gate::new(),
            presence: Presence::new(tempo),
            typing: Typing::default(),
            parked: None,
            pins: 0,
            scheduled: None,
            is_gone: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.pins == 0
            && self.presence.is_empty()
            && self.typing.is_empty()
            && self.parked.is_none()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        // With nobody here there is nobody to tell.
        let timeouts = self
            .presence
            .poll_timeout()
            .into_iter()
            .chain(self.typing.poll_timeout());
        if self.is_empty() {
            None
        } else {
            timeouts.min()
        }
    }
}

impl Conversations {
    pub(super) fn new(tempo: Tempo) -> Self {
        Self {
            tempo,
            live: Mutex::default(),
            sockets: Mutex::default(),
            schedule: Mutex::default(),
            earlier: Notify::new(),
        }
    }

    /// Does something with a conversation, if somebody is in it.
    pub(super) fn with<R>(&self, id: Uuid, act: impl FnOnce(&mut Live) -> R) -> Option<R> {
        let found = self.live.lock().get(&id).cloned()?;
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
    pub(super) fn pin(&self, id: Uuid) -> Pin<'_> {
        loop {
            let found = match self.live.lock().entry(id) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    Arc::clone(entry.insert(Arc::new(Mutex::new(Live::new(id, self.tempo)))))
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
        let next = live.poll_timeout();
        if next != live.scheduled {
            let mut schedule = self.schedule.lock();
            if let Some(at) = live.scheduled {
                schedule.remove(&(at, live.id));
            }
            if let Some(at) = next {
                schedule.insert((at, live.id));
                if schedule.first() == Some(&(at, live.id)) {
                    self.earlier.notify_one();
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
        if let Entry::Occupied(entry) = self.live.lock().entry(id)
            && Arc::ptr_eq(entry.get(), gone)
        {
            entry.remove();
        }
    }

    /// A socket has connected and may join.
    pub(super) fn connect(&self, socket: SocketId) {
        self.sockets.lock().insert(socket, Vec::new());
    }

    /// A socket has gone and joins nothing more. These are the conversations it was in.
    pub(super) fn disconnect(&self, socket: SocketId) -> Vec<Uuid> {
        self.sockets.lock().remove(&socket).unwrap_or_default()
    }

    /// Notes that a socket is in a conversation; false says that it has gone meanwhile. To be
    /// called under the conversation's lock, so that [`Conversations::disconnect`] either makes this
    /// fail or finds what it did.
    pub(super) fn enter(&self, socket: SocketId, conversation: Uuid) -> bool {
        match self.sockets.lock().get_mut(&socket) {
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
    pub(super) fn exit(&self, socket: SocketId, conversation: Uuid) {
        if let Some(own) = self.sockets.lock().get_mut(&socket) {
            own.retain(|id| *id != conversation);
        }
    }

    /// Waits until a conversation has something due. It stays due until that is done by
    /// [`Conversations::with`].
    pub(super) async fn next_timeout(&self) -> Uuid {
        loop {
            let first = self.schedule.lock().first().copied();
            let Some((at, _)) = first else {
                self.earlier.notified().await;
                continue;
            };
            tokio::select! {
                () = tokio::time::sleep_until(at.into()) => {}
                () = self.earlier.notified() => continue,
            }
            if let Some((due, id)) = self.schedule.lock().first().copied()
                && due <= at
            {
                return id;
            }
        }
    }
}

/// Keeps a conversation in the table.
pub(super) struct Pin<'a> {
    conversations: &'a Conversations,
    id: Uuid,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.conversations.with(self.id, |live| live.pins -= 1);
    }
}

/// Whether a room is that of a conversation.
pub(super) fn is_conversation(room: &Room) -> bool {
    room.as_str().starts_with(ROOM)
}

/// What the names of these rooms begin with.
const ROOM: &str = "conversation:";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::service::presence::User;
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
        let waiting = async {
            let mut due = Vec::new();
            while due.len() < 2 {
                let id = conversations.next_timeout().await;
                conversations.with(id, |live| live.typing.handle_timeout(now()));
                due.push((id, now().duration_since(start).as_secs()));
            }
            due
        };
        let typing = async {
            // Each is due earlier than what is being waited for until then.
            start_typing(&conversations, second, later);
            tokio::task::yield_now().await;
            start_typing(&conversations, first, start);
        };
        let (due, ()) = tokio::join!(waiting, typing);
        assert_eq!(due, [(first, 6), (second, 7)]);
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

    fn conversations() -> Conversations {
        Conversations::new(Tempo {
            grace: GRACE,
            interval: Duration::from_millis(250),
        })
    }

    fn is_empty(conversations: &Conversations) -> bool {
        conversations.live.lock().is_empty()
            && conversations.sockets.lock().is_empty()
            && conversations.schedule.lock().is_empty()
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
        conversations.with(id, |live| live.typing.start(now, &user, socket(1)));
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    fn socket(n: u32) -> SocketId {
        SocketId::parse(&format!("{n:020}")).unwrap()
    }
}
