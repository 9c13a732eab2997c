use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, LazyLock, OnceLock, Weak, atomic::AtomicUsize},
};

use futures_util::future::BoxFuture;
use parking_lot::{Mutex, RwLock};
use roomcast_protocol::{SessionId, Sid, socket::Nsp};
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::Notify,
};

use super::{
    handlers::{Connect, Handlers, Lifecycle, Watchers},
    namespace::{self, Namespace},
    paced::Paced,
    socket::{RecoveryTable, Socket},
};
use crate::{
    Config, Principal,
    adapter::{Cluster, NodeId, Registry, keep_nodes, values::Values},
    engine::{Engine, Forwarder, Hooks},
    limit::{AddressLog, CauseThrottle, Guard, LogThrottle},
    metrics::Metrics,
    socket::types::{ClientFiles, States},
    tasks::Tasks,
};

/// A handle to a server. Clones share a reference count.
///
/// It sends to the namespace `/`; [`of`](Self::of) returns other namespaces. Methods that send work
/// from any thread and never wait.
#[derive(Clone)]
pub struct Io(pub(in crate::socket) Arc<IoInner>);

/// A handle that does not keep the server alive.
#[derive(Clone)]
pub(crate) struct WeakIo(Weak<IoInner>);

impl WeakIo {
    pub(crate) fn upgrade(&self) -> Option<Io> {
        self.0.upgrade().map(Io)
    }
}

/// The state of a server, built or not.
pub(crate) struct IoInner {
    pub(in crate::socket) built: OnceLock<Built>,
    pub(in crate::socket) metrics: Arc<Metrics>,
    tasks: Tasks,
    anonymous: Arc<Principal>,
    /// The runtime for handlers that outlive their socket.
    pub(in crate::socket) runtime: OnceLock<Handle>,
    pub(in crate::socket) detached: AtomicUsize,
    /// Notified when the last detached handler has ended.
    pub(in crate::socket) settled: Notify,
    /// Log throttle for refused clients.
    pub(in crate::socket) refusals: CauseThrottle,
    /// Log throttle for connecting and disconnecting clients.
    pub(in crate::socket) connection_log_throttles: [AddressLog; LogKind::COUNT],
    /// Log throttle for handler errors.
    failures: LogThrottle,
    /// Kept alive by the serving code. The engine holds this server, so a strong reference would be
    /// a cycle.
    pub(in crate::socket) engine: Mutex<Weak<Engine>>,
    /// Conflated events that wait for their interval.
    paced: Arc<Paced>,
}

/// The state of a server after it is built.
pub(crate) struct Built {
    pub(crate) config: Arc<Config>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) states: States,
    pub(crate) guard: Option<Arc<Guard>>,
    /// The namespaces of the builder, including removed ones. A list, because they are few.
    pub(crate) fixed: Vec<Arc<namespace::NamespaceInner>>,
    pub(crate) on_demand: Vec<OnDemand>,
    /// The current namespaces that were created on demand or added while the server runs.
    pub(crate) made: RwLock<HashMap<Nsp, Arc<namespace::NamespaceInner>>>,
    /// Whether connects and disconnects are logged at level `INFO`.
    pub(crate) logs_connections: bool,
    pub(crate) watchers: Watchers,
    pub(crate) client_files: ClientFiles,
    /// The cluster, or `Cluster::Local` without an adapter.
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    pub(crate) registry: Arc<Registry>,
    /// Forwards requests to other servers.
    pub(crate) forwarder: Option<Arc<Forwarder>>,
    pub(crate) values: Option<Values>,
    /// The application's handover function.
    pub(crate) handover: Option<Handover>,
    /// `None` if recovery is disabled.
    pub(crate) recovery_table: Option<Arc<RecoveryTable>>,
}

/// Log lines about refused clients, or about failed events, before the rate drops to one per
/// second.
const REFUSALS: u32 = 100;

/// Ends a client's session for a handover. Returns the data for the application on the other
/// server, or `None` if the client cannot be handed over.
pub(crate) type Handover = Box<dyn Fn(&Socket) -> Option<serde_json::Value> + Send + Sync>;

/// Decides which namespaces are created on demand.
pub(crate) enum Predicate {
    Now(Box<dyn Fn(&str) -> bool + Send + Sync>),
    Async(Box<dyn Fn(Connect) -> BoxFuture<'static, bool> + Send + Sync>),
}

/// Namespaces that are created when a client is admitted.
pub(crate) struct OnDemand {
    pub(crate) accept: Predicate,
    pub(crate) handlers: Arc<Handlers>,
}

/// The events in the life of a connection that are logged. Each has a limit of its own, so that a
/// flood of one leaves lines for the others.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LogKind {
    Opened,
    Authenticated,
    Joined,
    Expelled,
    Left,
}

impl LogKind {
    pub(crate) const COUNT: usize = 5;
}

/// Logs an event of one client, at `INFO` if the application enabled that.
macro_rules! connection_log {
    ($io:expr, $($fields:tt)*) => {
        if $io.logs_connections() {
            tracing::info!($($fields)*);
        } else {
            tracing::debug!($($fields)*);
        }
    };
}
pub(crate) use connection_log;

impl Io {
    /// Returns whether connects and disconnects are logged at level `INFO`.
    pub(crate) fn logs_connections(&self) -> bool {
        self.0
            .built
            .get()
            .is_some_and(|built| built.logs_connections)
    }

    /// Returns a server that is not built yet.
    pub(crate) fn unbuilt() -> Self {
        let metrics = Arc::new(Metrics::new());
        Self(Arc::new(IoInner {
            built: OnceLock::new(),
            tasks: Tasks::new(Arc::clone(&metrics)),
            metrics,
            anonymous: Arc::new(Principal::anonymous()),
            runtime: OnceLock::new(),
            detached: AtomicUsize::new(0),
            settled: Notify::new(),
            refusals: CauseThrottle::new(REFUSALS),
            connection_log_throttles: std::array::from_fn(|_| AddressLog::new()),
            failures: LogThrottle::new(REFUSALS),
            engine: Mutex::new(Weak::new()),
            paced: Arc::default(),
        }))
    }

    /// Returns a session id as the client knows it.
    pub(crate) fn session_id(&self, sid: Sid) -> SessionId {
        let forwarder = self
            .0
            .built
            .get()
            .and_then(|built| built.forwarder.as_ref());
        let tag = forwarder.map(|forwarder| forwarder.tag());
        SessionId { sid, tag }
    }

    /// Returns the options, or the defaults while the server is being built.
    #[must_use]
    #[inline]
    pub fn config(&self) -> &Config {
        static DEFAULT: LazyLock<Config> = LazyLock::new(Config::default);
        self.0.built.get().map_or(&DEFAULT, |built| &built.config)
    }

    /// Returns the metrics of this server.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Returns the tasks of this server itself, not those of its clients.
    #[doc(hidden)]
    #[must_use]
    pub fn tasks(&self) -> &Tasks {
        &self.0.tasks
    }

    /// Returns a value that was passed to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// Panics if there is no such value.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        let state = self.states().get();
        let name = std::any::type_name::<T>();
        state.unwrap_or_else(|| panic!("no state `{name}` was given to the builder"))
    }

    /// Returns the cluster, or `Cluster::Local` without an adapter.
    #[inline]
    pub(crate) fn cluster(&self) -> &Cluster {
        static NONE: Cluster = Cluster::Local;
        self.0.built.get().map_or(&NONE, |built| &built.cluster)
    }

    pub(crate) fn downgrade(&self) -> WeakIo {
        WeakIo(Arc::downgrade(&self.0))
    }

    /// Returns the recoverable sockets, if recovery is enabled.
    #[inline]
    pub(crate) fn recovery_table(&self) -> Option<&Arc<RecoveryTable>> {
        self.0.built.get()?.recovery_table.as_ref()
    }

    /// Returns the application's handover function, if it is set.
    pub(crate) fn handover(&self) -> Option<&Handover> {
        self.0.built.get()?.handover.as_ref()
    }

    /// Returns whether clients may move to another server without a journal.
    pub(crate) fn has_handover_targets(&self) -> bool {
        let joined = self.cluster().joined();
        let has_others = joined.is_some_and(|joined| joined.registry().has(|_| true));
        has_others && self.handover().is_some() && !self.cluster().has_journal()
    }

    /// Returns the conflated events that wait for their interval.
    pub(crate) fn paced(&self) -> &Arc<Paced> {
        &self.0.paced
    }

    /// Spawns a task. Returns `false` if no runtime is known, because no connection was driven yet.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> bool {
        let runtime = self.0.runtime.get();
        runtime.map(|runtime| runtime.spawn(task)).is_some()
    }

    /// Spawns a task that is restarted if it panics. Returns `false` if no runtime is known,
    /// because no connection was driven yet.
    pub(crate) fn keep<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        make: impl FnMut() -> F + Send + 'static,
    ) -> bool {
        self.spawn(self.0.tasks.clone().keep(name, make))
    }

    /// Returns the connection limits of [`Builder::guard`](crate::Builder::guard), if set.
    #[must_use]
    pub fn guard(&self) -> Option<&Arc<Guard>> {
        self.0.built.get()?.guard.as_ref()
    }

    /// Returns the JavaScript client builds to serve.
    pub(crate) fn client_files(&self) -> &ClientFiles {
        static NONE: LazyLock<ClientFiles> = LazyLock::new(ClientFiles::default);
        let built = self.0.built.get();
        built.map_or(&NONE, |built| &built.client_files)
    }

    /// Returns the hooks of the builder.
    pub(crate) fn hooks(&self) -> &Hooks {
        static NONE: LazyLock<Hooks> = LazyLock::new(Hooks::default);
        self.0.built.get().map_or(&NONE, |built| &built.hooks)
    }

    pub(crate) fn complete(&self, built: Built) {
        // Only a builder completes a server, and building consumes it, so the cell is empty.
        let _ = self.0.built.set(built);
        for namespace in self.0.built.get().iter().flat_map(|built| &built.fixed) {
            if namespace.name != *"/" {
                self.notify_created(namespace);
            }
        }
    }

    pub(crate) fn anonymous(&self) -> &Arc<Principal> {
        &self.0.anonymous
    }

    pub(crate) fn states(&self) -> &States {
        static NONE: States = States::new();
        self.0.built.get().map_or(&NONE, |built| &built.states)
    }

    #[inline]
    pub(crate) fn fixed_namespace(&self, name: &str) -> Option<&Arc<namespace::NamespaceInner>> {
        let fixed = &self.0.built.get()?.fixed;
        let mut named = fixed.iter().filter(|namespace| namespace.name == *name);
        named.find(|namespace| !namespace.is_removed())
    }

    pub(crate) fn made_namespace(&self, name: &Nsp) -> Option<Arc<namespace::NamespaceInner>> {
        self.0.built.get()?.made.read().get(name).cloned()
    }

    /// Returns all namespaces, including those that were removed but are still listed.
    pub(crate) fn all_namespaces(&self) -> Vec<Arc<namespace::NamespaceInner>> {
        let Some(built) = self.0.built.get() else {
            return Vec::new();
        };
        let made = built.made.read();
        built.fixed.iter().chain(made.values()).cloned().collect()
    }

    /// Records in all namespaces that events of other servers may have been missed until now.
    pub(crate) fn mark_gap(&self) {
        for namespace in self.all_namespaces() {
            if let Some(channel) = &namespace.channel {
                channel.mark_gap();
            }
        }
    }

    pub(crate) fn notify_created(&self, namespace: &Arc<namespace::NamespaceInner>) {
        if self.is_watched() {
            let namespace = Namespace::existing(self.clone(), Arc::clone(namespace));
            let namespace = &namespace;
            self.notify(&Lifecycle::NamespaceCreated { namespace });
        }
    }

    /// Returns whether there are observers.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.0
            .built
            .get()
            .is_some_and(|built| !built.watchers.is_empty())
    }

    /// Notifies the observers. Called without a lock held, apart from that of the journal.
    pub(crate) fn notify(&self, event: &Lifecycle<'_>) {
        if let Some(built) = self.0.built.get() {
            built.watchers.notify(&self.0.metrics, event);
        }
    }

    /// Removes a namespace that was created on demand and is empty.
    pub(crate) fn take_down(&self, namespace: &Arc<namespace::NamespaceInner>) {
        if self.unlist(namespace) {
            self.announce_removal(namespace);
        }
    }

    /// Removes a namespace from the table of those created on demand or added. Returns whether it
    /// was listed.
    pub(crate) fn unlist(&self, namespace: &Arc<namespace::NamespaceInner>) -> bool {
        let Some(built) = self.0.built.get() else {
            return false;
        };
        let mut made = built.made.write();
        let known = made.get(&namespace.name);
        let is_listed = known.is_some_and(|known| Arc::ptr_eq(known, namespace));
        if is_listed {
            made.remove(&namespace.name);
        }
        is_listed
    }

    /// Notifies the adapter and the application of a removed namespace. Called without a lock held.
    pub(crate) fn announce_removal(&self, namespace: &namespace::NamespaceInner) {
        let name = &namespace.name;
        self.cluster()
            .namespace_changed(name, || self.has_namespace(name));
        let namespace = name.as_str();
        self.notify(&Lifecycle::NamespaceRemoved { namespace });
    }

    /// Returns whether a namespace of this name exists on this server.
    pub(crate) fn has_namespace(&self, name: &Nsp) -> bool {
        self.fixed_namespace(name.as_str()).is_some() || self.made_namespace(name).is_some()
    }

    /// Returns the number of log lines suppressed since the last one, if a handler error may be
    /// logged now.
    pub(crate) fn permit_failure_log(&self) -> Option<u64> {
        self.0.failures.permit()
    }

    /// Stores the runtime that drives connections and answers other servers.
    pub(crate) fn keep_runtime(&self) {
        self.0.runtime.get_or_init(Handle::current);
        self.start_adapter();
    }

    /// Starts the adapter's task and the heartbeat task, unless they are running. Must be called
    /// within a runtime.
    pub(crate) fn start_adapter(&self) {
        let Some(joined) = self
            .cluster()
            .joined()
            .filter(|joined| joined.begins_task())
        else {
            return;
        };
        // The adapter's tasks must not keep the server alive.
        let joined = Arc::downgrade(joined);
        let weak = Weak::clone(&joined);
        let run_heartbeat = move || keep_nodes(Weak::clone(&weak));
        let run = move || {
            let task = joined.upgrade().and_then(|joined| joined.task());
            async move {
                if let Some(task) = task {
                    task.await;
                }
            }
        };
        tokio::spawn(self.0.tasks.clone().keep("adapter", run));
        tokio::spawn(self.0.tasks.clone().keep("nodes", run_heartbeat));
    }

    /// Enters the server's runtime, for handlers that start on a foreign thread.
    pub(crate) fn enter_runtime(&self) -> Option<EnterGuard<'_>> {
        self.0.runtime.get().map(Handle::enter)
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("namespaces", &self.0.built.get().map(|built| &built.fixed))
            .finish_non_exhaustive()
    }
}
