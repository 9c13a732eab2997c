use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::{Stamp, socket::Nsp};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until, timeout_at},
};

use super::{Offer, Pid, limits};
use crate::{
    auth::Principal,
    config::Recovery,
    engine::Limits,
    metrics::{Counter, Gauge, Metrics},
    socket::{Socket, socket},
};

/// The sessions of one server that can be recovered, those that are connected included.
///
/// Its lock is a leaf: nothing is called while it is held.
pub(crate) struct Sessions {
    window: Duration,
    max: usize,
    limits: Limits,
    state: Mutex<State>,
    /// Notified when a session has been parked.
    parked: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    by_pid: HashMap<Pid, Place>,
    /// Those that are parked, by the time at which they end.
    expiries: BTreeMap<Expiry, Pid>,
    last: u64,
    /// A task waits for the next expiry.
    is_swept: bool,
    /// The server stops: nothing is kept any more.
    is_closed: bool,
}

/// A time, and a number that makes it unique.
type Expiry = (Instant, u64);

enum Place {
    /// The client is there, as far as is known.
    Connected(Weak<socket::Inner>),
    /// The client has just gone, and its handlers are being told.
    Leaving,
    /// The client is away.
    Parked(Parked),
}

struct Parked {
    socket: Socket,
    expiry: Expiry,
}

enum Found {
    Nothing,
    Connected(Socket),
    Leaving,
    Claim(Claim),
}

impl Sessions {
    pub(crate) fn new(recovery: &Recovery, metrics: Arc<Metrics>) -> Self {
        Self {
            window: recovery.window,
            max: recovery.max_sessions,
            limits: limits(recovery),
            state: Mutex::default(),
            parked: Notify::new(),
            metrics,
        }
    }

    /// A client is being let in.
    pub(crate) fn enter(&self, pid: Pid, socket: &Socket) {
        let place = Place::Connected(socket.downgrade());
        self.state.lock().by_pid.insert(pid, place);
    }

    /// A client has gone, and may come back once it is parked.
    pub(crate) fn leave(&self, pid: Pid) {
        self.state.lock().by_pid.insert(pid, Place::Leaving);
    }

    /// A client has gone for good.
    pub(crate) fn forget(&self, pid: Pid) {
        let mut state = self.state.lock();
        let place = state.by_pid.remove(&pid);
        if let Some(Place::Parked(parked)) = &place {
            state.expiries.remove(&parked.expiry);
            self.metrics.shift(Gauge::RecoverySessions, -1);
        }
        state.give_back_capacity();
        drop(state);
        drop(place);
    }

    /// Keeps a session whose client is away.
    pub(crate) fn park(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.last += 1;
        let expiry = (now + self.window, state.last);
        let parked = Parked {
            socket: socket.clone(),
            expiry,
        };
        let mut gone = vec![parked];
        if !state.is_closed {
            if let Some(parked) = gone.pop() {
                state.by_pid.insert(pid, Place::Parked(parked));
            }
            state.expiries.insert(expiry, pid);
            self.metrics.shift(Gauge::RecoverySessions, 1);
            while state.expiries.len() > self.max {
                gone.extend(self.take_first(&mut state));
            }
        } else {
            state.by_pid.remove(&pid);
        }
        let must_sweep = !state.expiries.is_empty() && !state.is_swept;
        state.is_swept |= must_sweep;
        drop(state);
        self.parked.notify_waiters();
        for parked in gone {
            parked.end(&self.metrics);
        }
        if must_sweep {
            let sessions = Arc::downgrade(self);
            if !socket.io().spawn(Self::sweep(sessions)) {
                self.state.lock().is_swept = false;
                self.expire(now);
            }
        }
    }

    /// Ends sessions in time, as long as there are any.
    async fn sweep(sessions: Weak<Self>) {
        while let Some(strong) = sessions.upgrade() {
            let Some(next) = strong.expire(Instant::now()) else {
                return;
            };
            drop(strong);
            sleep_until(next).await;
        }
    }

    /// Ends the sessions whose time has come; when the next one's comes.
    fn expire(&self, now: Instant) -> Option<Instant> {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        while let Some(((at, _), _)) = state.expiries.first_key_value()
            && *at <= now
        {
            gone.extend(self.take_first(&mut state));
        }
        let next = state.expiries.first_key_value().map(|((at, _), _)| *at);
        state.is_swept &= next.is_some();
        drop(state);
        for parked in gone {
            parked.end(&self.metrics);
        }
        next
    }

    fn take_first(&self, state: &mut State) -> Option<Parked> {
        let (_, pid) = state.expiries.pop_first()?;
        self.metrics.shift(Gauge::RecoverySessions, -1);
        let place = state.by_pid.remove(&pid);
        state.give_back_capacity();
        match place {
            Some(Place::Parked(parked)) => Some(parked),
            Some(Place::Connected(_) | Place::Leaving) | None => None,
        }
    }

    /// Ends all sessions; none is parked from here on.
    pub(crate) fn close(&self) {
        let mut gone = Vec::new();
        let mut state = self.state.lock();
        state.is_closed = true;
        while !state.expiries.is_empty() {
            gone.extend(self.take_first(&mut state));
        }
        drop(state);
        for parked in gone {
            parked.end(&self.metrics);
        }
    }

    /// Ends a session whose client is away.
    pub(crate) fn expel(&self, pid: Pid) {
        if let Some(parked) = self.take(pid) {
            parked.end(&self.metrics);
        }
    }

    /// Takes the session that a client offers to go on with. It belongs to the claim from then on:
    /// of two clients one gets it. One whose client seems to be there is taken from it.
    pub(crate) async fn claim(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Option<Claim> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let parked = self.parked.notified();
            tokio::pin!(parked);
            parked.as_mut().enable();
            match self.look(offer, nsp) {
                Found::Claim(claim) => return Some(claim),
                Found::Nothing => {
                    self.metrics.count(Counter::SessionsNotRecovered);
                    return None;
                }
                Found::Connected(socket) => socket.break_off(),
                Found::Leaving => {
                    if timeout_at(deadline, parked).await.is_err() {
                        return None;
                    }
                }
            }
        }
    }

    fn look(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Found {
        let mut state = self.state.lock();
        let Entry::Occupied(entry) = state.by_pid.entry(offer.pid) else {
            return Found::Nothing;
        };
        let socket = match entry.get() {
            Place::Leaving => return Found::Leaving,
            Place::Parked(parked) => parked.socket.clone(),
            Place::Connected(socket) => match Socket::upgrade(socket) {
                Some(socket) => socket,
                None => return Found::Nothing,
            },
        };
        let is_parked = matches!(entry.get(), Place::Parked(_));
        drop(state);
        let inner = socket.namespace_inner();
        let Some(known) = inner.known(offer.last) else {
            return Found::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) {
            return Found::Nothing;
        }
        if !is_parked {
            return if socket.is_connected() {
                Found::Connected(socket)
            } else {
                Found::Leaving
            };
        }
        match self.take(offer.pid) {
            Some(parked) => Found::Claim(Claim {
                sessions: Arc::clone(self),
                pid: offer.pid,
                known,
                parked: Some(parked),
            }),
            // Somebody else was faster.
            None => Found::Nothing,
        }
    }

    fn take(&self, pid: Pid) -> Option<Parked> {
        let mut state = self.state.lock();
        let Entry::Occupied(entry) = state.by_pid.entry(pid) else {
            return None;
        };
        if !matches!(entry.get(), Place::Parked(_)) {
            return None;
        }
        let Place::Parked(parked) = entry.remove() else {
            return None;
        };
        state.expiries.remove(&parked.expiry);
        state.give_back_capacity();
        self.metrics.shift(Gauge::RecoverySessions, -1);
        Some(parked)
    }

    fn put_back(&self, pid: Pid, parked: Parked) {
        let mut state = self.state.lock();
        if state.is_closed || parked.expiry.0 <= Instant::now() {
            drop(state);
            parked.end(&self.metrics);
            return;
        }
        state.expiries.insert(parked.expiry, pid);
        state.by_pid.insert(pid, Place::Parked(parked));
        self.metrics.shift(Gauge::RecoverySessions, 1);
    }
}

impl State {
    fn give_back_capacity(&mut self) {
        if self.by_pid.len() < self.by_pid.capacity() / 4 {
            let kept = self.by_pid.len() * 2;
            self.by_pid.shrink_to(kept);
        }
    }
}

impl Parked {
    fn end(self, metrics: &Metrics) {
        metrics.count(Counter::SessionsExpired);
        self.socket.end_session();
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A session that nobody else can take. Dropped unused, it is parked again.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    pid: Pid,
    known: Stamp,
    parked: Option<Parked>,
}

impl Claim {
    /// Who the client was.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        self.parked.as_ref().map(|parked| parked.socket.principal())
    }

    /// Lets a new socket go on with the session. `None` if that cannot be: it ends then.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        let parked = self.parked.take()?;
        let old = &parked.socket;
        let socket = resume(old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(old, &socket, self.known, self.sessions.limits) {
            // Only now can somebody else take it over.
            self.sessions.enter(self.pid, &socket);
            self.sessions.metrics.count(Counter::SessionsRecovered);
            tracing::debug!(socket = %socket.id(), sent, "a session goes on");
            return Some(socket);
        }
        self.sessions.metrics.count(Counter::SessionsNotRecovered);
        parked.end(&self.sessions.metrics);
        None
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(parked) = self.parked.take() {
            self.sessions.put_back(self.pid, parked);
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// How long the handlers of a socket may take that has just been disconnected before its client is
/// let in as a new one.
const PATIENCE: Duration = Duration::from_secs(1);
