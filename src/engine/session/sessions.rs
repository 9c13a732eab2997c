//! The sessions that are open, by id.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use roomcast_protocol::Sid;

use crate::engine::outbox::Outbox;

/// Locks that look-ups of different sessions spread over.
const SHARDS: usize = 64;

/// A map from session id to session, in shards.
#[derive(Debug)]
pub(in crate::engine) struct Sessions {
    shards: Box<[Mutex<HashMap<Sid, Outbox>>]>,
}

impl Sessions {
    pub(super) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Returns `false` if another session has this id.
    pub(in crate::engine) fn insert(&self, outbox: &Outbox) -> bool {
        let sid = outbox.sid();
        self.with(sid, |shard| match shard.entry(sid) {
            Entry::Occupied(_) => false,
            Entry::Vacant(entry) => {
                entry.insert(outbox.clone());
                true
            }
        })
    }

    pub(in crate::engine) fn get(&self, sid: Sid) -> Option<Outbox> {
        self.with(sid, |shard| shard.get(&sid).cloned())
    }

    pub(super) fn remove(&self, sid: Sid) {
        self.with(sid, |shard| {
            // Whoever removes a session still holds its outbox, so nothing is torn down under this
            // lock.
            shard.remove(&sid);
            if shard.is_empty() {
                shard.shrink_to_fit();
            }
        });
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// The sessions open now.
    pub(in crate::engine) fn all(&self) -> Vec<Outbox> {
        let mut all = Vec::new();
        for shard in &self.shards {
            all.extend(shard.lock().values().cloned());
        }
        all
    }

    fn with<T: Default>(&self, sid: Sid, f: impl FnOnce(&mut HashMap<Sid, Outbox>) -> T) -> T {
        // The id is random, so any byte of it spreads well.
        let index = sid.as_str().bytes().fold(0, |sum: usize, byte| {
            sum.wrapping_mul(31) + usize::from(byte)
        }) % SHARDS;
        self.shards
            .get(index)
            .map(|shard| f(&mut shard.lock()))
            .unwrap_or_default()
    }
}

/// A session that its client may know of already and that is not open yet. Dropping it takes the
/// session out of the table.
#[derive(Debug)]
pub(in crate::engine) struct Announced {
    outbox: Option<Outbox>,
    sessions: Arc<Sessions>,
}

impl Announced {
    pub(super) fn new(outbox: Outbox, sessions: &Arc<Sessions>) -> Self {
        Self {
            outbox: Some(outbox),
            sessions: Arc::clone(sessions),
        }
    }

    /// The session is opened now.
    pub(super) fn into_outbox(mut self) -> Option<Outbox> {
        self.outbox.take()
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Some(outbox) = self.outbox.take() {
            self.sessions.remove(outbox.sid());
        }
    }
}
