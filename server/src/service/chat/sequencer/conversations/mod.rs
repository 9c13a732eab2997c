//! The live conversations and the sockets that have joined them.
//!
//! Everything that the members of a conversation receive is emitted under its own lock, in the
//! order in which it became true: messages, joins and departures, typing, lists. Code under that
//! lock neither waits nor calls user code.
//!
//! A conversation's lock is taken before that of a shard of the socket table, a shard of the
//! schedule, or the changes. The lock of a shard of the conversation table is never held together
//! with another lock. Only joins and departures take a lock that all conversations share, that of
//! the changes.

mod inventory;
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

pub(in crate::service) use self::live::{LiveConversation, SharedContext};
use self::schedule::Schedule;
use self::sharing::Changes;
pub(in crate::service) use self::sharing::{Arrival, PresenceLookups};
use crate::service::chat::presence::conversation::PresenceConfig;
use crate::service::chat::sequencer::confirming::PendingAnswer;
use crate::service::chat::sequencer::sharded::Sharded;
use crate::service::cluster::Announcer;
use crate::service::rules::rooms::RoomKind;
use roomcast::{Room, SocketId};

/// All conversations with a joined socket. A conversation is evicted when the last user leaves.
#[derive(Debug)]
pub(in crate::service) struct Conversations {
    tempo: PresenceConfig,
    common: Arc<SharedContext>,
    live: Sharded<Mutex<HashMap<Uuid, Arc<Mutex<LiveConversation>>>>>,
    /// The conversations of each connected socket, bounded like its rooms.
    sockets: Sharded<Mutex<HashMap<SocketId, Vec<Entered>>>>,
    schedule: Sharded<Schedule>,
    /// Users whose presence must be published to other servers: present users and recent
    /// departures.
    changed: Mutex<Changes>,
    /// Conversations that have or recently had users on other servers.
    lookups: Mutex<PresenceLookups>,
    /// Notifies that `changed` or `lookups` has an entry.
    stirred: Notify,
    /// Joins that wait for the presence of other servers.
    arrivals: Mutex<Vec<Arrival>>,
    /// Notifies that `arrivals` has an entry.
    hurried: Notify,
}

/// A conversation that a socket has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Entered {
    pub(in crate::service) id: Uuid,
    /// The number of the last message before the live messages: the socket receives all later
    /// messages live.
    pub(in crate::service) since: u64,
}

impl Conversations {
    pub(in crate::service) fn common(&self) -> &SharedContext {
        &self.common
    }

    pub(in crate::service) fn announcer(&self) -> Option<&Announcer> {
        self.common.announcer.as_ref()
    }

    /// Registers another server's request for the confirmations of a message that is about to be
    /// emitted here.
    pub(in crate::service) fn wait_for(&self, id: Uuid, seq: u64) -> PendingAnswer {
        let common = &self.common;
        common
            .confirmation_requests
            .wait_for((id, seq), common.confirm_timeout)
    }

    pub(in crate::service) fn new(tempo: PresenceConfig, common: SharedContext) -> Self {
        Self {
            tempo,
            common: Arc::new(common),
            live: Sharded::new(),
            sockets: Sharded::new(),
            schedule: Sharded::new(),
            changed: Mutex::default(),
            lookups: Mutex::default(),
            stirred: Notify::new(),
            arrivals: Mutex::default(),
            hurried: Notify::new(),
        }
    }

    /// Returns the live conversations.
    pub(in crate::service) fn ids(&self) -> Vec<Uuid> {
        let ids = |part: &Mutex<HashMap<Uuid, _>>| part.lock().keys().copied().collect::<Vec<_>>();
        self.live.iter().flat_map(ids).collect()
    }

    /// Returns the conversations that these sockets have joined.
    pub(in crate::service) fn of_sockets(
        &self,
        sockets: impl Iterator<Item = SocketId>,
    ) -> BTreeSet<Uuid> {
        sockets
            .filter_map(|socket| self.entered(&socket))
            .flatten()
            .map(|entered| entered.id)
            .collect()
    }

    /// Returns the conversations that a socket has joined, or `None` if it is not connected.
    pub(in crate::service) fn entered(&self, socket: &SocketId) -> Option<Vec<Entered>> {
        self.sockets.of(socket).lock().get(socket).cloned()
    }

    /// Calls a function with a live conversation. Returns `None` if it is not live.
    pub(in crate::service) fn with<R>(
        &self,
        id: Uuid,
        act: impl FnOnce(&mut LiveConversation) -> R,
    ) -> Option<R> {
        // The shard is unlocked before the conversation is locked, so that a busy conversation does
        // not block its shard.
        let found = self.live.of(id).lock().get(&id).cloned()?;
        let mut live = found.lock();
        // The last user left between the two locks, and the conversation is out of the table.
        if live.is_removed {
            return None;
        }
        let result = act(&mut live);
        self.settle(&found, live);
        Some(result)
    }

    /// Keeps a conversation live, even if it is empty, until the pin is dropped.
    ///
    /// The pin is taken before the conversation is read from the store and dropped after a socket
    /// has joined.
    pub(in crate::service) fn pin(&self, id: Uuid) -> Pin<'_> {
        loop {
            let found = match self.live.of(id).lock().entry(id) {
                Entry::Occupied(entry) => Arc::clone(entry.get()),
                Entry::Vacant(entry) => {
                    let live = LiveConversation::new(id, self.tempo, Arc::clone(&self.common));
                    Arc::clone(entry.insert(Arc::new(Mutex::new(live))))
                }
            };
            let mut live = found.lock();
            if live.is_removed {
                drop(live);
                // The task that marked the conversation may not have removed it yet. After its
                // removal here, the next iteration creates a new one.
                self.forget(id, &found);
                continue;
            }
            // The pin counts under the lock of the conversation, which also protects the decision
            // to evict it.
            live.pins += 1;
            return Pin {
                conversations: self,
                id,
            };
        }
    }

    /// Schedules the conversation's next timeout after a change, and evicts the conversation if it
    /// is empty.
    fn settle(
        &self,
        found: &Arc<Mutex<LiveConversation>>,
        mut live: MutexGuard<'_, LiveConversation>,
    ) {
        // A conversation does not know the table of sockets, so the sockets removed from it are
        // recorded here.
        for socket in std::mem::take(&mut live.expelled) {
            self.exit(&socket, live.id);
        }
        let changed = live.presence.take_changed();
        if !changed.is_empty() {
            self.share(live.id, changed);
        }
        let next = live.poll_timeout();
        // Most changes do not affect the next timeout, and then need no lock of the schedule.
        if next != live.scheduled {
            let schedule = self.schedule.of(live.id);
            schedule.replace(live.id, live.scheduled, next);
            live.scheduled = next;
        }
        if live.is_empty() {
            live.is_removed = true;
            let id = live.id;
            // The table is never locked together with a conversation. An evicted conversation is
            // only marked under its own lock.
            drop(live);
            self.forget(id, found);
        }
    }

    fn forget(&self, id: Uuid, removed: &Arc<Mutex<LiveConversation>>) {
        if let Entry::Occupied(entry) = self.live.of(id).lock().entry(id)
            // The table may already contain a new conversation with the same id, which must stay.
            && Arc::ptr_eq(entry.get(), removed)
        {
            entry.remove();
        }
    }

    /// Records that a socket has connected and may join.
    pub(in crate::service) fn connect(&self, socket: SocketId) {
        self.sockets.of(&socket).lock().insert(socket, Vec::new());
    }

    /// Records that a socket has disconnected. Returns the conversations that it was in.
    pub(in crate::service) fn disconnect(&self, socket: &SocketId) -> Vec<Entered> {
        let removed = self.sockets.of(socket).lock().remove(socket);
        removed.unwrap_or_default()
    }

    /// Records that a socket has joined a conversation, and returns the `since` that applies.
    ///
    /// If the socket has already joined, its earlier `since` applies. Returns `None` if the socket
    /// has disconnected. Callers must hold the conversation's lock, so that
    /// [`Conversations::disconnect`] either makes this fail or finds the entry.
    pub(in crate::service) fn enter(&self, socket: &SocketId, entered: Entered) -> Option<u64> {
        let mut sockets = self.sockets.of(socket).lock();
        let own = sockets.get_mut(socket)?;
        if let Some(known) = own.iter().find(|known| known.id == entered.id) {
            return Some(known.since);
        }
        own.push(entered);
        Some(entered.since)
    }

    /// Records that a socket has left a conversation.
    pub(in crate::service) fn exit(&self, socket: &SocketId, conversation: Uuid) {
        if let Some(own) = self.sockets.of(socket).lock().get_mut(socket) {
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
        // Dropping the pin settles the conversation, which evicts it if no socket has joined.
        self.conversations.with(self.id, |live| {
            live.pins -= 1;
            if live.pins == 0 {
                live.recorded = None;
            }
        });
    }
}

/// Returns the room of a conversation.
pub(in crate::service) fn room_of(id: Uuid) -> Room {
    Room::from(format!("{}:{id}", ROOM.prefix()))
}

/// Returns the conversation whose room this is.
pub(in crate::service) fn conversation_of(room: &Room) -> Option<Uuid> {
    Uuid::try_parse(id_in(room.as_str())?).ok()
}

/// Returns whether only conversations have rooms with such a name.
pub(in crate::service) fn is_room_of_conversation(room: &str) -> bool {
    id_in(room).is_some()
}

/// Returns the part of the name after the prefix of conversation rooms.
fn id_in(room: &str) -> Option<&str> {
    room.strip_prefix(ROOM.prefix())?.strip_prefix(':')
}

const ROOM: RoomKind = RoomKind::Conversation;
