//! What an adapter is, and what it is given.

pub(crate) mod journal;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

pub(super) use super::operation::AdapterError;
#[cfg(feature = "redis")]
use roomcast_protocol::socket::Nsp;

use self::journal::Journal;
#[cfg(feature = "redis")]
use self::journal::Position;
use super::{
    WireError,
    envelope::{Envelope, NodeId, Publication},
    values::ValueStore,
};
use crate::names::Room;

/// Carries envelopes between the servers of a cluster; given to
/// [`Builder::adapter`](crate::Builder::adapter).
///
/// An adapter is a transport. It delivers each envelope at most once if it can; one that comes twice
/// is applied once as long as it has a number. Envelopes of one sender should arrive in the order in
/// which they were given to it: that is the order in which clients of other servers see events.
///
/// No method may wait for the network: emitting is not asynchronous. What cannot be sent at once is
/// queued within a limit, and refused beyond it.
pub trait Adapter: Send + Sync + 'static {
    /// Called once, when the server is built: from now on what other servers send is to be given to
    /// `inbox`. It may be called outside of a runtime.
    fn receive(&self, inbox: Inbox);

    /// Sends an operation to the other servers, which [`Envelope::channel`] names.
    ///
    /// # Errors
    ///
    /// When it will not be sent. The server counts it. What is [`TooLarge`](AdapterError::TooLarge) is refused as a whole where
    /// it was emitted, and not sent to the server's own sockets either; they get what is refused for any other reason.
    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError>;

    /// Whether certainly no other server listens, so that what nobody has to answer need not be published. Asked for
    /// every event, join, leave and disconnect in a namespace that is open on this server, before it is written. The
    /// default is `false`, with which everything is published.
    fn is_alone(&self) -> bool {
        false
    }

    /// Sends a reply to one server.
    ///
    /// # Errors
    ///
    /// When it will not be sent.
    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError>;

    /// The other servers on which this namespace is open, as far as is known now: those that must
    /// answer a request in it. An adapter that does not know where namespaces are open names all.
    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>>;

    /// Whether envelopes arrive, as far as is known now.
    fn health(&self) -> Health;

    /// What waits to be sent, and how long messages take, for [`Io::adapter_backlog`](crate::Io::adapter_backlog).
    /// Default: nothing.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    /// Sends what is queued and leaves the cluster. The server waits for it within the grace of its
    /// own end; what is published afterwards may be refused.
    fn close(&self) -> BoxFuture<()>;

    /// What the adapter has to do as long as the server lives, such as keeping a connection. It is
    /// started in the runtime of the server, and asked for again if it panics. It returns once the
    /// adapter is closed or dropped. Default: nothing.
    fn task(&self) -> Option<BoxFuture<()>> {
        None
    }

    /// A namespace exists on this server from now on; called after [`receive`](Self::receive), and one
    /// call at a time. What is sent to the namespace must arrive. An implementation must not give anything to the
    /// inbox here.
    fn namespace_opened(&self, _namespace: &str) {}

    /// A namespace does not exist on this server any more.
    fn namespace_closed(&self, _namespace: &str) {}

    /// How long other servers may take to answer a request that has no time limit of its own. Default
    /// 5 s.
    fn request_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Whether [`room_opened`](Self::room_opened) and [`room_closed`](Self::room_closed) are called.
    /// Asked once. Default `false`.
    fn follows_rooms(&self) -> bool {
        false
    }

    /// Whether [`room_opened`](Self::room_opened) and [`room_closed`](Self::room_closed) are called for the room of each
    /// socket's own id as well. Asked once. Default `false`: events for one socket go wherever those for the whole
    /// namespace go.
    fn follows_sockets(&self) -> bool {
        false
    }

    /// A room has its first member on this server: events for it must arrive from now on. Never called
    /// with a lock of a room held. The next call for the same room is `room_closed`. Neither may give
    /// anything to the inbox.
    fn room_opened(&self, _namespace: &str, _room: &Room) {}

    /// Waits until events of all rooms arrive that were opened before it is called, or until that
    /// cannot be known. Default: at once.
    fn followed(&self) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }

    /// Where the servers that this adapter joins keep [values](crate::Io::values) and locks. Asked once, before
    /// [`receive`](Self::receive). Default `None`: each server has them in its own memory, unless
    /// [`Builder::values`](crate::Builder::values) was given something else.
    fn values(&self) -> Option<Box<dyn ValueStore>> {
        None
    }

    /// Whether what other servers send while this one is not reached arrives later. Where it does not, no client is
    /// recovered while [`health`](Self::health) is not [`Ready`](Health::Ready), and the adapter tells when it is back by
    /// [`Inbox::may_have_missed`]. Default `false`.
    fn catches_up(&self) -> bool {
        false
    }

    /// What keeps the events that this adapter carries, and the state of clients that are away, so that they can come
    /// back to another server. Asked once, and only with [recovery](crate::Builder::recovery). Default: nothing does.
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }

    /// A room has no member on this server any more, nor a client that may come back to it.
    fn room_closed(&self, _namespace: &str, _room: &Room) {}
}

/// What an adapter answers with when it has to ask somebody.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The other servers of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Servers {
    /// The servers of these names.
    Known(Vec<NodeId>),
    /// How many other servers there are, for transports that count subscribers.
    Count(usize),
}

/// Whether an adapter works.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The adapter works, as far as is known.
    Ready,
    /// The adapter does not work; the text says why, for people who operate the server.
    Down(String),
}

/// What waits in an adapter, and how long messages take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// Messages that wait to be sent.
    pub messages: usize,
    /// Bytes of the messages that wait, as far as these count for the limit of the queue.
    pub bytes: usize,
    /// How long the last message of this server to itself took there and back, or how long the one that is under way has taken
    /// if that is longer already; `None` while nothing is known, as without a connection.
    pub lag: Option<Duration>,
    /// How often the connection has broken that had been made.
    pub breaks: u64,
}

/// How often, and for how long, a server was cut off from the others, so that what they sent may be missing there; for
/// [`Io::adapter_gaps`](crate::Io::adapter_gaps). What [arrives later](Adapter::catches_up) is no gap. How many envelopes
/// are missing is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gaps {
    /// How often since the server was built.
    pub count: u64,
    /// For how long, all these times together and the time of one that lasts: from when the others were certainly reached,
    /// which is known once in each heartbeat.
    pub time: Duration,
    /// Whether it is cut off now.
    pub is_cut_off: bool,
}

/// Where an adapter delivers what has come from other servers. Cloning is cheap; it does not keep the
/// server alive.
///
/// Every method returns without waiting. Envelopes are applied in the order in which they are
/// delivered, so those of one sender are delivered by one task or thread at a time.
#[derive(Clone)]
pub struct Inbox {
    node: NodeId,
    // The server owns the adapter, which holds this inbox: a strong reference would keep all three alive.
    server: Weak<dyn Deliver>,
}

impl Inbox {
    pub(super) fn new(node: NodeId, server: Weak<dyn Deliver>) -> Self {
        Self { node, server }
    }

    /// Whether the [journal](Adapter::journal) is used.
    #[must_use]
    pub fn recovers(&self) -> bool {
        let server = self.server.upgrade();
        server.is_some_and(|server| server.recovers())
    }

    /// The name of this server.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Applies what another server has sent. What this server has sent itself, what is addressed to
    /// another one and what has come before are left out.
    pub fn deliver(&self, envelope: Envelope) {
        if let Some(server) = self.server.upgrade() {
            server.deliver(envelope);
        }
    }

    /// Applies what another server has sent as [`Envelope::to_bytes`] has written it. What cannot be read is
    /// counted and left out.
    pub fn deliver_bytes(&self, bytes: impl Into<bytes::Bytes>) {
        if let Some(server) = self.server.upgrade() {
            match Envelope::from_bytes(bytes) {
                Ok(envelope) => server.deliver(envelope),
                Err(error) => server.ignore(&error),
            }
        }
    }

    /// Applies on this server alone what was to go through the journal, and cannot.
    pub fn deliver_here(&self, publication: Publication) {
        if let Some(server) = self.server.upgrade() {
            server.deliver_here(publication);
        }
    }

    /// Tells that something has come that cannot be read, for the metrics.
    pub fn ignore(&self, error: &WireError) {
        if let Some(server) = self.server.upgrade() {
            server.ignore(error);
        }
    }

    /// The rooms of a namespace on this server, with those of the sockets' own ids; for foreign wires
    /// that ask for them.
    #[must_use]
    pub fn rooms(&self, namespace: &str) -> Vec<Room> {
        let server = self.server.upgrade();
        server.map_or_else(Vec::new, |server| server.rooms(namespace))
    }

    /// Whether a publication for these rooms, or for everybody in the namespace if there are none, is about nobody on
    /// this server, so that nothing else of it has to be read. It counts as applied then.
    #[cfg(feature = "redis")]
    pub(crate) fn passes_by(
        &self,
        namespace: &Nsp,
        rooms: &[Room],
        position: Option<Position>,
    ) -> bool {
        let server = self.server.upgrade();
        server.is_none_or(|server| server.passes_by(namespace, rooms, position))
    }

    /// Tells that something that other servers have sent may be missing up to now, as after a connection that broke:
    /// clients that come back and have nothing newer start afresh. The namespaces know of it when this returns; it is called
    /// by the task of the adapter, not from within one of its methods.
    pub fn may_have_missed(&self) {
        if let Some(server) = self.server.upgrade() {
            server.may_have_missed();
        }
    }

    /// Tells that so many envelopes are known to be lost: they are counted, and something
    /// [may be missing](Self::may_have_missed), here and at other servers, which learn of it by a heartbeat.
    pub fn lost(&self, envelopes: u64) {
        if let Some(server) = self.server.upgrade() {
            server.lost(envelopes);
        }
    }

    /// Tells that a server has left the cluster: nothing waits for its answers any more.
    pub fn left(&self, node: &NodeId) {
        if let Some(server) = self.server.upgrade() {
            server.left(node);
        }
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.node).finish()
    }
}

/// The server behind an inbox.
pub(super) trait Deliver: Send + Sync {
    fn deliver(self: Arc<Self>, envelope: Envelope);
    fn recovers(&self) -> bool;
    fn deliver_here(self: Arc<Self>, publication: Publication);
    fn ignore(&self, error: &WireError);
    fn lost(&self, envelopes: u64);
    fn may_have_missed(&self);
    fn left(&self, node: &NodeId);
    fn rooms(&self, namespace: &str) -> Vec<Room>;
    #[cfg(feature = "redis")]
    fn passes_by(&self, namespace: &Nsp, rooms: &[Room], position: Option<Position>) -> bool;
}
