//! Listeners of one socket, in addition to the handlers of its namespace.

use super::namespace_builder::needs_of;
use crate::socket::{
    core::{
        Incoming, Listeners, Outgoing, OutgoingHook, Position, SharedHandler, Socket, WatcherCounts,
    },
    dispatch::{
        Handler, HandlerFuture, IntoIncoming, Middleware, Parameters, Requirement, Unmet, erase,
        incoming, unmet,
    },
    types::{ListenError, ListenerId, RESERVED, States},
};

/// # Listeners
///
/// Handlers belong to a namespace and are registered with the builder, which checks them. Listeners
/// belong to one socket, for events of a single client or a limited time. They can be registered at
/// any time, up to [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket),
/// and are removed with the socket.
///
/// An event passes in this order: catch-all listeners, middleware, the handler of the namespace,
/// and the listeners of the socket in the order of registration. The first handler or listener
/// after middleware sends the acknowledgement, if the client requested one.
///
/// ```
/// use roomcast::{Ack, Event, Io, errors::ListenError};
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on("start", async |event: Event| {
///         event
///             .socket
///             .once("name", async |_: Event, name: String| Ack(format!("hello {name}")))?;
///         Ok::<_, ListenError>(())
///     })
/// });
/// # io.build()?;
/// # Ok::<(), roomcast::BuildError>(())
/// ```
///
/// ```js
/// // the same on the official server
/// socket.on("start", () => socket.once("name", (name, reply) => reply(`hello ${name}`)));
/// ```
impl Socket {
    /// Listens to an event of this client, including `"disconnecting"` and `"disconnect"`.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Result<ListenerId, ListenError> {
        self.listen_to(event, handler, false)
    }

    /// Listens to the next event of this name only.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn once<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Result<ListenerId, ListenError> {
        self.listen_to(event, handler, true)
    }

    /// Observes every event of this client before it is handled, after existing observers. The
    /// return value is not an acknowledgement.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Result<ListenerId, ListenError> {
        self.watch_incoming(handler, Position::Last)
    }

    /// Observes events like [`on_any`](Self::on_any), before existing observers.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn prepend_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
    ) -> Result<ListenerId, ListenError> {
        self.watch_incoming(handler, Position::First)
    }

    /// Observes every event that is sent to this client, including broadcasts. Acknowledgements are
    /// not events.
    ///
    /// The hook runs after the event is queued, in the task of the sender, and must not block.
    /// While observers exist, every broadcast to the namespace looks for them.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on_any_outgoing(
        &self,
        hook: impl Fn(&Outgoing<'_>) + Send + Sync + 'static,
    ) -> Result<ListenerId, ListenError> {
        self.watch_outgoing(std::sync::Arc::new(hook), Position::Last)
    }

    /// Observes events like [`on_any_outgoing`](Self::on_any_outgoing), before existing observers.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn prepend_any_outgoing(
        &self,
        hook: impl Fn(&Outgoing<'_>) + Send + Sync + 'static,
    ) -> Result<ListenerId, ListenError> {
        self.watch_outgoing(std::sync::Arc::new(hook), Position::First)
    }

    /// Adds packet middleware for this client; see
    /// [`NamespaceBuilder::on_packet`](crate::NamespaceBuilder::on_packet).
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on_packet<M>(
        &self,
        check: impl Middleware<Incoming, M, Future: Future<Output: IntoIncoming> + Send + 'static>,
    ) -> Result<ListenerId, ListenError> {
        let (listeners, limit) = self.listen();
        check_needs("on_packet", &needs_of(&check), self.io().states())?;
        listeners.on_packet(limit, incoming::erase(check))
    }

    /// Removes the listener, observer or middleware with this id from this socket. Returns `false`
    /// if it does not exist.
    #[expect(clippy::must_use_candidate, reason = "callers often ignore the result")]
    pub fn off(&self, listener: ListenerId) -> bool {
        let Some(listeners) = self.listeners() else {
            return false;
        };
        let was_removed = listeners.off(listener);
        // Broadcasts can skip this socket when no observer of its outgoing events remains.
        if was_removed && !listeners.has_outgoing() && self.conn_watchers().is_none() {
            self.namespace_inner().set_observed(self, false);
        }
        was_removed
    }

    /// Removes all listeners of one event from this socket. Returns their number.
    #[doc(alias = "removeAllListeners")]
    #[expect(clippy::must_use_candidate, reason = "callers often ignore the result")]
    pub fn off_event(&self, event: &str) -> usize {
        self.listeners()
            .map_or(0, |listeners| listeners.off_event(event))
    }

    /// Removes all listeners, observers and middleware from this socket. Returns their number.
    ///
    /// The handlers of the namespace remain. The official server's `removeAllListeners()` keeps
    /// observers and middleware, which `offAny` and `offAnyOutgoing` remove.
    #[doc(alias = "removeAllListeners")]
    #[expect(clippy::must_use_candidate, reason = "callers often ignore the number")]
    pub fn off_all(&self) -> usize {
        let Some(listeners) = self.listeners() else {
            return 0;
        };
        let count = listeners.off_all();
        if self.conn_watchers().is_none() {
            self.namespace_inner().set_observed(self, false);
        }
        count
    }

    /// Returns the names of the events that have listeners on this socket, each once, in the order
    /// of registration. Handlers of the namespace are not included.
    #[doc(alias = "eventNames")]
    #[must_use]
    pub fn event_names(&self) -> Vec<String> {
        self.listeners()
            .map_or_else(Vec::new, Listeners::event_names)
    }

    /// Returns the number of this socket's listeners of one event, without the handler of the
    /// namespace.
    #[must_use]
    pub fn listener_count(&self, event: &str) -> usize {
        self.listeners()
            .map_or(0, |listeners| listeners.count(event))
    }

    /// Returns the numbers of this socket's observers of incoming and of outgoing events.
    #[must_use]
    pub fn watcher_counts(&self) -> WatcherCounts {
        self.listeners()
            .map_or_else(WatcherCounts::default, Listeners::watcher_counts)
    }

    fn listen(&self) -> (&Listeners, usize) {
        let limit = self.io().config().sockets.max_listeners_per_socket;
        (self.make_listeners(), limit)
    }

    fn listen_to<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: HandlerFuture>,
        is_once: bool,
    ) -> Result<ListenerId, ListenError> {
        let (listeners, limit) = self.listen();
        if RESERVED.contains(&event) {
            return Err(ListenError::Reserved);
        }
        let handler = shared(event, handler, self.io().states())?;
        listeners.on(limit, event, handler, is_once)
    }

    fn watch_incoming<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: HandlerFuture>,
        position: Position,
    ) -> Result<ListenerId, ListenError> {
        let (listeners, limit) = self.listen();
        let handler = shared("any", handler, self.io().states())?;
        listeners.on_any(limit, handler, position)
    }

    fn watch_outgoing(
        &self,
        hook: OutgoingHook,
        position: Position,
    ) -> Result<ListenerId, ListenError> {
        let (listeners, limit) = self.listen();
        let id = listeners.on_any_outgoing(limit, hook, position)?;
        self.observe();
        Ok(id)
    }
}

fn shared<M: Parameters>(
    event: &str,
    handler: impl Handler<M, Future: HandlerFuture>,
    states: &States,
) -> Result<SharedHandler, ListenError> {
    check_needs(event, &M::needs(), states)?;
    Ok(erase(handler).into())
}

fn check_needs(event: &str, needs: &[Requirement], states: &States) -> Result<(), ListenError> {
    match unmet(needs, |kind| states.has(kind)) {
        Some(Unmet::State(name)) => Err(ListenError::MissingState(name)),
        Some(Unmet::Argument) => Err(ListenError::ArgsNotLast(event.into())),
        None => Ok(()),
    }
}
