//! Restores clients that were on another server, from the adapter's journal or by a handover.

use std::{collections::BTreeMap, sync::Arc};

use roomcast_protocol::{
    Frame,
    socket::{Nsp, Value},
};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::{
    Claim, Claimant,
    handover::{HandoverLookup, IncomingClient},
};
use crate::{
    Principal,
    adapter::{
        Delivery, Joined, Journal, JournalStart, Kind, Missed, Origin, Position, Publication,
        SavedState, Tail,
    },
    metrics::Counter,
    socket::{
        core::{Io, RecoveryTable, Socket, namespace},
        recovery::{LastOffset, Offer, Pid, Recoverable},
        types::{Room, Shared, SocketId},
    },
};

/// The state of a client that was on another server, with its missed events.
pub(crate) enum Restored {
    /// The state from the journal.
    JournaledState(Box<JournaledState>),
    /// The state that the other server handed over.
    IncomingClient(Box<IncomingClient>),
}

/// A client's state from a journal.
pub(crate) struct JournaledState {
    joined: Arc<Joined>,
    pid: Pid,
    /// The offset in the client's offer.
    last: Option<LastOffset>,
    saved: SavedState,
    missed: Missed,
    /// The events applied here since before the journal was read.
    tail: Arc<Tail>,
}

impl RecoveryTable {
    /// Claims a client's state, wherever it is stored. With a journal, the journal decides which
    /// server gets it, even if the state is here.
    pub(crate) async fn claim_anywhere(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        io: &Io,
        claimant: Claimant,
    ) -> Option<Claim> {
        let local = self.claim(offer, nsp).await;
        let Some(joined) = io.cluster().joined() else {
            return local;
        };
        let Some(journal) = joined.journal() else {
            if local.is_some() {
                return local;
            }
            let may_query = || self.may_query_peers(offer.pid, io, claimant);
            let moved =
                match IncomingClient::fetch(joined, offer, nsp, io, self.claim_timeout, may_query)
                    .await
                {
                    HandoverLookup::IncomingClient(moved) => moved,
                    HandoverLookup::Unknown => {
                        self.unknown.insert(offer.pid);
                        return None;
                    }
                    HandoverLookup::Nothing => return None,
                };
            return Some(Claim::restored(self, Restored::IncomingClient(moved)));
        };
        if !journal.is_up() {
            return local;
        }
        if local.is_none() && !self.may_query_peers(offer.pid, io, claimant) {
            return None;
        }
        // If the client disconnects during this wait, its state may be taken and dropped. It then
        // starts a new session.
        let deadline = Instant::now() + self.claim_timeout;
        let taking = timeout_at(deadline, journal.take(offer.pid.as_str()));
        let Ok(Ok(taken)) = taking.await else {
            // If the journal does not answer, no other server gets the state, so the local one is
            // used.
            return local;
        };
        let is_own = |saved: &SavedState| {
            let origin = saved.roomcast.as_ref();
            origin.is_some_and(|origin| origin.node == *joined.node())
        };
        match (local, taken) {
            (Some(local), Some(saved)) if is_own(&saved) => Some(local),
            (local, Some(saved)) => {
                if let Some(local) = local {
                    local.give_up();
                }
                // The client has been on another server since, so local state is outdated.
                self.expel(offer.pid);
                let state = JournaledState::read(joined, offer, nsp, saved, deadline).await?;
                Some(Claim::restored(
                    self,
                    Restored::JournaledState(Box::new(state)),
                ))
            }
            (Some(local), None) => {
                local.give_up();
                None
            }
            // Not recorded as unknown: another server may still store the state, if it has not
            // detected the broken connection yet.
            (None, None) => None,
        }
    }

    /// Returns whether other servers or the journal may be queried for a client that is unknown
    /// here. Each query causes work on all servers, and a client can invent any number of secrets.
    fn may_query_peers(&self, pid: Pid, io: &Io, claimant: Claimant) -> bool {
        let is_limited = || {
            let guard = io.guard();
            !claimant.may_look_up
                || guard.is_some_and(|guard| guard.look_up(claimant.address).is_err())
        };
        let counter = if self.unknown.contains(pid) {
            Counter::LookupsUnknown
        } else if is_limited() {
            Counter::LookupsLimited
        } else {
            Counter::LookupsStarted
        };
        self.metrics.count(counter);
        counter == Counter::LookupsStarted
    }
}

impl Restored {
    pub(crate) fn pid(&self) -> Pid {
        match self {
            Self::JournaledState(state) => state.pid,
            Self::IncomingClient(moved) => moved.pid(),
        }
    }

    /// Returns the rights of the user besides its roles.
    pub(crate) fn rights(&self) -> Option<String> {
        let saved = match self {
            Self::JournaledState(state) => &state.saved,
            Self::IncomingClient(moved) => moved.saved(),
        };
        saved.roomcast.as_ref()?.rights.clone()
    }

    /// Returns the user of the client, or `None` if unknown.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self {
            Self::JournaledState(state) => state.saved.principal(),
            Self::IncomingClient(moved) => moved.principal(),
        }
    }

    /// Stores the state again for the next claim, if it came from a journal.
    pub(crate) fn give_back(&self, window: Duration) {
        if let Self::JournaledState(state) = self
            && let Some(journal) = state.joined.journal()
        {
            journal.keep(&state.saved, window);
        }
    }

    /// Restores the client's socket. Returns `None` if that is not possible.
    pub(crate) fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        match self {
            Self::JournaledState(state) => state.resume(namespace, make),
            Self::IncomingClient(moved) => moved.resume(namespace, make),
        }
    }
}

impl JournaledState {
    async fn read(
        joined: &Arc<Joined>,
        offer: Offer,
        nsp: &Nsp,
        saved: SavedState,
        deadline: Instant,
    ) -> Option<Self> {
        let origin = saved.roomcast.as_ref();
        if saved.pid != offer.pid.as_str()
            || origin.is_some_and(|origin| origin.namespace != nsp.as_str())
        {
            return None;
        }
        let start = match offer.last {
            Some(last) => JournalStart::After(last.position?),
            None => origin?.start?,
        };
        // Applied events are recorded before the journal is read, so that no event is missed in
        // between.
        let tail = joined.follow(nsp);
        let reading = joined.journal()?.since(nsp, start);
        let missed = timeout_at(deadline, reading).await.ok()?.ok()??;
        // If this server lags behind the client's previous server, it would send events that the
        // client already has. So wait.
        while joined.between(|applied| applied < Some(start.position())) {
            timeout_at(deadline, sleep(LAG_CHECK_INTERVAL)).await.ok()?;
        }
        Some(Self {
            joined: Arc::clone(joined),
            pid: offer.pid,
            last: offer.last,
            saved,
            missed,
            tail,
        })
    }

    /// Restores the client's socket. Returns `None` if that is not possible.
    fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        let joined = Arc::clone(&self.joined);
        // The journal is paused in this closure. Events up to `applied` are among the frames, and
        // all later events reach the socket in the normal way.
        joined.between(|applied| {
            let frames = self.frames(namespace, applied?)?;
            let floor = match self.last {
                Some(last) => namespace.known(last)?.number,
                None => namespace.channel.as_ref()?.floor(),
            };
            let recoverable = Recoverable::from_elsewhere(self.pid, (self.last, floor));
            let socket = make(self.saved.sid.clone(), recoverable);
            socket.set_data(Shared(self.saved.data.clone()));
            namespace.admit(&socket, &frames).ok()?;
            self.saved.join_all(&socket);
            Some(socket)
        })
    }

    /// Returns the frames of the missed events that were applied here. Other events will reach the
    /// client in the normal way.
    fn frames(
        &self,
        namespace: &namespace::NamespaceInner,
        applied: Position,
    ) -> Option<Vec<Frame>> {
        let later = self.tail.events()?;
        let later = later
            .iter()
            .filter(|event| event.position.is_some_and(|at| at > self.missed.last));
        let events = self.missed.events.iter().chain(later);
        let events = events.filter(|event| event.position.is_some_and(|at| at <= applied));
        let limits = namespace.channel.as_ref()?.limits();
        let mut frames = Vec::new();
        let mut bytes = 0;
        for event in events.filter(|event| self.is_for(event)) {
            let frame = namespace.frame_of(event)?;
            bytes += frame.len();
            frames.push(frame);
            if frames.len() > limits.messages || bytes > limits.bytes {
                return None;
            }
        }
        Some(frames)
    }

    /// Returns whether the client would have received the event.
    fn is_for(&self, event: &Publication) -> bool {
        let is_in = |rooms: &[Room]| rooms.iter().any(|room| self.saved.rooms.contains(room));
        event.delivery == Delivery::Reliable
            && event.rooms.as_deref().is_none_or(is_in)
            && !is_in(&event.except)
    }
}

impl Socket {
    /// Saves the state of a disconnected client in the journal, if there is one. Saves it always if
    /// `is_new`, otherwise only if an entry exists.
    pub(crate) fn save_state(&self, is_new: bool) {
        let Some(table) = self.io().recovery_table() else {
            return;
        };
        let Some(joined) = self.namespace_inner().cluster.joined() else {
            return;
        };
        let Some(journal) = joined.journal() else {
            return;
        };
        if let Some(saved) = self.saved_state(joined) {
            if is_new {
                journal.keep(&saved, table.window);
            } else {
                journal.replace(&saved, table.window);
            }
        }
    }

    /// Returns the state of a client for other servers, or `None` if it cannot be recovered.
    pub(super) fn saved_state(&self, joined: &Joined) -> Option<SavedState> {
        let recoverable = self.recoverable()?;
        let start = joined.journal().and_then(|journal| self.start(&**journal));
        let mut rooms = vec![Room::from(self.id().as_str())];
        rooms.extend(self.rooms());
        let principal = self.principal();
        let authenticate = self.namespace_inner().handlers.authenticate.as_ref();
        let data = self.data::<Shared>();
        Some(SavedState {
            sid: self.id(),
            pid: recoverable.pid.as_str().to_owned(),
            rooms,
            data: data.map_or_else(|| Value::Object(BTreeMap::new()), |data| data.0.clone()),
            roomcast: Some(Origin {
                node: joined.node().clone(),
                namespace: self.nsp().to_owned(),
                subject: principal.subject.clone(),
                roles: principal.roles.clone(),
                guest: principal.guest,
                rights: authenticate.and_then(|authenticate| (authenticate.rights)(&principal)),
                start,
            }),
        })
    }

    /// Returns where the events begin that the client lacks if it has received none. Returns `None`
    /// if some of them are no longer retained.
    fn start(&self, journal: &dyn Journal) -> Option<JournalStart> {
        // The position is read first: if no event was sent afterwards, all up to it went to others.
        let position = journal.position();
        match self.outbox().first_after(self.known_from(None)?)? {
            Some(first) => Some(JournalStart::At(Position::unpack(first.number))),
            None => position.map(JournalStart::After),
        }
    }

    /// Removes the saved state, so that no other server can restore the client.
    pub(crate) fn forget_saved_state(&self) {
        if let Some(recoverable) = self.recoverable()
            && let Some(joined) = self.namespace_inner().cluster.joined()
            && let Some(journal) = joined.journal()
        {
            journal.forget(recoverable.pid.as_str());
        }
    }
}

impl namespace::NamespaceInner {
    /// Encodes an event of the journal for clients. Returns `None` if it cannot be encoded.
    fn frame_of(&self, event: &Publication) -> Option<Frame> {
        let Kind::Broadcast { event: name, args } = &event.kind else {
            return None;
        };
        let (stamp, place) = self.stamp(event.position)?;
        let parser = self.config().sockets.parser;
        let args = crate::socket::recovery::Numbered::new(args, place);
        let frame = parser.event(self.name.as_str(), None, name, &args).ok()?;
        Some(frame.with_stamp(stamp))
    }
}

/// Interval at which a lagging server checks its position.
const LAG_CHECK_INTERVAL: Duration = Duration::from_millis(5);
