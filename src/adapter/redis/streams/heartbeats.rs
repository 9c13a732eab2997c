//! Servers that count each other by heartbeats, as those of the adapter's version 0.2 do.
//!
//! Heartbeats are answered in kind and never begun: where there is no such server, there are none.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use super::{StreamEntry, name};
use crate::adapter::message::kind;

/// Who was heard of lately, and when this server has spoken of itself.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(Mutex<HashMap<Nsp, HeardServers>>);

#[derive(Debug, Default)]
struct HeardServers {
    others: HashMap<String, Instant>,
    told: Option<Instant>,
}

impl Heartbeats {
    /// A server has spoken of itself, or has asked over the stream. What it is to be told, if anything.
    pub(crate) fn heard(&self, own: &str, nsp: &Nsp, uid: &str, heard: u64) -> Option<StreamEntry> {
        let now = Instant::now();
        let mut all = self.0.lock();
        if heard == kind::FAREWELL {
            if let Some(known) = all.get_mut(nsp) {
                known.others.remove(uid);
            }
            return None;
        }
        let known = all.entry(nsp.clone()).or_default();
        known.forget(now);
        if known.others.len() < MAX_SERVERS || known.others.contains_key(uid) {
            known.others.insert(uid.to_owned(), now);
        }
        let pause = match heard {
            kind::FIRST_HEARTBEAT => FIRST_PAUSE,
            _ => PAUSE,
        };
        if known.told.is_some_and(|told| now - told < pause) {
            return None;
        }
        known.told = Some(now);
        Some(StreamEntry::bare(own, nsp, name(kind::HEARTBEAT)))
    }

    /// How many there are in a namespace.
    pub(crate) fn count(&self, nsp: &Nsp) -> usize {
        let mut all = self.0.lock();
        all.get_mut(nsp).map_or(0, |known| {
            known.forget(Instant::now());
            known.others.len()
        })
    }

    /// Whether this one gets its answers as entries.
    pub(crate) fn knows(&self, nsp: &Nsp, uid: &str) -> bool {
        let all = self.0.lock();
        all.get(nsp)
            .is_some_and(|known| known.others.contains_key(uid))
    }

    /// A namespace is closed: what the others of it are to be told, if anything.
    pub(crate) fn closed(&self, own: &str, nsp: &Nsp) -> Option<StreamEntry> {
        let known = self.0.lock().remove(nsp)?;
        known.told?;
        Some(StreamEntry::bare(own, nsp, name(kind::FAREWELL)))
    }

    /// All namespaces in which there are such servers, or were.
    pub(crate) fn namespaces(&self) -> Vec<Nsp> {
        self.0.lock().keys().cloned().collect()
    }
}

impl HeardServers {
    fn forget(&mut self, now: Instant) {
        self.others.retain(|_, heard| now - *heard < GONE);
    }
}

/// What the adapter of Node has by default: a heartbeat every 5 s, and who says nothing for 10 s is gone.
const PAUSE: Duration = Duration::from_secs(4);
const GONE: Duration = Duration::from_secs(10);
/// Several that come at the same time are answered once.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Servers of one namespace that are counted.
const MAX_SERVERS: usize = 1024;
