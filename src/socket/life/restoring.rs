//! Going on with the state of a client that was on another server, which has kept it in the journal of the adapter or
//! gives it away.

use std::{collections::BTreeMap, fmt, sync::Arc};

use roomcast_protocol::{
    Frame,
    socket::{Nsp, Value},
};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::{
    Asker, Claim,
    moving::{Fetched, Moved},
};
use crate::{
    Principal,
    adapter::{Delivery, Joined, Kind, Missed, Origin, Position, Publication, SavedState, Tail},
    metrics::Counter,
    socket::{
        core::{Io, RecoveryTable, Socket, namespace},
        recovery::{Offer, Pid, Recoverable},
        types::{Room, Shared, SocketId},
    },
};

/// The state of a client that was on another server, and what the client has missed.
pub(crate) enum Restored {
    /// From the journal.
    Kept(Box<Kept>),
    /// From that server.
    Moved(Box<Moved>),
}

/// What a journal had of a client.
pub(crate) struct Kept {
    joined: Arc<Joined>,
    pid: Pid,
    saved: SavedState,
    missed: Missed,
    /// What was applied here from before the journal was read.
    tail: Arc<Tail>,
}

impl RecoveryTable {
    /// Takes what is kept of a client wherever it is. The journal says who gets it, also if it is here.
    pub(crate) async fn claim_anywhere(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        io: &Io,
        asker: Asker,
    ) -> Option<Claim> {
        let here = self.claim(offer, nsp).await;
        let Some(joined) = io.cluster().joined() else {
            return here;
        };
        let Some(journal) = joined.journal() else {
            if here.is_some() {
                return here;
            }
            let may_ask = || self.may_ask_others(offer.pid, io, asker);
            let moved =
                match Moved::fetch(joined, offer, nsp, io, self.claim_timeout, may_ask).await {
                    Fetched::Moved(moved) => moved,
                    Fetched::Unknown => {
                        self.unknown.insert(offer.pid);
                        return None;
                    }
                    Fetched::Nothing => return None,
                };
            return Some(Claim::restored(self, Restored::Moved(moved)));
        };
        if !journal.is_up() {
            return here;
        }
        if here.is_none() && !self.may_ask_others(offer.pid, io, asker) {
            return None;
        }
        // A client that goes away while this waits may have its state taken and dropped, and then starts afresh.
        let deadline = Instant::now() + self.claim_timeout;
        let taking = timeout_at(deadline, journal.take(offer.pid.as_str()));
        let Ok(Ok(taken)) = taking.await else {
            // No other server gets the state from a journal that does not answer, so what is here goes on.
            return here;
        };
        let is_own = |saved: &SavedState| {
            let origin = saved.roomcast.as_ref();
            origin.is_some_and(|origin| origin.node == *joined.node())
        };
        match (here, taken) {
            (Some(here), Some(saved)) if is_own(&saved) => Some(here),
            (here, Some(saved)) => {
                if let Some(here) = here {
                    here.give_up();
                }
                // The client has been on another server since, so what may still be here is outdated.
                self.expel(offer.pid);
                let kept = Kept::read(joined, offer, nsp, saved, deadline).await?;
                Some(Claim::restored(self, Restored::Kept(Box::new(kept))))
            }
            (Some(here), None) => {
                here.give_up();
                None
            }
            // Not remembered as unknown: another server, which has not noticed yet that its connection to the
            // client is broken, may still store the state.
            (None, None) => None,
        }
    }

    /// Returns whether other servers, or the journal, may be asked for a client that is unknown here. Each
    /// such request costs all servers something, and a client can invent as many secrets as it likes.
    fn may_ask_others(&self, pid: Pid, io: &Io, asker: Asker) -> bool {
        let is_limited = || {
            let guard = io.guard();
            !asker.may_look_up || guard.is_some_and(|guard| guard.look_up(asker.address).is_err())
        };
        let counter = if self.unknown.contains(pid) {
            Counter::LookupsUnknown
        } else if is_limited() {
            Counter::LookupsLimited
        } else {
            Counter::LookupsAsked
        };
        self.metrics.count(counter);
        counter == Counter::LookupsAsked
    }
}

impl Restored {
    pub(crate) fn pid(&self) -> Pid {
        match self {
            Self::Kept(kept) => kept.pid,
            Self::Moved(moved) => moved.pid(),
        }
    }

    /// The user whose client it was; `None` if nobody knows.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self {
            Self::Kept(kept) => kept.saved.principal(),
            Self::Moved(moved) => moved.principal(),
        }
    }

    /// Keeps the state again for whoever asks next, if there is a place for that.
    pub(crate) fn give_back(&self, window: Duration) {
        if let Self::Kept(kept) = self
            && let Some(journal) = kept.joined.journal()
        {
            journal.keep(&kept.saved, window, true);
        }
    }

    /// Lets the client in as the socket that it was; `None` if that cannot be.
    pub(crate) fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        match self {
            Self::Kept(kept) => kept.resume(namespace, make),
            Self::Moved(moved) => moved.resume(namespace, make),
        }
    }
}

impl Kept {
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
        let position = offer.last.position?;
        // What is applied is followed before the journal is read, so that no event falls between the two.
        let tail = joined.follow(nsp);
        let reading = joined.journal()?.since(nsp, position);
        let missed = timeout_at(deadline, reading).await.ok()?.ok()??;
        // Behind the server that the client comes from, this one would tell it again what it has.
        while joined.between(|applied| applied < Some(position)) {
            timeout_at(deadline, sleep(PACE)).await.ok()?;
        }
        Some(Self {
            joined: Arc::clone(joined),
            pid: offer.pid,
            saved,
            missed,
            tail,
        })
    }

    /// Lets the client in as the socket that it was; `None` if that cannot be.
    fn resume(
        self,
        namespace: &Arc<namespace::NamespaceInner>,
        make: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        let joined = Arc::clone(&self.joined);
        // Nothing of the journal is applied meanwhile: events up to `applied` are among the frames, and all later ones reach
        // the socket as they reach others.
        joined.between(|applied| {
            let frames = self.frames(namespace, applied?)?;
            let socket = make(self.saved.sid, Recoverable::from_elsewhere(self.pid));
            socket.set_data(Shared(self.saved.data.clone()));
            namespace.admit(&socket, &frames).ok()?;
            self.saved.join_all(&socket);
            Some(socket)
        })
    }

    /// All that the client has missed of what was applied here, as its frames. What was not will reach it as
    /// others.
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

    /// Whether the client would have got the event.
    fn is_for(&self, event: &Publication) -> bool {
        let is_in = |rooms: &[Room]| rooms.iter().any(|room| self.saved.rooms.contains(room));
        event.delivery == Delivery::Reliable
            && event.rooms.as_deref().is_none_or(is_in)
            && !is_in(&event.except)
    }
}

impl Socket {
    /// Saves the state of a client that has gone where other servers find it, if there is such a place; anew, or
    /// only if it is still there.
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
            journal.keep(&saved, table.window, is_new);
        }
    }

    /// The state of a client for other servers; `None` if it cannot be recovered.
    pub(super) fn saved_state(&self, joined: &Joined) -> Option<SavedState> {
        let recoverable = self.recoverable()?;
        let mut rooms = vec![Room::from(self.id().as_str())];
        rooms.extend(self.rooms());
        let principal = self.principal();
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
            }),
        })
    }

    /// Lets no other server go on with the client.
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
    /// An event of the journal as clients get it; `None` if it cannot be written.
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

/// How often a server that is behind looks how far it is.
const PACE: Duration = Duration::from_millis(5);

impl fmt::Debug for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restored").finish_non_exhaustive()
    }
}
