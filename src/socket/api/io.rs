//! The application's interface to a server.

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
    adapter::NodeId,
    engine::Engine,
    socket::{
        apply::TargetNamespace,
        core::{Io, Namespace},
    },
    tasks::EndedTask,
};

/// The sizes of tables that have no metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableSizes {
    /// Conflated keys that were sent within their interval. Each may hold one event.
    pub paced_keys: usize,
    /// Clients that recently no server could recover.
    pub unknown_clients: usize,
    /// Namespaces that were created on demand or added while the server runs.
    pub namespaces: usize,
    /// Servers whose envelopes are deduplicated, and the bytes for that.
    pub deduplication: (usize, usize),
    /// Rooms that the adapter considers open.
    pub adapter_rooms: usize,
}

impl Io {
    /// Returns a builder for a server.
    pub fn builder() -> Builder {
        Builder::new(Self::unbuilt())
    }

    /// Returns the namespace of this name. If it does not exist, it reaches no socket.
    #[must_use]
    pub fn of(&self, name: &str) -> Namespace {
        Namespace::new(self.clone(), name)
    }

    targets!("`/`");

    /// Returns all current namespaces, unordered: those of the builder, and those created on
    /// demand.
    ///
    /// In the official server, an application can send to a parent namespace. Here, send to each of
    /// its child namespaces:
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
        let all = self.all_namespaces().into_iter();
        let existing = all.filter(|namespace| !namespace.is_removed());
        existing
            .map(|inner| Namespace::existing(self.clone(), inner))
            .collect()
    }

    /// Runs the authenticators again for all connected clients, and disconnects clients that they
    /// reject.
    ///
    /// Each rejected client receives the event `error` first. Call this after a revocation. Returns
    /// the number of disconnected clients.
    ///
    /// Disconnected clients that the authenticators reject can no longer
    /// [recover](crate::options::Recovery), even if they are accepted again when they reconnect.
    ///
    /// The call checks every socket, at about one millisecond per 10,000 sockets.
    #[expect(clippy::must_use_candidate, reason = "it is called for its effect")]
    pub fn revalidate(&self) -> usize {
        // The round begins before the search, because the search does not find clients that are
        // reconnecting.
        if let Some(table) = self.recovery_table() {
            table.begin_round();
        }
        let mut expelled = 0;
        for namespace in self.all_namespaces() {
            if namespace.handlers.authenticate.is_some() {
                let sockets = namespace.all_sockets();
                expelled += sockets.iter().filter(|socket| !socket.revalidate()).count();
            }
        }
        if let Some(table) = self.recovery_table() {
            table.revalidate();
        }
        expelled
    }

    /// Returns the number of open or closing sessions, whether or not they have joined a namespace.
    /// It is `io.engine.clientsCount` of the official server.
    #[must_use]
    pub fn clients_count(&self) -> usize {
        let engine = self.0.engine.lock().upgrade();
        engine.map_or(0, |engine| engine.session_count())
    }

    /// Returns the tasks of this server that have ended unexpectedly.
    ///
    /// These tasks write to clients, send pings, accept connections, sweep tables, and watch the
    /// certificate. A task that panics is logged, counted (`roomcast_task_restarts_total`,
    /// `roomcast_tasks_down`) and restarted. It remains in the list until it has run for 10 s.
    /// Report a non-empty list in the readiness check, because such a server should get no new
    /// clients.
    #[must_use]
    pub fn ended_tasks(&self) -> Vec<EndedTask> {
        self.tasks().ended()
    }

    /// Returns the sizes of tables that have no metric.
    #[doc(hidden)]
    #[must_use]
    pub fn table_sizes(&self) -> TableSizes {
        let joined = self.cluster().joined();
        let recovery = self.recovery_table();
        let built = self.0.built.get();
        TableSizes {
            paced_keys: self.paced().len(),
            unknown_clients: recovery.map_or(0, |table| table.unknown.len()),
            namespaces: built.map_or(0, |built| built.made.read().len()),
            deduplication: joined.map_or((0, 0), |joined| joined.deduplication()),
            adapter_rooms: joined.map_or(0, |joined| joined.opened_rooms()),
        }
    }

    /// Returns this server's id in its cluster, or `None` before it is built. A single server also
    /// has an id.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.0.built.get().map(|built| &built.node)
    }

    /// Returns whether the server refuses new clients because it is about to stop. Report this in
    /// the readiness check.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        let engine = self.0.engine.lock().upgrade();
        engine.is_some_and(|engine| engine.is_draining())
    }

    /// Refuses new clients, and moves connected clients to other servers within `window`.
    ///
    /// Connections close at times spread over nine tenths of the window with jitter, and stock
    /// clients reconnect by themselves. WebSockets close with 1001 (RFC 6455, 7.4.1), polls receive
    /// a close packet, and handshakes 503 with `Retry-After`. A client with running handlers or
    /// pending acknowledgements moves when these are done, at the latest at the end of the window.
    /// All queued data is sent first.
    ///
    /// Returns when no client is connected, at the latest at the end of the window. With
    /// `Builder::handover`, it waits up to five more seconds within the window, until other servers
    /// have taken over all clients. Call [`close`](Self::close) afterwards; draining cannot be
    /// undone.
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
            let end = Instant::now() + window;
            engine.drain(window).await;
            self.hand_over_until(end).await;
        }
    }

    /// Closes all connections. Waits until all queued data is sent and all handlers have ended, at
    /// most for `grace`.
    pub async fn close(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        // Conflated events that wait for their interval are sent while connections are open.
        self.end_pacing();
        let engine = self.0.engine.lock().upgrade();
        if let Some(engine) = engine {
            engine.shutdown(grace).await;
        }
        if let Some(table) = self.recovery_table() {
            table.close();
        }
        // Leave the cluster after all sockets have ended, because their state is saved for other
        // servers until then.
        self.leave_cluster(deadline).await;
        let settled = async {
            loop {
                // The waiter is created before the count is read, so that it sees every later
                // `notify_waiters`.
                let settled = self.0.settled.notified();
                if self.0.detached.load(Ordering::Acquire) == 0 {
                    return;
                }
                settled.await;
            }
        };
        if tokio::time::timeout_at(deadline, settled).await.is_err() {
            let handlers = self.0.detached.load(Ordering::Acquire);
            tracing::warn!(
                handlers,
                "handlers did not finish before the shutdown deadline"
            );
        }
    }

    /// Returns the engine, created by the first caller.
    pub(crate) fn engine(&self) -> Arc<Engine> {
        // The lock is held during creation, so that only one engine exists.
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
                self.0.built.get().and_then(|built| built.forwarder.clone()),
            );
            *engine = Arc::downgrade(&new);
            new
        })
    }

    #[inline]
    fn all<'a>(&self) -> Broadcast<'a> {
        let root = self.fixed_namespace("/").cloned();
        Broadcast::new(match root.or_else(|| self.made_namespace(&Nsp::ROOT)) {
            Some(namespace) => TargetNamespace::Local(namespace),
            None => TargetNamespace::Absent(self.clone(), Nsp::ROOT),
        })
    }
}
