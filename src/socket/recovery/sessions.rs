use std::{
    collections::HashMap,
    fmt, iter,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::{Stamp, socket::Nsp};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Offer, Pid, limits};
use crate::{
    config::Recovery,
    engine::Limits,
    identity::Principal,
    metrics::{Counter, Gauge, Metrics},
    socket::{
        Socket,
        expiring::{Expiring, give_back, sweep},
        socket,
    },
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

/// No session is in both of the maps.
#[derive(Default)]
struct State {
    present: HashMap<Pid, Place>,
    /// The sockets whose clients are away.
    parked: Expiring<Pid, Socket>,
    /// The server stops: nothing is kept any more.
    is_closed: bool,
}

enum Place {
    /// The client is there, as far as is known.
    Connected(Weak<socket::Inner>),
    /// The client has just gone, and its handlers are being told.
    Leaving,
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
        self.state.lock().present.insert(pid, place);
    }

    /// A client has gone, and may come back once it is parked.
    pub(crate) fn leave(&self, pid: Pid) {
        self.state.lock().present.insert(pid, Place::Leaving);
    }

    /// A client has gone for good.
    pub(crate) fn forget(&self, pid: Pid) {
        let gone = self.change(|state| {
            state.present.remove(&pid);
            state.parked.remove(&pid)
        });
        drop(gone);
    }

    /// Keeps a session whose client is away.
    pub(crate) fn park(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        self.keep(pid, socket.clone(), Instant::now() + self.window);
        self.parked.notify_waiters();
    }

    /// Keeps a session until then, or ends it if it cannot be kept.
    fn keep(self: &Arc<Self>, pid: Pid, socket: Socket, until: Instant) {
        let io = socket.io().clone();
        let (gone, must_sweep) = self.change(|state| {
            state.present.remove(&pid);
            if state.is_closed || until <= Instant::now() {
                return (vec![socket], false);
            }
            let mut gone = Vec::from_iter(state.parked.insert(pid, socket, until));
            while state.parked.len() > self.max {
                gone.extend(state.parked.pop().map(|(_, socket)| socket));
            }
            (gone, state.parked.must_sweep())
        });
        self.end(gone);
        if must_sweep {
            io.spawn(sweep(Arc::downgrade(self), Self::expire));
        }
    }

    /// Ends the sessions whose time has come; when the next one's comes.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let (gone, next) = self.change(|state| {
            let due = iter::from_fn(|| state.parked.pop_due(now));
            let gone: Vec<_> = due.map(|(_, socket)| socket).collect();
            (gone, state.parked.look_again())
        });
        self.end(gone);
        next
    }

    /// Ends all sessions; none is parked from here on.
    pub(crate) fn close(&self) {
        let gone: Vec<_> = self.change(|state| {
            state.is_closed = true;
            let all = iter::from_fn(|| state.parked.pop());
            all.map(|(_, socket)| socket).collect()
        });
        self.end(gone);
    }

    /// Ends a session whose client is away.
    pub(crate) fn expel(&self, pid: Pid) {
        self.end(self.take(pid).map(|(_, socket)| socket));
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
                Found::Connected(socket) => socket.break_off(),
                Found::Leaving if timeout_at(deadline, parked.as_mut()).await.is_ok() => {}
                Found::Leaving | Found::Nothing => {
                    self.metrics.count(Counter::SessionsNotRecovered);
                    return None;
                }
            }
        }
    }

    fn look(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Found {
        let state = self.state.lock();
        let parked = state.parked.get(&offer.pid);
        let (socket, is_parked) = match (parked, state.present.get(&offer.pid)) {
            (Some(socket), _) => (Some(socket.clone()), true),
            (None, Some(Place::Connected(socket))) => (Socket::upgrade(socket), false),
            (None, Some(Place::Leaving)) => return Found::Leaving,
            (None, None) => return Found::Nothing,
        };
        drop(state);
        let Some(socket) = socket else {
            return Found::Nothing;
        };
        let inner = socket.namespace_inner();
        let Some(known) = inner.known(offer.last) else {
            return Found::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) {
            return Found::Nothing;
        }
        match is_parked {
            // If it is not there any more, somebody else was faster.
            true => self.take(offer.pid).map_or(Found::Nothing, |parked| {
                Found::Claim(Claim {
                    sessions: Arc::clone(self),
                    pid: offer.pid,
                    known,
                    parked: Some(parked),
                })
            }),
            false if socket.is_connected() => Found::Connected(socket),
            false => Found::Leaving,
        }
    }

    /// Takes a session whose client is away, with the time until which it was to be kept.
    fn take(&self, pid: Pid) -> Option<(Instant, Socket)> {
        self.change(|state| state.parked.remove(&pid))
    }

    fn end(&self, gone: impl IntoIterator<Item = Socket>) {
        for socket in gone {
            self.metrics.count(Counter::SessionsExpired);
            socket.end_session();
        }
    }

    /// Changes what is kept, and the gauge with it. What goes is passed on, to be dropped later.
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let before = state.parked.len() as i64;
        let result = change(&mut state);
        give_back(&mut state.present);
        let delta = state.parked.len() as i64 - before;
        if delta != 0 {
            self.metrics.shift(Gauge::RecoverySessions, delta);
        }
        result
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
    /// The socket, and until when it is kept.
    parked: Option<(Instant, Socket)>,
}

impl Claim {
    /// Who the client was.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        self.parked.as_ref().map(|(_, socket)| socket.principal())
    }

    /// Lets a new socket go on with the session. `None` if that cannot be: it ends then.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        let (_, old) = self.parked.take()?;
        let socket = resume(&old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(&old, &socket, self.known, self.sessions.limits) {
            // Only now can somebody else take it over.
            self.sessions.enter(self.pid, &socket);
            self.sessions.metrics.count(Counter::SessionsRecovered);
            tracing::debug!(socket = %socket.id(), sent, "a session goes on");
            return Some(socket);
        }
        self.sessions.metrics.count(Counter::SessionsNotRecovered);
        self.sessions.end([old]);
        None
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some((until, socket)) = self.parked.take() {
            self.sessions.keep(self.pid, socket, until);
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
