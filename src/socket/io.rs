use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, LazyLock, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use roomcast_protocol::socket::{Argument, Arguments, Nsp};
use tokio::{
    runtime::{EnterGuard, Handle},
    sync::Notify,
    time::Instant,
};

use super::{
    acks::Acks,
    builder::{Builder, Predicate},
    emit::{Broadcast, Emitted},
    handlers::Handlers,
    namespace::{self, Namespace},
    refusal::Refusal,
    room::IntoRooms,
    running::Running,
    state::States,
};
use crate::{
    Config,
    auth::Principal,
    engine::Engine,
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
    /// Kept alive by whoever serves.
    engine: Mutex<Weak<Engine<Io>>>,
}

/// What is known once the server is built.
pub(crate) struct Built {
    pub(crate) config: Arc<Config>,
    pub(crate) states: States,
    /// Those that always exist: few, so a list.
    pub(crate) fixed: Vec<Arc<namespace::Inner>>,
    pub(crate) on_demand: Vec<OnDemand>,
    /// Those that exist by now of the ones made on demand.
    pub(crate) made: RwLock<HashMap<Nsp, Arc<namespace::Inner>>>,
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
            engine: Mutex::new(Weak::new()),
        })))
    }

    /// The namespace of this name. One that does not exist reaches nobody.
    #[must_use]
    pub fn of(&self, name: &str) -> Namespace {
        Namespace::new(self.clone(), name)
    }

    /// The members of rooms of `/`.
    pub fn to<'a>(&self, rooms: impl IntoRooms<'a>) -> Broadcast<'a> {
        self.all().to(rooms)
    }

    /// The members of rooms of `/`, as [`to`](Self::to) says it.
    pub fn in_<'a>(&self, rooms: impl IntoRooms<'a>) -> Broadcast<'a> {
        self.all().to(rooms)
    }

    /// Everybody in `/` but the members of rooms.
    pub fn except<'a>(&self, rooms: impl IntoRooms<'a>) -> Broadcast<'a> {
        self.all().except(rooms)
    }

    /// Everybody in `/`, for an event that may be lost; see [`Broadcast::volatile`].
    pub fn volatile<'a>(&self) -> Broadcast<'a> {
        self.all().volatile()
    }

    /// Everybody in `/` on this node; see [`Broadcast::local`].
    pub fn local<'a>(&self) -> Broadcast<'a> {
        self.all().local()
    }

    /// Everybody in `/`, with this compression flag; see [`Broadcast::compress`].
    pub fn compress<'a>(&self, compress: bool) -> Broadcast<'a> {
        self.all().compress(compress)
    }

    /// Everybody in `/`, who must acknowledge in this time; see [`Broadcast::timeout`].
    pub fn timeout<'a>(&self, timeout: Duration) -> Broadcast<'a> {
        self.all().timeout(timeout)
    }

    /// Sends an event to everybody in `/`; see [`Broadcast::emit`].
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        self.all().emit(event, args)
    }

    /// Asks everybody in `/`; see [`Broadcast::emit_with_acks`].
    pub async fn emit_with_acks<R: Argument>(&self, event: &str, args: impl Arguments) -> Acks<R> {
        self.all().emit_with_acks(event, args).await
    }

    /// The options; the defaults while the server is being built.
    #[must_use]
    pub fn config(&self) -> &Config {
        static DEFAULT: LazyLock<Config> = LazyLock::new(Config::default);
        self.0.built.get().map_or(&DEFAULT, |built| &built.config)
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
    pub(crate) fn engine(&self) -> Arc<Engine<Self>> {
        let mut engine = self.0.engine.lock();
        engine.upgrade().unwrap_or_else(|| {
            let config = match self.0.built.get() {
                Some(built) => Arc::clone(&built.config),
                None => Arc::default(),
            };
            let metrics = Arc::clone(&self.0.metrics);
            let new = Engine::new(Arc::new(self.clone()), config, metrics);
            *engine = Arc::downgrade(&new);
            new
        })
    }

    pub(crate) fn complete(&self, built: Built) {
        // Only a builder does this, and building takes it.
        let _ = self.0.built.set(built);
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

    /// The handlers of a namespace that clients may ask for, whether it exists already or not.
    pub(crate) fn handlers_for(&self, name: &str) -> Option<Arc<Handlers>> {
        if let Some(namespace) = self.fixed_namespace(name) {
            return Some(Arc::clone(&namespace.handlers));
        }
        let on_demand = &self.0.built.get()?.on_demand;
        let accepts = |on_demand: &&OnDemand| {
            // A predicate that panics accepts nothing.
            catch_unwind(AssertUnwindSafe(|| (on_demand.accept)(name))).unwrap_or(false)
        };
        let accepted = on_demand.iter().find(accepts);
        accepted.map(|on_demand| Arc::clone(&on_demand.handlers))
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
        match made.entry(name.clone()) {
            Entry::Occupied(entry) => Ok(Arc::clone(entry.get())),
            Entry::Vacant(_) if full => Err(Refusal::new("", "Too many namespaces")),
            Entry::Vacant(entry) => Ok(Arc::clone(entry.insert(Arc::new(namespace::Inner::new(
                name.clone(),
                Arc::clone(handlers),
                true,
                Arc::clone(&built.config),
                Arc::clone(&self.0.metrics),
            ))))),
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
    pub(crate) fn detach(&self, handlers: Vec<Running>) {
        let Some(runtime) = self.0.runtime.get() else {
            return;
        };
        if handlers.is_empty() {
            return;
        }
        let detached = Detached::new(self.clone(), handlers.len());
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
    handlers: usize,
}

impl Detached {
    fn new(io: Io, handlers: usize) -> Self {
        io.0.detached.fetch_add(handlers, Ordering::AcqRel);
        io.0.metrics.shift(Gauge::HandlersDetached, handlers as i64);
        Self { io, handlers }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let inner = &self.io.0;
        inner
            .metrics
            .shift(Gauge::HandlersDetached, -(self.handlers as i64));
        if inner.detached.fetch_sub(self.handlers, Ordering::AcqRel) == self.handlers {
            inner.settled.notify_waiters();
        }
    }
}
