use std::{fmt, sync::Arc};

use crate::socket::{
    connect::{Authenticate as _, IntoAuthenticator, refreshing},
    core::{Authenticator, BoxHandler, Connect, Failure, Handlers, Incoming, Registered},
    dispatch::{
        ContractParameters, Handler, HandlerFuture, IntoIncoming, Middleware, Parameters,
        Requirement, Unmet, erase, incoming, unmet,
    },
    types::{BuildError, Contract as _, RESERVED, Refusal, Replies, Request, StateKind},
};

/// Defines a namespace: which clients may connect, and how events are handled.
///
/// Created by [`Builder::namespace`](crate::Builder::namespace) and
/// [`Builder::namespaces`](crate::Builder::namespaces). It is immutable after the server is built.
#[derive(Default)]
#[must_use = "the builder of the server must receive it"]
pub struct NamespaceBuilder {
    pub(crate) handlers: Handlers,
    /// The requirements of each event's handler.
    needs: Vec<(Box<str>, Vec<Requirement>)>,
    error: Option<BuildError>,
}

impl NamespaceBuilder {
    /// Registers the handler of the event `name`.
    ///
    /// Handlers of one socket start in the order in which its events arrive. A handler that awaits
    /// does not delay the next one; see [`on_serial`](Self::on_serial) for that.
    ///
    /// `"disconnecting"` runs before a socket leaves its rooms, and `"disconnect"` after. Both may
    /// take the [`DisconnectReason`](crate::DisconnectReason) and an `Option<String>` with a
    /// description as arguments. Both may have several handlers.
    pub fn on<M: Parameters>(
        self,
        name: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        self.register(name, handler, false)
    }

    /// Registers the handler of the event `name`, which runs serially.
    ///
    /// A socket runs one event at a time of all events that its namespace handles serially. Other
    /// serial events wait in the order of arrival.
    pub fn on_serial<M: Parameters>(
        self,
        name: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        self.register(name, handler, true)
    }

    /// Handles a typed event of clients; see [`Contract`](crate::Contract). The contract is the
    /// first parameter after the [`Event`](crate::Event). Other parameters may follow.
    pub fn on_contract<M: ContractParameters>(
        self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        self.on(M::Contract::EVENT, handler)
    }

    /// Handles a typed event of clients and acknowledges with a value of the reply type; see
    /// [`Request`]. The handler may take the same parameters as with
    /// [`on_contract`](Self::on_contract).
    pub fn on_request<M>(
        self,
        handler: impl Handler<
            M,
            Future: Future<Output: Replies<<M::Contract as Request>::Reply>> + Send + 'static,
        >,
    ) -> Self
    where
        M: ContractParameters<Contract: Request>,
    {
        self.on(M::Contract::EVENT, handler)
    }

    /// Adds a handler that runs after a client has connected and received its `CONNECT` answer.
    ///
    /// Its argument is the client's `auth` payload. Several handlers start in the order of
    /// registration, before any event handler.
    pub fn on_connect<M: Parameters>(
        mut self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        let handler = self.erase("connect", handler);
        self.handlers.connect.push(handler);
        self
    }

    /// Adds an observer that runs before the handler of every event.
    /// [`Event::name`](crate::Event::name) returns the event's name. The return value is not an
    /// acknowledgement.
    pub fn on_any<M: Parameters>(
        mut self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        let handler = self.erase("any", handler);
        self.handlers.any.push(handler);
        self
    }

    /// Adds packet middleware, which runs before the handler of every event, like middleware of the
    /// official server's sockets.
    ///
    /// It passes the event, changes it, or stops it with an error. Middleware runs in the order of
    /// registration, then that of [`Socket::on_packet`](crate::Socket::on_packet). Observers
    /// ([`on_any`](Self::on_any)) run before middleware.
    ///
    /// As in the official server, an error goes only to [`on_error`](Self::on_error). The client
    /// receives no error and no acknowledgement. While middleware waits, later events of its socket
    /// wait as well, so events still start in order.
    ///
    /// ```
    /// use roomcast::{Incoming, Io, Refusal};
    ///
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.on_packet(async |packet: Incoming| {
    ///         if packet.name() == "unauthorized event" {
    ///             return Err(Refusal::new("E_FORBIDDEN", "unauthorized event"));
    ///         }
    ///         Ok(())
    ///     })
    /// });
    /// ```
    ///
    /// ```js
    /// // the same on the official server
    /// socket.use(([event, ...args], next) => {
    ///   next(event === "unauthorized event" ? new Error("unauthorized event") : undefined);
    /// });
    /// ```
    pub fn on_packet<M>(
        mut self,
        check: impl Middleware<Incoming, M, Future: Future<Output: IntoIncoming> + Send + 'static>,
    ) -> Self {
        self.needs("on_packet", needs_of(&check));
        self.handlers.packet_middleware.push(incoming::erase(check));
        self
    }

    /// Handles the events without a handler of their own. By default they are ignored.
    pub fn fallback<M: Parameters>(
        mut self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Self {
        let handler = self.erase("fallback", handler);
        if self.handlers.fallback.replace(handler).is_some() {
            self.fail(BuildError::DuplicateHandler("fallback".into()));
        }
        self
    }

    /// Observes failed events. [`Failure::answered`] returns whether the client receives the error.
    ///
    /// Events fail if middleware stops them or the arguments do not match. They also fail if the
    /// handler returns an error or an answer that cannot be encoded, or panics. The hook must not
    /// block.
    ///
    /// Each failure is also logged with its cause. Faults of the application are logged at `error`,
    /// at most 100 at once and then one per second. Refusals of a client are logged at `debug`.
    pub fn on_error(mut self, hook: impl Fn(&Failure<'_>) + Send + Sync + 'static) -> Self {
        if self.handlers.on_error.replace(Box::new(hook)).is_some() {
            self.fail(BuildError::DuplicateHandler("on_error".into()));
        }
        self
    }

    /// Sets the authenticator, which runs before all [middleware](Self::middleware).
    ///
    /// Later code receives the [`Principal`](crate::Principal). Without an authenticator, every
    /// client is [`Principal::anonymous`](crate::Principal::anonymous). A closure also runs when a
    /// client recovers its socket. An [`Authenticate`](crate::Authenticate) implementation can
    /// decide differently.
    ///
    /// ```
    /// use roomcast::{Connect, Io, Principal, Refusal};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Auth {
    ///     token: String,
    /// }
    ///
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.authenticate(async |connect: Connect| match connect.auth::<Auth>() {
    ///         Ok(auth) if auth.token == "good" => Ok(Principal::new("somebody")),
    ///         _ => Err(Refusal::new("E_AUTH", "not authorized")),
    ///     })
    /// });
    /// ```
    pub fn authenticate<M, A: IntoAuthenticator<M>>(mut self, authenticate: A) -> Self {
        self.needs("authenticate", A::needs());
        let authenticate = Arc::new(authenticate.into_authenticate());
        if authenticate.renewal().is_some() {
            self = self.on(
                refreshing::REFRESH,
                refreshing::refresher(Arc::clone(&authenticate)),
            );
        }
        let authenticator = Authenticator::new(authenticate);
        if self.handlers.authenticate.replace(authenticator).is_some() {
            self.fail(BuildError::DuplicateHandler("authenticate".into()));
        }
        self
    }

    /// Adds middleware that admits a client or refuses it, like middleware of the official server
    /// (`nsp.use`).
    ///
    /// Middleware runs in the order of registration, until one refuses. Its error becomes the
    /// client's `connect_error`. All middleware together must finish within
    /// [`Config::connect_timeout`](crate::Config::connect_timeout).
    #[doc(alias = "use")]
    pub fn middleware<M, E: Into<Refusal>>(
        mut self,
        middleware: impl Middleware<Connect, M, Future: Future<Output = Result<(), E>> + Send + 'static>,
    ) -> Self {
        self.needs("middleware", needs_of(&middleware));
        self.handlers
            .connect_middleware
            .push(Box::new(move |connect| {
                let deciding = middleware.call(connect);
                Box::pin(async move { deciding.await.map_err(Into::into) })
            }));
        self
    }

    fn register<M: Parameters>(
        mut self,
        name: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
        is_serial: bool,
    ) -> Self {
        let handler = self.erase(name, handler);
        match name {
            "disconnecting" => self.handlers.disconnecting.push(handler),
            "disconnect" => self.handlers.disconnect.push(handler),
            reserved if RESERVED.contains(&reserved) => {
                self.fail(BuildError::ReservedEvent(reserved.into()));
            }
            taken
                if self
                    .handlers
                    .events
                    .iter()
                    .any(|known| *known.name == *taken) =>
            {
                self.fail(BuildError::DuplicateHandler(taken.into()));
            }
            free => self.handlers.events.push(Registered {
                name: free.into(),
                is_serial,
                handler,
            }),
        }
        self
    }

    fn erase<M: Parameters>(
        &mut self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> BoxHandler {
        self.needs(event, M::needs());
        erase(handler)
    }

    pub(super) fn needs(&mut self, event: &str, needs: Vec<Requirement>) {
        self.needs.push((event.into(), needs));
    }

    pub(super) fn fail(&mut self, error: BuildError) {
        // Registration methods return the builder, so the first error is stored until the server is
        // built.
        self.error.get_or_insert(error);
    }

    /// Returns the finished handlers, or the first error.
    pub(crate) fn build(
        mut self,
        has_state: impl Fn(StateKind) -> bool,
    ) -> Result<Arc<Handlers>, BuildError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        for (event, needs) in &self.needs {
            match unmet(needs, &has_state) {
                Some(Unmet::State(name)) => return Err(BuildError::MissingState(name)),
                Some(Unmet::Argument) => return Err(BuildError::ArgsNotLast((**event).into())),
                None => {}
            }
        }
        self.handlers
            .events
            .sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(Arc::new(self.handlers))
    }
}

/// Returns the requirements of a middleware function.
pub(super) fn needs_of<C, M, F: Middleware<C, M>>(_: &F) -> Vec<Requirement> {
    F::needs()
}

impl fmt::Debug for NamespaceBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceBuilder")
            .field(
                "events",
                &self
                    .handlers
                    .events
                    .iter()
                    .map(|e| &e.name)
                    .collect::<Vec<_>>(),
            )
            .finish_non_exhaustive()
    }
}
