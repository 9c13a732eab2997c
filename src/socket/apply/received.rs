//! Applies operations that other servers published.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Waker},
};

use futures_util::{FutureExt as _, future::BoxFuture};
#[cfg(feature = "redis")]
use roomcast_protocol::socket::Nsp;
use roomcast_protocol::socket::{Args, Parser};
use tokio::runtime::Handle;

use super::{Outcome, Record, RemoteOutcome, act};
use crate::{
    adapter::{
        Delivery, HandoverId, HandoverRequest, HandoverState, Item, Joined, Kind, Node, NodeId,
        Publication, Receiver,
    },
    metrics::Counter,
    socket::{
        core::{Io, Lifecycle, Namespace, ServerSide, Socket, WeakIo},
        sending::{Acks, stream},
        types::{AckError, AckOutcome, Reply, Room, args},
    },
};

/// Applies operations of other servers to the sockets of this server. Does not keep the server
/// alive.
pub(crate) struct Applier {
    io: WeakIo,
    /// The number of handlers that run for other servers.
    serving: Arc<AtomicUsize>,
}

/// The server that sent a request, and how to answer it.
#[derive(Clone)]
struct RemoteRequester {
    cluster: Arc<Joined>,
    node: NodeId,
    request: u64,
}

impl RemoteRequester {
    fn announce(&self, total: usize) {
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        self.cluster
            .reply(&self.node, self.request, Some(total), None);
    }

    fn send_item(&self, total: Option<u32>, item: Item) {
        self.cluster
            .reply(&self.node, self.request, total, Some(item));
    }
}

impl Applier {
    fn notify(&self, event: &Lifecycle<'_>) {
        if let Some(io) = self.io.upgrade() {
            let _runtime = io.enter_runtime();
            io.notify(event);
        }
    }

    pub(crate) fn new(io: &Io) -> Self {
        Self {
            io: io.downgrade(),
            serving: Arc::default(),
        }
    }
}

impl Receiver for Applier {
    fn receive(&self, cluster: &Arc<Joined>, from: &NodeId, publication: Publication) {
        let Some(io) = self.io.upgrade() else {
            return;
        };
        let requester = publication.request.map(|request| RemoteRequester {
            cluster: Arc::clone(cluster),
            node: from.clone(),
            request,
        });
        // Handlers may spawn tasks, which belong to the server's runtime, not the adapter's.
        let _runtime = io.enter_runtime();
        let namespace = Namespace::new(io.clone(), publication.namespace.as_str());
        match &publication.kind {
            Kind::ServerSide { event, args } => self.serve(&namespace, event, args, None),
            Kind::ServerSideWithAck { event, args } => {
                self.serve(&namespace, event, args, requester)
            }
            Kind::Broadcast { .. }
            | Kind::BroadcastWithAck { .. }
            | Kind::Join(_)
            | Kind::Leave(_)
            | Kind::Disconnect { .. }
            | Kind::FetchSockets => apply(&namespace, &publication, requester),
        }
    }

    fn rooms(&self, namespace: &str) -> Vec<Room> {
        let namespace = self.io.upgrade().map(|io| Namespace::new(io, namespace));
        let Some(inner) = namespace.and_then(|namespace| namespace.inner()) else {
            return Vec::new();
        };
        let joined = inner.rooms.sizes().into_iter().map(|(room, _)| room);
        let own = inner.all_sockets();
        let own = own.iter().map(|socket| Room::from(socket.id().as_str()));
        joined.chain(own).collect()
    }

    #[cfg(feature = "redis")]
    fn reaches(&self, namespace: &Nsp, rooms: &[Room]) -> bool {
        let namespace = self
            .io
            .upgrade()
            .map(|io| Namespace::new(io, namespace.as_str()));
        let inner = namespace.and_then(|namespace| namespace.inner());
        inner.is_some_and(|inner| inner.has_any(rooms))
    }

    fn missed(&self) {
        if let Some(io) = self.io.upgrade() {
            io.mark_gap();
        }
    }

    fn node_joined(&self, node: &Node) {
        self.notify(&Lifecycle::NodeJoined { node });
    }

    fn value_changed(&self, key: &str) {
        if let Some(Ok(values)) = self.io.upgrade().map(|io| io.values()) {
            values.notify_watchers(key);
        }
    }

    fn handover_requested(
        &self,
        cluster: &Arc<Joined>,
        from: &NodeId,
        request: u64,
        handover: HandoverRequest,
    ) {
        let requester = RemoteRequester {
            cluster: Arc::clone(cluster),
            node: from.clone(),
            request,
        };
        let node = from.clone();
        let id = HandoverId { node, request };
        let Some(io) = self.io.upgrade() else {
            return;
        };
        let _runtime = io.enter_runtime();
        let table = io.recovery_table().filter(|_| io.handover().is_some());
        let Some(table) = table.cloned() else {
            return requester.announce(0);
        };
        if self.is_busy(&io) {
            return requester.send_item(Some(1), Item::Answer(HandoverState::withheld()));
        }
        let serving = Serving::new(&self.serving);
        let io = io.clone();
        spawn(Box::pin(async move {
            let _serving = serving;
            // A server that shuts down does not leave before it has answered.
            let _answering = table.begin_request();
            let has_client = || table.has(&handover);
            let state = table.give(&handover, &id, &io).await;
            match state.and_then(|state| state.answer()) {
                Some(answer) => requester.send_item(Some(1), Item::Answer(answer)),
                None if has_client() => {
                    requester.send_item(Some(1), Item::Answer(HandoverState::withheld()))
                }
                None => requester.announce(0),
            }
        }));
    }

    fn node_left(&self, node: &Node) {
        self.notify(&Lifecycle::NodeLeft { node });
    }
}

fn apply(namespace: &Namespace, publication: &Publication, requester: Option<RemoteRequester>) {
    let outcome = namespace.inner().map(|inner| {
        let rooms = publication.audience();
        let except = publication.excepted();
        // Every server numbers streams differently, so servers exchange the names of streams.
        let number = |delivery: &Delivery| stream(&inner.name, delivery);
        let operation = publication.operation(&rooms, &except, number);
        act(&inner, &operation, |_| RemoteOutcome::None).local
    });
    let Some(requester) = requester else {
        return;
    };
    match outcome {
        Some(Outcome::AckRequest(Ok((request, recipients)))) => {
            requester.announce(recipients);
            if recipients > 0 {
                spawn(
                    forward_acks(
                        Acks::requested(Some((request, recipients)), None),
                        requester,
                    )
                    .boxed(),
                );
            }
        }
        Some(Outcome::Sockets(sockets)) => {
            let parts = sockets.len().div_ceil(SOCKETS);
            requester.announce(parts);
            if parts > 0 {
                spawn(send_sockets(sockets, requester).boxed());
            }
        }
        // The namespace does not exist on this server, too many requests are open, or the operation
        // is not a request.
        None | Some(Outcome::AckRequest(Err(_)) | Outcome::Nothing | Outcome::Emitted(_)) => {
            requester.announce(0);
        }
    }
}

/// Sends descriptions of sockets in parts, and yields to other tasks between parts.
async fn send_sockets(sockets: Vec<Socket>, requester: RemoteRequester) {
    for part in sockets.chunks(SOCKETS) {
        let records: Vec<_> = part.iter().map(Record::of).collect();
        match Record::list(&records) {
            Ok(list) => requester.send_item(None, Item::Sockets(list)),
            Err(error) => {
                crate::throttled_log!(error, %error, "could not encode a socket list for another server");
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Forwards the answers of clients to the requesting server. Late answers are not reported, because
/// that server knows the deadline.
async fn forward_acks(mut acks: Acks<Args>, requester: RemoteRequester) {
    while let Some((socket, answer)) = acks.next().await {
        let args = match answer {
            Ok(args) => Some(args),
            Err(AckError::Disconnected) => None,
            Err(_) => continue,
        };
        requester.send_item(None, Item::Acknowledgement { socket, args });
    }
}

impl Applier {
    /// Returns whether the limit of concurrent work for other servers is reached, and counts that.
    fn is_busy(&self, io: &Io) -> bool {
        // Asynchronous work needs a runtime. Concurrent calls may exceed the limit slightly.
        let is_busy =
            self.serving.load(Ordering::Relaxed) >= MAX_SERVING || Handle::try_current().is_err();
        if is_busy {
            io.metrics().count(Counter::ClusterRequestsRefused);
        }
        is_busy
    }

    /// Calls the handler of a server-side event. Handlers start in event order.
    fn serve(
        &self,
        namespace: &Namespace,
        event: &str,
        args: &Args,
        requester: Option<RemoteRequester>,
    ) {
        let inner = namespace.inner();
        let known = inner.filter(|inner| inner.handlers.server_side(event).is_some());
        let metrics = namespace.io().metrics();
        let is_busy = || self.is_busy(namespace.io());
        let Some(inner) = known.filter(|_| !is_busy()) else {
            if let Some(requester) = requester {
                requester.announce(0);
            }
            return;
        };
        let serving = Serving::new(&self.serving);
        let reply = Reply {
            parser: Parser::Json,
            nsp: inner.name.clone(),
            id: requester.is_some().then_some(0),
        };
        let received = ServerSide {
            namespace: namespace.clone(),
            args: args.clone(),
        };
        let event = event.to_owned();
        let metrics = Arc::clone(metrics);
        let mut handling: BoxFuture<'static, ()> = Box::pin(async move {
            let _serving = serving;
            let handling = async {
                let handler = inner.handlers.server_side(&event)?;
                Some(handler(received, reply).await)
            };
            let answered = AssertUnwindSafe(handling).catch_unwind().await;
            let answer = match answered.map(|answer| answer.map(|answer| answer.outcome)) {
                Ok(Some(AckOutcome::Frame(frame))) => args::read(Parser::Json, &frame).ok(),
                Ok(Some(AckOutcome::Nothing | AckOutcome::Refused(_)) | None) => None,
                Err(_) => {
                    metrics.count(Counter::HandlerPanics);
                    crate::throttled_log!(error, event, "a server-side event handler panicked");
                    None
                }
            };
            match (requester, answer) {
                (Some(requester), Some(args)) => requester.send_item(Some(1), Item::Answer(args)),
                (Some(requester), None) => requester.announce(0),
                (None, _) => {}
            }
        });
        // The handler is polled immediately, so that it starts before the handler of the next
        // event. The spawned task polls it again.
        let mut cx = Context::from_waker(Waker::noop());
        if handling.as_mut().poll(&mut cx).is_pending() {
            spawn(handling);
        }
    }
}

/// Counts one running handler until it is dropped.
struct Serving(Arc<AtomicUsize>);

impl Serving {
    fn new(all: &Arc<AtomicUsize>) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(all))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Spawns a task on the entered runtime of the server, or else on the adapter's runtime. The task
/// is boxed, so that the spawning code is compiled once.
fn spawn(task: BoxFuture<'static, ()>) {
    match Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn(task)),
        Err(_) => crate::throttled_log!(
            error,
            "no Tokio runtime available, a request of another server stays unanswered"
        ),
    }
}

/// Sockets per part of a list. A part has at most a few hundred KiB.
const SOCKETS: usize = 100;
/// Maximum number of concurrent handlers for other servers.
const MAX_SERVING: usize = 1024;
