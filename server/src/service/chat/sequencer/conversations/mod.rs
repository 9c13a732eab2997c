//! The conversations in which somebody is, and the sockets that are in them.
//!
//! Everything that the members of a conversation see goes out under its own lock, in the order in
//! which it became true: messages, joining and leaving, typing, lists. Nothing under that lock waits
//! or calls a user's code. Locks are taken in the order conversation → a part of the table of sockets, a
//! part of the schedule, or changes; a part of the table of conversations is never held together with
//! another lock. Only who comes and goes takes a lock that all conversations share, that of the changes.

mod live;
mod schedule;
mod sharing;
#[cfg(test)]
mod tests;

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use uuid::Uuid;

pub(in crate::service) use self::live::{Common, Live};
use self::schedule::Schedule;
use self::sharing::Changes;
pub(in crate::service) use self::sharing::{Arrival, Looks};
use crate::service::chat::presence::conversation::Tempo;
use crate::service::chat::sequencer::confirming::Waiting;
use crate::service::chat::sequencer::sharded::Sharded;
use crate::service::cluster::Announcer;
use crate::service::rules::rooms::RoomKind;
use roomcast::{Room, SocketId};

/// All conversations in which somebody is. One that is left by everybody is forgotten.
#[derive(Debug)]
pub(in crate::service) struct Conversations {
    tempo: Tempo,
    common: Arc<Common>,
    live: Sharded<Mutex<HashMap<Uuid, Arc<Mutex<Live>>>>>,
    /// The conversations of each connected socket; as bounded as its rooms.
    sockets: Sharded<Mutex<HashMap<SocketId, Vec<Entered>>>>,
    schedule: Sharded<Schedule>,
    /// Whom other servers have to be told of: users who are here, and some who have gone lately.
    changed: Mutex<Changes>,
    /// Conversations in which others are or were lately at other servers.
    looks: Mutex<Looks>,
    /// There is something in one of the two.
    stirred: Notify,
    /// Joins that wait until it is known who is at other servers.
    arrivals: Mutex<Vec<Arrival>>,
    /// There is a join in the list.
    hurried: Notify,
}

/// A conversation that a socket has entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Entered {
    pub(in crate::service) id: Uuid,
    /// The number of the last message that was told before: the socket is told all later ones live.
    pub(in crate::service) since: u64,
}

impl Conversations {
    pub(in crate::service) fn common(&self) -> &Common {
        &self.common
    }

    pub(in crate::service) fn announcer(&self) -> Option<&Announcer> {
        self.common.announcer.as_ref()
    }

    /// Another server wants to know who confirms the message of this number, which is about to be shown here.
    pub(in crate::service) fn wait_for(&self, id: Uuid, seq: u64) -> Waiting {
        let common = &self.common;
        common.questions.wait_for((id, seq), common.confirm_timeout)
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
            arrivals: Mutex::default(),
            hurried: Notify::new(),
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
            .filter_map(|socket| self.entered(socket))
            .flatten()
            .map(|entered| entered.id)
            .collect()
    }

    /// The conversations in which a socket is; `None` if it is not connected.
    pub(in crate::service) fn entered(&self, socket: SocketId) -> Option<Vec<Entered>> {
        self.sockets.of(socket).lock().get(&socket).cloned()
    }

    /// Does something with a conversation, if somebody is in it.
    pub(in crate::service) fn with<R>(
        &self,
        id: Uuid,
        act: impl FnOnce(&mut Live) -> R,
    ) -> Option<R> {
        // The part of the table is let go of before the conversation is locked, so that one that is
        // busy does not hold up its neighbours.
        let found = self.live.of(id).lock().get(&id).cloned()?;
        let mut live = found.lock();
        // Somebody has left between the two locks, and the conversation is out of the table.
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
                // Whoever has marked it gone may not have taken it out yet; taken out here, the
                // next turn makes a new one.
                self.forget(id, &found);
                continue;
            }
            // The pin counts under the lock of the conversation, where it is decided whether that
            // is forgotten.
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
        // A conversation does not know the table of sockets, so the sockets that were taken out of
        // it are noted here.
        for socket in std::mem::take(&mut live.expelled) {
            self.exit(socket, live.id);
        }
        let changed = live.presence.take_changed();
        if !changed.is_empty() {
            self.share(live.id, changed);
        }
        let next = live.poll_timeout();
        // Most changes leave the next timeout as it is, and then the lock of the schedule is
        // spared.
        if next != live.scheduled {
            let schedule = self.schedule.of(live.id);
            schedule.replace(live.id, live.scheduled, next);
            live.scheduled = next;
        }
        if live.is_empty() {
            live.is_gone = true;
            let id = live.id;
            // The table is never locked together with a conversation, so a conversation that is
            // gone is only marked under its own lock.
            drop(live);
            self.forget(id, found);
        }
    }

    fn forget(&self, id: Uuid, gone: &Arc<Mutex<Live>>) {
        if let Entry::Occupied(entry) = self.live.of(id).lock().entry(id)
            // By now another one of the same id may be in the table, which must stay.
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
    pub(in crate::service) fn disconnect(&self, socket: SocketId) -> Vec<Entered> {
        let removed = self.sockets.of(socket).lock().remove(&socket);
        removed.unwrap_or_default()
    }

    /// Notes that a socket is in a conversation, and returns since when: one that is in already stays as it is. `None` says
    /// that it has gone meanwhile. To be called under the conversation's lock, so that [`Conversations::disconnect`] either
    /// makes this fail or finds what it did.
    pub(in crate::service) fn enter(&self, socket: SocketId, entered: Entered) -> Option<u64> {
        let mut sockets = self.sockets.of(socket).lock();
        let own = sockets.get_mut(&socket)?;
        if let Some(known) = own.iter().find(|known| known.id == entered.id) {
            return Some(known.since);
        }
        own.push(entered);
        Some(entered.since)
    }

    /// Notes that a socket has left a conversation.
    pub(in crate::service) fn exit(&self, socket: SocketId, conversation: Uuid) {
        if let Some(own) = self.sockets.of(socket).lock().get_mut(&socket) {
            own.retain(|entered| entered.id != conversation);
        }
    }
}

/// Keeps a conversation in the table.
pub(in crate::service) struct Pin<'a> {
    conversations: &'a Conversations,
    id: Uuid,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        // The end of the pin settles the conversation, which forgets one that nobody has joined.
        self.conversations.with(self.id, |live| {
            live.pins -= 1;
            if live.pins == 0 {
                live.recorded = None;
            }
        });
    }
}

/// The room of a conversation.
pub(in crate::service) fn room_of(id: Uuid) -> Room {
    Room::from(format!("{}:{id}", ROOM.prefix()))
}

/// The conversation whose room this is.
pub(in crate::service) fn conversation_of(room: &Room) -> Option<Uuid> {
    Uuid::try_parse(id_in(room.as_str())?).ok()
}

/// Whether the name of a room is one that only conversations have.
pub(in crate::service) fn is_room_of_conversation(room: &str) -> bool {
    id_in(room).is_some()
}

/// What is behind the beginning that the names of these rooms have.
fn id_in(room: &str) -> Option<&str> {
    room.strip_prefix(ROOM.prefix())?.strip_prefix(':')
}

const ROOM: RoomKind = RoomKind::Conversation;
