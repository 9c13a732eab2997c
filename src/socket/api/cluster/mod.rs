//! The application's view of a cluster: joining it, its servers, and shared values.
//!
//! The builder collects a server's [`Membership`] and enters the cluster when the server is built.
//! Applications use methods of [`Builder`] and [`Io`]. `server_side` contains events between
//! servers, and `handover` moves clients between servers.
//!
//! This file forwards calls to `adapter`. Only `handover` may know clients, and no file of this
//! module broadcasts.

mod handover;
mod server_side;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::server_side::{PartialAnswers, ServerSideError};
use super::builder::Builder;
use crate::{
    Config,
    adapter::{
        Adapter, Backlog, Cluster, Gaps, Health, Joined, Node, NodeId, NodeIdConflict, NodeOptions,
        Registry,
        values::{Memory, NoValueStore, ValueStore, Values},
    },
    engine::{Forwarder, random_sid},
    metrics::{Exposition, Metrics},
    socket::{
        apply::Applier,
        core::{Io, Namespace},
        types::BuildError,
    },
};

#[cfg(feature = "forwarding")]
use crate::{
    adapter::Forwarding,
    engine::{Bounds, Directory, LocalServer, Owner},
};

/// The cluster settings of a server that is being built.
#[derive(Default)]
pub(super) struct Membership {
    adapter: Option<Box<dyn Adapter>>,
    node: NodeOptions,
    values: Option<Box<dyn ValueStore>>,
}

impl Membership {
    /// Joins the cluster of the adapter, or creates a single server without one. Receives nothing
    /// until the cluster is started. `connections` is the server's connection limit.
    pub(super) fn enter(
        self,
        io: &Io,
        config: &Config,
        connections: usize,
    ) -> Result<Entered, BuildError> {
        let metrics = io.metrics();
        self.node.check().map_err(BuildError::InvalidOption)?;
        let node = self.node.name(random_sid().as_str());
        let node = node.ok_or(BuildError::InvalidOption("node"))?;
        let has_no_peers = self.adapter.is_none();
        let weak = io.downgrade();
        metrics.extend(move |out| weak.upgrade().iter().for_each(|io| io.expose_nodes(out)));
        let max = Some(connections).filter(|_| !has_no_peers);
        let (registry, forwarder) = registry(&node, self.node, max, config, metrics);
        let store = self.values.or_else(|| match &self.adapter {
            Some(adapter) => adapter.values(),
            None => Some(Box::new(Memory::default())),
        });
        let cluster = self.adapter.map_or(Cluster::Local, |adapter| {
            Cluster::Joined(Joined::new(
                node.clone(),
                adapter,
                Box::new(Applier::new(io)),
                config.sockets.max_pending_acks,
                config.recovery.is_some(),
                Arc::clone(&registry),
                metrics,
            ))
        });
        let values = store.map(|store| Values::new(store, cluster.clone()));
        Ok((cluster, node, registry, forwarder, values))
    }
}

/// The cluster, this server's id, the peer registry, the request forwarder, and shared values.
type Entered = (
    Cluster,
    NodeId,
    Arc<Registry>,
    Option<Arc<Forwarder>>,
    Option<Values>,
);

/// Creates the peer registry, and the request forwarder if forwarding is enabled. `connections` is
/// the server's connection limit.
fn registry(
    name: &NodeId,
    options: NodeOptions,
    connections: Option<usize>,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> (Arc<Registry>, Option<Arc<Forwarder>>) {
    #[cfg(feature = "forwarding")]
    if let Some((requests, tunnels)) = connections.and_then(|most| options.forwards(most)) {
        let forwarding = Forwarding::random();
        let address = options.configured_address();
        let registry = Registry::new(name.clone(), options, metrics);
        let registry = Arc::new(registry.with_forwarding(Some(forwarding)));
        // Base64 makes binary data a third larger, and compression can make data larger.
        let largest = config.outbox.outbox_bytes.saturating_mul(2);
        let own = LocalServer {
            tag: forwarding.tag,
            key: forwarding.key,
            address: address.as_deref().unwrap_or_default(),
            path: &config.http.path,
        };
        let largest = largest.saturating_add(64 * 1024);
        let bounds = Bounds { requests, tunnels };
        let forwarder = Forwarder::new(own, bounds, largest, Arc::clone(&registry), metrics);
        return (registry, Some(Arc::new(forwarder)));
    }
    let _ = (connections, config);
    let registry = Registry::new(name.clone(), options, metrics);
    (Arc::new(registry), None)
}

#[cfg(feature = "forwarding")]
impl Directory for Arc<Registry> {
    fn owner(&self, tag: roomcast_protocol::Tag) -> Option<Owner> {
        let (address, key, uptime) = Registry::owner(self, tag)?;
        Owner::new(&address, key, uptime)
    }

    fn uptime(&self) -> std::time::Duration {
        Registry::uptime(self)
    }
}

impl Builder {
    /// Makes this server part of a cluster. Default is a single server.
    ///
    /// Events for rooms and namespaces reach the sockets of all servers that the adapter connects,
    /// unless they are [`local`](crate::Broadcast::local). `docs/delivery.md` lists the guarantees.
    pub fn adapter(mut self, adapter: impl Adapter) -> Self {
        self.membership.adapter = Some(Box::new(adapter));
        self
    }

    /// Sets this server's id, address and heartbeat options. Peers list it in [`Io::nodes`].
    ///
    /// A given id must be unique. If two servers use the same id, the one with the shorter uptime
    /// stops. It detects the conflict in [`Server::bind`](crate::Server::bind), or when the two
    /// servers receive each other's heartbeats.
    pub fn node(mut self, node: NodeOptions) -> Self {
        self.membership.node = node;
        self
    }

    /// Sets the store of [values](Io::values) and locks. Default is the adapter's store, or the
    /// memory of this server if it has no adapter.
    pub fn values(mut self, store: impl ValueStore) -> Self {
        self.membership.values = Some(Box::new(store));
        self
    }
}

impl Io {
    /// Returns the known servers of the cluster by id, including this server.
    ///
    /// Without an [adapter](crate::Builder::adapter), this is the only server. Before it is built,
    /// the list is empty.
    ///
    /// A server expires when no heartbeat arrives within the
    /// [lease](crate::adapter::NodeOptions::lease), unless this server receives no heartbeats at
    /// all. [`Lifecycle::NodeJoined`](crate::Lifecycle::NodeJoined) and
    /// [`Lifecycle::NodeLeft`](crate::Lifecycle::NodeLeft) report changes. The list does not
    /// include servers of other kinds, such as Node.js servers, or programs that only send.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let built = self.0.built.get();
        built.map_or_else(Vec::new, |built| built.registry.nodes())
    }

    /// Writes metrics of the adapter, and of each server with the label `node`.
    ///
    /// The adapter's queue comes first. Server rows contain the values of the last heartbeat, for
    /// at most 256 servers, this one first. Writes nothing without an
    /// [adapter](crate::Builder::adapter).
    fn expose_nodes(&self, out: &mut Exposition) {
        let Some(joined) = self.cluster().joined() else {
            return;
        };
        let backlog = joined.backlog();
        out.gauge(
            "roomcast_adapter_queued",
            "Messages that wait for the adapter to send them to other servers.",
            backlog.messages,
        );
        out.gauge(
            "roomcast_adapter_queued_bytes",
            "Bytes that wait for the adapter to send them to other servers.",
            backlog.bytes,
        );
        // An unknown lag has no row, which differs from no lag.
        if let Some(lag) = backlog.lag {
            out.gauge(
                "roomcast_adapter_lag_seconds",
                "Time of the last loopback probe through the broker and back.",
                lag.as_secs_f64(),
            );
        }
        let gaps = joined.adapter_gaps();
        out.total(
            "roomcast_cluster_gaps_total",
            "Times this server was isolated, so that envelopes of other servers may be missing.",
            gaps.count,
        );
        out.total(
            "roomcast_cluster_gap_seconds_total",
            "Total time for which this server was isolated.",
            gaps.time.as_secs_f64(),
        );
        expose_each(self.nodes(), out);
    }

    /// Checks whether this server's given id ([`Builder::node`](crate::Builder::node)) is unique.
    ///
    /// Announces this server and waits for half a second, or for at most three seconds while the
    /// adapter is not connected. Returns immediately if no id was given.
    /// [`Server::bind`](crate::Server::bind) calls this.
    ///
    /// # Errors
    ///
    /// Fails if another server with a longer uptime uses the id.
    pub async fn check_node(&self) -> Result<(), NodeIdConflict> {
        match (self.0.built.get(), self.cluster().joined()) {
            (Some(built), Some(joined)) if built.registry.has_configured_id() => {
                joined.check_node().await
            }
            _ => Ok(()),
        }
    }

    /// Returns the id conflict because of which this server must stop, if any.
    /// [`Server::run`](crate::Server::run) returns then.
    #[must_use]
    pub fn node_taken(&self) -> Option<NodeIdConflict> {
        self.0.built.get()?.registry.taken()
    }

    pub(crate) async fn until_node_taken(&self) {
        match self.0.built.get() {
            Some(built) => drop(built.registry.until_taken().await),
            None => std::future::pending().await,
        }
    }

    /// Returns the values and locks that the servers of the cluster share.
    ///
    /// Values have versions and change by compare-and-set. If several servers change the same
    /// version at the same time, the first one wins. The other servers receive a conflict, and must
    /// read the value again before they retry.
    ///
    /// Values are in the store that [`Builder::values`](crate::Builder::values) sets. If it sets
    /// none, they are in that of the [adapter](crate::adapter::Adapter::values): Redis and
    /// PostgreSQL have one, NATS does not. Without an adapter, they are in this server's memory.
    ///
    /// # Errors
    ///
    /// If the server is not built yet, or if its adapter has no store and none is set. The result
    /// does not change after the server is built, so an application can check it at its start.
    ///
    /// ```
    /// # async fn example(io: roomcast::Io) -> Result<(), Box<dyn std::error::Error>> {
    /// use roomcast::adapter::values::{Expected, Put};
    ///
    /// let values = io.values()?;
    /// let counts = values.keyspace::<u64>("visits", 1, |_, value| Ok(value));
    /// let known = counts.get("lobby").await?;
    /// let put = match &known {
    ///     Some(known) => counts.put("lobby", Expected::Version(known.version), &(known.value + 1)).await?,
    ///     None => counts.put("lobby", Expected::Nothing, &1).await?,
    /// };
    /// if let Put::Conflict(_) = put {
    ///     println!("somebody was faster");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn values(&self) -> Result<Values, NoValueStore> {
        let built = self.0.built.get().ok_or(NoValueStore::NotBuilt)?;
        built.values.clone().ok_or(NoValueStore::Unsupported)
    }

    /// Returns whether the [adapter](crate::Builder::adapter) works, as far as it knows, or `None`
    /// without an adapter.
    #[must_use]
    pub fn adapter_health(&self) -> Option<Health> {
        self.cluster().joined().map(|cluster| cluster.health())
    }

    /// Returns the [adapter](crate::Builder::adapter)'s unsent messages and its latency, or `None`
    /// without an adapter.
    #[must_use]
    pub fn adapter_backlog(&self) -> Option<Backlog> {
        self.cluster().joined().map(|cluster| cluster.backlog())
    }

    /// Returns the number and duration of gaps in the [adapter](crate::Builder::adapter)'s
    /// connection, or `None` without an adapter.
    ///
    /// During a gap, this server may have missed messages of its peers. The
    /// [`Load`](crate::adapter::Load) of each server contains its gaps.
    #[must_use]
    pub fn adapter_gaps(&self) -> Option<Gaps> {
        self.cluster()
            .joined()
            .map(|cluster| cluster.adapter_gaps())
    }

    /// Waits until this server receives the events of other servers for all rooms that are open
    /// now.
    ///
    /// Joining a room does not wait for that. If an adapter has a channel per room, such as the
    /// sharded Redis adapter, the first remote events may be missed. Call this before notifying a
    /// client that it has joined. Other adapters need no wait. If the adapter is not connected,
    /// this ends after the request timeout.
    pub async fn rooms_followed(&self) {
        if let Some(cluster) = self.cluster().joined() {
            cluster.followed().await;
        }
    }

    /// Starts to receive the operations of other servers.
    pub(super) fn start_cluster(&self) {
        let cluster = self.cluster();
        if let Some(cluster) = cluster.joined() {
            // The adapter must have its inbox before its first namespace.
            cluster.start();
        }
        for namespace in self.0.built.get().iter().flat_map(|built| &built.fixed) {
            cluster.namespace_changed(&namespace.name, || true);
        }
        // Without a runtime, the code that serves starts the adapter later.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.start_adapter();
        }
    }

    /// Announces to peers that this server leaves, and closes the adapter. Gives up at the
    /// deadline.
    pub(super) async fn leave_cluster(&self, deadline: Instant) {
        if let Some(cluster) = self.cluster().joined()
            && tokio::time::timeout_at(deadline, cluster.close())
                .await
                .is_err()
        {
            tracing::warn!("the adapter did not close in time");
        }
    }
}

impl Namespace {
    /// Returns the servers of the cluster, [`Io::nodes`](crate::Io::nodes), whether or not the
    /// namespace exists on them.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.io().nodes()
    }
}

/// Writes the number of servers, and the metrics of up to `MAX_SHOWN`, this server first. `nodes`
/// must be sorted by id.
fn expose_each(mut nodes: Vec<Node>, out: &mut Exposition) {
    // Of two servers with the same id, one is about to stop. Rows must be unique.
    nodes.dedup_by(|second, first| first.id == second.id);
    nodes.sort_by_key(|node| !node.is_this);
    out.gauge(
        "roomcast_nodes",
        "Servers in the cluster, including this server.",
        nodes.len(),
    );
    for node in nodes.iter().take(MAX_SHOWN) {
        for (name, help, value) in node_rows(node) {
            out.labelled(name, help, "node", &node.id, value);
        }
    }
}

/// Returns the name, help and value of each metric in a server's last heartbeat.
fn node_rows(node: &Node) -> [(&'static str, &'static str, f64); 14] {
    let load = node.load;
    [
        (
            "roomcast_node_connections",
            "Open connections of the server.",
            load.connections as f64,
        ),
        (
            "roomcast_node_sessions",
            "Open Engine.IO sessions of the server.",
            load.sessions as f64,
        ),
        (
            "roomcast_node_sockets",
            "Connected sockets of the server.",
            load.sockets as f64,
        ),
        (
            "roomcast_node_rooms",
            "Rooms of the server with at least one member.",
            load.rooms as f64,
        ),
        (
            "roomcast_node_queued_bytes",
            "Bytes queued for clients of the server.",
            load.queued_bytes as f64,
        ),
        (
            "roomcast_node_lag_seconds",
            "How late the last heartbeat of the server was.",
            load.lag.as_secs_f64(),
        ),
        (
            "roomcast_node_busy_ratio",
            "Fraction of time in which the worker threads of the server were busy.",
            load.busy,
        ),
        (
            "roomcast_node_heartbeat_age_seconds",
            "Time since the last heartbeat of the server.",
            node.heartbeat_age.as_secs_f64(),
        ),
        (
            "roomcast_node_adapter_queued",
            "Messages that wait for the adapter of the server.",
            load.adapter_queued as f64,
        ),
        (
            "roomcast_node_adapter_queued_bytes",
            "Bytes that wait for the adapter of the server.",
            load.adapter_queued_bytes as f64,
        ),
        (
            "roomcast_node_adapter_lag_seconds",
            "Time of the last loopback probe of the server.",
            load.adapter_lag.as_secs_f64(),
        ),
        (
            "roomcast_node_lost",
            "Envelopes known to be lost since the server started.",
            load.lost as f64,
        ),
        (
            "roomcast_node_gaps",
            "Times the server was isolated since it started.",
            load.gaps as f64,
        ),
        (
            "roomcast_node_gap_seconds",
            "Total time for which the server was isolated since it started.",
            load.gap_time.as_secs_f64(),
        ),
    ]
}

/// Maximum number of servers in the metrics.
const MAX_SHOWN: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::adapter::{Load, NodeId};

    #[test]
    fn metrics_show_a_bounded_number_of_servers_this_one_first() {
        let node = |n: usize| Node {
            id: format!("n{n:03}").into(),
            name: NodeId::new(&format!("n{n}")).unwrap(),
            version: "1".into(),
            address: None,
            started: SystemTime::UNIX_EPOCH,
            load: Load::default(),
            heartbeat_age: Duration::ZERO,
            is_this: n == MAX_SHOWN + 40,
        };
        let mut nodes: Vec<Node> = (0..MAX_SHOWN + 44).map(node).collect();
        // Another server with the same id is not shown.
        nodes.insert(8, node(7));
        let mut out = Exposition::default();
        expose_each(nodes, &mut out);
        let text = out.to_string();
        let shown: Vec<&str> = text
            .lines()
            .filter_map(|row| row.strip_prefix("roomcast_node_sockets{node=\""))
            .filter_map(|row| row.split('"').next())
            .collect();
        assert_eq!(shown.len(), MAX_SHOWN);
        assert_eq!(shown[..3], ["n296", "n000", "n001"]);
        assert_eq!(shown[7..10], ["n006", "n007", "n008"]);
        assert!(text.contains("\nroomcast_nodes 300\n"), "{text}");
    }
}
