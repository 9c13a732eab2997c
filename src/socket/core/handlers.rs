//! Registered handlers, and the values that they receive.
//!
//! Handlers belong to a namespace and cannot change: every event of every socket looks one up. They
//! are checked when the server is built, and looked up by position. Listeners of one socket are
//! rare; see `listeners`.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Arguments, EncodeError, Nsp};

use super::{
    io::Io,
    listeners,
    namespace::Namespace,
    pattern::Pattern,
    socket::{ConnInner, Socket},
};
use crate::{
    Principal,
    engine::{Handshake, Mode},
    metrics::{Counter, Metrics},
    socket::types::{AnswerFuture, DisconnectReason, Name, Refusal, Reply, Room, States},
};

/// An event on a socket, as its handler receives it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Event {
    /// The socket of the event.
    pub socket: Socket,
    pub(crate) name: Name,
    pub(crate) args: Args,
    /// How to acknowledge the event; `None` if no acknowledgement is requested.
    pub(crate) early: Option<Arc<EarlyAck>>,
}

/// The acknowledgement of an event, which is sent at most once.
pub(crate) struct EarlyAck {
    pub(crate) id: u64,
    is_sent: AtomicBool,
}

impl EarlyAck {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            is_sent: AtomicBool::new(false),
        }
    }

    /// Claims the right to send the acknowledgement. Returns `true` once.
    pub(crate) fn claim(&self) -> bool {
        // `Relaxed` is enough: the flag guards no other memory.
        !self.is_sent.swap(true, Ordering::Relaxed)
    }
}

impl Event {
    /// Returns the name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        self.socket.event_name(&self.name)
    }

    /// Returns all arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Returns whether the client requested an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.early.is_some()
    }

    /// Returns the client's number of the acknowledgement, or `None` if it requested none.
    #[must_use]
    pub fn ack_id(&self) -> Option<u64> {
        self.early.as_ref().map(|early| early.id)
    }

    /// Acknowledges the event before the handler ends.
    ///
    /// The handler's return value is then not sent. An error that it returns is only logged and
    /// passed to [`on_error`](crate::NamespaceBuilder::on_error).
    ///
    /// Does nothing if the client requested no acknowledgement or has received it. For an
    /// [`idempotent`](crate::handler::idempotent()) handler, repeats still receive the handler's
    /// return value.
    ///
    /// ```
    /// use roomcast::{Event, Io, errors::EncodeError};
    ///
    /// # async fn transcode(_: String) {}
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.on("upload", async |event: Event, name: String| {
    ///         event.ack("accepted")?;
    ///         transcode(name).await;
    ///         event.socket.emit("ready", ());
    ///         Ok::<_, EncodeError>(())
    ///     })
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// Fails if the arguments cannot be encoded. The handler can then still acknowledge.
    #[expect(clippy::needless_pass_by_value, reason = "callers pass owned values")]
    pub fn ack(&self, args: impl Arguments) -> Result<(), EncodeError> {
        let Some(early) = &self.early else {
            return Ok(());
        };
        let parser = self.io().config().sockets.parser;
        let frame = parser.ack(self.socket.nsp(), early.id, &args)?;
        if early.claim() {
            // A disconnected or overflowing client receives nothing; its disconnect is recorded
            // elsewhere.
            let _ = self.socket.push(&frame, Mode::Reliable);
        }
        Ok(())
    }

    /// Returns the current principal of the socket.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        self.socket.principal()
    }

    /// Returns the server.
    #[must_use]
    pub fn io(&self) -> &Io {
        self.socket.io()
    }

    /// Returns the namespace of the socket.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        self.socket.namespace()
    }

    /// Returns a value that was passed to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// Panics if there is no such value, which fails this event. If a handler takes it as
    /// [`State<T>`](crate::State), `build` returns an error instead.
    #[must_use]
    pub fn state<T: Send + Sync + 'static>(&self) -> &T {
        self.io().state()
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("name", &self.name())
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

/// A received event before it is handled, as packet middleware receives it
/// ([`on_packet`](crate::NamespaceBuilder::on_packet)).
#[derive(Clone)]
pub struct Incoming {
    pub(in crate::socket) socket: Socket,
    pub(in crate::socket) name: Name,
    pub(in crate::socket) args: Args,
    pub(in crate::socket) wants_ack: bool,
}

/// A failed event, as [`on_error`](crate::NamespaceBuilder::on_error) receives it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// The socket of the event.
    pub socket: &'a Socket,
    /// The name of the event.
    pub event: &'a str,
    /// The error. [`Refusal::reason`] is the internal cause, which clients do not receive.
    pub refusal: &'a Refusal,
    /// Whether the client requested an acknowledgement and receives the refusal.
    pub answered: bool,
}

/// An event that is sent to a client, as
/// [`Socket::on_any_outgoing`](crate::Socket::on_any_outgoing) receives it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The receiving socket.
    pub socket: &'a Socket,
    /// The name of the event.
    pub event: &'a str,
    /// The arguments of the event.
    pub args: &'a Args,
}

/// An event that another server of the cluster sent, as
/// [`on_server_side`](crate::NamespaceBuilder::on_server_side) receives it.
#[derive(Clone)]
pub struct ServerSide {
    pub(in crate::socket) namespace: Namespace,
    pub(in crate::socket) args: Args,
}

/// A client that requests to connect to a namespace. Clones are cheap.
#[derive(Clone)]
pub struct Connect(pub(in crate::socket) Arc<ConnectRequest>);

/// The data of a [`Connect`].
pub(crate) struct ConnectRequest {
    pub(in crate::socket) io: Io,
    pub(in crate::socket) nsp: Nsp,
    pub(in crate::socket) shared: Arc<ConnInner>,
    pub(in crate::socket) payload: Args,
    pub(in crate::socket) principal: Arc<Principal>,
    pub(in crate::socket) recovered: bool,
    /// The initial data of the socket.
    pub(in crate::socket) data: Arc<Mutex<States>>,
    /// The handlers of the namespace, after the lookup.
    pub(in crate::socket) handlers: OnceLock<Arc<Handlers>>,
}

/// A handler with its type erased.
pub(crate) trait Erased: Send + Sync {
    fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, Refusal>;
}

/// A handler of a namespace.
pub(crate) type BoxHandler = Box<dyn Erased>;

/// A handler of one socket, which may be removed while it is called.
pub(crate) type SharedHandler = Arc<dyn Erased>;

/// Packet middleware with its type erased.
pub(crate) type PacketMiddleware =
    Arc<dyn Fn(Incoming) -> BoxFuture<'static, Result<Incoming, Refusal>> + Send + Sync>;

/// An observer of events that are sent to one socket.
pub(crate) type OutgoingHook = Arc<dyn Fn(&Outgoing<'_>) + Send + Sync>;

/// The listeners, observers and middleware of one socket.
pub(crate) type Listeners = listeners::Listeners<SharedHandler, PacketMiddleware, OutgoingHook>;

/// A handler of server-side events.
pub(crate) type ServerSideHandler = Box<
    dyn Fn(ServerSide, Reply) -> BoxFuture<'static, crate::socket::types::Answer> + Send + Sync,
>;

/// An observer of failed events.
pub(crate) type ErrorHook = Box<dyn Fn(&Failure<'_>) + Send + Sync>;

/// Middleware that admits or refuses a client.
pub(crate) type ConnectMiddleware = Box<dyn Fn(Connect) -> Admission<()> + Send + Sync>;

/// A pending decision about a connecting client.
pub(crate) type Admission<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// The way to renew expiring principals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "implementations of `Authenticate` construct it"
)]
pub struct Renewal {
    /// The time before expiry at which the client is warned.
    pub lead: Duration,
    /// The time after expiry in which the client may still send new credentials.
    pub grace: Duration,
}

/// An [`Authenticate`](crate::Authenticate) with its type erased.
pub(crate) struct Authenticator {
    pub(in crate::socket) revalidate: PrincipalCheck,
    pub(in crate::socket) renewal: Option<Renewal>,
    pub(in crate::socket) rights: RightsOf,
    pub(in crate::socket) authenticate: Box<dyn Fn(Connect) -> Admission<Principal> + Send + Sync>,
    pub(in crate::socket) recover:
        Box<dyn Fn(Connect, Arc<Principal>) -> Admission<Principal> + Send + Sync>,
}

/// Checks whether an admitted principal is still valid.
type PrincipalCheck = Box<dyn Fn(&Principal) -> Result<(), Refusal> + Send + Sync>;

/// Returns the rights of a principal besides its roles.
type RightsOf = Box<dyn Fn(&Principal) -> Option<String> + Send + Sync>;

/// The handlers of a namespace.
#[derive(Default)]
pub(crate) struct Handlers {
    /// Sorted by name when built.
    pub(in crate::socket) events: Vec<Registered>,
    pub(crate) connect: Vec<BoxHandler>,
    pub(crate) disconnecting: Vec<BoxHandler>,
    pub(crate) disconnect: Vec<BoxHandler>,
    pub(crate) any: Vec<BoxHandler>,
    pub(crate) fallback: Option<BoxHandler>,
    pub(crate) packet_middleware: Vec<PacketMiddleware>,
    pub(crate) server_side: Vec<(Box<str>, ServerSideHandler)>,
    pub(crate) on_error: Option<ErrorHook>,
    pub(crate) authenticate: Option<Authenticator>,
    pub(crate) connect_middleware: Vec<ConnectMiddleware>,
    /// The pattern of the namespaces' names.
    pub(crate) pattern: Option<Arc<Pattern>>,
}

/// A handler and its event.
pub(crate) struct Registered {
    pub(in crate::socket) name: Box<str>,
    pub(crate) is_serial: bool,
    pub(in crate::socket) handler: BoxHandler,
}

impl Handlers {
    /// Returns the position of an event's handler.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        let found = self
            .events
            .binary_search_by(|known| known.name.as_bytes().cmp(name));
        found.ok().map(|position| position as u32)
    }

    /// Returns the handler of a server-side event.
    pub(crate) fn server_side(&self, event: &str) -> Option<&ServerSideHandler> {
        let mut known = self.server_side.iter();
        known.find_map(|(name, handler)| (**name == *event).then_some(handler))
    }

    pub(crate) fn event(&self, position: u32) -> Option<&Registered> {
        self.events.get(position as usize)
    }

    pub(crate) fn name(&self, position: u32) -> &str {
        self.event(position)
            .map_or("", |registered| &registered.name)
    }

    /// Returns whether clients are admitted without authentication and middleware.
    pub(crate) fn is_open(&self) -> bool {
        self.authenticate.is_none() && self.connect_middleware.is_empty()
    }
}

impl Registered {
    pub(crate) fn handler(&self) -> &dyn Erased {
        &*self.handler
    }
}

/// A change on a server, as [`Builder::on_event`](crate::Builder::on_event) receives it.
///
/// Observers run in the task that made the change, after the change and without a lock held. They
/// may call all methods, but must not block. Simultaneous changes on different connections are
/// reported in any order.
///
/// ```
/// use roomcast::{Io, Lifecycle};
///
/// let io = Io::builder().on_event(|event: &Lifecycle<'_>| match event {
///     Lifecycle::Connected { socket } => println!("{} is there", socket.id()),
///     Lifecycle::Disconnected { socket, reason, .. } => {
///         println!("{} is gone: {reason}", socket.id())
///     }
///     _ => {}
/// });
/// ```
///
/// The official server reports these with several events:
///
/// ```js
/// io.on("connection", (socket) => { socket.on("disconnect", (reason) => {}); });
/// io.on("new_namespace", (namespace) => {});
/// io.of("/").adapter.on("create-room", (room) => {});
/// socket.conn.once("upgrade", () => {});
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Lifecycle<'a> {
    /// A client was admitted to a namespace. Reported before its `on_connect` handlers start.
    Connected {
        /// The client.
        socket: &'a Socket,
    },
    /// A client has left a namespace and all its rooms. Reported before its `disconnect` handlers
    /// start.
    Disconnected {
        /// The client.
        socket: &'a Socket,
        /// The reason.
        reason: DisconnectReason,
        /// A description, if available, such as the transport error.
        description: Option<&'a str>,
    },
    /// A client was refused by a namespace.
    Refused {
        /// The requested namespace, which might not exist.
        namespace: &'a str,
        /// The request that opened its connection.
        handshake: &'a Handshake,
        /// The error that the client received.
        refusal: &'a Refusal,
    },
    /// A namespace was created: when the server is built (all but `/`), on demand, or with
    /// [`Io::add_namespace`].
    NamespaceCreated {
        /// The namespace.
        namespace: &'a Namespace,
    },
    /// A namespace created on demand was removed after its last client left, or
    /// [`Io::remove_namespace`] removed a namespace.
    NamespaceRemoved {
        /// The name of the namespace, with the leading slash.
        namespace: &'a str,
    },
    /// The first member joined a room.
    ///
    /// The rooms of sockets' own ids are not reported.
    RoomCreated {
        /// The namespace of the room, with its leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// The last member left a room.
    RoomDeleted {
        /// The namespace of the room, with its leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// A socket joined a room.
    RoomJoined {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// A socket left a room, or was disconnected.
    RoomLeft {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// The first heartbeat of another server arrived.
    NodeJoined {
        /// The server.
        node: &'a crate::adapter::Node,
    },
    /// Another server left the cluster, or its heartbeats stopped for too long.
    NodeLeft {
        /// The server, as of its last heartbeat.
        node: &'a crate::adapter::Node,
    },
    /// A connection was upgraded from polling to WebSocket.
    Upgraded {
        /// The request that opened the connection.
        handshake: &'a Handshake,
    },
    /// A connection is being closed because its client reads too slowly, or sends faster than its
    /// events are handled.
    SlowClient {
        /// The request that opened the connection.
        handshake: &'a Handshake,
    },
}

/// The observers of a server.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

type Watcher = Box<dyn Fn(&Lifecycle<'_>) + Send + Sync>;

impl Watchers {
    pub(crate) fn add(&mut self, watcher: impl Fn(&Lifecycle<'_>) + Send + Sync + 'static) {
        self.0.push(Box::new(watcher));
    }

    /// Returns whether there are no observers, so that no data needs to be collected.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Notifies all observers. Called without a lock held, apart from that of the journal.
    pub(crate) fn notify(&self, metrics: &Metrics, event: &Lifecycle<'_>) {
        for watcher in &self.0 {
            // A panic of an observer must not end the task that made the change.
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                crate::throttled_log!(error, ?event, "a lifecycle observer panicked");
            }
        }
    }
}
