//! One of several servers, as applications see it: joining them, knowing of them, and what they share.
//!
//! The builder takes a server's [`Membership`] from here, and enters it when the server is built; applications come in
//! through methods of [`Builder`] and [`Io`], through `server_side`, which has events from server to server, and through
//! `handover`, by which clients go from server to server. This
//! module is only there with the feature `cluster`. It hands on what it is told to `adapter`, and must not know what a
//! broadcast or a client is.

mod handover;
mod server_side;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::server_side::{PartialAnswers, ServerSideError};
use super::builder::Builder;
use crate::{
    Config,
    adapter::{
        Adapter, Backlog, Cluster, Gaps, Health, Joined, Node, NodeId, NodeOptions, NodeTaken,
        Registry,
        values::{Memory, ValueStore, Values},
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
    engine::{Bounds, Directory, Own, Owner},
};

/// What was said of the cluster of a server.
#[derive(Default)]
pub(super) struct Membership {
    adapter: Option<Box<dyn Adapter>>,
    node: NodeOptions,
    values: Option<Box<dyn ValueStore>>,
}

impl Membership {
    /// Makes a server one of its cluster, or the only one. Nothing is received before it is started.
    /// It may have so many connections.
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
        let is_alone = self.adapter.is_none();
        let max = Some(connections).filter(|_| !is_alone);
        let (registry, forwarder) = registry(&node, self.node, max, config, metrics);
        let own = self.adapter.as_ref().and_then(|adapter| adapter.values());
        let store = self.values.or(own);
        let store = store.unwrap_or_else(|| Box::new(Memory::default()));
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
        let values = Values::new(store, cluster.clone());
        Ok((cluster, node, registry, forwarder, values))
    }
}

/// The cluster, the name in it, what knows the others, what hands requests on to them, what is shared with them.
type Entered = (
    Cluster,
    NodeId,
    Arc<Registry>,
    Option<Arc<Forwarder>>,
    Values,
);

/// What knows the other servers, and what hands requests on to them if there may be any; this one has so many connections.
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
        let address = options.given_address();
        let registry = Registry::new(name.clone(), options, metrics);
        let registry = Arc::new(registry.with_forwarding(Some(forwarding)));
        // Binary data grows by a third, and what was compressed may be larger than it was.
        let largest = config.outbox.outbox_bytes.saturating_mul(2);
        let own = Own {
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

    fn has_untimed(&self) -> bool {
        Registry::has_untimed(self)
    }
}

impl Builder {
    /// Makes this server one of a cluster: what is sent to rooms and namespaces reaches the sockets of
    /// all servers that the adapter connects, unless it is [`local`](crate::Broadcast::local). Without
    /// it there is one server. What is promised is in `docs/delivery.md`.
    pub fn adapter(mut self, adapter: impl Adapter) -> Self {
        self.membership.adapter = Some(Box::new(adapter));
        self
    }

    /// What this server tells the others of a cluster of itself: its id, its address, how often. Each of
    /// them has the list, [`Io::nodes`].
    ///
    /// An id that is given must not be another server's: the one that has run for less time learns that
    /// from [`Server::bind`](crate::Server::bind), or when the two hear of each other, and ends.
    pub fn node(mut self, node: NodeOptions) -> Self {
        self.membership.node = node;
        self
    }

    /// Where [values](Io::values) and locks are kept, instead of where the adapter says.
    pub fn values(mut self, store: impl ValueStore) -> Self {
        self.membership.values = Some(Box::new(store));
        self
    }
}

impl Io {
    /// The servers of the cluster as far as they have told of themselves, this one among them, by id.
    /// Without an [adapter](crate::Builder::adapter) this server is the only one; before it is built there is none.
    ///
    /// One that has not been heard of for the [lease](crate::adapter::NodeOptions::lease) has gone, unless this server
    /// hears nobody. Those who want to be told watch for [`Lifecycle::NodeJoined`](crate::Lifecycle::NodeJoined) and
    /// [`Lifecycle::NodeLeft`](crate::Lifecycle::NodeLeft). Servers of other kinds, such as Node's, are not
    /// in here, nor are programs that only send.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let built = self.0.built.get();
        built.map_or_else(Vec::new, |built| built.registry.nodes())
    }

    /// Writes how much the servers of the cluster have to do, in rows with the label `node`, their id: as
    /// they have told in their last heartbeats, at most 256 of them, this one first. Before these, what waits now in the
    /// adapter of this one. Nothing without an [adapter](crate::Builder::adapter).
    pub fn expose_nodes(&self, out: &mut Exposition) {
        let Some(joined) = self.cluster().joined() else {
            return;
        };
        let backlog = joined.backlog();
        out.gauge("roomcast_adapter_queued", backlog.messages);
        out.gauge("roomcast_adapter_queued_bytes", backlog.bytes);
        // As long as nothing is known there is no row, which is not the same as no lag.
        if let Some(lag) = backlog.lag {
            out.gauge("roomcast_adapter_lag_seconds", lag.as_secs_f64());
        }
        let gaps = joined.adapter_gaps();
        out.total("roomcast_cluster_gaps_total", gaps.count);
        let time = gaps.time.as_secs_f64();
        out.total("roomcast_cluster_gap_seconds_total", time);
        let mut nodes = self.nodes();
        // One of two servers with one id is about to go, and rows must differ.
        nodes.dedup_by(|second, first| first.id == second.id);
        nodes.sort_by_key(|node| !node.is_this);
        out.gauge("roomcast_nodes", nodes.len());
        for node in nodes.iter().take(MAX_SHOWN) {
            let load = node.load;
            let mut row = |name, value: f64| out.labelled(name, "node", &node.id, value);
            row("roomcast_node_connections", load.connections as f64);
            row("roomcast_node_sessions", load.sessions as f64);
            row("roomcast_node_sockets", load.sockets as f64);
            row("roomcast_node_rooms", load.rooms as f64);
            row("roomcast_node_queued_bytes", load.queued_bytes as f64);
            row("roomcast_node_lag_seconds", load.lag.as_secs_f64());
            row("roomcast_node_busy_ratio", load.busy);
            row("roomcast_node_heard_seconds", node.heard.as_secs_f64());
            row("roomcast_node_adapter_queued", load.adapter_queued as f64);
            let queued = load.adapter_queued_bytes as f64;
            row("roomcast_node_adapter_queued_bytes", queued);
            let lag = load.adapter_lag.as_secs_f64();
            row("roomcast_node_adapter_lag_seconds", lag);
            row("roomcast_node_lost", load.lost as f64);
            row("roomcast_node_gaps", load.gaps as f64);
            row("roomcast_node_gap_seconds", load.cut_off.as_secs_f64());
        }
    }

    /// Looks whether the id that was given to this server ([`Builder::node`](crate::Builder::node)) is
    /// another one's: tells the others of this server and waits for half a second, or for at most three
    /// while they are not reached. At once if no id was given. [`Server::bind`](crate::Server::bind) does it.
    ///
    /// # Errors
    ///
    /// If it is, and the other server has run for longer.
    pub async fn check_node(&self) -> Result<(), NodeTaken> {
        match (self.0.built.get(), self.cluster().joined()) {
            (Some(built), Some(joined)) if built.registry.has_given_id() => {
                joined.check_node().await
            }
            _ => Ok(()),
        }
    }

    /// Why this server must not run: another one has its id. [`Server::run`](crate::Server::run) ends then.
    #[must_use]
    pub fn node_taken(&self) -> Option<NodeTaken> {
        self.0.built.get()?.registry.taken()
    }

    pub(in crate::socket::api) async fn until_node_taken(&self) {
        match self.0.built.get() {
            Some(built) => drop(built.registry.until_taken().await),
            None => std::future::pending().await,
        }
    }

    /// What this server shares with the others of its cluster: values with versions that are changed only if
    /// they are what is expected, and locks. Of those who change one version at the same time the first wins, the
    /// others are told so and read again. `None` before the server is built.
    ///
    /// Values are kept where the [adapter](crate::adapter::Adapter::values) says, with Redis, PostgreSQL and NATS there; else in the
    /// memory of this server, unless [`Builder::values`](crate::Builder::values) was given a store.
    ///
    /// ```
    /// # async fn example(io: roomcast::Io) -> Result<(), Box<dyn std::error::Error>> {
    /// use roomcast::adapter::values::{Expected, Put};
    ///
    /// let values = io.values().ok_or("not built")?;
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
    #[must_use]
    pub fn values(&self) -> Option<Values> {
        self.0.built.get().map(|built| built.values.clone())
    }

    /// Whether the [adapter](crate::Builder::adapter) reaches other servers, as far as it knows; `None`
    /// without one.
    #[must_use]
    pub fn adapter_health(&self) -> Option<Health> {
        self.cluster().joined().map(|cluster| cluster.health())
    }

    /// What waits in the [adapter](crate::Builder::adapter) to be sent to other servers, and how long messages take;
    /// `None` without one.
    #[must_use]
    pub fn adapter_backlog(&self) -> Option<Backlog> {
        self.cluster().joined().map(|cluster| cluster.backlog())
    }

    /// How often and for how long this server was cut off from the others by its [adapter](crate::Builder::adapter), so that
    /// what they sent may be missing here; `None` without one. It is also in [`Load`](crate::adapter::Load), of all servers.
    #[must_use]
    pub fn adapter_gaps(&self) -> Option<Gaps> {
        self.cluster()
            .joined()
            .map(|cluster| cluster.adapter_gaps())
    }

    /// Waits until what other servers send to the rooms that are open now reaches this server. Joining a
    /// room does not wait: with an adapter that has a channel for each room, such as the sharded form of
    /// Redis, the first events of others may be missed for a moment. Whoever tells a client that it has
    /// joined may wait here before. Without such an adapter there is nothing to wait for; if the others
    /// cannot be reached, it ends with the time that they have to answer.
    pub async fn rooms_followed(&self) {
        if let Some(cluster) = self.cluster().joined() {
            cluster.followed().await;
        }
    }

    /// Begins to receive what other servers send.
    pub(super) fn start_cluster(&self) {
        let cluster = self.cluster();
        if let Some(cluster) = cluster.joined() {
            // The adapter must have its inbox before it hears of the first namespace.
            cluster.start();
        }
        for namespace in self.0.built.get().iter().flat_map(|built| &built.fixed) {
            cluster.namespace_changed(&namespace.name, || true);
        }
        // Without a runtime the adapter is started by whoever serves.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.start_adapter();
        }
    }

    /// Tells the others that this server goes, as long as there is time.
    pub(super) async fn leave_cluster(&self, deadline: Instant) {
        if let Some(cluster) = self.cluster().joined()
            && tokio::time::timeout_at(deadline, cluster.close())
                .await
                .is_err()
        {
            tracing::warn!("the adapter has not closed in time");
        }
    }
}

impl Namespace {
    /// The servers of the cluster, [`Io::nodes`](crate::Io::nodes). Whether the namespace exists on them they
    /// do not tell.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.io().nodes()
    }
}

/// Servers that the metrics show.
const MAX_SHOWN: usize = 256;
