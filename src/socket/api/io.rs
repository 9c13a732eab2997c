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
    adapter::NodeId,
    engine::Engine,
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
        let existing = all.filter(|namespace| !namespace.is_removed());
        existing
            .map(|inner| Namespace::existing(self.clone(), inner))
            .collect()
    }

    /// Asks the authenticators again about everybody who is connected, and disconnects those who
    /// are not let in any more: each is told by the event `error` first. To be called when
    /// something was revoked. Returns how many were disconnected.
    ///
    /// Clients that are away lose what they could [recover](crate::options::Recovery) if they would have been
    /// disconnected, whether they have been let in again by the time they come back or not.
    ///
    /// This looks at every socket, which takes about a millisecond for ten thousand.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn revalidate(&self) -> usize {
        let Some(built) = self.0.built.get() else {
            return 0;
        };
        // The round begins before anybody is looked for, because a client that is on its way back is found by nobody.
        if let Some(table) = self.recovery_table() {
            table.begin_round();
        }
        let made: Vec<_> = built.made.read().values().cloned().collect();
        let mut expelled = 0;
        for namespace in built.fixed.iter().chain(&made) {
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

    /// The name of this server in its cluster, which it has even if there are no others; `None` before
    /// it is built.
    #[must_use]
    pub fn node(&self) -> Option<&NodeId> {
        self.0.built.get().map(|built| &built.node)
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
    /// Returns when nobody is connected any more, at the latest at the end of the window. Where clients go on at
    /// another server by `Builder::handover`, it waits up to five seconds more within the window until that has all of them.
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
            #[cfg(feature = "cluster")]
            let end = Instant::now() + window;
            engine.drain(window).await;
            #[cfg(feature = "cluster")]
            self.hand_over_until(end).await;
        }
    }

    /// Closes all connections and waits until everything queued for them is sent and all handlers
    /// have ended, at most for `grace`.
    pub async fn close(&self, grace: Duration) {
        let deadline = Instant::now() + grace;
        // What waits for the end of an interval is sent while there are still connections.
        self.end_pacing();
        let engine = self.0.engine.lock().upgrade();
        if let Some(engine) = engine {
            engine.shutdown(grace).await;
        }
        if let Some(table) = self.recovery_table() {
            table.close();
        }
        #[cfg(feature = "cluster")]
        // The cluster is left after all sockets have ended, since their state is saved for other servers meanwhile.
        self.leave_cluster(deadline).await;
        let settled = async {
            loop {
                // The waiter is made before the count is read, so that it sees every `notify_waiters` from then on.
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
        // The lock is held while the engine is made, so that there is only one.
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
