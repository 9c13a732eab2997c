//! Tracks the other servers by their pulses.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::{cluster::nodes::excuse_stall, common::SoleServer, envelope::NodeId};

/// The other servers.
#[derive(Debug)]
pub(super) struct Members {
    /// The maximum silence of a peer, after which it has left.
    peer_timeout: Duration,
    table: Mutex<Inner>,
    /// Whether there are no peers, and no messages are stored for disconnected servers.
    pub(super) alone: SoleServer,
}

#[derive(Debug, Default)]
struct Inner {
    /// Since when this server listens, or listened last.
    since: Option<Instant>,
    /// Whether this server receives messages.
    is_listening: bool,
    /// When the last pulse of each peer arrived.
    last_pulse: HashMap<NodeId, Instant>,
    /// The peers without a pulse since this server was disconnected.
    missed: HashSet<NodeId>,
}

impl Members {
    /// Creates an empty list. A peer that sends no pulse expires after the lease, which also limits
    /// the silence of its heartbeats, but not before [`MIN_PEER_TIMEOUT`].
    pub(super) fn new(lease: Duration) -> Self {
        let peer_timeout = lease.max(MIN_PEER_TIMEOUT);
        Self {
            peer_timeout,
            table: Mutex::default(),
            alone: SoleServer::new(SETTLING, peer_timeout.saturating_mul(30)),
        }
    }

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
        table.is_listening = true;
        for last_pulse in table.last_pulse.values_mut() {
            *last_pulse = now;
        }
    }

    /// Records that this server no longer receives messages.
    pub(super) fn disconnected(&self) {
        self.alone.disconnected();
        let mut table = self.table.lock();
        table.is_listening = false;
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

    /// Removes and returns the peers that have been silent for too long. This server reads no
    /// pulses while it stalls or is not subscribed, so that time does not count as silence.
    pub(super) fn expire(&self, stall: Duration) -> Vec<NodeId> {
        let now = Instant::now();
        let is_expired = |_: &NodeId, last_pulse: &mut Instant| {
            now.duration_since(*last_pulse) > self.peer_timeout
        };
        let mut table = self.table.lock();
        if !table.is_listening {
            return Vec::new();
        }
        excuse_stall(stall, table.last_pulse.values_mut());
        table
            .last_pulse
            .extract_if(is_expired)
            .map(|(node, _)| node)
            .collect()
    }
}

/// The maximum number of peers.
const MAX_NODES: usize = 4096;
/// The minimum value for the maximum silence of a peer, which sends a pulse every second.
const MIN_PEER_TIMEOUT: Duration = Duration::from_secs(10);
/// Minimum time that this server must have listened before it can count as alone.
const SETTLING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn silent_peer_expires_unless_this_server_was_disconnected() {
        let [x, y] = ["x", "y"].map(|name| NodeId::new(name).unwrap());
        let members = Members::new(LEASE);
        members.listening(false);
        members.record_pulse(x.clone());
        members.record_pulse(y.clone());
        tokio::time::advance(Duration::from_secs(8)).await;
        members.record_pulse(y.clone());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(members.expire(Duration::ZERO), std::slice::from_ref(&x));
        assert_eq!(members.nodes(), std::slice::from_ref(&y));
        tokio::time::advance(Duration::from_secs(60)).await;
        members.disconnected();
        // The pulses begin before the subscription.
        assert_eq!(members.expire(Duration::ZERO), []);
        members.listening(true);
        assert_eq!(members.expire(Duration::ZERO), []);
        assert!(!members.are_back());
        assert!(members.bye(&y));
        assert!(members.are_back());
        assert!(!members.bye(&x), "the peer has already expired");
    }

    #[tokio::test(start_paused = true)]
    async fn stall_of_this_server_does_not_count_as_silence_of_peers() {
        let x = NodeId::new("x").unwrap();
        let members = Members::new(LEASE);
        members.listening(false);
        members.record_pulse(x.clone());
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(61)).await;
            assert_eq!(members.expire(Duration::from_secs(60)), []);
        }
        tokio::time::advance(Duration::from_secs(8)).await;
        assert_eq!(members.expire(Duration::ZERO), [x], "11 s without a stall");
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peer_expires_after_the_lease_but_not_before_10s() {
        let x = NodeId::new("x").unwrap();
        for (lease, expected) in [(1, 11), (10, 11), (30, 31)] {
            let members = Members::new(Duration::from_secs(lease));
            members.listening(false);
            members.record_pulse(x.clone());
            let mut seconds = 0;
            while members.expire(Duration::ZERO).is_empty() && seconds < 60 {
                tokio::time::advance(Duration::from_secs(1)).await;
                seconds += 1;
            }
            assert_eq!(seconds, expected, "{lease}");
        }
        // No lease is too long.
        Members::new(Duration::MAX).record_pulse(x);
    }
}
