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
    heard: HashMap<NodeId, Instant>,
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
    /// answer. If a stream `keeps` messages, they are also for disconnected servers, so this server
    /// never counts as alone.
    pub(super) fn listening(&self, keeps: bool) {
        if keeps {
            self.alone.cut_off();
        } else {
            self.alone.listens();
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        table.since = Some(now);
        for heard in table.heard.values_mut() {
            *heard = now;
        }
    }

    /// Records that this server no longer receives messages.
    pub(super) fn cut_off(&self) {
        self.alone.cut_off();
        let mut table = self.table.lock();
        table.missed = table.heard.keys().cloned().collect();
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
    pub(super) fn heard(&self, node: NodeId) {
        self.alone.peer_message_received();
        let mut table = self.table.lock();
        table.missed.remove(&node);
        if table.heard.len() < MAX_NODES || table.heard.contains_key(&node) {
            table.heard.insert(node, Instant::now());
        }
    }

    /// Removes a peer that leaves. Returns whether it was known.
    pub(super) fn bye(&self, node: &NodeId) -> bool {
        self.alone.peer_message_received();
        let mut table = self.table.lock();
        table.missed.remove(node);
        table.heard.remove(node).is_some()
    }

    /// Returns the peers.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.table.lock().heard.keys().cloned().collect()
    }

    /// Removes and returns the peers that have been silent for too long.
    pub(super) fn gone(&self) -> Vec<NodeId> {
        let now = Instant::now();
        let is_gone = |_: &NodeId, heard: &mut Instant| now.duration_since(*heard) > PEER_TIMEOUT;
        let mut table = self.table.lock();
        table
            .heard
            .extract_if(is_gone)
            .map(|(node, _)| node)
            .collect()
    }
}

/// The maximum number of peers.
const MAX_NODES: usize = 4096;
/// The maximum silence of a peer, which sends a pulse every second.
const PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long this server must have listened before it can count as alone.
const SETTLING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silent_peer_expires_unless_this_server_was_disconnected() {
        let [x, y] = ["x", "y"].map(|name| NodeId::new(name).unwrap());
        let members = Members::default();
        members.heard(x.clone());
        members.heard(y.clone());
        tokio::time::advance(Duration::from_secs(8)).await;
        members.heard(y.clone());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(members.gone(), std::slice::from_ref(&x));
        assert_eq!(members.nodes(), std::slice::from_ref(&y));
        tokio::time::advance(Duration::from_secs(60)).await;
        members.cut_off();
        members.listening(true);
        assert_eq!(members.gone(), []);
        assert!(!members.are_back());
        assert!(members.bye(&y));
        assert!(members.are_back());
        assert!(!members.bye(&x), "it is gone already");
    }
}
