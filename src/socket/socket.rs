use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Transport},
    socket::{Args, Argument, ArgumentError, Arguments, Parser},
};
use serde::de::DeserializeOwned;

use super::{
    Io,
    ack::AckFuture,
    ack_table::AckTable,
    args,
    conn::Conn,
    contract::Contract,
    direct::Direct,
    emit::{Broadcast, Emitted},
    handlers::{BoxHandler, Erased, Listeners},
    id::SocketId,
    joined::Joined,
    lifecycle::Lifecycle,
    name::Name,
    namespace::{self, Namespace},
    reason::DisconnectReason,
    recovery::{self, Recoverable},
    refusal::Refusal,
    room::IntoRooms,
    running::{Call, Running},
    shared,
    state::States,
    validity,
    watchers::ConnWatchers,
};
use crate::{
    auth::Principal,
    engine::{Handshake, Mode, Outbox, Push},
    metrics::Metrics,
};

/// One client in one namespace. Cloning is a reference count; every clone is the same socket.
///
/// Methods that send work from any thread and never wait. A socket that is kept after its client
/// has left does no harm: it sends nothing and joins nothing.
#[derive(Clone)]
pub struct Socket(pub(super) Arc<Inner>);

pub(crate) struct Inner {
    pub(super) id: SocketId,
    pub(super) io: Io,
    pub(super) namespace: Arc<namespace::Inner>,
    shared: Arc<Shared>,
    principal: Mutex<Arc<Principal>>,
    /// Counts how often the principal was replaced.
    renewals: AtomicU16,
    /// Whether it was told that its credentials are not good any more.
    expelled: AtomicBool,
    payload: Args,
    pub(super) rooms: Mutex<Joined>,
    acks: AckTable,
    data: Mutex<States>,
    /// What is registered on this socket alone: nothing on most.
    listeners: OnceLock<Box<Listeners>>,
    /// What is needed to go on with its session on another connection.
    recoverable: Option<Box<Recoverable>>,
    /// Why it was disconnected; unset while it is connected.
    reason: OnceLock<DisconnectReason>,
}

impl Socket {
    pub(crate) fn new(
        io: Io,
        namespace: Arc<namespace::Inner>,
        shared: Arc<Shared>,
        principal: Arc<Principal>,
        payload: Args,
    ) -> Self {
        let recoverable = io.sessions().map(|_| Box::new(Recoverable::new()));
        Self(Arc::new(Inner {
            id: SocketId::random(),
            io,
            namespace,
            shared,
            principal: Mutex::new(principal),
            renewals: AtomicU16::new(0),
            expelled: AtomicBool::new(false),
            payload,
            rooms: Mutex::default(),
            acks: AckTable::default(),
            data: Mutex::default(),
            listeners: OnceLock::new(),
            recoverable,
            reason: OnceLock::new(),
        }))
    }

    /// The same socket on another connection; in no room yet.
    pub(crate) fn recover(
        old: &Self,
        shared: Arc<Shared>,
        principal: Arc<Principal>,
        payload: Args,
    ) -> Self {
        let recoverable = old.recoverable().map(|known| Box::new(known.again()));
        Self(Arc::new(Inner {
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
            data: Mutex::new(old.0.data.lock().clone()),
            listeners: OnceLock::new(),
            recoverable,
            reason: OnceLock::new(),
        }))
    }

    /// The id, drawn anew for every namespace and connection.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    /// Who the socket belongs to, as is known now: what
    /// [`authenticate`](crate::NamespaceBuilder::authenticate) has said, or what has
    /// [replaced](Self::set_principal) it.
    #[must_use]
    pub fn principal(&self) -> Arc<Principal> {
        Arc::clone(&self.0.principal.lock())
    }

    /// Replaces who the socket belongs to, with a new time at which that ends. Events that are
    /// being handled keep the one they have.
    pub fn set_principal(&self, principal: Principal) {
        *self.0.principal.lock() = Arc::new(principal);
        self.0.renewals.fetch_add(1, Ordering::Release);
        self.outbox().wake();
    }

    /// Asks the authenticator again, and disconnects who is not good any more. `false`: it did.
    pub(crate) fn revalidate(&self) -> bool {
        let Some(authenticator) = &self.0.namespace.handlers.authenticate else {
            return true;
        };
        match authenticator.revalidate(&self.principal()) {
            Ok(()) => true,
            Err(refusal) => {
                self.expel(&refusal);
                false
            }
        }
    }

    /// Disconnects a client whose credentials are not good any more, after it was told so.
    pub(crate) fn expel(&self, refusal: &Refusal) {
        // Several may find out at the same time; it is told once.
        if !self.is_connected() || self.0.expelled.swap(true, Ordering::AcqRel) {
            return;
        }
        let reason = refusal.reason();
        tracing::info!(socket = %self.0.id, namespace = self.nsp(), reason, "expelled");
        self.emit("error", validity::Told::of(refusal));
        self.disconnect(false);
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

    /// The whole server.
    #[must_use]
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
    pub fn is_connected(&self) -> bool {
        self.0.reason.get().is_none()
    }

    /// Why it was disconnected; `None` while it is not.
    #[must_use]
    pub fn disconnect_reason(&self) -> Option<DisconnectReason> {
        self.0.reason.get().copied()
    }

    /// Sends an event to the client.
    ///
    /// `args` is anything that can be serialised: a tuple is several arguments, `()` is none,
    /// `Bytes` at any depth are attachments, [`Args`](crate::Args) are passed on untouched.
    pub fn emit(&self, event: &str, args: impl Arguments) -> Emitted {
        Direct::new(self).emit(event, args)
    }

    /// Sends an event to the client and waits for its acknowledgement: one value of type `R`, or
    /// [`Args`](crate::Args) for all that it answers with.
    ///
    /// The event is sent at once; the future fails after
    /// [`Config::ack_timeout`](crate::Config::ack_timeout), or what [`timeout`](Self::timeout) says.
    pub fn emit_with_ack<R: Argument>(&self, event: &str, args: impl Arguments) -> AckFuture<R> {
        Direct::new(self).emit_with_ack(event, args)
    }

    /// This socket, which must acknowledge in this time.
    pub fn timeout(&self, timeout: Duration) -> Direct<'_> {
        Direct::new(self).timeout(timeout)
    }

    /// This socket, for an event that may be lost; see [`Direct::volatile`].
    pub fn volatile(&self) -> Direct<'_> {
        Direct::new(self).volatile()
    }

    /// This socket, for an event of which the newest is enough; see [`Broadcast::conflate`].
    ///
    /// [`Broadcast::conflate`]: crate::Broadcast::conflate
    pub fn conflate(&self, key: &str) -> Direct<'_> {
        Direct::new(self).conflate(key)
    }

    /// This socket, for an event of which the last ones are enough; see [`Broadcast::drop_oldest`].
    ///
    /// [`Broadcast::drop_oldest`]: crate::Broadcast::drop_oldest
    pub fn drop_oldest(&self, stream: &str, keep: u16) -> Direct<'_> {
        Direct::new(self).drop_oldest(stream, keep)
    }

    /// This socket, with this compression flag; see [`Direct::compress`].
    pub fn compress(&self, compress: bool) -> Direct<'_> {
        Direct::new(self).compress(compress)
    }

    /// Sends a typed event to the client; see [`Contract`].
    pub fn send(&self, event: impl Contract) -> Emitted {
        Direct::new(self).send(event)
    }

    /// Everybody in the namespace but this socket.
    pub fn broadcast(&self) -> Broadcast<'_> {
        Broadcast::from_sender(self)
    }

    /// The members of rooms but this socket.
    pub fn to<'a>(&'a self, rooms: impl IntoRooms<'a>) -> Broadcast<'a> {
        self.broadcast().to(rooms)
    }

    /// Everybody in the namespace but this socket and the members of rooms.
    pub fn except<'a>(&'a self, rooms: impl IntoRooms<'a>) -> Broadcast<'a> {
        self.broadcast().except(rooms)
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

    /// Disconnects the client from this namespace; with `close`, from all its namespaces, and
    /// closes the connection. The client does not come back by itself.
    ///
    /// The `disconnecting` and `disconnect` handlers are started before it returns.
    pub fn disconnect(&self, close: bool) {
        if close {
            for socket in self.0.shared.sockets() {
                socket.leave_namespace();
            }
            self.outbox().close(CloseReason::ForcedClose);
        } else {
            self.leave_namespace();
        }
    }

    /// Closes the connection without telling any namespace: to the client it is lost, and stock
    /// clients come back.
    pub fn drop_connection(&self) {
        self.outbox().close(CloseReason::ForcedClose);
    }

    fn leave_namespace(&self) {
        if !self.is_connected() {
            return;
        }
        if let Ok(frame) = self.0.io.config().parser.disconnect(self.nsp()) {
            let _ = self.0.shared.push(&frame, Mode::Reliable, self.metrics());
        }
        self.close(DisconnectReason::ServerNamespaceDisconnect);
    }

    /// The end of the socket, whoever causes it: tells the application, leaves all rooms, fails
    /// what waits for the client. Only the first call does anything.
    pub(crate) fn close(&self, reason: DisconnectReason) {
        self.close_described(reason, None);
    }

    /// The same, with more to say about the reason.
    pub(crate) fn close_described(&self, reason: DisconnectReason, description: Option<&str>) {
        if self.0.reason.set(reason).is_err() {
            return;
        }
        tracing::info!(socket = %self.0.id, namespace = self.nsp(), %reason, "disconnected");
        let handlers = &self.0.namespace.handlers;
        let args = reason_arguments(reason, description);
        let _runtime = self.0.io.enter_runtime();
        let recoverable = self.leave_session(reason);
        let mut waiting = self.start_own("disconnecting", &handlers.disconnecting, &args);
        match recoverable {
            Some(recoverable) => self.park(recoverable),
            None => self.end_session(),
        }
        self.0.acks.close(self.metrics());
        self.0.namespace.questions.leave(self.0.id);
        self.0.shared.forget(self);
        let socket = self;
        self.0.io.tell(&Lifecycle::Disconnected {
            socket,
            reason,
            description,
        });
        waiting.extend(self.start_own("disconnect", &handlers.disconnect, &args));
        if let Some(listeners) = self.listeners() {
            listeners.close();
        }
        if self.listeners().is_some() || self.conn_watchers().is_some() {
            self.0.namespace.set_curious(self, false);
        }
        self.0.io.detach(waiting, &self.0.shared);
    }

    /// Starts the handlers of an event of the library's own; returned are those that wait.
    fn start_own(&self, event: &'static str, handlers: &[BoxHandler], args: &Args) -> Vec<Running> {
        let mut waiting = Vec::new();
        let start = |handler: &dyn Erased| Call::own(self, event).start(handler, args.clone());
        for handler in handlers {
            waiting.extend(start(&**handler));
        }
        let listeners = self.listeners().map(|known| known.take(event));
        for listener in listeners.unwrap_or_default() {
            waiting.extend(start(&*listener));
        }
        waiting
    }

    /// Queues a frame for the client, unless it has left.
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        if !self.is_connected() {
            if frame.stamp().is_some() {
                return self.0.namespace.push_to(self.0.id, frame, mode);
            }
            return Push::Closed;
        }
        self.0.shared.push(frame, mode, self.metrics())
    }

    /// The connection below.
    #[must_use]
    pub fn conn(&self) -> Conn {
        Conn::new(Arc::clone(&self.0.shared))
    }

    pub(crate) fn conn_watchers(&self) -> Option<&ConnWatchers> {
        self.0.shared.watchers()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0.shared
    }

    pub(crate) fn shared_arc(&self) -> Arc<Shared> {
        Arc::clone(&self.0.shared)
    }

    pub(crate) fn recoverable(&self) -> Option<&Recoverable> {
        self.0.recoverable.as_deref()
    }

    /// What is registered on this socket alone, if anything ever was.
    #[inline]
    pub(crate) fn listeners(&self) -> Option<&Listeners> {
        self.0.listeners.get().map(|listeners| &**listeners)
    }

    pub(crate) fn make_listeners(&self) -> &Listeners {
        let listeners = self.0.listeners.get_or_init(Box::default);
        if !self.is_connected() {
            listeners.close();
        }
        listeners
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        self.0.shared.outbox()
    }

    pub(crate) fn acks(&self) -> &AckTable {
        &self.0.acks
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        self.0.namespace.metrics()
    }

    pub(crate) fn namespace_inner(&self) -> &Arc<namespace::Inner> {
        &self.0.namespace
    }

    pub(crate) fn nsp(&self) -> &str {
        self.0.namespace.name.as_str()
    }

    pub(crate) fn downgrade(&self) -> Weak<Inner> {
        Arc::downgrade(&self.0)
    }

    pub(crate) fn upgrade(weak: &Weak<Inner>) -> Option<Self> {
        weak.upgrade().map(Self)
    }

    pub(crate) fn is(&self, weak: &Weak<Inner>) -> bool {
        std::ptr::eq(weak.as_ptr(), Arc::as_ptr(&self.0))
    }

    pub(crate) fn event_name<'a>(&'a self, name: &'a Name) -> &'a str {
        match name {
            Name::Own(name) => name,
            Name::Registered(index) => self.0.namespace.handlers.name(*index),
            Name::Wire(name) => name,
        }
    }
}

/// What the sockets of one connection share.
pub(crate) type Shared = shared::Shared<Inner>;

impl Shared {
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

/// The sessions of one server that can be recovered.
pub(crate) type Sessions = recovery::Sessions<Socket, Weak<Inner>>;

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

/// The arguments of `disconnecting` and `disconnect`.
fn reason_arguments(reason: DisconnectReason, description: Option<&str>) -> Args {
    match description {
        Some(description) => {
            args::arguments(Parser::Json, &(reason, description)).unwrap_or_default()
        }
        None => args::literal(&format!("[\"{reason}\"]")),
    }
}
