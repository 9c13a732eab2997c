//! Listeners of one socket: what a [`Socket`] offers beyond the handlers of its namespace.

use super::namespace_builder::needs_of;
use crate::socket::{
    core::{Incoming, Listeners, Outgoing, OutgoingHook, Position, SharedHandler, Socket},
    dispatch::{
        Handler, Handling, Middleware, Needs, Parameters, Unmet, Verdict, erase, incoming, unmet,
    },
    types::{ListenError, ListenerId, RESERVED, States},
};

/// # Listeners
///
/// Handlers belong to a namespace and are given to the builder, where everything can be checked.
/// What only one client needs, or only for a while, is registered on its socket: at any time, from
/// anywhere, up to [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket).
/// All of it ends with the socket.
///
/// An event goes first to those who watch all events, then through middleware, then to the handler
/// of the namespace and to the listeners of the socket in the order of registration. The first of
/// these answers, if the client asked for an acknowledgement.
///
/// ```
/// use roomcast::{Ack, Event, Io, ListenError};
///
/// let mut io = Io::builder();
/// io.namespace("/").on("start", async |event: Event| {
///     event.socket.once("name", async |_: Event, name: String| Ack(format!("hello {name}")))?;
///     Ok::<_, ListenError>(())
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
    /// Listens to an event of this client; `"disconnecting"` and `"disconnect"` too.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: Handling>,
    ) -> Result<ListenerId, ListenError> {
        self.listen_to(event, handler, false)
    }

    /// Listens to the next event of this name, and no more.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn once<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: Handling>,
    ) -> Result<ListenerId, ListenError> {
        self.listen_to(event, handler, true)
    }

    /// Watches every event of this client before it is handled, after those who do already. What
    /// the handler returns is not an answer to anything.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> Result<ListenerId, ListenError> {
        self.watch_incoming(handler, Position::Last)
    }

    /// As [`on_any`](Self::on_any), before those who do already.
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn prepend_any<M: Parameters>(
        &self,
        handler: impl Handler<M, Future: Handling>,
    ) -> Result<ListenerId, ListenError> {
        self.watch_incoming(handler, Position::First)
    }

    /// Watches every event that is sent to this client, alone or with others; acknowledgements are
    /// none. It is called when the event has been queued, in the task of whoever sends it, and must
    /// not wait.
    ///
    /// Somebody who watches makes every broadcast to the namespace look for its watchers.
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

    /// As [`on_any_outgoing`](Self::on_any_outgoing), before those who do already.
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

    /// Looks at every event of this client before it is handled; see
    /// [`NamespaceBuilder::on_packet`](crate::NamespaceBuilder::on_packet).
    ///
    /// # Errors
    ///
    /// See [`ListenError`].
    pub fn on_packet<M>(
        &self,
        check: impl Middleware<Incoming, M, Future: Future<Output: Verdict> + Send + 'static>,
    ) -> Result<ListenerId, ListenError> {
        let (listeners, limit) = self.listen();
        check_needs("on_packet", &needs_of(&check), self.io().states())?;
        listeners.on_packet(limit, incoming::erase(check))
    }

    /// Takes away what was registered on this socket under this id, whatever it is; `false` if it
    /// is not there any more.
    #[expect(clippy::must_use_candidate, reason = "often nobody asks")]
    pub fn off(&self, listener: ListenerId) -> bool {
        let Some(listeners) = self.listeners() else {
            return false;
        };
        let is_gone = listeners.off(listener);
        // Broadcasts need not look for this socket any more when nobody watches what it is sent.
        if is_gone && !listeners.has_outgoing() && self.conn_watchers().is_none() {
            self.namespace_inner().set_observed(self, false);
        }
        is_gone
    }

    /// Takes away all that listens to one event on this socket; how many there were.
    #[doc(alias = "removeAllListeners")]
    #[expect(clippy::must_use_candidate, reason = "often nobody asks")]
    pub fn off_event(&self, event: &str) -> usize {
        self.listeners()
            .map_or(0, |listeners| listeners.off_event(event))
    }

    /// Removes everything that was registered on this socket: listeners, watchers and middleware.
    /// Returns how many there were. The handlers of the namespace stay.
    ///
    /// The official server's `removeAllListeners()` keeps watchers and middleware, which
    /// `offAny` and `offAnyOutgoing` remove.
    #[doc(alias = "removeAllListeners")]
    #[expect(clippy::must_use_candidate, reason = "the number is often not needed")]
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

    /// The names of the events that are listened to on this socket, each once, in the order of
    /// registration. The handlers of the namespace are not among them.
    #[doc(alias = "eventNames")]
    #[must_use]
    pub fn event_names(&self) -> Vec<String> {
        self.listeners()
            .map_or_else(Vec::new, Listeners::event_names)
    }

    /// How many listen to one event on this socket, without the handler of the namespace.
    #[must_use]
    pub fn listener_count(&self, event: &str) -> usize {
        self.listeners()
            .map_or(0, |listeners| listeners.count(event))
    }

    /// How many watch all events of this socket alone: those that come in, and those that go out.
    #[must_use]
    pub fn watcher_counts(&self) -> (usize, usize) {
        self.listeners().map_or((0, 0), Listeners::watcher_counts)
    }

    fn listen(&self) -> (&Listeners, usize) {
        let limit = self.io().config().sockets.max_listeners_per_socket;
        (self.make_listeners(), limit)
    }

    fn listen_to<M: Parameters>(
        &self,
        event: &str,
        handler: impl Handler<M, Future: Handling>,
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
        handler: impl Handler<M, Future: Handling>,
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
    handler: impl Handler<M, Future: Handling>,
    states: &States,
) -> Result<SharedHandler, ListenError> {
    check_needs(event, &M::needs(), states)?;
    Ok(erase(handler).into())
}

fn check_needs(event: &str, needs: &[Needs], states: &States) -> Result<(), ListenError> {
    match unmet(needs, |kind| states.has(kind)) {
        Some(Unmet::State(name)) => Err(ListenError::MissingState(name)),
        Some(Unmet::Argument) => Err(ListenError::ArgsNotLast(event.into())),
        None => Ok(()),
    }
}
