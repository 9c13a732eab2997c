//! The cluster membership of this server: numbers outgoing envelopes, drops repeated envelopes, and
//! assigns replies to requests.
//!
//! - `mod.rs` publishes and receives.
//! - `followed` tells the adapter which namespaces and rooms exist here.
//! - `deduplication` detects repeated envelopes.
//! - `gaps` tracks periods in which messages may be missing.
//! - `membership` sends and receives heartbeats.
//! - `nodes` is the list of servers that the heartbeats maintain.
//! - `receiver` is the interface to which operations of other servers are passed.
//! - `requests` tracks which servers must answer a request, and its deadline.
//! - `tail` records journal events while a client reads earlier events.
//!
//! `socket` uses it through `Cluster` and `Joined`. It must not depend on transports or sockets.

mod deduplication;
mod followed;
mod gaps;
mod membership;
pub(super) mod nodes;
mod receiver;
mod requests;
mod tail;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;
use tokio::time::timeout;

#[cfg(feature = "forwarding")]
pub(crate) use self::nodes::Forwarding;
pub use self::nodes::{Load, Node, NodeIdConflict, NodeOptions};
use self::{
    deduplication::SeenEnvelopes, followed::Followed, gaps::Gaps, requests::Requests, tail::Tails,
};
pub(crate) use self::{
    nodes::{HandoverId, HandoverRequest, HandoverState, MissedEvent, Registry, keep},
    receiver::Receiver,
    requests::Request,
    tail::Tail,
};
use super::{
    Unopened, WireError,
    envelope::{Envelope, Item, Message, NodeId, Publication, Reply},
    interface::{
        Adapter, AdapterError, Backlog, BoxFuture, Deliver, Gaps as Missed, Health, Inbox, Servers,
    },
    interface::{
        journal::{Journal, Position},
        subscriber::Subscriptions,
    },
    operation::Kind,
};
use crate::{
    limit::LogThrottle,
    metrics::{Counter, Metrics},
    names::{Room, SocketId},
};

/// The connection to other servers, if there are any. Cloning is a reference count at most.
#[derive(Clone, Debug, Default)]
pub(crate) enum Cluster {
    /// There are no other servers. A broadcast only pays for this branch. An adapter that does
    /// nothing would cost each broadcast a virtual call and an owned operation.
    #[default]
    Local,
    Joined(Arc<Joined>),
}

impl Cluster {
    #[inline]
    pub(crate) fn joined(&self) -> Option<&Arc<Joined>> {
        match self {
            Self::Local => None,
            Self::Joined(joined) => Some(joined),
        }
    }

    /// Called after a socket joined or left a room. Notifies an adapter that follows rooms if this
    /// opened or closed the room. The caller must not hold the lock of a room.
    #[inline]
    pub(crate) fn room_changed(&self, nsp: &Nsp, room: &Room, exists: impl FnOnce() -> bool) {
        if let Self::Joined(joined) = self
            && let Some(subscriber) = joined.followed.subscriber_if(Subscriptions::has_rooms)
        {
            joined.followed.room_changed(subscriber, nsp, room, exists);
        }
    }

    /// Called after a socket connected or disconnected. Notifies an adapter that follows the rooms
    /// of socket ids.
    #[inline]
    pub(crate) fn socket_changed(&self, nsp: &Nsp, id: &SocketId, exists: impl FnOnce() -> bool) {
        if let Self::Joined(joined) = self
            && let Some(subscriber) = joined.followed.subscriber_if(Subscriptions::has_sockets)
        {
            let room = Room::from(id.as_str());
            joined.followed.room_changed(subscriber, nsp, &room, exists);
        }
    }

    /// Called after a namespace was created or removed.
    pub(crate) fn namespace_changed(&self, nsp: &Nsp, exists: impl FnOnce() -> bool) {
        if let Self::Joined(joined) = self {
            joined.followed.namespace_changed(nsp, exists);
        }
    }

    #[inline]
    pub(crate) fn follows_rooms(&self) -> bool {
        let follows = Subscriptions::has_rooms;
        self.joined()
            .is_some_and(|joined| joined.followed.subscriber_if(follows).is_some())
    }

    #[inline]
    pub(crate) fn is_joined(&self) -> bool {
        self.joined().is_some()
    }

    pub(crate) fn has_journal(&self) -> bool {
        self.joined().is_some_and(|joined| joined.journal.is_some())
    }

    /// Returns whether messages of other servers may be missing now.
    pub(crate) fn has_gap(&self) -> bool {
        self.joined().is_some_and(|joined| joined.has_gap())
    }
}

/// A server in a cluster.
pub(crate) struct Joined {
    node: NodeId,
    adapter: Box<dyn Adapter>,
    receiver: Box<dyn Receiver>,
    /// The number of the last envelope.
    last: AtomicU64,
    /// Whether the adapter refused the last operation.
    is_failing: AtomicBool,
    seen: Mutex<SeenEnvelopes>,
    requests: Arc<Requests>,
    timeout: Duration,
    followed: Followed,
    /// Whether the task of the adapter was started.
    has_task: AtomicBool,
    journal: Option<Arc<dyn Journal>>,
    /// Held while an operation from the journal is applied.
    applied: Mutex<Tails>,
    registry: Arc<Registry>,
    gaps: Gaps,
    /// Throttles the log about messages that cannot be opened.
    unopened: LogThrottle,
    metrics: Arc<Metrics>,
}

impl Joined {
    pub(crate) fn new(
        node: NodeId,
        adapter: Box<dyn Adapter>,
        receiver: Box<dyn Receiver>,
        max_requests: usize,
        recovers: bool,
        registry: Arc<Registry>,
        metrics: &Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            node,
            timeout: adapter.request_timeout(),
            followed: Followed::default(),
            journal: adapter.journal().filter(|_| recovers),
            applied: Mutex::default(),
            adapter,
            receiver,
            last: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            seen: Mutex::default(),
            requests: Arc::new(Requests::new(max_requests, Arc::clone(metrics))),
            has_task: AtomicBool::new(false),
            registry,
            gaps: Gaps::default(),
            unopened: LogThrottle::every(UNOPENED_LINES),
            metrics: Arc::clone(metrics),
        })
    }

    /// Starts to receive messages.
    pub(crate) fn start(self: &Arc<Self>) {
        let server = Arc::downgrade(self);
        self.adapter.receive(Inbox::new(self.node.clone(), server));
        if let Some(subscriber) = self.adapter.subscriber() {
            self.followed.start(subscriber);
        }
        self.followed
            .namespace_changed(&Nsp::from(nodes::NAMESPACE), || true);
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    fn send_quietly(&self, publication: Publication) {
        let sent = self
            .adapter
            .publish(self.seal(Message::Publication(publication)));
        if let Err(error) = sent {
            tracing::debug!(%error, "could not announce this server to other servers");
        }
    }

    /// Returns `true` on the first call. The caller must then start the task of the adapter.
    #[inline]
    pub(crate) fn begins_task(&self) -> bool {
        // Every new connection calls this. The load before the swap avoids writes to a shared cache
        // line on all but the first call.
        !self.has_task.load(Ordering::Relaxed) && !self.has_task.swap(true, Ordering::Relaxed)
    }

    pub(crate) async fn followed(&self) {
        if let Some(subscriber) = self.followed.subscriber() {
            // No request to other servers takes longer than this timeout either.
            let _ = timeout(self.timeout, Arc::clone(subscriber).followed()).await;
        }
    }

    /// Returns the journal, if sessions are stored for other servers.
    #[inline]
    pub(crate) fn journal(&self) -> Option<&Arc<dyn Journal>> {
        self.journal.as_ref()
    }

    /// Returns the name of this server.
    pub(crate) fn node(&self) -> &NodeId {
        &self.node
    }

    /// Records the journal events that are applied in a namespace from now on.
    pub(crate) fn follow(&self, nsp: &Nsp) -> Arc<Tail> {
        self.applied.lock().follow(nsp)
    }

    /// Calls `then` with the position up to which the journal is applied. No journal event is
    /// applied during the call.
    pub(crate) fn between<T>(&self, then: impl FnOnce(Option<Position>) -> T) -> T {
        let applied = self.applied.lock();
        // The journal's position may still precede the last applied event. It is ahead of it if the
        // journal skipped entries for other servers.
        let delivered = self.journal.as_ref().and_then(|journal| journal.position());
        then(applied.last.max(delivered))
    }

    /// Records that an operation was not given to the adapter because its journal is unreachable.
    pub(crate) fn unreached(&self) -> AdapterError {
        let error = AdapterError::Timeout;
        self.note(&Err(error.clone()));
        error
    }

    pub(crate) fn task(&self) -> Option<BoxFuture<()>> {
        self.adapter.task()
    }

    pub(crate) fn health(&self) -> Health {
        self.adapter.health()
    }

    pub(crate) fn backlog(&self) -> Backlog {
        self.adapter.backlog()
    }

    pub(crate) fn adapter_gaps(&self) -> Missed {
        self.registry.gaps()
    }

    pub(crate) async fn close(&self) {
        self.registry.close(|| self.send_quietly(nodes::bye()));
        self.adapter.close().await;
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the number of servers whose envelopes are deduplicated, and the bytes for that.
    pub(crate) fn deduplication(&self) -> (usize, usize) {
        self.seen.lock().size()
    }

    /// Returns the number of rooms that the adapter considers open.
    pub(crate) fn opened_rooms(&self) -> usize {
        self.followed.rooms()
    }

    /// Returns the time limit for requests that have no time limit of their own.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns whether it is certain that no other server is listening.
    #[inline]
    pub(crate) fn has_no_peers(&self) -> bool {
        self.adapter.has_no_peers()
    }

    /// Sends an operation to the other servers.
    pub(crate) fn publish(&self, publication: Publication) -> Result<(), AdapterError> {
        let published = self
            .adapter
            .publish(self.seal(Message::Publication(publication)));
        self.note(&published);
        published
    }

    /// Sends an operation to the other servers and returns a request that waits for their replies.
    /// The servers that are members now must answer. Returns `None` if too many requests are
    /// pending.
    pub(crate) fn send_request(
        self: &Arc<Self>,
        mut publication: Publication,
        timeout: Duration,
    ) -> Option<Result<Request, AdapterError>> {
        // The slot is reserved before the request is sent, because a reply may arrive while
        // `publish` is still running. If publishing fails, the request is dropped, which releases
        // the slot.
        let mut request = self.requests.open(timeout)?;
        publication.request = Some(request.number());
        let namespace = publication.namespace.clone();
        let members = self.members(&namespace);
        Some(self.publish(publication).map(|()| {
            let joined = Arc::clone(self);
            request.expect(members, Box::new(move || joined.members(&namespace)));
            request
        }))
    }

    /// Requests the other servers in a namespace.
    fn members(&self, namespace: &Nsp) -> BoxFuture<Result<Servers, AdapterError>> {
        let members = self.adapter.servers(namespace.as_str());
        let node = self.node.clone();
        Box::pin(async move {
            let mut members = members.await?;
            if let Servers::Known(nodes) = &mut members {
                nodes.retain(|member| *member != node);
            }
            Ok(members)
        })
    }

    /// Sends a reply to a request of another server.
    pub(crate) fn reply(&self, to: &NodeId, request: u64, total: Option<u32>, item: Option<Item>) {
        let reply = Reply::new(to.clone(), request, total, item);
        let replied = self.adapter.reply(to, self.seal(Message::Reply(reply)));
        if matches!(replied, Err(AdapterError::TooLarge)) {
            crate::throttled_log!(warn, %to, "a reply to another server is too large, it is not sent");
        }
        self.note(&replied);
    }

    fn seal(&self, message: Message) -> Envelope {
        // The number must only be unique, so relaxed ordering suffices. The adapter's queue defines
        // the order, and receivers accept numbers in any order.
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        Envelope::new(self.node.clone(), Some(number), message)
    }

    fn note(&self, sent: &Result<(), AdapterError>) {
        match sent {
            Ok(()) => {
                self.metrics.count(Counter::ClusterSent);
                // Two tasks may both observe the end of a failure. This only costs an additional
                // log line.
                if self.is_failing.load(Ordering::Relaxed) {
                    self.is_failing.store(false, Ordering::Relaxed);
                    crate::throttled_log!(
                        info,
                        "the adapter accepts messages for other servers again"
                    );
                }
            }
            // The adapter still works. Only this message is too large, and its sender gets an
            // error.
            Err(AdapterError::TooLarge) => self.metrics.count(Counter::ClusterUnsent),
            Err(error) => {
                self.metrics.count(Counter::ClusterUnsent);
                // Logs one line per failure, however long it lasts.
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    crate::throttled_log!(warn, %error, "the adapter does not accept messages for other servers");
                }
            }
        }
    }

    /// Counts a message that cannot be opened.
    fn note_unopened(&self, why: Unopened) {
        self.metrics.count(match why {
            Unopened::Plain => Counter::ClusterPlain,
            Unopened::UnknownKey => Counter::ClusterUnknownKey,
            Unopened::Forged => Counter::ClusterForged,
            Unopened::Replayed => Counter::ClusterReplayed,
            Unopened::Stale => Counter::ClusterStale,
        });
        if let Some(messages) = self.unopened.add(1) {
            let causes = match why {
                Unopened::Stale => {
                    "the clocks of servers and broker differ by more than 60 s, or the messages are old"
                }
                Unopened::Plain | Unopened::UnknownKey | Unopened::Forged | Unopened::Replayed => {
                    "the messages are forged, or come from servers with another adapter.secret"
                }
            };
            tracing::warn!(
                %why,
                messages,
                causes,
                "ignored messages of the broker that could not be opened"
            );
        }
    }
}

impl Deliver for Joined {
    fn deliver(self: Arc<Self>, envelope: Envelope) {
        let Envelope {
            node,
            number,
            message,
            was_sealed,
        } = envelope;
        let position = match &message {
            Message::Publication(publication) => publication.position,
            Message::Reply(_) => None,
        };
        // This server applied its own operations when it sent them. Operations that pass through
        // the journal are only applied here, because the journal defines their order among the
        // operations of other servers.
        if node == self.node && position.is_none() {
            return;
        }
        if let Message::Reply(reply) = &message
            && reply.to != self.node
        {
            return;
        }
        if number.is_some_and(|number| !self.seen.lock().is_new(&node, number)) {
            return self.metrics.count(Counter::ClusterRepeated);
        }
        if let Message::Publication(publication) = &message
            && publication.namespace == *nodes::NAMESPACE
        {
            let processed = match (&publication.kind, publication.request) {
                (Kind::ServerSideWithAck { event, args }, Some(request))
                    if **event == *nodes::TAKE =>
                {
                    let handover = HandoverRequest::read(args);
                    handover.map(|handover| {
                        self.receiver
                            .handover_requested(&self, &node, request, handover)
                    })
                }
                (kind, _) => self.receive_heartbeat(&node, kind, was_sealed),
            };
            if let Err(error) = processed {
                self.ignore(&error);
            }
            return;
        }
        self.metrics.count(Counter::ClusterReceived);
        match message {
            Message::Publication(publication) if position.is_some() && self.journal.is_some() => {
                // The lock is held until the event is applied. `between` therefore admits a client
                // either before or after the event, and never in the middle.
                let mut applied = self.applied.lock();
                applied.pass(&publication);
                self.receiver.receive(&self, &node, publication);
            }
            Message::Publication(publication) => self.receiver.receive(&self, &node, publication),
            Message::Reply(reply) => {
                if !self.requests.settle(node, reply) {
                    self.metrics.count(Counter::ClusterRepliesUnknown);
                }
            }
        }
    }

    fn recovers(&self) -> bool {
        self.journal.is_some()
    }

    #[cfg(feature = "nats")]
    fn lease(&self) -> Duration {
        self.registry.lease()
    }

    fn deliver_here(self: Arc<Self>, publication: Publication) {
        let node = self.node.clone();
        self.receiver.receive(&self, &node, publication);
    }

    fn ignore(&self, error: &WireError) {
        let counter = match error {
            WireError::UnknownVersion(_) | WireError::UnknownKind => Counter::ClusterUnknown,
            WireError::TooLarge | WireError::Malformed(_) | WireError::Encode(_) => {
                Counter::ClusterMalformed
            }
            WireError::Unopened(why) => return self.note_unopened(*why),
        };
        self.metrics.count(counter);
        tracing::debug!(%error, "dropped an envelope of another server that could not be decoded");
    }

    fn lost(&self, envelopes: u64) {
        self.metrics.add(Counter::ClusterLost, envelopes);
        self.registry.note_lost(envelopes);
        self.notice_gap();
    }

    fn report_gap(&self) {
        self.registry.restart_lease();
        self.registry.note_missed();
        self.notice_gap();
        // No lock is held here, so the namespaces are updated before the adapter reports that it is
        // ready.
        self.mark_gaps();
    }

    fn left(&self, node: &NodeId) {
        self.requests.leaving(node);
        match self.registry.forget(node) {
            Some(node) => {
                crate::throttled_log!(info, node = %node.id, name = %node.name, "a server has left the cluster");
                self.forget(&node);
            }
            None => self.seen.lock().forget(node),
        }
    }

    fn rooms(&self, namespace: &str) -> Vec<Room> {
        self.receiver.rooms(namespace)
    }

    #[cfg(feature = "redis")]
    fn has_no_recipient(
        &self,
        namespace: &Nsp,
        rooms: &[Room],
        position: Option<Position>,
    ) -> bool {
        // The lock prevents that a client is admitted now and misses the event. Either the client
        // is already a member, or it reads the event from the journal.
        let mut applied = self.applied.lock();
        if applied.is_followed(namespace) || self.receiver.reaches(namespace, rooms) {
            return false;
        }
        applied.last = applied.last.max(position);
        drop(applied);
        self.metrics.count(Counter::ClusterSkipped);
        true
    }
}

/// The interval between log lines about messages that cannot be opened.
const UNOPENED_LINES: Duration = Duration::from_secs(10);

impl fmt::Debug for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Joined")
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}
