use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::future::BoxFuture;
use parking_lot::RwLock;
use roomcast_protocol::socket::{Nsp, Parser};

use super::{
    cluster::Membership,
    namespace_builder::{NamespaceBuilder, needs_of},
    options,
};
use crate::{
    Config,
    adapter::NAMESPACE,
    config::{AddressLimits, Recovery},
    engine::Hooks,
    limit::{Guard, Proxies},
    socket::{
        core::{
            Built, Connect, Handover, Io, Lifecycle, OnDemand, Pattern, Predicate, RecoveryTable,
            Watchers, namespace,
        },
        dispatch::Middleware,
        types::{BuildError, ClientFiles, States},
    },
};

/// Builds a server from options, namespaces and handlers.
///
/// ```
/// use std::time::Duration;
/// use roomcast::{Ack, Config, Event, Io};
///
/// let config = Config::default().ping_interval(Duration::from_secs(10));
/// let mut io = Io::builder()
///     .config(config)
///     .namespace("/", |namespace| namespace.on("echo", async |_: Event, text: String| Ack(text)));
/// let io = io.build()?;
/// # Ok::<(), roomcast::BuildError>(())
/// ```
#[must_use = "nothing happens before it is built"]
pub struct Builder {
    io: Io,
    config: Config,
    /// Set by its own method, which overrides the field in the options regardless of order.
    recovery: Option<Recovery>,
    parser: Option<Parser>,
    pub(super) hooks: Hooks,
    guard: Option<(AddressLimits, Proxies)>,
    states: States,
    fixed: BTreeMap<Nsp, NamespaceBuilder>,
    on_demand: Vec<(Predicate, NamespaceBuilder)>,
    /// The first invalid pattern.
    pattern_error: Option<BuildError>,
    logs_connections: bool,
    watchers: Watchers,
    client_files: ClientFiles,
    pub(super) membership: Membership,
    pub(super) handover: Option<Handover>,
}

impl Builder {
    pub(crate) fn new(io: Io) -> Self {
        Self {
            io,
            config: Config::default(),
            recovery: None,
            parser: None,
            hooks: Hooks::default(),
            guard: None,
            states: States::default(),
            fixed: BTreeMap::new(),
            on_demand: Vec::new(),
            pattern_error: None,
            logs_connections: false,
            watchers: Watchers::default(),
            client_files: ClientFiles::default(),
            membership: Membership::default(),
            handover: None,
        }
    }

    /// Sets all options. Calls of [`recovery`](Self::recovery) and [`parser`](Self::parser)
    /// override them, regardless of order.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the JavaScript client builds to serve below the path, unless
    /// [`Config::without_client_files`](crate::Config::without_client_files) is set. Default is
    /// none.
    pub fn client_files(mut self, files: ClientFiles) -> Self {
        self.client_files = files;
        self
    }

    /// Limits connections by client address, and trusts these proxies. Default is no limit and no
    /// trusted proxy.
    ///
    /// The limits need the peer's address. A surrounding server must provide it; axum does so only
    /// with `app.into_make_service_with_connect_info::<SocketAddr>()`. Without it, this server
    /// answers every request with 500. The response and the log name the required line.
    pub fn guard(mut self, limits: &AddressLimits, proxies: Proxies) -> Self {
        self.guard = Some((limits.clone(), proxies));
        self
    }

    /// Recovers clients after a broken connection: they keep their id, rooms and data, and receive
    /// the events that they missed.
    ///
    /// Disabled unless this is called or [`Config::recovery`] is set.
    ///
    /// Stock clients support this. Each event that is not volatile and requests no acknowledgement
    /// then carries one more argument: a string that identifies it. A client that reconnects sends
    /// the last one. [`Socket::recovered`] returns whether the server accepted it.
    /// `docs/delivery.md` lists the guarantees.
    ///
    /// The [authenticator](crate::NamespaceBuilder::authenticate) runs again before recovery.
    ///
    /// ```
    /// use std::time::Duration;
    /// use roomcast::{Event, Io, options::Recovery};
    ///
    /// let recovery = Recovery::default().window(Duration::from_secs(60));
    /// let io = Io::builder().recovery(recovery).namespace("/", |namespace| {
    ///     namespace.on_connect(async |event: Event| {
    ///         if !event.socket.recovered() {
    ///             event.socket.join("lobby").ok();
    ///         }
    ///     })
    /// });
    /// # io.build().unwrap();
    /// ```
    ///
    /// [`Socket::recovered`]: crate::Socket::recovered
    pub fn recovery(mut self, recovery: Recovery) -> Self {
        self.recovery = Some(recovery);
        self
    }

    /// Sets the packet format, [`Config::parser`].
    ///
    /// ```
    /// use roomcast::{Io, Parser};
    ///
    /// let mut io =
    ///     Io::builder().parser(Parser::MessagePack).namespace("/", |namespace| namespace);
    /// let io = io.build()?;
    /// assert_eq!(io.config().sockets.parser, Parser::MessagePack);
    /// # Ok::<(), roomcast::BuildError>(())
    /// ```
    ///
    /// Clients must set the same: `io({ parser: require("socket.io-msgpack-parser") })`. For a
    /// custom format, pass a [`CustomParser`](crate::parser::CustomParser) to [`Parser::custom`].
    pub fn parser(mut self, parser: Parser) -> Self {
        self.parser = Some(parser);
        self
    }

    /// Adds a value for handlers, which access it by its type as [`State<T>`](crate::State) or
    /// [`Event::state`](crate::Event::state). A second value of the same type replaces the first.
    pub fn state<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.states.insert(Arc::new(value));
        self
    }

    /// Adds a shared value for handlers; see [`state`](Self::state).
    pub fn shared_state<T: Send + Sync + 'static>(mut self, value: Arc<T>) -> Self {
        self.states.insert(value);
        self
    }

    /// Returns the server that [`build`](Self::build) will return, for code that needs it earlier.
    /// Until then it reaches no socket.
    #[must_use]
    pub fn handle(&self) -> Io {
        self.io.clone()
    }

    /// Defines a namespace that exists from the start. A second definition of the same name adds to
    /// the first.
    ///
    /// The leading slash is optional. [`Io::add_namespace`] adds namespaces while the server runs,
    /// and [`Io::remove_namespace`] removes them. `/` also exists only if it is defined here.
    pub fn namespace(
        mut self,
        name: &str,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Self {
        let name = Nsp::from(name);
        let namespace = self.fixed.remove(&name).unwrap_or_default();
        self.fixed.insert(name, define(namespace));
        self
    }

    /// Defines namespaces on demand: they are created with their first client and removed with
    /// their last one, unless [`Config::keep_empty_child_namespaces`] is set.
    ///
    /// `accept` receives the name with its leading slash, if no namespace of that name exists. The
    /// first definition that accepts a name applies. [Middleware](NamespaceBuilder::middleware)
    /// decides which clients may connect.
    ///
    /// ```
    /// let is_tenant = |name: &str| {
    ///     name.strip_prefix("/tenant-").is_some_and(|t| t.parse::<u32>().is_ok())
    /// };
    /// let io = roomcast::Io::builder().namespaces(is_tenant, |namespace| {
    ///     namespace.on_connect(async |event: roomcast::Event| event.socket.join("tenant"))
    /// });
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// io.of(/^\/tenant-\d+$/).on("connection", (socket) => socket.join("tenant"));
    /// // a client of either
    /// const socket = io("http://localhost:3000/tenant-7");
    /// ```
    ///
    /// A regular expression of the crate `regex` can be a predicate:
    /// `io.namespaces(move |name| pattern.is_match(name), |namespace| …)`.
    pub fn namespaces(
        self,
        accept: impl Fn(&str) -> bool + Send + Sync + 'static,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Self {
        self.demand(Predicate::Now(Box::new(accept)), define)
    }

    /// Defines namespaces like [`namespaces`](Self::namespaces), with an async predicate.
    ///
    /// Use it if the decision needs a query, or more than the name. The predicate and the
    /// middleware together must finish within [`Config::connect_timeout`].
    ///
    /// ```
    /// use roomcast::Connect;
    ///
    /// # async fn is_known_tenant(_: &str) -> bool { true }
    /// let io = roomcast::Io::builder().namespaces_async(
    ///     async |connect: Connect| is_known_tenant(connect.namespace()).await,
    ///     |namespace| namespace,
    /// );
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// io.of(async (name, auth, next) => next(null, await isKnownTenant(name)));
    /// ```
    pub fn namespaces_async<M>(
        self,
        accept: impl Middleware<Connect, M, Future: Future<Output = bool> + Send + 'static>,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Self {
        let needs = needs_of(&accept);
        let decide = move |connect| -> BoxFuture<'static, bool> { Box::pin(accept.call(connect)) };
        self.demand(Predicate::Async(Box::new(decide)), |mut namespaces| {
            namespaces.needs("namespaces_async", needs);
            define(namespaces)
        })
    }

    /// Defines namespaces whose names match a pattern. `{name}` matches one non-empty part between
    /// slashes.
    ///
    /// Handlers read it with [`Namespace::param`](crate::Namespace::param), middleware with
    /// [`Connect::param`]. Otherwise this works like [`namespaces`](Self::namespaces).
    ///
    /// ```
    /// use roomcast::{Ack, Connect, Event, Refusal};
    ///
    /// let io = roomcast::Io::builder().namespace_pattern("/board/{id}/{view}", |namespace| {
    ///     namespace
    ///         .middleware(async |connect: Connect| match connect.param::<u64>("id") {
    ///             Some(_) => Ok(()),
    ///             None => Err(Refusal::new("NOT_FOUND", "no such board")),
    ///         })
    ///         .on("board", async |event: Event| Ack(event.namespace().param::<u64>("id")))
    /// });
    /// # io.build().unwrap();
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// io.of(/^\/board\/([^/]+)\/([^/]+)$/).on("connection", (socket) => {
    ///   const [, , id] = socket.nsp.name.split("/");
    ///   socket.on("board", (reply) => reply(Number(id)));
    /// });
    /// ```
    pub fn namespace_pattern(
        mut self,
        pattern: &str,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Self {
        let Some(parsed) = Pattern::parse(pattern) else {
            let error = BuildError::InvalidNamespace(pattern.into());
            self.pattern_error.get_or_insert(error);
            return self;
        };
        let parsed = Arc::new(parsed);
        let accept = Arc::clone(&parsed);
        self.namespaces(
            move |name| accept.matches(name),
            |mut namespaces| {
                namespaces.handlers.pattern = Some(parsed);
                define(namespaces)
            },
        )
    }

    /// Logs connected, disconnected, refused and expelled clients at level `INFO`.
    ///
    /// The default level is `DEBUG`, because applications log what they need with
    /// [`on_event`](Self::on_event). Lines are rate-limited per address.
    pub fn log_connections(mut self) -> Self {
        self.logs_connections = true;
        self
    }

    fn demand(
        mut self,
        predicate: Predicate,
        define: impl FnOnce(NamespaceBuilder) -> NamespaceBuilder,
    ) -> Self {
        let namespaces = define(NamespaceBuilder::default());
        self.on_demand.push((predicate, namespaces));
        self
    }

    /// Adds an observer of the server's events, such as connects, disconnects with their reasons,
    /// and room changes. See [`Lifecycle`]. Can be called several times.
    pub fn on_event(mut self, watcher: impl Fn(&Lifecycle<'_>) + Send + Sync + 'static) -> Self {
        self.watchers.add(watcher);
        self
    }

    /// Validates all settings and returns the server.
    ///
    /// # Errors
    ///
    /// Fails if an option is invalid, there is no namespace, an event has two handlers, or a
    /// handler needs a [`State`](crate::State) that was not added.
    pub fn build(mut self) -> Result<Io, BuildError> {
        if let Some(recovery) = self.recovery {
            self.config.recovery = Some(recovery).filter(|recovery| recovery.enabled);
        }
        if let Some(parser) = self.parser {
            self.config.sockets.parser = parser;
        }
        options::check(&self.config)?;
        if let Some((limits, _)) = &self.guard {
            limits.check().map_err(BuildError::InvalidOption)?;
        }
        if let Some(error) = self.pattern_error {
            return Err(error);
        }
        if self.fixed.is_empty() && self.on_demand.is_empty() {
            return Err(BuildError::NoNamespace);
        }
        let connections = match &self.guard {
            Some((limits, _)) if limits.connections == 0 => usize::MAX,
            Some((limits, _)) => limits.connections,
            None => AddressLimits::default().connections,
        };
        let config = Arc::new(self.config);
        let metrics = self.io.metrics();
        let states = &self.states;
        let has_state = |kind| states.has(kind);
        let (cluster, node, registry, forwarder, values) =
            self.membership.enter(&self.io, &config, connections)?;
        let mut fixed = Vec::new();
        for (name, builder) in self.fixed {
            check_name(&name)?;
            let handlers = builder.build(has_state)?;
            fixed.push(Arc::new(namespace::NamespaceInner::new(
                self.io.downgrade(),
                name,
                handlers,
                false,
                (cluster.clone(), node.clone()),
                Arc::clone(&config),
                Arc::clone(metrics),
            )));
        }
        let mut on_demand = Vec::new();
        for (accept, builder) in self.on_demand {
            on_demand.push(OnDemand {
                accept,
                handlers: builder.build(has_state)?,
            });
        }
        let on = config.recovery.as_ref();
        let recovery_table = on.map(|on| Arc::new(RecoveryTable::new(on, Arc::clone(metrics))));
        let guard = self
            .guard
            .map(|(limits, proxies)| Guard::new(&limits, proxies, Arc::clone(metrics)));
        self.io.complete(Built {
            cluster,
            node,
            registry,
            forwarder,
            values,
            handover: self.handover,
            recovery_table,
            config,
            hooks: Arc::new(self.hooks),
            guard: guard.map(Arc::new),
            states: self.states,
            fixed,
            on_demand,
            made: RwLock::default(),
            logs_connections: self.logs_connections,
            watchers: self.watchers,
            client_files: self.client_files,
        });
        // The adapter may deliver as soon as it starts, so the server must be complete before.
        self.io.start_cluster();
        Ok(self.io)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .field("namespaces", &self.fixed)
            .finish_non_exhaustive()
    }
}

/// Rejects a name that no client can request or that the cluster uses.
pub(super) fn check_name(name: &Nsp) -> Result<(), BuildError> {
    // A comma ends the namespace in a packet.
    let is_bad = name.as_str().contains(',') || name.as_str().len() > MAX_NAME;
    if is_bad || *name == *NAMESPACE {
        return Err(BuildError::InvalidNamespace(name.as_str().into()));
    }
    Ok(())
}

/// Maximum length of a namespace's name, in bytes.
const MAX_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, State};

    fn fault(define: impl FnOnce(Builder) -> Builder) -> BuildError {
        define(Io::builder()).build().unwrap_err()
    }

    #[test]
    fn options_are_checked_when_building() {
        let zero = Config::default().max_in_flight(0);
        let error = Io::builder().config(zero).build().unwrap_err();
        assert_eq!(error.to_string(), "invalid option: max_in_flight is zero");
        let path = Config::default().path("socket.io");
        let error = Io::builder().config(path).build().unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid option: path does not begin with a slash"
        );
        assert_eq!(Io::builder().build().unwrap_err(), BuildError::NoNamespace);
        assert!(fault(|io| io).to_string().contains("namespace(\"/\")"));
        for (config, fault) in [
            (
                Config::default().total_outbox_bytes(1000),
                "total_outbox_bytes is smaller than outbox_bytes",
            ),
            (
                Config::default().unsent_bytes(100),
                "unsent_bytes is less than 4,096",
            ),
            (
                Config::default().send_buffer_bytes(0),
                "send_buffer_bytes is less than 4,096",
            ),
        ] {
            let error = Io::builder().config(config).build().unwrap_err();
            assert_eq!(error, BuildError::InvalidOption(fault));
        }
    }

    #[test]
    fn limits_by_address_are_checked_when_building() {
        let limits = AddressLimits::default().connects_window(std::time::Duration::ZERO);
        let io = Io::builder().guard(&limits, Proxies::default());
        let fault = BuildError::InvalidOption("limits.connects_window is zero");
        assert_eq!(io.build().unwrap_err(), fault);
    }

    #[test]
    fn an_event_has_one_handler_in_a_namespace() {
        let error = fault(|io| {
            io.namespace("/a", |namespace| namespace.on("x", async |_: Event| {}))
                .namespace("a", |namespace| {
                    namespace.on_serial("x", async |_: Event| {})
                })
        });
        assert_eq!(error, BuildError::DuplicateHandler("x".into()));
    }

    #[test]
    fn events_that_clients_cannot_send_have_no_handler() {
        for name in ["connect", "connection", "connect_error", "newListener"] {
            let error =
                fault(|io| io.namespace("/", |namespace| namespace.on(name, async |_: Event| {})));
            assert_eq!(error, BuildError::ReservedEvent(name.into()));
        }
        let mut io = Io::builder();
        for _ in 0..2 {
            io = io.namespace("/", |namespace| {
                namespace.on("disconnect", async |_: Event| {})
            });
        }
        assert!(io.build().is_ok());
    }

    #[test]
    fn missing_state_of_a_handler_fails_the_build() {
        let error = fault(|io| {
            io.namespaces(
                |_| true,
                |namespace| namespace.on("x", async |_: Event, _: u8, _: State<u16>| {}),
            )
        });
        assert_eq!(error, BuildError::MissingState("u16"));
        let io = Io::builder().state(7_u16).namespace("/", |namespace| {
            namespace.on_connect(async |_: Event, _: State<u16>| {})
        });
        assert_eq!(*io.build().unwrap().state::<u16>(), 7);
    }

    #[test]
    fn a_namespace_has_a_name_that_can_be_sent() {
        let error = fault(|io| io.namespace("/a,b", |namespace| namespace));
        assert_eq!(error, BuildError::InvalidNamespace("/a,b".into()));
    }

    #[test]
    fn handle_reaches_no_socket_before_build() {
        let builder = Io::builder().namespace("/", |namespace| namespace);
        let early = builder.handle();
        assert_eq!(early.emit("hi", ()).queued, 0);
        assert_eq!(
            early.config().sockets.max_in_flight,
            Config::default().sockets.max_in_flight
        );
        let io = builder.build().unwrap();
        assert_eq!(io.of("/").count(), early.of("/").count());
    }
}
