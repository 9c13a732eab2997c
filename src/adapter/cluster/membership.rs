//! Heartbeats: announces this server, and processes the heartbeats of peers.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    Joined,
    nodes::{self, Heartbeat, HeartbeatOutcome, Node, NodeIdConflict},
};
use crate::adapter::{
    WireError,
    envelope::NodeId,
    interface::{Deliver as _, Health},
    operation::Kind,
    values,
};

impl Joined {
    /// Sends a heartbeat and removes expired peers. A heartbeat that cannot be sent is not counted
    /// as an error, because the next heartbeat follows soon.
    pub(crate) fn beat(&self) {
        self.registry.note_backlog(self.backlog());
        let is_ready = self.health() == Health::Ready;
        // With an adapter that replays missed messages, an outage is not a gap.
        if is_ready || !self.adapter.replays_missed() {
            self.registry.note_reached(is_ready);
        }
        self.registry.unless_left(|| {
            if let Some(beat) = self.registry.beat().publication() {
                self.send_quietly(beat);
            }
        });
        // While the adapter is down, all peers are silent. They must not expire, because this
        // server can still forward requests of their sessions without the adapter.
        if !is_ready {
            self.registry.restart_lease();
        }
        if let Some(requests) = self.registry.misrouted() {
            tracing::warn!(
                requests,
                "received requests for unknown sessions although this server has peers: enable sticky sessions in the \
                 load balancer, or set node.address on each server"
            );
        }
        for node in self.registry.expire() {
            crate::throttled_log!(warn, node = %node.id, name = %node.name, "a server of the cluster expired: its heartbeats are missing");
            self.requests.left(&node.name);
            self.forget(&node);
        }
    }

    /// Announces a changed value to the peers. A peer that misses the announcement finds the change
    /// by polling.
    pub(in crate::adapter) fn announce(&self, key: &str) {
        if let Some(changed) = nodes::changed(key) {
            self.send_quietly(changed);
        }
    }

    /// Checks that no peer has the same id as this server. Announces this server and waits for
    /// objections. Returns `Ok` if the adapter does not connect in time.
    pub(crate) async fn check_node(&self) -> Result<(), NodeIdConflict> {
        let reached = async {
            while self.health() != Health::Ready {
                sleep(HEALTH_CHECK_INTERVAL).await;
            }
            self.beat();
            sleep(OBJECTION_TIMEOUT).await;
        };
        tokio::select! {
            taken = self.registry.until_taken() => Err(taken),
            // An objection may arrive in the same moment, and `select!` picks one of two ready
            // branches.
            _ = timeout(CONNECT_TIMEOUT, reached) => self.registry.taken().map_or(Ok(()), Err),
        }
    }

    /// Removes a server that left or expired.
    pub(super) fn forget(&self, node: &Node) {
        self.seen.lock().forget(&node.name);
        self.receiver.node_left(node);
    }

    /// Processes an event in the namespace of heartbeats.
    pub(super) fn receive_heartbeat(
        &self,
        from: &NodeId,
        kind: &Kind,
        was_sealed: bool,
    ) -> Result<(), WireError> {
        let Kind::ServerSide { event, args } = kind else {
            return Err(WireError::UnknownKind);
        };
        match &**event {
            nodes::BEAT => match self
                .registry
                .receive_heartbeat(from, Heartbeat::read(args)?.authenticated(was_sealed))
            {
                HeartbeatOutcome::Again => {}
                // The lost envelopes may have been for clients of this server.
                HeartbeatOutcome::Losing => self.notice_gap(),
                HeartbeatOutcome::New(node) => {
                    if node.load.lost > 0 {
                        self.notice_gap();
                    }
                    crate::throttled_log!(info, node = %node.id, name = %node.name, "a server has joined the cluster");
                    self.receiver.node_joined(&node);
                }
                HeartbeatOutcome::TooMany => return Err(WireError::TooLarge),
            },
            nodes::BYE => self.left(from),
            nodes::CHANGED => {
                let key: String = args.get(0).map_err(|_| WireError::Malformed("key"))?;
                if !values::is_key(&key) {
                    return Err(WireError::Malformed("key"));
                }
                self.receiver.value_changed(&key);
            }
            _ => return Err(WireError::UnknownKind),
        }
        Ok(())
    }
}

/// The interval between checks of the adapter's health.
const HEALTH_CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum wait for objections to an id. Peers send a heartbeat soon after the first heartbeat
/// of a new server.
const OBJECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// Maximum wait for the adapter to connect, including the wait for objections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
