//! Handover of clients between servers without a journal.
//!
//! The server that has the client hands it over once, and the requesting server admits it. The
//! library alone cannot guarantee that no event is missing between those of the old and the new
//! server. Therefore it hands over a client only if the application opts in; see
//! `Builder::handover`.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use roomcast_protocol::{
    Frame,
    socket::{Args, Nsp, Parser},
};
use serde_json::value::{RawValue, to_raw_value};
use tokio::time::Duration;

use super::claiming::Claim;
use crate::{
    Principal,
    adapter::{
        HandoverId, HandoverRequest, HandoverState, Item, Joined, MissedEvent, NodeId, SavedState,
    },
    metrics::Counter,
    socket::{
        core::{Io, RecoveryTable, Socket, namespace},
        recovery::{LastOffset, Numbered, Offer, Pid, Recoverable, Tag},
        types::{Shared, SocketId, args},
    },
};

/// A client that another server handed over, with its missed events.
pub(crate) struct IncomingClient {
    pid: Pid,
    /// The offset in the client's offer.
    last: Option<LastOffset>,
    /// This server's request.
    request_id: HandoverId,
    state: HandoverState,
}

/// The result of requesting a client from other servers.
pub(super) enum HandoverLookup {
    IncomingClient(Box<IncomingClient>),
    /// All servers answered, and none has the client.
    Unknown,
    /// No server was queried, an answer is missing, or the client cannot be recovered.
    Nothing,
}

impl RecoveryTable {
    /// Returns whether this server has the client, even if another server may also have it.
    pub(crate) fn has(&self, request: &HandoverRequest) -> bool {
        let offer = Offer::read(&request.pid, request.offset());
        offer.is_some_and(|offer| self.find(offer.pid, Socket::upgrade).is_some())
    }

    /// Hands a client over to the requesting server, permanently.
    ///
    /// A delayed request that another server has already answered does not take the client away.
    pub(crate) async fn give(
        self: &Arc<Self>,
        request: &HandoverRequest,
        request_id: &HandoverId,
        io: &Io,
    ) -> Option<HandoverState> {
        let handover = io.handover()?;
        let offer = Offer::read(&request.pid, request.offset())?;
        let nsp = Nsp::from(request.namespace.as_str());
        let is_open = |socket: &Socket| !socket.answered().contains(request_id);
        let claim = self.claim_if(offer, &nsp, is_open).await?;
        claim.give(|socket, known| {
            let joined = Arc::clone(socket.namespace_inner().cluster.joined()?);
            // The application removes the socket from the rooms whose position it reports. So the
            // stored events of these rooms end at that position.
            let arrival = handover(socket)?;
            let frames = socket.outbox().all_after(known)?;
            let parser = io.config().sockets.parser;
            let missed = frames.iter().map(|frame| event_of(parser, frame));
            let missed = missed.collect::<Option<_>>()?;
            let saved = socket.saved_state(&joined)?;
            // The JSON format of the handover cannot carry binary data.
            if saved.data.has_binary() {
                return None;
            }
            let principal = socket.principal();
            Some(HandoverState {
                saved,
                name: principal.name.clone(),
                expires_at: principal.expires_at,
                missed,
                arrival,
                answered: socket.answered().to_vec(),
            })
        })
    }
}

impl IncomingClient {
    /// Requests a client from the other servers, if `may_query` allows it.
    pub(super) async fn fetch(
        joined: &Arc<Joined>,
        offer: Offer,
        nsp: &Nsp,
        io: &Io,
        time_limit: Duration,
        may_query: impl FnOnce() -> bool,
    ) -> HandoverLookup {
        let own = offer
            .last
            .map(|last| last.own.filter(|own| own.tag.is_some()));
        if io.handover().is_none() || own == Some(None) {
            return HandoverLookup::Nothing;
        }
        // A client without an offset may come from any server.
        let own = own.flatten();
        // All servers are queried, because the client may have moved on without receiving an event.
        // It may then offer an offset of this server, which no longer has the client. An offset of
        // an unknown server causes no request.
        let is_of = |node: &NodeId| own.is_none_or(|own| Tag::of(node.as_str()) == own.tag);
        let is_known = |node: &NodeId| is_of(joined.node()) || is_of(node);
        if !joined.registry().has(is_known) || !may_query() {
            return HandoverLookup::Nothing;
        }
        let handover = HandoverRequest {
            pid: offer.pid.as_str().to_owned(),
            offset: own.map_or_else(String::new, |own| own.to_string()),
            namespace: nsp.as_str().to_owned(),
        };
        let publication = handover.publication();
        let request =
            publication.and_then(|publication| joined.send_request(publication, time_limit));
        let Some(Ok(mut request)) = request else {
            return HandoverLookup::Nothing;
        };
        let request_id = HandoverId {
            node: joined.node().clone(),
            request: request.number(),
        };
        let mut is_held = false;
        while let Some((_, item)) = request.next().await {
            let Item::Answer(answer) = item else {
                continue;
            };
            let Some(state) = HandoverState::read(&answer) else {
                // The server has the client, but does not hand it over now.
                is_held = true;
                continue;
            };
            if !state.is_of(offer.pid, nsp) {
                return HandoverLookup::Nothing;
            }
            return HandoverLookup::IncomingClient(Box::new(Self {
                pid: offer.pid,
                last: offer.last,
                request_id,
                state,
            }));
        }
        // A server that did not answer may have the client.
        if request.missing().is_empty() && !is_held {
            HandoverLookup::Unknown
        } else {
            HandoverLookup::Nothing
        }
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn saved(&self) -> &SavedState {
        &self.state.saved
    }

    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        let principal = self.state.saved.principal()?;
        Some(Arc::new(Principal {
            name: self.state.name.clone(),
            expires_at: self.state.expires_at,
            ..Principal::clone(&principal)
        }))
    }

    /// Restores the client's socket. Returns `None` if that is not possible.
    pub(super) fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        let HandoverState {
            saved,
            missed,
            arrival,
            mut answered,
            ..
        } = self.state;
        let limits = namespace.channel.as_ref()?.limits();
        // All events after this number are new to the client.
        let (floor, _) = namespace.stamp(None)?;
        let frames = missed.iter().map(|event| namespace.frame_of_missed(event));
        let frames: Vec<Frame> = frames.collect::<Option<_>>()?;
        let bytes: usize = frames.iter().map(Frame::len).sum();
        if frames.len() > limits.messages || bytes > limits.bytes {
            return None;
        }
        let origin = (self.last, floor.number);
        answered.push(self.request_id);
        let excess = answered.len().saturating_sub(MAX_ANSWERED_REQUESTS);
        answered.drain(..excess);
        let recoverable = Recoverable::handed_over(self.pid, origin, arrival, answered);
        let socket = make(saved.sid.clone(), recoverable);
        socket.set_data(Shared(saved.data.clone()));
        namespace.admit(&socket, &frames).ok()?;
        saved.join_all(&socket);
        Some(socket)
    }
}

impl HandoverState {
    fn is_of(&self, pid: Pid, nsp: &Nsp) -> bool {
        let origin = self.saved.roomcast.as_ref();
        self.saved.pid == pid.as_str()
            && origin.is_some_and(|origin| origin.namespace == nsp.as_str())
    }
}

impl Socket {
    /// Returns the requests with which previous servers obtained the client.
    fn answered(&self) -> &[HandoverId] {
        self.recoverable().map_or(&[], Recoverable::answered)
    }
}

impl SavedState {
    /// Returns the user of the client, or `None` if unknown.
    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        let origin = self.roomcast.clone()?;
        let mut principal = Principal::new(origin.subject);
        principal.roles = origin.roles;
        principal.guest = origin.guest;
        Some(Arc::new(principal))
    }

    /// Adds a socket to its saved rooms.
    pub(super) fn join_all(&self, socket: &Socket) {
        let own = socket.id();
        let rooms = self.rooms.iter();
        for room in rooms.filter(|room| room.as_str() != own.as_str()) {
            if let Err(error) = socket.join(room) {
                crate::throttled_log!(warn, socket = %own, %error, "socket could not join a room");
            }
        }
    }
}

impl Claim {
    /// Ends the socket after `take` has extracted its state for another server. The client does not
    /// recover this socket, whatever `take` returns.
    fn give<T>(
        mut self,
        take: impl FnOnce(&Socket, roomcast_protocol::Stamp) -> Option<T>,
    ) -> Option<T> {
        let (known, socket) = self.take_own()?;
        // After a panic of the application, the socket must still leave its rooms, and the other
        // server must receive an answer.
        let taken = catch_unwind(AssertUnwindSafe(|| take(&socket, known)));
        socket.end_for_good();
        taken.unwrap_or_else(|_| {
            socket.metrics().count(Counter::HandlerPanics);
            crate::throttled_log!(error, socket = %socket.id(), "the handover handler panicked, the client starts a new session");
            None
        })
    }
}

impl namespace::NamespaceInner {
    /// Encodes an event that a client missed on another server. Returns `None` if it cannot be
    /// encoded.
    fn frame_of_missed(&self, missed: &MissedEvent) -> Option<Frame> {
        let list = missed.args.get().to_owned();
        let args = Args::document(Parser::Json, list.into()).ok()?.items(0)?;
        let (stamp, place) = self.stamp(None)?;
        let parser = self.config().sockets.parser;
        let args = Numbered::new(&args, place);
        let frame = parser.event(self.name.as_str(), None, &missed.event, &args);
        Some(frame.ok()?.with_stamp(stamp))
    }
}

/// Decodes the event in a frame of this server, without its offset, which is the last argument.
/// Returns `None` for binary data.
fn event_of(parser: Parser, frame: &Frame) -> Option<MissedEvent> {
    let (event, args) = args::event(parser, frame).ok()?;
    let values = args.to_values().ok()?;
    let (_, values) = values.split_last()?;
    let values = values.iter().map(|value| value.to_json());
    let values: Vec<serde_json::Value> = values.collect::<Option<_>>()?;
    let args: Box<RawValue> = to_raw_value(&values).ok()?;
    Some(MissedEvent { event, args })
}

/// Number of handover requests to remember per client. A request delayed by more moves than this
/// has already timed out.
const MAX_ANSWERED_REQUESTS: usize = 16;
