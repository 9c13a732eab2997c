//! What an application has registered, and what it is called with.

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

/// Something that happened on a socket, as its handler sees it.
#[derive(Clone)]
#[non_exhaustive]
pub struct Event {
    /// The socket it happened on.
    pub socket: Socket,
    pub(crate) name: Name,
    pub(crate) args: Args,
    /// How to acknowledge it; `None` if no acknowledgement is requested.
    pub(crate) early: Option<Arc<EarlyAck>>,
}

/// The acknowledgement of an event, which is sent once.
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

    /// Returns whether the acknowledgement may be sent now, which is so once.
    pub(crate) fn claim(&self) -> bool {
        // `Relaxed` is enough: the flag guards no other memory.
        !self.is_sent.swap(true, Ordering::Relaxed)
    }
}

impl Event {
    /// The name of the event.
    #[must_use]
    pub fn name(&self) -> &str {
        self.socket.event_name(&self.name)
    }

    /// All arguments, unparsed.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.args
    }

    /// Whether the client asked for an acknowledgement.
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.early.is_some()
    }

    /// Acknowledges the event now, before the handler ends. The value of the handler is then not
    /// sent, and an error that it returns goes to the log and to
    /// [`on_error`](crate::NamespaceBuilder::on_error) only.
    ///
    /// Nothing happens if the client requested no acknowledgement, or has got it already. For an
    /// [`idempotent`](crate::idempotent()) handler, the value is what a repeated event gets.
    ///
    /// ```
    /// use roomcast::{EncodeError, Event, Io};
    ///
    /// # async fn transcode(_: String) {}
    /// let mut io = Io::builder();
    /// io.namespace("/").on("upload", async |event: Event, name: String| {
    ///     event.ack("accepted")?;
    ///     transcode(name).await;
    ///     event.socket.emit("ready", ());
    ///     Ok::<_, EncodeError>(())
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// When the arguments cannot be encoded. The handler can still acknowledge then.
    #[expect(clippy::needless_pass_by_value, reason = "callers have values")]
    pub fn ack(&self, args: impl Arguments) -> Result<(), EncodeError> {
        let Some(early) = &self.early else {
            return Ok(());
        };
        let parser = self.io().config().sockets.parser;
        let frame = parser.ack(self.socket.nsp(), early.id, &args)?;
        if early.claim() {
            // A client that is gone or overflows learns nothing; its end has been noted.
            let _ = self.socket.push(&frame, Mode::Reliable);
        }
        Ok(())
    }

    /// The principal of the socket, as is known now.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        self.socket.principal()
    }

    /// The whole server.
    #[must_use]
    pub fn io(&self) -> &Io {
        self.socket.io()
    }

    /// The namespace of the socket.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        self.socket.namespace()
    }

    /// Something that was given to [`Builder::state`](crate::Builder::state).
    ///
    /// # Panics
    ///
    /// When nobody gave it, which fails this event. A handler that takes it as
    /// [`State<T>`](crate::State) makes that an error of `build` instead.
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

/// An event that has come in and has not been handled, as
/// [`on_packet`](crate::NamespaceBuilder::on_packet) sees it.
#[derive(Clone)]
pub struct Incoming {
    pub(in crate::socket) socket: Socket,
    pub(in crate::socket) name: Name,
    pub(in crate::socket) args: Args,
    pub(in crate::socket) wants_ack: bool,
}

/// An event that failed, as [`on_error`](crate::NamespaceBuilder::on_error) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failure<'a> {
    /// The socket it happened on.
    pub socket: &'a Socket,
    /// The name of the event.
    pub event: &'a str,
    /// Why. [`Refusal::reason`] is the cause, of which clients learn nothing.
    pub refusal: &'a Refusal,
    /// Whether the client asked for an acknowledgement and is told the refusal by it.
    pub answered: bool,
}

/// An event on its way to a client, as
/// [`Socket::on_any_outgoing`](crate::Socket::on_any_outgoing) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The socket it is sent to.
    pub socket: &'a Socket,
    /// The name of the event.
    pub event: &'a str,
    /// The arguments of the event.
    pub args: &'a Args,
}

/// An event that another server of the cluster has sent, as
/// [`on_server_side`](crate::NamespaceBuilder::on_server_side) sees it.
#[cfg(feature = "cluster")]
#[derive(Clone)]
pub struct ServerSide {
    pub(in crate::socket) namespace: Namespace,
    pub(in crate::socket) args: Args,
}

/// A client that asks to be let into a namespace. Cloning is cheap.
#[derive(Clone)]
pub struct Connect(pub(in crate::socket) Arc<Asking>);

/// Which client asks, from where, and with what payload.
pub(crate) struct Asking {
    pub(in crate::socket) io: Io,
    pub(in crate::socket) nsp: Nsp,
    pub(in crate::socket) shared: Arc<ConnInner>,
    pub(in crate::socket) payload: Args,
    pub(in crate::socket) principal: Arc<Principal>,
    pub(in crate::socket) recovered: bool,
    /// What the socket is to have with it.
    pub(in crate::socket) data: Arc<Mutex<States>>,
    /// What the namespace does, once it is found.
    pub(in crate::socket) handlers: OnceLock<Arc<Handlers>>,
}

/// A handler without its type.
pub(crate) trait Erased: Send + Sync {
    fn call(&self, event: Event, reply: Reply) -> Result<AnswerFuture, Refusal>;
}

/// A handler of a namespace.
pub(crate) type BoxHandler = Box<dyn Erased>;

/// A handler of one socket, which may go while it is called.
pub(crate) type SharedHandler = Arc<dyn Erased>;

/// Packet middleware with its type erased.
pub(crate) type PacketMiddleware =
    Arc<dyn Fn(Incoming) -> BoxFuture<'static, Result<Incoming, Refusal>> + Send + Sync>;

/// Looks at events that are sent to one socket.
pub(crate) type OutgoingHook = Arc<dyn Fn(&Outgoing<'_>) + Send + Sync>;

/// All that is registered on one socket.
pub(crate) type Listeners = listeners::Listeners<SharedHandler, PacketMiddleware, OutgoingHook>;

/// A handler of events that other servers have sent.
#[cfg(feature = "cluster")]
pub(crate) type ServerSideHandler = Box<
    dyn Fn(ServerSide, Reply) -> BoxFuture<'static, crate::socket::types::Answer> + Send + Sync,
>;

/// Looks at events that failed without anybody to tell.
pub(crate) type ErrorHook = Box<dyn Fn(&Failure<'_>) + Send + Sync>;

/// Lets a client in or not.
pub(crate) type ConnectMiddleware = Box<dyn Fn(Connect) -> Admission<()> + Send + Sync>;

/// What somebody says about a client that asks to be let in.
pub(crate) type Admission<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;

/// How the end of a principal is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "made by who implements `Authenticate`"
)]
pub struct Renewal {
    /// How long before the end the client is warned.
    pub lead: Duration,
    /// How long after the end the client may still send new credentials.
    pub grace: Duration,
}

/// An [`Authenticate`](crate::Authenticate) without its type.
pub(crate) struct Authenticator {
    pub(in crate::socket) check: StillGood,
    pub(in crate::socket) renewal: Option<Renewal>,
    pub(in crate::socket) first: Box<dyn Fn(Connect) -> Admission<Principal> + Send + Sync>,
    pub(in crate::socket) again:
        Box<dyn Fn(Connect, Arc<Principal>) -> Admission<Principal> + Send + Sync>,
}

/// Says whether a principal that was let in is still good.
type StillGood = Box<dyn Fn(&Principal) -> Result<(), Refusal> + Send + Sync>;

impl Authenticator {
    pub(crate) fn authenticate(&self, connect: Connect) -> Admission<Principal> {
        (self.first)(connect)
    }

    pub(crate) fn revalidate(&self, principal: &Principal) -> Result<(), Refusal> {
        (self.check)(principal)
    }

    pub(crate) fn renewal(&self) -> Option<Renewal> {
        self.renewal
    }

    pub(crate) fn recover(
        &self,
        connect: Connect,
        previous: Arc<Principal>,
    ) -> Admission<Principal> {
        (self.again)(connect, previous)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").finish_non_exhaustive()
    }
}

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
    #[cfg(feature = "cluster")]
    pub(crate) server_side: Vec<(Box<str>, ServerSideHandler)>,
    pub(crate) on_error: Option<ErrorHook>,
    pub(crate) authenticate: Option<Authenticator>,
    pub(crate) connect_middleware: Vec<ConnectMiddleware>,
    /// The pattern by which the namespaces were found.
    pub(crate) pattern: Option<Arc<Pattern>>,
}

/// A handler and the event it is for.
pub(crate) struct Registered {
    pub(in crate::socket) name: Box<str>,
    pub(crate) is_serial: bool,
    pub(in crate::socket) handler: BoxHandler,
}

impl Handlers {
    /// The position of an event's handler.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u32> {
        let found = self
            .events
            .binary_search_by(|known| known.name.as_bytes().cmp(name));
        found.ok().map(|position| position as u32)
    }

    /// The handler of an event between servers.
    #[cfg(feature = "cluster")]
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

    /// Whether a client can be let in without asking anybody.
    pub(crate) fn is_open(&self) -> bool {
        self.authenticate.is_none() && self.connect_middleware.is_empty()
    }
}

impl Registered {
    pub(crate) fn handler(&self) -> &dyn Erased {
        &*self.handler
    }
}

/// Something that has happened on a server, as [`Builder::on_event`](crate::Builder::on_event) sees
/// it.
///
/// Watchers are called in the task in which it happened, after the fact and without any lock held,
/// so they may use everything; but they must not wait. Two things that happen on different
/// connections at the same time may be told in either order.
///
/// ```
/// use roomcast::{Io, Lifecycle};
///
/// let mut io = Io::builder();
/// io.on_event(|event: &Lifecycle<'_>| match event {
///     Lifecycle::Connected { socket } => println!("{} is there", socket.id()),
///     Lifecycle::Disconnected { socket, reason, .. } => println!("{} is gone: {reason}", socket.id()),
///     _ => {}
/// });
/// ```
///
/// The official server spreads these over events of its own:
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
    /// A client was let into a namespace; told before its `on_connect` handlers start.
    Connected {
        /// The client.
        socket: &'a Socket,
    },
    /// A client has left a namespace and all its rooms; told before its `disconnect` handlers
    /// start.
    Disconnected {
        /// The client.
        socket: &'a Socket,
        /// Why.
        reason: DisconnectReason,
        /// More about it, if there is more to say: what was wrong with the transport.
        description: Option<&'a str>,
    },
    /// A client was not let into a namespace.
    Refused {
        /// The namespace that it asked for, which need not exist.
        namespace: &'a str,
        /// The request that opened its connection.
        handshake: &'a Handshake,
        /// What it was told.
        refusal: &'a Refusal,
    },
    /// A namespace has come into being: when the server is built (all but `/`), on demand, or with
    /// [`Io::add_namespace`].
    NamespaceCreated {
        /// The namespace.
        namespace: &'a Namespace,
    },
    /// A namespace that was made on demand has gone with its last client, or a namespace was removed
    /// with [`Io::remove_namespace`].
    NamespaceRemoved {
        /// The name of the namespace, with the leading slash.
        namespace: &'a str,
    },
    /// A room has got its first member.
    ///
    /// The rooms of sockets' own ids are not told of: they come and go with the sockets.
    RoomCreated {
        /// The namespace of the socket, with the leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// A room has lost its last member.
    RoomDeleted {
        /// The namespace that was asked for, with the leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// A socket has joined a room.
    RoomJoined {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// A socket has left a room, by itself or with its end.
    RoomLeft {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// Another server of the cluster was heard of for the first time.
    #[cfg(feature = "cluster")]
    NodeJoined {
        /// The server.
        node: &'a crate::adapter::Node,
    },
    /// Another server of the cluster has said that it goes, or was silent for too long.
    #[cfg(feature = "cluster")]
    NodeLeft {
        /// The server, as it was heard of last.
        node: &'a crate::adapter::Node,
    },
    /// A connection went over from polling to WebSocket.
    Upgraded {
        /// The request that opened it.
        handshake: &'a Handshake,
    },
    /// A connection is being closed because its client reads too slowly, or sends faster than its
    /// events are handled.
    SlowClient {
        /// The request that opened it.
        handshake: &'a Handshake,
    },
}

/// The watchers of a server.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

type Watcher = Box<dyn Fn(&Lifecycle<'_>) + Send + Sync>;

impl Watchers {
    pub(crate) fn add(&mut self, watcher: impl Fn(&Lifecycle<'_>) + Send + Sync + 'static) {
        self.0.push(Box::new(watcher));
    }

    /// Whether nobody watches, so that nothing need be collected.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells everybody. Called without any lock held.
    pub(crate) fn tell(&self, metrics: &Metrics, event: &Lifecycle<'_>) {
        for watcher in &self.0 {
            // A watcher that panics must not take along the task in which something happened.
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                crate::throttled_log!(error, ?event, "a watcher of the server has panicked");
            }
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watchers").field(&self.0.len()).finish()
    }
}
