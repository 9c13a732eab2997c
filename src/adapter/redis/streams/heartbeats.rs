//! Tracks servers that count each other by heartbeats, like version 0.2 of the streams adapter.
//!
//! This server only responds to heartbeats and never sends the first. If there is no such server,
//! there are no heartbeats.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use super::{StreamEntry, name};
use crate::adapter::message::kind;

/// The servers that sent a heartbeat recently, and when this server last sent one.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(Mutex<HashMap<Nsp, HeardServers>>);

#[derive(Debug, Default)]
struct HeardServers {
    others: HashMap<String, Instant>,
    told: Option<Instant>,
}

impl Heartbeats {
    /// Records a heartbeat or a request of a server. Returns the response to send, if any.
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
            _ => HEARTBEAT_INTERVAL,
        };
        if known.told.is_some_and(|told| now - told < pause) {
            return None;
        }
        known.told = Some(now);
        Some(StreamEntry::bare(own, nsp, name(kind::HEARTBEAT)))
    }

    /// Returns the number of such servers in a namespace.
    pub(crate) fn count(&self, nsp: &Nsp) -> usize {
        let mut all = self.0.lock();
        all.get_mut(nsp).map_or(0, |known| {
            known.forget(Instant::now());
            known.others.len()
        })
    }

    /// Returns whether a server receives its answers as entries.
    pub(crate) fn knows(&self, nsp: &Nsp, uid: &str) -> bool {
        let all = self.0.lock();
        all.get(nsp)
            .is_some_and(|known| known.others.contains_key(uid))
    }

    /// Removes a closed namespace. Returns the leave message to send, if any.
    pub(crate) fn closed(&self, own: &str, nsp: &Nsp) -> Option<StreamEntry> {
        let known = self.0.lock().remove(nsp)?;
        known.told?;
        Some(StreamEntry::bare(own, nsp, name(kind::FAREWELL)))
    }

    /// Returns all namespaces with such servers, including former servers.
    pub(crate) fn namespaces(&self) -> Vec<Nsp> {
        self.0.lock().keys().cloned().collect()
    }
}

impl HeardServers {
    fn forget(&mut self, now: Instant) {
        self.others.retain(|_, heard| now - *heard < PEER_TIMEOUT);
    }
}

/// The minimum delay between heartbeats of this server. By default, Node's adapter sends one every
/// 5 s.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(4);
/// The time after its last heartbeat after which a server expires, which is the default of Node's
/// adapter.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// The minimum delay before a response to a first heartbeat. Several first heartbeats within this
/// time get one response.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The maximum number of servers per namespace that are counted.
const MAX_SERVERS: usize = 1024;
