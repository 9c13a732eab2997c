use std::{fmt, sync::Arc};

use crate::socket::{
    connect::{Authenticate as _, Authenticates, refreshing},
    core::{Authenticator, BoxHandler, Connect, Failure, Handlers, Incoming, Registered},
    dispatch::{
        ContractParameters, Handler, Handling, Middleware, Needs, Parameters, Unmet, Verdict,
        erase, incoming, unmet,
    },
    types::{BuildError, Contract as _, RESERVED, Refusal, Replies, Request, StateKind},
};

/// What a namespace does: who may come in, and what happens to events.
///
/// Made by [`Builder::namespace`](crate::Builder::namespace) and
/// [`Builder::namespaces`](crate::Builder::namespaces), and immutable once the server is built.
pub struct NamespaceBuilder {
    pub(crate) handlers: Handlers,
    /// What is needed by what, and for which event.
    needs: Vec<(Box<str>, Vec<Needs>)>,
    error: Option<BuildError>,
}

impl NamespaceBuilder {
    pub(crate) fn new() -> Self {
        Self {
            handlers: Handlers::default(),
            needs: Vec::new(),
            error: None,
        }
    }

    /// Says what happens when a client sends the event `name`.
    ///
    /// Handlers of one socket start in the order in which its events arrive. One that awaits does
    /// not keep the next one waiting; [`on_serial`](Self::on_serial) does.
    ///
    /// `"disconnecting"` and `"disconnect"` are called when a socket is about to leave its rooms
    /// and when it has; they may take the
    /// [`DisconnectReason`](crate::DisconnectReason) and an `Option<String>` with a description as
    /// arguments, and both may be registered more than once.
    pub fn on<M: Parameters>(
        &mut self,
        name: &str,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        self.register(name, handler, false)
    }

    /// Says what happens when a client sends the event `name`, one after the other.
    ///
    /// Of all events that a namespace handles serially, a socket has one at work at a time; the
    /// others wait, in the order in which they have arrived.
    pub fn on_serial<M: Parameters>(
        &mut self,
        name: &str,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        self.register(name, handler, true)
    }

    /// Handles a typed event of clients; see [`Contract`](crate::Contract). The contract is the first parameter behind
    /// the [`Event`](crate::Event), and any others may follow.
    pub fn on_contract<M: ContractParameters>(
        &mut self,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        self.on(M::Contract::EVENT, handler)
    }

    /// Handles a typed event of clients that is acknowledged with a value of its type; see
    /// [`Request`]. The handler may take the same parameters as one of
    /// [`on_contract`](Self::on_contract).
    pub fn on_request<M>(
        &mut self,
        handler: impl Handler<
            M,
            Future: Future<Output: Replies<<M::Contract as Request>::Reply>> + Send + 'static,
        >,
    ) -> &mut Self
    where
        M: ContractParameters<Contract: Request>,
    {
        self.on(M::Contract::EVENT, handler)
    }

    /// Says what happens when a client has connected, after it was told so. Its argument is what
    /// the client sent along, its option `auth`. May be called more than once; the handlers start
    /// in this order, before the handler of any event.
    pub fn on_connect<M: Parameters>(
        &mut self,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        let handler = self.erase("connect", handler);
        self.handlers.connect.push(handler);
        self
    }

    /// Watches every event before its own handler is started; [`Event::name`](crate::Event::name)
    /// says which it is. What the handler returns is not an answer to anything.
    pub fn on_any<M: Parameters>(
        &mut self,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        let handler = self.erase("any", handler);
        self.handlers.any.push(handler);
        self
    }

    /// Looks at every event before its handler starts, like a middleware of the official server's
    /// sockets: it may let it pass, change it, or stop it with an error. All are asked in this order,
    /// those of [`Socket::on_packet`](crate::Socket::on_packet) after them; watchers
    /// ([`on_any`](Self::on_any)) have seen the event by then.
    ///
    /// An error goes to [`on_error`](Self::on_error) and nowhere else, as in the official server: the
    /// client is told nothing, an acknowledgement that it asked for does not come. While one
    /// waits, later events of its socket wait too, so they still start in order.
    ///
    /// ```
    /// use roomcast::{Incoming, Io, Refusal};
    ///
    /// let mut io = Io::builder();
    /// io.namespace("/").on_packet(async |packet: Incoming| {
    ///     if packet.name() == "unauthorized event" {
    ///         return Err(Refusal::new("E_FORBIDDEN", "unauthorized event"));
    ///     }
    ///     Ok(())
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
        &mut self,
        check: impl Middleware<Incoming, M, Future: Future<Output: Verdict> + Send + 'static>,
    ) -> &mut Self {
        self.needs("on_packet", needs_of(&check));
        self.handlers.packet_middleware.push(incoming::erase(check));
        self
    }

    /// Handles the events that have no handler of their own, which are ignored otherwise.
    pub fn fallback<M: Parameters>(
        &mut self,
        handler: impl Handler<M, Future: Handling>,
    ) -> &mut Self {
        let handler = self.erase("fallback", handler);
        if self.handlers.fallback.replace(handler).is_some() {
            self.fail(BuildError::DuplicateHandler("fallback".into()));
        }
        self
    }

    /// Looks at events that failed: middleware stopped it, the arguments did not fit, or the handler
    /// returned an error, an answer that cannot be encoded, or panicked. [`Failure::answered`] says
    /// whether the client is told. It must not block.
    ///
    /// The log has a line for each with the cause, too: at `error` for faults of the application, at
    /// most a hundred at once and one a second from then on, and at `debug` for what a client was
    /// refused.
    pub fn on_error(&mut self, hook: impl Fn(&Failure<'_>) + Send + Sync + 'static) -> &mut Self {
        if self.handlers.on_error.replace(Box::new(hook)).is_some() {
            self.fail(BuildError::DuplicateHandler("on_error".into()));
        }
        self
    }

    /// Finds out who a client is, before all [middleware](Self::middleware). Everything later sees the
    /// [`Principal`](crate::Principal). Without it everybody is
    /// [`Principal::anonymous`](crate::Principal::anonymous).
    ///
    /// A closure asks again when a client recovers its socket; what implements
    /// [`Authenticate`](crate::Authenticate) may decide that by itself.
    ///
    /// ```
    /// use roomcast::{Connect, Io, Principal, Refusal};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Auth {
    ///     token: String,
    /// }
    ///
    /// let mut io = Io::builder();
    /// io.namespace("/").authenticate(async |connect: Connect| match connect.auth::<Auth>() {
    ///     Ok(auth) if auth.token == "good" => Ok(Principal::new("somebody")),
    ///     _ => Err(Refusal::new("E_AUTH", "not authorized")),
    /// });
    /// ```
    pub fn authenticate<M, A: Authenticates<M>>(&mut self, authenticate: A) -> &mut Self {
        self.needs("authenticate", A::needs());
        let authenticate = Arc::new(authenticate.into_authenticate());
        if authenticate.renewal().is_some() {
            self.on(
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

    /// Admits a client to the namespace or refuses it, like a middleware of the official server
    /// (`nsp.use`). Middleware run in the order of registration, each after the one before has
    /// admitted the client. The error of one becomes the client's `connect_error`. All of them
    /// together have [`Config::connect_timeout`](crate::Config::connect_timeout).
    #[doc(alias = "use")]
    pub fn middleware<M, E: Into<Refusal>>(
        &mut self,
        middleware: impl Middleware<Connect, M, Future: Future<Output = Result<(), E>> + Send + 'static>,
    ) -> &mut Self {
        self.needs("middleware", needs_of(&middleware));
        self.handlers
            .connect_middleware
            .push(Box::new(move |connect| {
                let deciding = middleware.ask(connect);
                Box::pin(async move { deciding.await.map_err(Into::into) })
            }));
        self
    }

    /// The former name of [`middleware`](Self::middleware). The next version does not have it.
    #[deprecated(note = "renamed to `middleware`")]
    pub fn gate<M, E: Into<Refusal>>(
        &mut self,
        gate: impl Middleware<Connect, M, Future: Future<Output = Result<(), E>> + Send + 'static>,
    ) -> &mut Self {
        self.middleware(gate)
    }

    fn register<M: Parameters>(
        &mut self,
        name: &str,
        handler: impl Handler<M, Future: Handling>,
        is_serial: bool,
    ) -> &mut Self {
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
        handler: impl Handler<M, Future: Handling>,
    ) -> BoxHandler {
        self.needs(event, M::needs());
        erase(handler)
    }

    pub(super) fn needs(&mut self, event: &str, needs: Vec<Needs>) {
        self.needs.push((event.into(), needs));
    }

    pub(super) fn fail(&mut self, error: BuildError) {
        // Methods that register return the builder, so that the first fault is kept until the server is built.
        self.error.get_or_insert(error);
    }

    /// The finished handlers, if nothing is wrong with them.
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

/// What a function of middleware needs.
pub(super) fn needs_of<C, M, F: Middleware<C, M>>(_: &F) -> Vec<Needs> {
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
