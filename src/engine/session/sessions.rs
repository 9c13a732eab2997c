//! The open sessions by id, and the ids of recently ended sessions.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use roomcast_protocol::Sid;

use crate::engine::outbox::Outbox;

/// Number of shards, each with its own lock.
const SHARDS: usize = 64;
/// Number of ended session ids that each shard retains: 160 KiB for all shards together.
const ENDED: usize = 128;

/// A map from session id to session, in shards.
pub(in crate::engine) struct Sessions {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    open: HashMap<Sid, Outbox>,
    /// Ids of ended sessions, oldest first. Only metrics depend on it.
    ended: VecDeque<Sid>,
}

impl Shard {
    fn note_end(&mut self, sid: Sid) {
        if self.ended.len() == ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(sid);
    }
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Inserts a session. Returns `false` if another session has this id.
    pub(in crate::engine) fn insert(&self, outbox: &Outbox) -> bool {
        let sid = outbox.sid();
        self.with(sid, |shard| match shard.open.entry(sid) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(outbox.clone());
                true
            }
        })
    }

    pub(in crate::engine) fn get(&self, sid: Sid) -> Option<Outbox> {
        self.with(sid, |shard| shard.open.get(&sid).cloned())
    }

    /// Returns whether a session with this id is known to have ended. About the last eight thousand
    /// are known.
    pub(in crate::engine) fn has_ended(&self, sid: Sid) -> bool {
        self.with(sid, |shard| shard.ended.contains(&sid))
    }

    pub(super) fn remove(&self, sid: Sid) {
        self.with(sid, |shard| {
            // The caller still holds the outbox, so nothing is dropped under this lock.
            if shard.open.remove(&sid).is_none() {
                return;
            }
            if shard.open.is_empty() {
                shard.open.shrink_to_fit();
            }
            shard.note_end(sid);
        });
    }

    pub(super) fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| shard.lock().open.len())
            .sum()
    }

    /// Returns all open sessions.
    pub(in crate::engine) fn all(&self) -> Vec<Outbox> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().open.values().cloned());
        }
        all
    }

    fn with<T: Default>(&self, sid: Sid, f: impl FnOnce(&mut Shard) -> T) -> T {
        // Ids are random, unless the application generates them, for example by counting.
        let end = sid.as_str().bytes().rev().take(2);
        let index = end.fold(0, |sum, byte| sum * 31 + usize::from(byte)) % SHARDS;
        self.shards
            .get(index)
            .map(|shard| f(&mut shard.lock()))
            .unwrap_or_default()
    }
}

/// A session that its client may already know but that is not open yet. Dropping it removes the
/// session from the table.
pub(in crate::engine) struct AnnouncedSession {
    outbox: Option<Outbox>,
    sessions: Arc<Sessions>,
}

impl AnnouncedSession {
    pub(super) fn new(outbox: Outbox, sessions: &Arc<Sessions>) -> Self {
        Self {
            outbox: Some(outbox),
            sessions: Arc::clone(sessions),
        }
    }

    /// Returns the outbox, because the session is being opened.
    pub(super) fn into_outbox(mut self) -> Option<Outbox> {
        self.outbox.take()
    }
}

impl Drop for AnnouncedSession {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            self.sessions.remove(outbox.sid());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latest_ended_session_ids_are_known() {
        let sid = |n: usize| {
            let [low, high, ..] = n.to_le_bytes();
            let mut bytes = [0; 15];
            bytes[..2].copy_from_slice(&[low, high]);
            Sid::from_random(bytes)
        };
        let mut shard = Shard::default();
        for n in 0..3 * ENDED {
            shard.note_end(sid(n));
        }
        assert_eq!(shard.ended.len(), ENDED);
        assert!(!shard.ended.contains(&sid(2 * ENDED - 1)));
        assert!(shard.ended.contains(&sid(2 * ENDED)));
    }
}
