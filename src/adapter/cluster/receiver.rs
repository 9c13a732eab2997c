//! The interface to which a server in a cluster passes operations of other servers.

use std::sync::Arc;

#[cfg(feature = "redis")]
use roomcast_protocol::socket::Nsp;

use super::{
    Joined,
    nodes::{HandoverRequest, Node},
};
use crate::{
    adapter::envelope::{NodeId, Publication},
    names::Room,
};

/// Applies operations of other servers.
pub(crate) trait Receiver: Send + Sync {
    fn receive(&self, cluster: &Arc<Joined>, from: &NodeId, publication: Publication);

    /// Returns the rooms of a namespace, including the rooms of the sockets' own ids.
    fn rooms(&self, namespace: &str) -> Vec<Room>;

    /// Returns whether a socket is in one of these rooms, or in the namespace if `rooms` is empty.
    /// Disconnected but recoverable clients count.
    #[cfg(feature = "redis")]
    fn reaches(&self, namespace: &Nsp, rooms: &[Room]) -> bool;

    /// Called when messages of other servers up to now may be missing.
    fn missed(&self);

    /// Called after the first heartbeat of another server.
    fn node_joined(&self, node: &Node);

    /// Called after another server left or expired.
    fn node_left(&self, node: &Node);

    /// Called after another server changed a value.
    fn value_changed(&self, key: &str);

    /// Called when another server requests the state of a client that connected to it. The receiver
    /// must also reply if it has no such client.
    fn handover_requested(
        &self,
        cluster: &Arc<Joined>,
        from: &NodeId,
        request: u64,
        handover: HandoverRequest,
    );
}
