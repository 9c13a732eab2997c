use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use roomcast_protocol::socket::Nsp;
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::Notify,
    time::Instant,
};

use super::{
    builder::{Builder, Predicate},
    emit::Broadcast,
    handlers::{Connect, Handlers},
    lifecycle::{Lifecycle, Watchers},
    namespace::{self, Namespace},
    refusal::Refusal,
    running::Running,
    socket::{Sessions, Shared},
    state::States,
    targets::targets,
};
use crate::{
    Config,
    auth::Principal,
    engine::{Engine, Hooks},
    limit::{Guard, Quiet, Violation},
    metrics::{Gauge, Metrics},
};

/// A handle to the whole server. Cloning is a reference count.
///
/// What it sends goes to the namespace `/`; [`of`](Self::of) gives the others. Methods that send
/// work from any thread and never wait.
#[derive(Clone)]
pub struct Io(Arc<Inner>);

struct Inner {
    built: OnceLock<Built>,
    metrics: Arc<Metrics>,
    anonymous: Arc<Principal>,
    /// Where handlers go on that outlive their socket.
    runtime: OnceLock<Handle>,
    detached: AtomicUsize,
    /// Notified when the last detached handler has ended.
    settled: Notify,
    /// Lines about clients that are refused.
    refusals: Quiet,
    /// Kept alive by whoever serves.
    engine: Mutex<Weak<Engine<Io>>>,
}

/// What is known once the server is built.
pub(crate) struct Built {
    pub(crate) config: Arc<Config>,
    pub(crate) hooks: Arc<Hooks>,
    pub(crate) states: States,
    pub(crate) guard: Option<Arc<Guard>>,
    /// Those that always exist: few, so a list.
    pub(crate) fixed: Vec<Arc<namespace::Inner>>,
    pub(crate) on_demand: Vec<OnDemand>,
    /// Those that exist by now of the ones made on demand.
    pub(crate) made: RwLock<HashMap<Nsp, Arc<namespace::Inner>>>,
    pub(crate) watchers: Watchers,
    /// `None` if no session can be recovered.
    pub(crate) sessions: Option<Arc<Sessions>>,
}

/// Lines about refused clients at once, before it is one a second.
const REFUSALS: u32 = 100;

/// Whether clients may ask for a namespace.
pub(crate) enum Door {
    /// Nobody gave it.
    Closed,
    /// It exists, or is made when a client is let in.
    Open(Arc<Handlers>),
    /// The predicate at this position must be asked first.
    Ask(usize),
}

/// A predicate that panics accepts nothing.
fn accepts(accept: &dyn Fn(&str) -> bool, name: &str) -> bool {
    catch_unwind(AssertUnwindSafe(|| accept(name))).unwrap_or(false)
}

/// Namespaces that are made when a client is let in.
pub(crate) struct OnDemand {
    pub(crate) accept: Predicate,
    pub(crate) handlers: Arc<Handlers>,
}

impl Io {
    /// Starts to put a server together.
    pub fn builder() -> Builder {
        Builder::new(Self(Arc::new(Inner {
            built: OnceLock::new(),
            metrics: Arc::new(Metrics::new()),
            anonymous: Arc::new(Principal::anonymous()),
            runtime: OnceLock::new(),
            detached: AtomicUsize::new(0),
            settled: Notify::new(),
            refusals: Quiet::new(REFUSALS),
            engine: Mutex::new(Weak::new()),
        })))
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
    /// It looks at every socket, which takes about a millisecond for ten thousand.
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn revalidate(&self) -> usize {
        let Some(built) = self.0.built.get() else {
            return 0;
        };
        let made: Vec<_> = built.made.read().values().cloned().collect();
        let mut expelled = 0;
        for namespace in built.fixed.iter().chain(&made) {
            if namespace.handlers.authenticate.is_some() {
                let sockets = namespace.all_sockets();
                expelled += sockets.iter().filter(|socket| !socket.revalidate()).count();
            }
        }
        expelled
    }

    /// The options; the defaults while the server is being built.
    #[must_use]
    pub fn config(&self) -> &Config {
        static DEFAULT: LazyLock<Config> = LazyLock::new(Config::default);
        self.0.built.get().map_or(&DEFAULT, |built| &built.config)
    }

    /// Sessions that are open or closing: clients, whether they have joined a namespace or not. It is
    /// `io.engine.clientsCount` of the official server.
    #[must_use]
    pub fn clients_count(&self) -> usize {
        let engine = self.0.engine.lock().upgrade();
        engine.map_or(0, |engine| engine.session_count())
    }

    /// The counters of this server.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Something that was given to [`Builder::state`].
    ///
    /// # Panics
    ///
    /// When nobody gave it.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        let state = self.states().get();
        let name = std::any::type_name::<T>();
        state.unwrap_or_else(|| panic!("no state `{name}` was given to the builder"))
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

    /// The sessions that can be recovered, if any can.
    #[inline]
    pub(crate) fn sessions(&self) -> Option<&Arc<Sessions>> {
        self.0.built.get()?.sessions.as_ref()
    }

    /// Starts a task. `false`: no connection has ever been driven, so there is no runtime.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let runtime = self.0.runtime.get();
        runtime.map(|runtime| runtime.spawn(task)).is_some()
    }

    /// The engine below, made for the first who serves.
    pub(crate) fn engine(&self) -> Arc<Engine<Self>> {
        let mut engine = self.0.engine.lock();
        engine.upgrade().unwrap_or_else(|| {
            let (config, hooks) = match self.0.built.get() {
                Some(built) => (Arc::clone(&built.config), Arc::clone(&built.hooks)),
                None => Default::default(),
            };
            let guard = self.guard().cloned();
            let metrics = Arc::clone(&self.0.metrics);
            let new = Engine::new(Arc::new(self.clone()), config, hooks, metrics, guard);
            *engine = Arc::downgrade(&new);
            new
        })
    }

    /// Whether to write a line about a client that is refused, and how many were left out since
    /// the last one.
    pub(crate) fn speak_of_refusal(&self) -> Option<u64> {
        self.0.refusals.speak()
    }

    /// Whether a refusal is one too many of its client's address, which is shut out then.
    pub(crate) fn blame(&self, refusal: &Refusal, address: IpAddr) -> bool {
        let guard = self.guard().filter(|_| refusal.is_blamed());
        guard.is_some_and(|guard| guard.violation(address, Violation::Credentials))
    }

    /// Who may connect, if [`Builder::guard`](crate::Builder::guard) limits it.
    #[must_use]
    pub fn guard(&self) -> Option<&Arc<Guard>> {
        self.0.built.get()?.guard.as_ref()
    }

    /// The functions given to the builder.
    pub(crate) fn hooks(&self) -> &Hooks {
        static NONE: LazyLock<Hooks> = LazyLock::new(Hooks::default);
        self.0.built.get().map_or(&NONE, |built| &built.hooks)
    }

    pub(crate) fn complete(&self, built: Built) {
        // Only a builder does this, and building takes it.
        let _ = self.0.built.set(built);
        for namespace in self.0.built.get().iter().flat_map(|built| &built.fixed) {
            if namespace.name != *"/" {
                self.tell_created(namespace);
            }
        }
    }

    pub(crate) fn metrics_arc(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(crate) fn anonymous(&self) -> &Arc<Principal> {
        &self.0.anonymous
    }

    pub(crate) fn states(&self) -> &States {
        static NONE: States = States::new();
        self.0.built.get().map_or(&NONE, |built| &built.states)
    }

    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.fixed_namespace("/").cloned())
    }

    pub(crate) fn fixed_namespace(&self, name: &str) -> Option<&Arc<namespace::Inner>> {
        let fixed = &self.0.built.get()?.fixed;
        fixed.iter().find(|namespace| namespace.name == *name)
    }

    pub(crate) fn made_namespace(&self, name: &Nsp) -> Option<Arc<namespace::Inner>> {
        self.0.built.get()?.made.read().get(name).cloned()
    }

    /// Whether clients may ask for a namespace, as far as it can be said at once.
    pub(crate) fn door(&self, name: &str) -> Door {
        if let Some(namespace) = self.fixed_namespace(name) {
            return Door::Open(Arc::clone(&namespace.handlers));
        }
        let Some(built) = self.0.built.get() else {
            return Door::Closed;
        };
        if built.on_demand.is_empty() {
            return Door::Closed;
        }
        if let Some(namespace) = built.made.read().get(&Nsp::from(name)) {
            // Who may come in is for its gates to say.
            return Door::Open(Arc::clone(&namespace.handlers));
        }
        for (position, on_demand) in built.on_demand.iter().enumerate() {
            match &on_demand.accept {
                Predicate::Now(accept) if accepts(accept, name) => {
                    return Door::Open(Arc::clone(&on_demand.handlers));
                }
                Predicate::Now(_) => {}
                Predicate::Ask(_) => return Door::Ask(position),
            }
        }
        Door::Closed
    }

    /// Asks whether a namespace is to be made for a client, from this predicate on.
    pub(crate) async fn ask_at(&self, position: usize, connect: &Connect) -> Option<Arc<Handlers>> {
        let on_demand = &self.0.built.get()?.on_demand;
        for on_demand in on_demand.iter().skip(position) {
            let accepted = match &on_demand.accept {
                Predicate::Now(accept) => accepts(accept, connect.namespace()),
                Predicate::Ask(ask) => ask(connect.clone()).await,
            };
            if accepted {
                return Some(Arc::clone(&on_demand.handlers));
            }
        }
        None
    }

    /// The namespace for a client that may enter it, made if need be.
    pub(crate) fn namespace_to_enter(
        &self,
        name: &Nsp,
        handlers: &Arc<Handlers>,
    ) -> Result<Arc<namespace::Inner>, Refusal> {
        if let Some(namespace) = self.fixed_namespace(name.as_str()) {
            return Ok(Arc::clone(namespace));
        }
        let Some(built) = self.0.built.get() else {
            return Err(Refusal::internal());
        };
        let mut made = built.made.write();
        let full = made.len() >= built.config.max_namespaces;
        let new = match made.entry(name.clone()) {
            Entry::Occupied(entry) => return Ok(Arc::clone(entry.get())),
            Entry::Vacant(_) if full => return Err(Refusal::new("", "Too many namespaces")),
            Entry::Vacant(entry) => {
                let goes_when_empty = built.config.cleanup_empty_child_namespaces;
                Arc::clone(entry.insert(Arc::new(namespace::Inner::new(
                    name.clone(),
                    Arc::clone(handlers),
                    goes_when_empty,
                    Arc::clone(&built.config),
                    Arc::clone(&self.0.metrics),
                ))))
            }
        };
        drop(made);
        self.tell_created(&new);
        Ok(new)
    }

    fn tell_created(&self, namespace: &Arc<namespace::Inner>) {
        if self.is_watched() {
            let namespace = Namespace::existing(self.clone(), Arc::clone(namespace));
            let namespace = &namespace;
            self.tell(&Lifecycle::NamespaceCreated { namespace });
        }
    }

    /// Whether somebody wants to be told what happens.
    #[inline]
    pub(crate) fn is_watched(&self) -> bool {
        self.0
            .built
            .get()
            .is_some_and(|built| !built.watchers.is_empty())
    }

    /// Tells those who watch. Called without any lock held.
    pub(crate) fn tell(&self, event: &Lifecycle<'_>) {
        if let Some(built) = self.0.built.get() {
            built.watchers.tell(&self.0.metrics, event);
        }
    }

    /// Forgets a namespace that was made on demand and is empty.
    pub(crate) fn take_down(&self, namespace: &Arc<namespace::Inner>) {
        let Some(built) = self.0.built.get() else {
            return;
        };
        let mut made = built.made.write();
        if made
            .get(&namespace.name)
            .is_some_and(|known| Arc::ptr_eq(known, namespace))
        {
            made.remove(&namespace.name);
            drop(made);
            let namespace = namespace.name.as_str();
            self.tell(&Lifecycle::NamespaceRemoved { namespace });
        }
    }

    /// Remembers the runtime in which connections are driven.
    pub(crate) fn keep_runtime(&self) {
        self.0.runtime.get_or_init(Handle::current);
    }

    /// Lets handlers that are started on a foreign thread find their runtime.
    pub(crate) fn enter_runtime(&self) -> Option<EnterGuard<'_>> {
        self.0.runtime.get().map(Handle::enter)
    }

    /// Lets handlers that still wait end in a task of their own.
    pub(crate) fn detach(&self, handlers: Vec<Running>, of: &Arc<Shared>) {
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        if handlers.is_empty() {
            return;
        }
        let detached = Detached::new(self.clone(), Arc::clone(of), handlers.len());
        let mut handlers: FuturesUnordered<_> = handlers.into_iter().collect();
        runtime.spawn(async move {
            while handlers.next().await.is_some() {}
            drop(detached);
        });
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("namespaces", &self.0.built.get().map(|built| &built.fixed))
            .finish_non_exhaustive()
    }
}

/// Counts handlers that have outlived their socket.
struct Detached {
    io: Io,
    of: Arc<Shared>,
    handlers: usize,
}

impl Detached {
    fn new(io: Io, of: Arc<Shared>, handlers: usize) -> Self {
        of.count_detached(handlers);
        io.0.detached.fetch_add(handlers, Ordering::AcqRel);
        io.0.metrics.shift(Gauge::HandlersDetached, handlers as i64);
        Self { io, of, handlers }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        self.of.count_settled(self.handlers);
        let inner = &self.io.0;
        inner
            .metrics
            .shift(Gauge::HandlersDetached, -(self.handlers as i64));
        if inner.detached.fetch_sub(self.handlers, Ordering::AcqRel) == self.handlers {
            inner.settled.notify_waiters();
        }
    }
}
