//! Detects whether announcements of other servers may be missing.
//!
//! A server that is isolated from the broker may still use the store. Its changes are then in the
//! store but not announced. Other servers notice missing heartbeats, or more leases in the store
//! than servers in the cluster. After such a server returns, its heartbeats report a gap.

use std::collections::HashMap;
use std::time::Duration;

use roomcast::adapter::{Node, NodeId};
use tokio::time::{Instant, timeout};

use crate::service::cluster::Announcer;
use crate::store;
use roomcast::Io;

/// The state of announcements from other servers.
pub(super) struct Announced {
    io: Io,
    announcer: Option<Announcer>,
    leases: Option<store::Leases>,
    checked: Option<Instant>,
    last: Option<bool>,
    known: KnownNodes,
}

impl Announced {
    pub(super) fn new(io: Io, announcer: Option<Announcer>, leases: Option<store::Leases>) -> Self {
        Self {
            io,
            announcer,
            leases,
            checked: None,
            last: None,
            known: KnownNodes::default(),
        }
    }

    /// Returns whether all changes are announced to this server, and have been since the last call.
    ///
    /// Returns `None` without an adapter. Checks at most four times a second.
    pub(super) async fn check(&mut self) -> Option<bool> {
        let announcer = self.announcer.as_ref()?;
        if self.checked.is_some_and(|at| at.elapsed() < CHECK) {
            return self.last;
        }
        let nodes = self.io.nodes();
        let is_complete = self.known.note(nodes.iter().map(NodeGaps::of));
        // A server with a lease uses the store, whether the broker knows it or not.
        let leases = match &self.leases {
            Some(leases) => timeout(CHECK, leases.count()).await,
            None => Ok(Ok(0)),
        };
        let has_stranger = matches!(leases, Ok(Ok(leases)) if leases > nodes.len());
        self.checked = Some(Instant::now());
        self.last = Some(announcer.is_up() && is_complete && !has_stranger);
        self.last
    }
}

/// The state that one server of the cluster reports.
#[derive(Clone, Debug)]
struct NodeGaps {
    name: NodeId,
    /// The number of isolations of the server, plus its number of known lost envelopes.
    gaps: u64,
    /// The time since its last heartbeat.
    silent: Duration,
}

impl NodeGaps {
    fn of(node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            gaps: node.load.gaps.saturating_add(node.load.lost),
            silent: node.heartbeat_age,
        }
    }
}

/// The gaps that each server has reported, by name. The adapter bounds the number of servers.
#[derive(Debug, Default)]
struct KnownNodes(HashMap<NodeId, u64>);

impl KnownNodes {
    /// Returns whether no server is silent and none has reported a gap since the last call.
    ///
    /// A new server may have been isolated before.
    fn note(&mut self, nodes: impl Iterator<Item = NodeGaps>) -> bool {
        let mut is_complete = true;
        let mut now = HashMap::new();
        for NodeGaps { name, gaps, silent } in nodes {
            is_complete &= silent <= SILENT && self.0.get(&name) == Some(&gaps);
            now.insert(name, gaps);
        }
        self.0 = now;
        is_complete
    }
}

/// The interval between two checks.
const CHECK: Duration = Duration::from_millis(250);
/// The age at which a heartbeat counts as missing. Heartbeats are sent every second.
const SILENT: Duration = Duration::from_millis(2200);

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(name: &str, gaps: u64, silent: u64) -> NodeGaps {
        NodeGaps {
            name: NodeId::new(name).unwrap(),
            gaps,
            silent: Duration::from_millis(silent),
        }
    }

    #[test]
    fn announcements_may_be_missing_for_new_or_silent_servers_and_gaps() {
        let mut known = KnownNodes::default();
        let mut note = |nodes: &[NodeGaps]| known.note(nodes.iter().cloned());
        assert!(
            !note(&[seen("a", 0, 0)]),
            "this server may have been cut off"
        );
        assert!(note(&[seen("a", 0, 0)]));
        assert!(!note(&[seen("a", 0, 0), seen("b", 3, 0)]), "b is new");
        assert!(note(&[seen("a", 0, 0), seen("b", 3, 1900)]));
        assert!(!note(&[seen("a", 0, 0), seen("b", 3, 2300)]), "b is silent");
        assert!(note(&[seen("a", 0, 0), seen("b", 3, 100)]));
        assert!(!note(&[seen("a", 0, 0), seen("b", 4, 100)]), "b had a gap");
        assert!(
            !note(&[seen("a", 1, 0), seen("b", 4, 100)]),
            "this server had one"
        );
        assert!(note(&[seen("a", 1, 0)]), "b has left");
        assert!(!note(&[seen("a", 1, 0), seen("b", 4, 100)]), "b is back");
    }
}
