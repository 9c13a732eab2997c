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
use crate::adapter::node_js::kind;

/// The servers that sent a heartbeat recently, and when this server last sent one.
#[derive(Debug, Default)]
pub(crate) struct Heartbeats(Mutex<HashMap<Nsp, Peers>>);

#[derive(Debug, Default)]
struct Peers {
    last_heartbeat: HashMap<String, Instant>,
    last_sent: Option<Instant>,
}

impl Heartbeats {
    /// Records a heartbeat or a request of a server. Returns the response to send, if any.
    pub(crate) fn record(&self, own: &str, nsp: &Nsp, uid: &str, kind: u64) -> Option<StreamEntry> {
        let now = Instant::now();
        let mut all = self.0.lock();
        if kind == kind::SERVER_LEAVE {
            if let Some(known) = all.get_mut(nsp) {
                known.last_heartbeat.remove(uid);
            }
            return None;
        }
        let known = all.entry(nsp.clone()).or_default();
        known.forget(now);
        if known.last_heartbeat.len() < MAX_SERVERS || known.last_heartbeat.contains_key(uid) {
            known.last_heartbeat.insert(uid.to_owned(), now);
        }
        let delay = match kind {
            kind::FIRST_HEARTBEAT => FIRST_HEARTBEAT_DELAY,
            _ => HEARTBEAT_INTERVAL,
        };
        if known
            .last_sent
            .is_some_and(|last_sent| now - last_sent < delay)
        {
            return None;
        }
        known.last_sent = Some(now);
        Some(StreamEntry::bare(own, nsp, name(kind::HEARTBEAT)))
    }

    /// Returns the number of such servers in a namespace.
    pub(crate) fn count(&self, nsp: &Nsp) -> usize {
        let mut all = self.0.lock();
        all.get_mut(nsp).map_or(0, |known| {
            known.forget(Instant::now());
            known.last_heartbeat.len()
        })
    }

    /// Returns whether a server receives its answers as entries.
    pub(crate) fn knows(&self, nsp: &Nsp, uid: &str) -> bool {
        let all = self.0.lock();
        all.get(nsp)
            .is_some_and(|known| known.last_heartbeat.contains_key(uid))
    }

    /// Removes a closed namespace. Returns the leave message to send, if any.
    pub(crate) fn closed(&self, own: &str, nsp: &Nsp) -> Option<StreamEntry> {
        let known = self.0.lock().remove(nsp)?;
        known.last_sent?;
        Some(StreamEntry::bare(own, nsp, name(kind::SERVER_LEAVE)))
    }

    /// Returns all namespaces with such servers, including former servers.
    pub(crate) fn namespaces(&self) -> Vec<Nsp> {
        self.0.lock().keys().cloned().collect()
    }
}

impl Peers {
    fn forget(&mut self, now: Instant) {
        self.last_heartbeat.retain(|_, at| now - *at < PEER_TIMEOUT);
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
const FIRST_HEARTBEAT_DELAY: Duration = Duration::from_millis(500);
/// The maximum number of servers per namespace that are counted.
const MAX_SERVERS: usize = 1024;
