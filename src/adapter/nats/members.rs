//! Tracks the other servers by their pulses.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::{common::SoleServer, envelope::NodeId};

/// The other servers.
#[derive(Debug)]
pub(super) struct Members {
    table: Mutex<Inner>,
    /// Whether there are no peers, and no messages are stored for disconnected servers.
    pub(super) alone: SoleServer,
}

#[derive(Debug, Default)]
struct Inner {
    /// Since when this server listens.
    since: Option<Instant>,
    /// When the last pulse of each peer arrived.
    last_pulse: HashMap<NodeId, Instant>,
    /// The peers without a pulse since this server was disconnected.
    missed: HashSet<NodeId>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            alone: SoleServer::new(SETTLING, PEER_TIMEOUT * 30),
        }
    }
}

impl Members {
    /// Records that this server is subscribed from now on, maybe again. Existing peers have time to
    /// answer. If a stream stores messages (`is_stored`), they are also for disconnected servers,
    /// so this server never counts as alone.
    pub(super) fn listening(&self, is_stored: bool) {
        if is_stored {
            self.alone.disconnected();
        } else {
            self.alone.listens();
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        table.since = Some(now);
        for last_pulse in table.last_pulse.values_mut() {
            *last_pulse = now;
        }
    }

    /// Records that this server no longer receives messages.
    pub(super) fn disconnected(&self) {
        self.alone.disconnected();
        let mut table = self.table.lock();
        table.missed = table.last_pulse.keys().cloned().collect();
    }

    /// Returns whether all peers from before the disconnect have sent a pulse, or have left.
    pub(super) fn are_back(&self) -> bool {
        self.table.lock().missed.is_empty()
    }

    /// Returns since when this server listens.
    pub(super) fn since(&self) -> Option<Instant> {
        self.table.lock().since
    }

    /// Records a pulse of a peer.
    pub(super) fn record_pulse(&self, node: NodeId) {
        self.alone.peer_message_received();
        let mut table = self.table.lock();
        table.missed.remove(&node);
        if table.last_pulse.len() < MAX_NODES || table.last_pulse.contains_key(&node) {
            table.last_pulse.insert(node, Instant::now());
        }
    }

    /// Removes a peer that leaves. Returns whether it was known.
    pub(super) fn bye(&self, node: &NodeId) -> bool {
        self.alone.peer_message_received();
        let mut table = self.table.lock();
        table.missed.remove(node);
        table.last_pulse.remove(node).is_some()
    }

    /// Returns the peers.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.table.lock().last_pulse.keys().cloned().collect()
    }

    /// Removes and returns the peers that have been silent for too long.
    pub(super) fn expire(&self) -> Vec<NodeId> {
        let now = Instant::now();
        let is_expired =
            |_: &NodeId, last_pulse: &mut Instant| now.duration_since(*last_pulse) > PEER_TIMEOUT;
        let mut table = self.table.lock();
        table
            .last_pulse
            .extract_if(is_expired)
            .map(|(node, _)| node)
            .collect()
    }
}

/// The maximum number of peers.
const MAX_NODES: usize = 4096;
/// The maximum silence of a peer, which sends a pulse every second.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum time that this server must have listened before it can count as alone.
const SETTLING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_peer_expires_unless_this_server_was_disconnected() {
        let [x, y] = ["x", "y"].map(|name| NodeId::new(name).unwrap());
        let members = Members::default();
        members.record_pulse(x.clone());
        members.record_pulse(y.clone());
        tokio::time::advance(Duration::from_secs(8)).await;
        members.record_pulse(y.clone());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(members.expire(), std::slice::from_ref(&x));
        assert_eq!(members.nodes(), std::slice::from_ref(&y));
        tokio::time::advance(Duration::from_secs(60)).await;
        members.disconnected();
        members.listening(true);
        assert_eq!(members.expire(), []);
        assert!(!members.are_back());
        assert!(members.bye(&y));
        assert!(members.are_back());
        assert!(!members.bye(&x), "the peer has already expired");
    }
}
