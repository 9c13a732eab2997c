use std::{
    collections::HashMap,
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{offer::Pid, recoverable::limits};
use crate::{
    config::Recovery,
    engine::Limits,
    metrics::{Gauge, Metrics},
    socket::words::{Expiring, give_back},
};

/// The sessions of one server that can be recovered, those that are connected included.
///
/// It keeps sockets `S` whose clients are away, and weak references `W` to the others. Its lock is a
/// leaf: nothing is called while it is held but what upgrades a reference.
pub(crate) struct Sessions<S, W> {
    pub(crate) window: Duration,
    max: usize,
    pub(crate) limits: Limits,
    state: Mutex<State<S, W>>,
    rounds: AtomicU64,
    /// Notified when a session has been parked.
    pub(crate) parked: Notify,
    pub(crate) metrics: Arc<Metrics>,
}

/// No session is in both of the maps.
struct State<S, W> {
    present: HashMap<Pid, Place<W>>,
    /// The sockets whose clients are away.
    parked: Expiring<Pid, S>,
    /// The server stops: nothing is kept any more.
    is_closed: bool,
}

enum Place<W> {
    /// The client is there, as far as is known.
    Connected(W),
    /// The client has just gone, and its handlers are being told.
    Leaving,
}

/// Where a session was found.
pub(crate) enum Held<S> {
    /// The client is away.
    Parked(S),
    /// The client is there, as far as is known.
    Connected(S),
    /// The client has just gone, and its handlers are being told.
    Leaving,
}

impl<S, W> Default for State<S, W> {
    fn default() -> Self {
        Self {
            present: HashMap::new(),
            parked: Expiring::default(),
            is_closed: false,
        }
    }
}

impl<S, W> Sessions<S, W> {
    pub(crate) fn new(recovery: &Recovery, metrics: Arc<Metrics>) -> Self {
        Self {
            window: recovery.window,
            max: recovery.max_sessions,
            limits: limits(recovery),
            state: Mutex::default(),
            rounds: AtomicU64::new(0),
            parked: Notify::new(),
            metrics,
        }
    }

    /// A client is being let in.
    pub(crate) fn enter(&self, pid: Pid, socket: W) {
        let place = Place::Connected(socket);
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

    /// Keeps a session whose client is away. What has to go for it, itself if it cannot be kept, and
    /// whether a task must be sent to sweep.
    pub(crate) fn insert(&self, pid: Pid, socket: S, until: Instant) -> (Vec<S>, bool) {
        self.change(|state| {
            state.present.remove(&pid);
            if state.is_closed || until <= Instant::now() {
                return (vec![socket], false);
            }
            let mut gone = Vec::from_iter(state.parked.insert(pid, socket, until));
            while state.parked.len() > self.max {
                gone.extend(state.parked.pop().map(|(_, socket)| socket));
            }
            (gone, state.parked.must_sweep())
        })
    }

    /// Takes those whose time has come; when the next one's comes.
    pub(crate) fn take_due(&self, now: Instant) -> (Vec<S>, Option<Instant>) {
        self.change(|state| {
            let due = iter::from_fn(|| state.parked.pop_due(now));
            let gone: Vec<_> = due.map(|(_, socket)| socket).collect();
            (gone, state.parked.look_again())
        })
    }

    /// Takes all; none is kept from here on.
    pub(crate) fn take_all(&self) -> Vec<S> {
        self.change(|state| {
            state.is_closed = true;
            let all = iter::from_fn(|| state.parked.pop());
            all.map(|(_, socket)| socket).collect()
        })
    }

    /// Where a session is; `upgrade` finds the socket of one that is connected.
    pub(crate) fn find(&self, pid: Pid, upgrade: impl FnOnce(&W) -> Option<S>) -> Option<Held<S>>
    where
        S: Clone,
    {
        let state = self.state.lock();
        match (state.parked.get(&pid), state.present.get(&pid)) {
            (Some(socket), _) => Some(Held::Parked(socket.clone())),
            (None, Some(Place::Connected(socket))) => upgrade(socket).map(Held::Connected),
            (None, Some(Place::Leaving)) => Some(Held::Leaving),
            (None, None) => None,
        }
    }

    /// All sessions whose clients are away, at this moment.
    pub(crate) fn all_parked(&self) -> Vec<(Pid, S)>
    where
        S: Clone,
    {
        let state = self.state.lock();
        let parked = state.parked.iter();
        parked.map(|(pid, socket)| (pid, socket.clone())).collect()
    }

    /// Everybody is about to be asked for again.
    pub(crate) fn begin_round(&self) {
        self.rounds.fetch_add(1, Ordering::AcqRel);
    }

    /// How often everybody has been asked for again.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Takes a session whose client is away, with the time until which it was to be kept.
    pub(crate) fn take(&self, pid: Pid) -> Option<(Instant, S)> {
        self.change(|state| state.parked.remove(&pid))
    }

    /// Changes what is kept, and the gauge with it. What goes is passed on, to be dropped later.
    fn change<R>(&self, change: impl FnOnce(&mut State<S, W>) -> R) -> R {
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

impl<S, W> fmt::Debug for Sessions<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}
