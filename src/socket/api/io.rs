//! A server as applications see it.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use roomcast_protocol::socket::Nsp;
use tokio::time::Instant;

use super::{
    broadcast::{Broadcast, targets},
    builder::Builder,
};
use crate::{
    EndedTask,
    adapter::{Health, Node, NodeId, NodeTaken},
    engine::Engine,
    metrics::Exposition,
    socket::{
        apply::TargetNamespace,
        core::{Io, Namespace},
    },
};

impl Io {
    /// Starts to put a server together.
    pub fn builder() -> Builder {
        Builder::new(Self::unbuilt())
    }

    /// The namespace of this name. One that does not exist reaches nobody.
    #[must_use]
    pub fn of(&self, name: &str) -> Namespace {
        Namespace::new(self.clone(), name)
    }

    targets!("`/`");

    /// All namespaces that exist now, in no order: those given to the builder, and those that were
    /// made on demand and not taken down yet.
    ///
    /// What the official server calls sending to a parent namespace is sending to those of them
    /// that belong to it:
    ///
    /// ```no_run
    /// # fn example(io: roomcast::Io) {
    /// for tenant in io.namespaces().iter().filter(|n| n.name().starts_with("/tenant-")) {
    ///     tenant.emit("news", "maintenance at noon");
    /// }
    /// # }
    /// ```
    ///
    /// ```js
    /// const tenants = io.of(/^\/tenant-\d+$/);
    /// tenants.emit("news", "maintenance at noon");
    /// ```
    #[must_use]
    pub fn namespaces(&self) -> Vec<Namespace> {
        let Some(built) = self.0.built.get() else {
            return Vec::new();
        };
        let made: Vec<_> = built.made.read().values().cloned().collect();
        let all = built.fixed.iter().cloned().chain(made);
        all.map(|inner| Namespace::existing(self.clone(), inner))
            .collect()
    }

    /// Asks the authenticators again about everybody who is connected, and disconnects those who
    /// are not let in any more: each is told by the event `error` first. To be called when
    /// something was revoked. Returns how many were disconnected.
    ///
    /// Clients that are away lose what they could [recover](crate::options::Recovery) if they would have been
    /// disconnected, whether they have been let in again by the time they come back or not.
    ///
    /// It looks at every socket, which takes about a millisecond for ten thousand.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn revalidate(&self) -> usize {
        let Some(built) = self.0.built.get() else {
            return 0;
        };
        // Before anybody is looked for: who is on the way back is found by nobody.
        if let Some(sessions) = self.sessions() {
            sessions.begin_round();
        }
        let made: Vec<_> = built.made.read().values().cloned().collect();
        let mut expelled = 0;
        for namespace in built.fixed.iter().chain(&made) {
            if namespace.handlers.authenticate.is_some() {
                let sockets = namespace.all_sockets();
                expelled += sockets.iter().filter(|socket| !socket.revalidate()).count();
            }
        }
        if let Some(sessions) = self.sessions() {
            sessions.revalidate();
        }
        expelled
    }

    /// Sessions that are open or closing: clients, whether they have joined a namespace or not. It is
    /// `io.engine.clientsCount` of the official server.
    #[must_use]
    pub fn clients_count(&self) -> usize {
        let engine = self.0.engine.lock().upgrade();
        engine.map_or(0, |engine| engine.session_count())
    }

    /// The tasks of this server that have ended although nobody asked them to: those that write to
    /// clients, send pings, accept connections, sweep tables and look at the certificate. One that
    /// panics is logged, counted (`roomcast_task_restarts_total`, `roomcast_tasks_ended`) and started
    /// again, and is in here until it has run for ten seconds. A server with such a task should get no
    /// new clients: it belongs into the answer to a load balancer that asks whether it is ready.
    #[must_use]
    pub fn ended_tasks(&self) -> Vec<EndedTask> {
        self.tasks().ended()
    }

    /// The servers of the cluster as far as they have told of themselves, this one among them, by id.
    /// Without an [adapter](crate::Builder::adapter) it is the only one; before it is built there is none.
    ///
    /// One that has not been heard of for the [lease](crate::adapter::NodeOptions::lease) has gone. Those
    /// who want to be told watch for [`Lifecycle::NodeJoined`](crate::Lifecycle::NodeJoined) and
    /// [`Lifecycle::NodeLeft`](crate::Lifecycle::NodeLeft). Servers of other kinds, such as Node's, are not
    /// in here, nor are programs that only send.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let built = self.0.built.get();
        built.map_or_else(Vec::new, |built| built.registry.nodes())
    }

    /// Writes how much the servers of the cluster have to do, in rows with the label `node`, their id: as
    /// they have told in their last heartbeats, at most 256 of them, this one first. Nothing without an
    /// [adapter](crate::Builder::adapter).
    pub fn expose_nodes(&self, out: &mut Exposition) {
        if self.cluster().joined().is_none() {
            return;
        }
        let mut nodes = self.nodes();
        // Of two with one id, one is about to go.
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

    pub(super) async fn until_node_taken(&self) {
        match self.0.built.get() {
            Some(built) => drop(built.registry.until_taken().await),
            None => std::future::pending().await,
        }
    }

    /// The name of this server in its cluster, which it has even if there are no others; `None` before
    /// it is built.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.0.built.get().map(|built| &built.node)
    }

    /// Whether the [adapter](crate::Builder::adapter) reaches other servers, as far as it knows; `None`
    /// without one.
    #[must_use]
    pub fn adapter_health(&self) -> Option<Health> {
        self.cluster().joined().map(|cluster| cluster.health())
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

    /// Whether new clients are refused because the server is about to stop. It belongs into the answer
    /// to a load balancer that asks whether this server is ready.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        let engine = self.0.engine.lock().upgrade();
        engine.is_some_and(|engine| engine.is_draining())
    }

    /// Refuses new clients from now on, and moves those that are connected to other servers: within
    /// `window`, at times that are spread over nine tenths of it with jitter, each client's connection is
    /// closed so that stock clients reconnect by themselves. WebSockets are closed with 1001 (RFC 6455,
    /// 7.4.1), polls are answered with a close packet, handshakes with 503 and `Retry-After`. A
    /// client for which handlers run, or that owes acknowledgements, is moved when these are done, at the
    /// latest at the end of the window. Everything queued is sent first.
    ///
    /// Returns when nobody is connected any more, at the latest at the end of the window.
    /// [`close`](Self::close) comes after it; there is no way back.
    ///
    /// ```no_run
    /// # async fn example(io: roomcast::Io) {
    /// use std::time::Duration;
    ///
    /// io.drain(Duration::from_secs(20)).await;
    /// io.close(Duration::from_secs(10)).await;
    /// # }
    /// ```
    pub async fn drain(&self, window: Duration) {
        let engine = self.0.engine.lock().upgrade();
        if let Some(engine) = engine {
            engine.drain(window).await;
        }
    }

    /// Closes all connections and waits until everything queued for them is sent and all handlers
    /// have ended, at most for `grace`.
    pub async fn close(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        let engine = self.0.engine.lock().upgrade();
        if let Some(engine) = engine {
            engine.shutdown(grace).await;
        }
        if let Some(sessions) = self.sessions() {
            sessions.close();
        }
        if let Some(cluster) = self.cluster().joined()
            && tokio::time::timeout_at(deadline, cluster.close())
                .await
                .is_err()
        {
            tracing::warn!("the adapter has not closed in time");
        }
        let settled = async {
            loop {
                let settled = self.0.settled.notified();
                if self.0.detached.load(Ordering::Acquire) == 0 {
                    return;
                }
                settled.await;
            }
        };
        if tokio::time::timeout_at(deadline, settled).await.is_err() {
            let handlers = self.0.detached.load(Ordering::Acquire);
            tracing::warn!(handlers, "handlers have not ended in time");
        }
    }

    /// The engine below, made for the first who serves.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        let mut engine = self.0.engine.lock();
        engine.upgrade().unwrap_or_else(|| {
            let (config, hooks) = match self.0.built.get() {
                Some(built) => (Arc::clone(&built.config), Arc::clone(&built.hooks)),
                None => Default::default(),
            };
            let guard = self.guard().cloned();
            let metrics = Arc::clone(&self.0.metrics);
            let new = Engine::new(
                Box::new(self.clone()),
                config,
                hooks,
                metrics,
                self.tasks().clone(),
                guard,
            );
            *engine = Arc::downgrade(&new);
            new
        })
    }

    #[inline]
    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(match self.fixed_namespace("/") {
            Some(namespace) => TargetNamespace::Local(Arc::clone(namespace)),
            None => TargetNamespace::Absent(self.clone(), Nsp::ROOT),
        })
    }
}

/// Servers that the metrics show.
const MAX_SHOWN: usize = 256;
