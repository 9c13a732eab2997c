use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::Transport,
    socket::{Args, ArgumentError},
};
use serde::de::DeserializeOwned;

use super::{
    handlers::Listeners,
    io::Io,
    namespace::{self, Namespace},
    shared,
    watchers::ConnWatchers,
};
use crate::{
    Principal,
    engine::{
        ConnectionId, Handshake, LogFields, LogScope, LogSource, Mode, Outbox, Push, random_sid,
    },
    metrics::Metrics,
    socket::{
        acks::AckTable,
        recovery::{self, Recoverable},
        rooms::Joined,
        types::{DisconnectReason, Name, SocketId, States},
    },
};

/// One client in one namespace. Clones share a reference count and are the same socket.
///
/// Methods that send work from any thread and never wait. After the client has disconnected, a
/// retained socket sends nothing and joins no room.
#[derive(Clone)]
pub struct Socket(pub(in crate::socket) Arc<SocketInner>);

pub(crate) struct SocketInner {
    pub(in crate::socket) id: SocketId,
    pub(in crate::socket) io: Io,
    pub(in crate::socket) namespace: Arc<namespace::NamespaceInner>,
    pub(in crate::socket) shared: Arc<ConnInner>,
    principal: Mutex<Arc<Principal>>,
    /// The number of replacements of the principal.
    renewals: AtomicU16,
    /// Whether the client was notified that its credentials are no longer valid, and disconnected.
    /// Locked while that happens.
    pub(in crate::socket) expelled: Mutex<bool>,
    payload: Args,
    pub(in crate::socket) rooms: Mutex<Joined>,
    acks: AckTable,
    data: Mutex<States>,
    /// The listeners of this socket. Most sockets have none.
    listeners: OnceLock<Box<Listeners>>,
    /// The state to recover this socket on another connection.
    recoverable: Option<Box<Recoverable>>,
    /// Why the socket was disconnected; unset while it is connected.
    pub(in crate::socket) reason: OnceLock<DisconnectReason>,
    /// Set by the first of two: the completion of the admission, and the end of the socket.
    pub(in crate::socket) is_admitted_or_closed: AtomicBool,
}

impl Socket {
    #[inline]
    pub(crate) fn new(
        io: Io,
        namespace: Arc<namespace::NamespaceInner>,
        shared: Arc<ConnInner>,
        principal: Arc<Principal>,
        payload: Args,
        data: States,
    ) -> Self {
        // Clients of Engine.IO v3 cannot recover, because they do not send back what they received.
        let is_v3 = shared.outbox.revision().is_v3();
        let channel = namespace.channel.as_ref().filter(|_| !is_v3);
        let recoverable = channel.map(|channel| Box::new(Recoverable::new(channel.floor())));
        let id = match is_v3 {
            true => SocketId::computed(namespace.name.as_str(), io.session_id(shared.outbox.sid())),
            false => SocketId::new(random_sid()),
        };
        Self::with(
            io,
            namespace,
            shared,
            principal,
            payload,
            data,
            id,
            recoverable,
        )
    }

    /// Creates a socket with this id, in no room. It is either new, or was on another server and
    /// has the state to recover it again.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "the arguments of `new` and the known state"
    )]
    pub(crate) fn with(
        io: Io,
        namespace: Arc<namespace::NamespaceInner>,
        shared: Arc<ConnInner>,
        principal: Arc<Principal>,
        payload: Args,
        data: States,
        id: SocketId,
        recoverable: Option<Box<Recoverable>>,
    ) -> Self {
        Self(Arc::new(SocketInner {
            id,
            io,
            namespace,
            shared,
            principal: Mutex::new(principal),
            renewals: AtomicU16::new(0),
            expelled: Mutex::new(false),
            payload,
            rooms: Mutex::default(),
            acks: AckTable::default(),
            data: Mutex::new(data),
            listeners: OnceLock::new(),
            recoverable,
            reason: OnceLock::new(),
            is_admitted_or_closed: AtomicBool::new(false),
        }))
    }

    /// Creates a socket that replaces another one, on another connection and with additional data.
    /// It is in no room yet.
    pub(crate) fn recover(
        old: &Self,
        shared: Arc<ConnInner>,
        principal: Arc<Principal>,
        payload: Args,
        new: States,
    ) -> Self {
        let mut data = old.0.data.lock().clone();
        data.extend(new);
        Self::with(
            old.0.io.clone(),
            Arc::clone(&old.0.namespace),
            shared,
            principal,
            payload,
            data,
            old.0.id.clone(),
            old.recoverable().map(|known| Box::new(known.again())),
        )
    }

    /// Returns the id, which is random for every namespace and connection.
    #[must_use]
    #[inline]
    pub fn id(&self) -> SocketId {
        self.0.id.clone()
    }

    /// Returns the current principal: the result of
    /// [`authenticate`](crate::NamespaceBuilder::authenticate), or its
    /// [replacement](Self::set_principal).
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal.lock())
    }

    /// Replaces the principal and its expiry. Running handlers keep the previous one.
    pub fn set_principal(&self, principal: Principal) {
        *self.0.principal.lock() = Arc::new(principal);
        // The count is incremented after the principal is set, so that readers of the new count
        // read the new principal. The driver is woken to check the new expiry.
        self.0.renewals.fetch_add(1, Ordering::Release);
        self.outbox().wake();
    }

    pub(crate) fn renewals(&self) -> u16 {
        self.0.renewals.load(Ordering::Acquire)
    }

    /// Enters a scope in which log lines of this thread are about this socket.
    #[doc(hidden)]
    pub fn log_scope(&self) -> LogScope {
        LogScope::enter(Arc::clone(&self.0) as Arc<dyn LogSource>)
    }

    /// Returns the request that opened the connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.shared.handshake()
    }

    /// Parses the payload of the `CONNECT` packet, the client's option `auth`, as `T`.
    ///
    /// # Errors
    ///
    /// Fails if there is no payload or it has another type. Use `Option<T>` to allow no payload.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.0.payload.get(0)
    }

    /// Returns the current transport of the connection.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.outbox().transport()
    }

    /// Returns the time since the client's last packet on its connection, in whole seconds.
    /// Heartbeats do not count.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.0.shared.idle(tokio::time::Instant::now().into_std())
    }

    /// Returns the system time of the client's last packet on its connection, rounded down to a
    /// second.
    ///
    /// Heartbeats do not count. The value is constant until the next packet, unless the system
    /// clock is changed.
    #[must_use]
    pub fn last_active(&self) -> SystemTime {
        self.0.shared.last_active()
    }

    /// Returns the server.
    #[must_use]
    #[inline]
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// Returns the namespace of the socket.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::of_socket(self)
    }

    /// Returns whether the client is connected, as far as the server knows.
    #[must_use]
    #[inline]
    pub fn is_connected(&self) -> bool {
        self.0.reason.get().is_none()
    }

    /// Returns why the socket was disconnected, or `None` while it is connected.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        self.0.reason.get().copied()
    }

    /// Stores a value with the socket, one per type. Returns the replaced value.
    ///
    /// ```
    /// # use roomcast::Socket;
    /// struct Language(&'static str);
    ///
    /// fn greet(socket: &Socket) {
    ///     let language = socket.data::<Language>();
    ///     socket.emit("hello", language.map_or("en", |language| language.0));
    /// }
    /// ```
    pub fn set_data<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        self.0.data.lock().insert(Arc::new(value))
    }

    /// Returns the stored value of this type.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.data.lock().shared()
    }

    /// Queues a frame for the client, unless it has disconnected.
    #[inline]
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        if !self.is_connected() {
            // A recoverable event reaches the client when it reconnects, even if its socket was
            // replaced.
            if frame.stamp().is_some() {
                return self.0.namespace.push_to(&self.0.id, frame, mode);
            }
            return Push::Closed;
        }
        self.0.shared.push(frame, mode, self.metrics())
    }

    pub(crate) fn conn_watchers(&self) -> Option<&ConnWatchers> {
        self.0.shared.watchers()
    }

    #[inline]
    pub(crate) fn shared(&self) -> &ConnInner {
        &self.0.shared
    }

    pub(crate) fn shared_arc(&self) -> Arc<ConnInner> {
        Arc::clone(&self.0.shared)
    }

    #[inline]
    pub(crate) fn recoverable(&self) -> Option<&Recoverable> {
        self.0.recoverable.as_deref()
    }

    /// Returns whether the client recovered this socket after a broken connection. It then kept its
    /// id, rooms and data, and received the missed events.
    ///
    /// Always `false` without [`Builder::recovery`](crate::Builder::recovery).
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recoverable()
            .is_some_and(|recoverable| recoverable.recovered)
    }

    /// Returns the listeners of this socket, if it ever had one.
    #[inline]
    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.0.listeners.get().map(|listeners| &**listeners)
    }

    pub(crate) fn make_listeners(&self) -> &Listeners {
        let listeners = self.0.listeners.get_or_init(Box::default);
        // A socket that ended concurrently may have been closed before these listeners existed.
        if !self.is_connected() {
            listeners.close();
        }
        listeners
    }

    #[inline]
    pub(crate) fn outbox(&self) -> &Outbox {
        self.0.shared.outbox()
    }

    #[inline]
    pub(crate) fn acks(&self) -> &AckTable {
        &self.0.acks
    }

    #[inline]
    pub(crate) fn metrics(&self) -> &Metrics {
        self.0.namespace.metrics()
    }

    #[inline]
    pub(crate) fn namespace_inner(&self) -> &Arc<namespace::NamespaceInner> {
        &self.0.namespace
    }

    #[inline]
    pub(crate) fn nsp(&self) -> &str {
        self.0.namespace.name.as_str()
    }

    #[inline]
    pub(crate) fn downgrade(&self) -> Weak<SocketInner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(weak: &Weak<SocketInner>) -> Option<Self> {
        weak.upgrade().map(Self)
    }

    pub(crate) fn is(&self, weak: &Weak<SocketInner>) -> bool {
        std::ptr::eq(weak.as_ptr(), Arc::as_ptr(&self.0))
    }

    #[inline]
    pub(crate) fn event_name<'a>(&'a self, name: &'a Name) -> &'a str {
        match name {
            Name::Own(name) => name,
            Name::Registered(index) => self.0.namespace.handlers.name(*index),
            Name::Wire(name) => name,
        }
    }
}

/// The shared state of one connection's sockets.
pub(crate) type ConnInner = shared::ConnInner<SocketInner>;

impl LogSource for ConnInner {
    fn log_fields(&self) -> LogFields {
        // The line can be written under this lock.
        let sockets = self.sockets.try_lock();
        let first = sockets.and_then(|sockets| sockets.first()?.upgrade());
        match first {
            Some(socket) => socket.log_fields(),
            None => LogFields {
                connection: ConnectionId::of(self.outbox.sid()),
                address: self.handshake.address(),
                user: None,
                socket: None,
            },
        }
    }
}

impl LogSource for SocketInner {
    fn log_fields(&self) -> LogFields {
        // The line can be written under this lock.
        let principal = self.principal.try_lock();
        LogFields {
            connection: ConnectionId::of(self.shared.outbox.sid()),
            address: self.shared.handshake.address(),
            user: principal.map(|principal| principal.subject.clone()),
            socket: Some(self.id.to_string()),
        }
    }
}

impl ConnInner {
    /// Returns the connected sockets, one per namespace.
    pub(crate) fn sockets(&self) -> Vec<Socket> {
        self.sockets
            .lock()
            .iter()
            .filter_map(Socket::upgrade)
            .collect()
    }

    pub(crate) fn forget(&self, socket: &Socket) {
        self.sockets.lock().retain(|known| !socket.is(known));
    }
}

/// The recoverable sockets of one server.
pub(crate) type RecoveryTable = recovery::RecoveryTable<Socket, Weak<SocketInner>>;

impl PartialEq for Socket {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Socket {}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("id", &self.0.id)
            .field("namespace", &self.0.namespace.name)
            .finish_non_exhaustive()
    }
}
