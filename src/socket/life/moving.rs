//! A client goes from one server to another without a journal: the server that has it gives it away once, and the one that
//! has asked lets it in.
//!
//! The library alone cannot promise that nothing is missing between what the old server has sent and what the new one
//! sends. So it gives a client away only where the application says that it knows the way: see `Builder::handover`.

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
    adapter::{Given, Item, Joined, MissedEvent, NodeId, Question, SavedState, Wanted},
    metrics::Counter,
    socket::{
        core::{Io, RecoveryTable, Socket, namespace},
        recovery::{Numbered, Offer, Offset, Pid, Recoverable, Tag},
        types::{Shared, SocketId, args},
    },
};

/// A client that another server has given away, with what it has missed there.
pub(crate) struct Moved {
    pid: Pid,
    /// What the client has offered.
    last: Offset,
    /// How this server has asked for it.
    question: Question,
    given: Given,
}

/// What came of asking the other servers for a client.
pub(super) enum Fetched {
    Moved(Box<Moved>),
    /// All have answered, and none has the client.
    Unknown,
    /// The others were not asked, or not all have answered, or the client cannot go on.
    Nothing,
}

impl RecoveryTable {
    /// Returns whether this server has the client, whether or not another server may have it.
    pub(crate) fn has(&self, wanted: &Wanted) -> bool {
        let offer = Offer::read(&wanted.pid, &wanted.offset);
        offer.is_some_and(|offer| self.find(offer.pid, Socket::upgrade).is_some())
    }

    /// Gives a client away for good: to the server that asks for it here, and to nobody else. A question that another server
    /// has answered before the client came here is read late, and takes nobody away.
    pub(crate) async fn give(
        self: &Arc<Self>,
        wanted: &Wanted,
        question: &Question,
        io: &Io,
    ) -> Option<Given> {
        let handover = io.handover()?;
        let offer = Offer::read(&wanted.pid, &wanted.offset)?;
        let nsp = Nsp::from(wanted.namespace.as_str());
        let is_open = |socket: &Socket| !socket.answered().contains(question);
        let claim = self.claim_if(offer, &nsp, is_open).await?;
        claim.give(|socket, known| {
            let joined = Arc::clone(socket.namespace_inner().cluster.joined()?);
            // The application takes the socket out of the rooms for which it says where the client stands, so that what was
            // kept of them is what was sent up to there.
            let arrival = handover(socket)?;
            let frames = socket.outbox().all_after(known)?;
            let parser = io.config().sockets.parser;
            let missed = frames.iter().map(|frame| event_of(parser, frame));
            let missed = missed.collect::<Option<_>>()?;
            let saved = socket.saved_state(&joined)?;
            // JSON has no place for it.
            if saved.data.has_binary() {
                return None;
            }
            let principal = socket.principal();
            Some(Given {
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

impl Moved {
    /// Asks the other servers for a client that was on one of them, if they `may_ask` be asked.
    pub(super) async fn fetch(
        joined: &Arc<Joined>,
        offer: Offer,
        nsp: &Nsp,
        io: &Io,
        patience: Duration,
        may_ask: impl FnOnce() -> bool,
    ) -> Fetched {
        let (Some(_), Some(last)) = (io.handover(), offer.last.own) else {
            return Fetched::Nothing;
        };
        let Some(tag) = last.tag else {
            return Fetched::Nothing;
        };
        // All are asked, because the client may have gone on at another one without getting an event there: also about an
        // offset of this server, which does not have the client. An offset of a server that nobody knows costs no question.
        let is_own = Tag::of(joined.node().as_str()) == Some(tag);
        let is_known = |node: &NodeId| is_own || Tag::of(node.as_str()) == Some(tag);
        if !joined.registry().has(is_known) || !may_ask() {
            return Fetched::Nothing;
        }
        let wanted = Wanted {
            pid: offer.pid.as_str().to_owned(),
            offset: last.to_string(),
            namespace: nsp.as_str().to_owned(),
        };
        let publication = wanted.publication();
        let request = publication.and_then(|publication| joined.ask(publication, patience));
        let Some(Ok(mut request)) = request else {
            return Fetched::Nothing;
        };
        let question = Question {
            node: joined.node().clone(),
            request: request.number(),
        };
        let mut is_held = false;
        while let Some((_, item)) = request.next().await {
            let Item::Answer(answer) = item else {
                continue;
            };
            let Some(given) = Given::read(&answer) else {
                // The server has the client and keeps it for now.
                is_held = true;
                continue;
            };
            if !given.is_of(offer.pid, nsp) {
                return Fetched::Nothing;
            }
            return Fetched::Moved(Box::new(Self {
                pid: offer.pid,
                last,
                question,
                given,
            }));
        }
        // A server that has not answered may have the client.
        if request.missing().is_empty() && !is_held {
            Fetched::Unknown
        } else {
            Fetched::Nothing
        }
    }

    pub(super) const fn pid(&self) -> Pid {
        self.pid
    }

    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        let principal = self.given.saved.principal()?;
        Some(Arc::new(Principal {
            name: self.given.name.clone(),
            expires_at: self.given.expires_at,
            ..Principal::clone(&principal)
        }))
    }

    /// Lets the client in as the socket that it was; `None` if that cannot be.
    pub(super) fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        let Given {
            saved,
            missed,
            arrival,
            mut answered,
            ..
        } = self.given;
        let limits = namespace.channel.as_ref()?.limits();
        // Behind this number comes all that the client does not have.
        let (floor, _) = namespace.stamp(None)?;
        let frames = missed.iter().map(|event| namespace.frame_of_missed(event));
        let frames: Vec<Frame> = frames.collect::<Option<_>>()?;
        let bytes: usize = frames.iter().map(Frame::len).sum();
        if frames.len() > limits.messages || bytes > limits.bytes {
            return None;
        }
        let came = (self.last, floor.number);
        answered.push(self.question);
        let forgotten = answered.len().saturating_sub(QUESTIONS);
        answered.drain(..forgotten);
        let recoverable = Recoverable::given(self.pid, came, arrival, answered);
        let socket = make(saved.sid, recoverable);
        socket.set_data(Shared(saved.data.clone()));
        namespace.admit(&socket, &frames).ok()?;
        saved.join_all(&socket);
        Some(socket)
    }
}

impl Given {
    fn is_of(&self, pid: Pid, nsp: &Nsp) -> bool {
        let origin = self.saved.roomcast.as_ref();
        self.saved.pid == pid.as_str()
            && origin.is_some_and(|origin| origin.namespace == nsp.as_str())
    }
}

impl Socket {
    /// The questions of servers by which its client has come here.
    fn answered(&self) -> &[Question] {
        self.recoverable().map_or(&[], Recoverable::answered)
    }
}

impl SavedState {
    /// The user whose client it was; `None` if nobody knows.
    pub(super) fn principal(&self) -> Option<Arc<Principal>> {
        let origin = self.roomcast.clone()?;
        let mut principal = Principal::new(origin.subject);
        principal.roles = origin.roles;
        principal.guest = origin.guest;
        Some(Arc::new(principal))
    }

    /// Lets a socket into the rooms again.
    pub(super) fn join_all(&self, socket: &Socket) {
        let own = socket.id();
        let rooms = self.rooms.iter();
        for room in rooms.filter(|room| room.as_str() != own.as_str()) {
            if let Err(error) = socket.join(room) {
                crate::throttled_log!(warn, socket = %own, %error, "a socket cannot join");
            }
        }
    }
}

impl Claim {
    /// Takes out of the socket what its client needs on another server, and ends it. Whatever `take` says, the client does
    /// not come back to this socket.
    fn give<T>(
        mut self,
        take: impl FnOnce(&Socket, roomcast_protocol::Stamp) -> Option<T>,
    ) -> Option<T> {
        let (known, socket) = self.take_own()?;
        // A panic of the application must neither leave the socket in its rooms nor the other server without an answer.
        let taken = catch_unwind(AssertUnwindSafe(|| take(&socket, known)));
        socket.end_for_good();
        taken.unwrap_or_else(|_| {
            socket.metrics().count(Counter::HandlerPanics);
            crate::throttled_log!(error, socket = %socket.id(), "a handler that gives clients away has panicked");
            None
        })
    }
}

impl namespace::NamespaceInner {
    /// An event that a client has missed on another server, as the client gets it here; `None` if it cannot be written.
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

/// The event in a frame of this server without its offset, which is the last argument; `None` for one with binary in it.
fn event_of(parser: Parser, frame: &Frame) -> Option<MissedEvent> {
    let (event, args) = args::event(parser, frame).ok()?;
    let values = args.to_values().ok()?;
    let (_, values) = values.split_last()?;
    let values = values.iter().map(|value| value.to_json());
    let values: Vec<serde_json::Value> = values.collect::<Option<_>>()?;
    let args: Box<RawValue> = to_raw_value(&values).ok()?;
    Some(MissedEvent { event, args })
}

/// How many questions by which a client has come are known. A question that is read later than so many moves is older than
/// any server waits.
const QUESTIONS: usize = 16;
