//! Which other servers there are: what this one tells them of itself, and what they tell.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::Joined;
use crate::adapter::{
    WireError,
    envelope::NodeId,
    interface::{Deliver as _, Health},
    nodes::{self, Beat, Heard, Node, NodeTaken},
    operation::Kind,
    values,
};

impl Joined {
    /// Tells the others that this server is there, and forgets those that are silent, unless this one hears nobody. A
    /// heartbeat that is not heard is no failure and is not counted: the next one comes soon.
    pub(crate) fn beat(&self) {
        self.registry.note_backlog(self.backlog());
        let is_ready = self.health() == Health::Ready;
        // What is read later is not missing.
        if is_ready || !self.adapter.catches_up() {
            self.registry.note_reached(is_ready);
        }
        self.registry.while_here(|| {
            if let Some(beat) = self.registry.beat().publication() {
                self.send_quietly(beat);
            }
        });
        // Without its way to the others this server would take all of them for gone, and would know no more where requests
        // of their sessions go, which it reaches without that way.
        if !is_ready {
            self.registry.note_deaf();
        }
        if let Some(requests) = self.registry.astray() {
            tracing::warn!(
                requests,
                "requests of sessions that this server never had, while there are other servers: the load balancer must keep a \
                 session at its server (sticky sessions), or each server must say where others reach it (node.address)"
            );
        }
        for node in self.registry.expire() {
            crate::throttled_log!(warn, node = %node.id, name = %node.name, "a server of the cluster is silent");
            self.forget(&node);
        }
    }

    /// Tells the others that a value was changed. They look for themselves if they do not hear it.
    pub(in crate::adapter) fn announce(&self, key: &str) {
        if let Some(changed) = nodes::changed(key) {
            self.send_quietly(changed);
        }
    }

    /// Looks whether the id of this server is its own: tells the others of it, and waits until they
    /// would have objected, or until it is clear that they are not reached now.
    pub(crate) async fn check_node(&self) -> Result<(), NodeTaken> {
        let reached = async {
            while self.health() != Health::Ready {
                sleep(LOOK).await;
            }
            self.beat();
            sleep(OBJECTION).await;
        };
        tokio::select! {
            taken = self.registry.until_taken() => Err(taken),
            // An objection may come in the same moment, and `select!` picks either of two that are ready.
            _ = timeout(REACHED, reached) => self.registry.taken().map_or(Ok(()), Err),
        }
    }

    /// A server has gone: nothing waits for its answers any more.
    pub(super) fn forget(&self, node: &Node) {
        self.seen.lock().forget(&node.name);
        self.requests.left(&node.name);
        self.receiver.node_left(node);
    }

    /// Takes in an event of the namespace of heartbeats.
    pub(super) fn hear(
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
                .hear(from, Beat::read(args)?.authenticated(was_sealed))
            {
                Heard::Again => {}
                // What was lost there may have been for clients of this server.
                Heard::Losing => self.notice_gap(),
                Heard::New(node) => {
                    if node.load.lost > 0 {
                        self.notice_gap();
                    }
                    crate::throttled_log!(info, node = %node.id, name = %node.name, "a server has joined the cluster");
                    self.receiver.node_joined(&node);
                }
                Heard::TooMany => return Err(WireError::TooLarge),
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

/// The pause between two looks whether others are reached.
const LOOK: Duration = Duration::from_millis(20);
/// How long others take to object to an id, who tell of themselves soon after they hear of a new server.
const OBJECTION: Duration = Duration::from_millis(500);
/// How long a server waits for others that it does not reach.
const REACHED: Duration = Duration::from_secs(3);
