//! The interface between the library and adapters.

pub(crate) mod journal;
pub(crate) mod subscriber;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

pub(super) use super::operation::AdapterError;
#[cfg(feature = "redis")]
use roomcast_protocol::socket::Nsp;

#[cfg(feature = "redis")]
use self::journal::Position;
use self::{journal::Journal, subscriber::Subscriber};
use super::{
    WireError,
    envelope::{Envelope, NodeId, Publication},
    values::ValueStore,
};
use crate::names::Room;

/// Transports envelopes between the servers of a cluster; set with
/// [`Builder::adapter`](crate::Builder::adapter).
///
/// An adapter should deliver each envelope at most once. The library applies a repeated envelope
/// once if it has a number. Envelopes of one sender should arrive in the order in which the adapter
/// received them. Clients of other servers see events in that order.
///
/// No method may wait for the network, because emitting is not asynchronous. The adapter queues
/// what it cannot send immediately, and returns an error if the queue is full.
pub trait Adapter: Send + Sync + 'static {
    /// Called once, when the server is built. From then on, the adapter delivers messages of other
    /// servers to `inbox`. The call may happen outside of a runtime.
    fn receive(&self, inbox: Inbox);

    /// Sends an operation to the servers that [`Envelope::channel`] names.
    ///
    /// # Errors
    ///
    /// If the adapter will not send the operation. The server counts these errors. If an operation
    /// is [`TooLarge`](AdapterError::TooLarge), emitting fails, and the server's own sockets do not
    /// receive it either. After any other error, they do.
    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError>;

    /// Returns whether it is certain that no other server is listening. Operations that need no
    /// reply are then not published. The server calls this for every event, join, leave and
    /// disconnect in a namespace that is open on this server, before it encodes the operation.
    /// Default `false`: everything is published.
    fn has_no_peers(&self) -> bool {
        false
    }

    /// Sends a reply to one server.
    ///
    /// # Errors
    ///
    /// If the adapter will not send the reply.
    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError>;

    /// Returns the other servers on which this namespace is open, as far as is known. These servers
    /// must answer a request in it. An adapter that does not know where namespaces are open returns
    /// all servers.
    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>>;

    /// Returns whether envelopes arrive, as far as is known.
    fn health(&self) -> Health;

    /// Returns the queued messages and the latency, for
    /// [`Io::adapter_backlog`](crate::Io::adapter_backlog). Default: zero.
    fn backlog(&self) -> Backlog {
        Backlog::default()
    }

    /// Sends the queued messages and leaves the cluster. The server waits for this within its
    /// shutdown grace period. Afterwards, the adapter may refuse operations.
    fn close(&self) -> BoxFuture<()>;

    /// Returns the background task of the adapter, for example to maintain a connection. The server
    /// starts it in its own runtime, and requests it again if it panics. The task returns once the
    /// adapter is closed or dropped. Default: none.
    fn task(&self) -> Option<BoxFuture<()>> {
        None
    }

    /// Returns what subscribes to the channels of namespaces and rooms, for transports that have
    /// such channels. Called once, after [`receive`](Self::receive). Default: none.
    fn subscriber(&self) -> Option<Arc<dyn Subscriber>> {
        None
    }

    /// Returns the time limit for requests to other servers that have no time limit of their own.
    /// Default 5 s.
    fn request_timeout(&self) -> Duration {
        Duration::from_secs(5)
    }

    /// Returns the store that all servers of the cluster share for [values](crate::Io::values) and
    /// locks. Called once, before [`receive`](Self::receive), unless
    /// [`Builder::values`](crate::Builder::values) sets a store. Default `None`: the cluster has no
    /// values, and [`Io::values`](crate::Io::values) returns an error.
    fn values(&self) -> Option<Box<dyn ValueStore>> {
        None
    }

    /// Returns whether messages that other servers send during an outage arrive later. If not, no
    /// client recovers its session while [`health`](Self::health) is not [`Ready`](Health::Ready),
    /// and the adapter reports the end of an outage with [`Inbox::report_gap`]. Default
    /// `false`.
    fn replays_missed(&self) -> bool {
        false
    }

    /// Returns the journal, which stores events and the state of disconnected clients so that they
    /// can reconnect to another server. Called once, and only with
    /// [recovery](crate::Builder::recovery). Default: none.
    fn journal(&self) -> Option<Arc<dyn Journal>> {
        None
    }
}

/// The return type of adapter methods that may wait.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// The other servers of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Servers {
    /// The servers with these names.
    Known(Vec<NodeId>),
    /// The number of other servers, for transports that count subscribers.
    Count(usize),
}

/// The state of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// The adapter works, as far as is known.
    Ready,
    /// The adapter does not work. The text gives the reason, for operators.
    Down(String),
}

/// The queued messages of an adapter, and its latency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backlog {
    /// The number of queued messages.
    pub messages: usize,
    /// The size of the queued messages in bytes, as counted for the limit of the queue.
    pub bytes: usize,
    /// The round-trip time of the last probe, which this server sends to itself. If a probe is in
    /// flight for longer than that, the time since it was sent. `None` while unknown, for example
    /// without a connection.
    pub lag: Option<Duration>,
    /// The number of times that an established connection has broken.
    pub breaks: u64,
}

/// How often, and for how long, a server was isolated from its peers and may have missed messages;
/// for [`Io::adapter_gaps`](crate::Io::adapter_gaps). Messages that [arrive
/// later](Adapter::replays_missed) do not count. The number of missed envelopes is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gaps {
    /// The number of gaps since the server was built.
    pub count: u64,
    /// The total duration of all gaps, including a current gap. A gap starts when the peers were
    /// last known to be reachable. The server checks this with each heartbeat.
    pub time: Duration,
    /// Whether the server is isolated now.
    pub is_isolated: bool,
}

/// The receiver of messages from other servers, given to an adapter. Cloning is cheap and does not
/// keep the server alive.
///
/// No method blocks. The server applies envelopes in the order of the calls. An adapter must
/// deliver the envelopes of one sender from one task or thread at a time.
#[derive(Clone)]
pub struct Inbox {
    node: NodeId,
    // The server owns the adapter, which holds this inbox. A strong reference would keep all three
    // alive.
    server: Weak<dyn Deliver>,
}

impl Inbox {
    pub(super) fn new(node: NodeId, server: Weak<dyn Deliver>) -> Self {
        Self { node, server }
    }

    /// Returns whether the server uses the [journal](Adapter::journal).
    #[must_use]
    pub fn recovers(&self) -> bool {
        let server = self.server.upgrade();
        server.is_some_and(|server| server.recovers())
    }

    /// Returns the silence after which a peer expires, or zero if the server no longer exists.
    #[cfg(feature = "nats")]
    pub(crate) fn lease(&self) -> Duration {
        let server = self.server.upgrade();
        server.map_or(Duration::ZERO, |server| server.lease())
    }

    /// Returns the name of this server.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Applies an envelope. Ignores envelopes that this server sent, envelopes for another server,
    /// and repeated envelopes.
    pub fn deliver(&self, envelope: Envelope) {
        if let Some(server) = self.server.upgrade() {
            server.deliver(envelope);
        }
    }

    /// Applies an envelope in the format of [`Envelope::to_bytes`]. Counts and drops envelopes that
    /// cannot be decoded.
    pub fn deliver_bytes(&self, bytes: impl Into<bytes::Bytes>) {
        if let Some(server) = self.server.upgrade() {
            match Envelope::from_bytes(bytes) {
                Ok(envelope) => server.deliver(envelope),
                Err(error) => server.ignore(&error),
            }
        }
    }

    /// Applies an operation on this server only, after it could not be sent through the journal.
    pub fn deliver_here(&self, publication: Publication) {
        if let Some(server) = self.server.upgrade() {
            server.deliver_here(publication);
        }
    }

    /// Reports a message that cannot be decoded, for the metrics.
    pub fn ignore(&self, error: &WireError) {
        if let Some(server) = self.server.upgrade() {
            server.ignore(error);
        }
    }

    /// Returns the rooms of a namespace on this server, including the rooms of the sockets' own
    /// ids. Foreign wire formats may request them.
    #[must_use]
    pub fn rooms(&self, namespace: &str) -> Vec<Room> {
        let server = self.server.upgrade();
        server.map_or_else(Vec::new, |server| server.rooms(namespace))
    }

    /// Returns whether a publication has no receivers on this server. Empty `rooms` mean the whole
    /// namespace. If it returns `true`, the publication counts as applied, and the caller need not
    /// decode the rest.
    #[cfg(feature = "redis")]
    pub(crate) fn has_no_recipient(
        &self,
        namespace: &Nsp,
        rooms: &[Room],
        position: Option<Position>,
    ) -> bool {
        let server = self.server.upgrade();
        server.is_none_or(|server| server.has_no_recipient(namespace, rooms, position))
    }

    /// Reports that messages of other servers up to now may be missing, for example after a broken
    /// connection. Clients that reconnect with an older position start a new session. The
    /// namespaces are updated before this returns. The task of the adapter calls this, not one of
    /// the adapter's methods.
    pub fn report_gap(&self) {
        if let Some(server) = self.server.upgrade() {
            server.report_gap();
        }
    }

    /// Reports that this number of envelopes is lost. They are counted, and this server and its
    /// peers treat messages as [possibly missing](Self::report_gap). Peers learn of the loss
    /// from a heartbeat. A publication in the namespace `/.roomcast` need not be reported: these
    /// are heartbeats and other messages that say nothing to clients.
    pub fn lost(&self, envelopes: u64) {
        if let Some(server) = self.server.upgrade() {
            server.lost(envelopes);
        }
    }

    /// Reports that a server has left the cluster. Requests wait one second for its last replies.
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

/// The server that owns an inbox.
pub(super) trait Deliver: Send + Sync {
    fn deliver(self: Arc<Self>, envelope: Envelope);
    fn recovers(&self) -> bool;
    #[cfg(feature = "nats")]
    fn lease(&self) -> Duration;
    fn deliver_here(self: Arc<Self>, publication: Publication);
    fn ignore(&self, error: &WireError);
    fn lost(&self, envelopes: u64);
    fn report_gap(&self);
    fn left(&self, node: &NodeId);
    fn rooms(&self, namespace: &str) -> Vec<Room>;
    #[cfg(feature = "redis")]
    fn has_no_recipient(&self, namespace: &Nsp, rooms: &[Room], position: Option<Position>)
    -> bool;
}
