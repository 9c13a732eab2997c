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
    engine::{Handshake, Mode, Outbox, Push, random_sid},
    metrics::Metrics,
    socket::{
        acks::AckTable,
        recovery::{self, Recoverable},
        rooms::Joined,
        types::{DisconnectReason, Name, SocketId, States},
    },
};

/// One client in one namespace. Cloning is a reference count; every clone is the same socket.
///
/// Methods that send work from any thread and never wait. A socket that is kept after its client
/// has left does no harm: it sends nothing and joins nothing.
#[derive(Clone)]
pub struct Socket(pub(in crate::socket) Arc<SocketInner>);

pub(crate) struct SocketInner {
    pub(in crate::socket) id: SocketId,
    pub(in crate::socket) io: Io,
    pub(in crate::socket) namespace: Arc<namespace::NamespaceInner>,
    pub(in crate::socket) shared: Arc<ConnInner>,
    principal: Mutex<Arc<Principal>>,
    /// Counts how often the principal was replaced.
    renewals: AtomicU16,
    /// Whether the client was told that its credentials are not good any more.
    pub(in crate::socket) expelled: AtomicBool,
    payload: Args,
    pub(in crate::socket) rooms: Mutex<Joined>,
    acks: AckTable,
    data: Mutex<States>,
    /// What is registered on this socket alone: nothing on most.
    listeners: OnceLock<Box<Listeners>>,
    /// What is needed to go on as this socket on another connection.
    recoverable: Option<Box<Recoverable>>,
    /// Why it was disconnected; unset while it is connected.
    pub(in crate::socket) reason: OnceLock<DisconnectReason>,
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
        let recoverable = io.recovery_table().map(|_| Box::new(Recoverable::new()));
        let id = SocketId::new(random_sid());
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

    /// A socket with this id, in no room yet: a new one, or that of a client that was on another server, with what is
    /// needed to recover it once more.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "as many as a new one, and what is known of it"
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
            expelled: AtomicBool::new(false),
            payload,
            rooms: Mutex::default(),
            acks: AckTable::default(),
            data: Mutex::new(data),
            listeners: OnceLock::new(),
            recoverable,
            reason: OnceLock::new(),
        }))
    }

    /// A socket that goes on in the place of another one, on another connection and with further data; in no room yet.
    pub(crate) fn recover(
        old: &Self,
        shared: Arc<ConnInner>,
        principal: Arc<Principal>,
        payload: Args,
        new: States,
    ) -> Self {
        let mut data = old.0.data.lock().clone();
        data.extend(new);
        let recoverable = old.recoverable().map(|known| Box::new(known.again()));
        Self(Arc::new(SocketInner {
            id: old.0.id,
            io: old.0.io.clone(),
            namespace: Arc::clone(&old.0.namespace),
            shared,
            principal: Mutex::new(principal),
            renewals: AtomicU16::new(0),
            expelled: AtomicBool::new(false),
            payload,
            rooms: Mutex::default(),
            acks: AckTable::default(),
            data: Mutex::new(data),
            listeners: OnceLock::new(),
            recoverable,
            reason: OnceLock::new(),
        }))
    }

    /// The id, drawn anew for every namespace and connection.
    #[must_use]
    #[inline]
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    /// The principal of the socket, as is known now: what
    /// [`authenticate`](crate::NamespaceBuilder::authenticate) has returned, or what has
    /// [replaced](Self::set_principal) it.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal.lock())
    }

    /// Replaces who the socket belongs to, with a new time at which that ends. Events that are
    /// being handled keep the one they have.
    pub fn set_principal(&self, principal: Principal) {
        *self.0.principal.lock() = Arc::new(principal);
        // The count grows behind the principal, so that whoever sees the new count reads the new principal. The driver is
        // woken to look at its new end.
        self.0.renewals.fetch_add(1, Ordering::Release);
        self.outbox().wake();
    }

    pub(crate) fn renewals(&self) -> u16 {
        self.0.renewals.load(Ordering::Acquire)
    }

    /// The request that opened the connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.shared.handshake()
    }

    /// Reads the payload of the `CONNECT` packet, the client's option `auth`, as `T`.
    ///
    /// # Errors
    ///
    /// When there is none or it has another shape; `Option<T>` allows for a client without one.
    pub fn auth<T: DeserializeOwned>(&self) -> Result<T, ArgumentError> {
        self.0.payload.get(0)
    }

    /// The transport that carries the connection now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.outbox().transport()
    }

    /// How long ago the client last sent a packet on its connection, in whole seconds: an event, an answer,
    /// or whatever else but a heartbeat.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.0.shared.idle(tokio::time::Instant::now().into_std())
    }

    /// When the client last sent a packet on its connection that is no heartbeat: the beginning of that second, by the clock of the
    /// system. It stays the same for as long as the client is silent, unless that clock is set.
    #[must_use]
    pub fn last_active(&self) -> SystemTime {
        self.0.shared.last_active()
    }

    /// The whole server.
    #[must_use]
    #[inline]
    pub fn io(&self) -> &Io {
        &self.0.io
    }

    /// The namespace it is in.
    #[must_use]
    pub fn namespace(&self) -> Namespace {
        Namespace::of_socket(self)
    }

    /// Whether the client is there, as far as is known.
    #[must_use]
    #[inline]
    pub fn is_connected(&self) -> bool {
        self.0.reason.get().is_none()
    }

    /// Why it was disconnected; `None` while it is not.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        self.0.reason.get().copied()
    }

    /// Keeps a value with the socket, one for each type; returns the one that it replaces.
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

    /// The value of this type that is kept with the socket.
    #[must_use]
    pub fn data<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.0.data.lock().shared()
    }

    /// Queues a frame for the client, unless it has left.
    #[inline]
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        if !self.is_connected() {
            // An event that is kept for recovery reaches the client when it comes back, wherever its socket is by then.
            if frame.stamp().is_some() {
                return self.0.namespace.push_to(self.0.id, frame, mode);
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

    /// Whether the client has come back as this socket after its connection had broken, with its
    /// id, rooms and data, and has got what it had missed. Always `false` without
    /// [`Builder::recovery`](crate::Builder::recovery).
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.recoverable()
            .is_some_and(|recoverable| recoverable.recovered)
    }

    /// What is registered on this socket alone, if anything ever was.
    #[inline]
    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.0.listeners.get().map(|listeners| &**listeners)
    }

    pub(crate) fn make_listeners(&self) -> &Listeners {
        let listeners = self.0.listeners.get_or_init(Box::default);
        // A socket that has ended meanwhile may have missed these listeners when it closed what it had.
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

/// What the sockets of one connection share.
pub(crate) type ConnInner = shared::ConnInner<SocketInner>;

impl ConnInner {
    /// The connected sockets, one for each namespace.
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

/// The sockets of one server that can be recovered.
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
