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

#[cfg(feature = "cluster")]
use super::unknown::UnknownClients;
use super::{offer::Pid, recoverable::limits};
use crate::{
    config::Recovery,
    engine::Limits,
    metrics::{Gauge, Metrics},
    socket::types::{Expiring, give_back},
};

/// The sockets of one server that can be recovered, including those whose clients are connected.
/// The table keeps sockets `S` whose clients are away, and weak references `W` to the others. Its
/// lock is a leaf in the lock order: nothing is called under it but the upgrade of a reference.
pub(crate) struct RecoveryTable<S, W> {
    pub(crate) window: Duration,
    /// How long it may take to find out whether a client can go on.
    pub(crate) claim_timeout: Duration,
    max: usize,
    pub(crate) limits: Limits,
    state: Mutex<Entries<S, W>>,
    rounds: AtomicU64,
    /// Notified when a socket is kept whose client has gone away, and when the application is done with one that has come from
    /// another server.
    pub(crate) settled: Notify,
    /// Notified when there is no socket any more, whether its client is away or not.
    emptied: Notify,
    /// The clients that no server knows.
    #[cfg(feature = "cluster")]
    pub(crate) unknown: UnknownClients,
    pub(crate) metrics: Arc<Metrics>,
}

/// No secret is in both of the maps.
struct Entries<S, W> {
    present: HashMap<Pid, ClientState<W>>,
    /// The sockets whose clients are away.
    away: Expiring<Pid, S>,
    /// Questions of other servers for a client that are not answered yet.
    questions: usize,
    /// The server stops, so that no socket is kept any more.
    is_closed: bool,
}

/// A question of another server for a client, until it is answered and this is dropped.
#[cfg(feature = "cluster")]
pub(crate) struct OpenQuestion<S, W>(Arc<RecoveryTable<S, W>>);

#[cfg(feature = "cluster")]
impl<S, W> Drop for OpenQuestion<S, W> {
    fn drop(&mut self) {
        self.0.change(|state| state.questions -= 1);
    }
}

enum ClientState<W> {
    /// The client is connected, as far as is known.
    Connected(W),
    /// The client has just disconnected, and its handlers are being told.
    Leaving,
    /// As `Leaving`, and the client may not come back.
    Expelled,
}

/// What became of a socket that was to be kept.
pub(crate) struct Kept<S> {
    /// The sockets that have to end for it, the socket itself if it cannot be kept.
    pub(crate) gone: Vec<S>,
    /// Whether the caller must start a task that sweeps.
    pub(crate) must_sweep: bool,
    /// Whether the client was expelled while it was leaving.
    pub(crate) is_expelled: bool,
}

/// What is known about the client of a socket.
pub(crate) enum KnownClient<S> {
    /// The client is away.
    Away(S),
    /// The client is connected, as far as is known.
    Connected(S),
    /// The client has just disconnected, and its handlers are being told.
    Leaving,
}

impl<S, W> Default for Entries<S, W> {
    fn default() -> Self {
        Self {
            present: HashMap::new(),
            away: Expiring::default(),
            questions: 0,
            is_closed: false,
        }
    }
}

impl<S, W> Entries<S, W> {
    fn is_empty(&self) -> bool {
        self.present.is_empty() && self.away.len() == 0 && self.questions == 0
    }
}

impl<S, W> RecoveryTable<S, W> {
    pub(crate) fn new(recovery: &Recovery, metrics: Arc<Metrics>) -> Self {
        Self {
            window: recovery.window,
            claim_timeout: recovery.claim_timeout,
            max: recovery.max_sessions,
            limits: limits(recovery),
            state: Mutex::default(),
            rounds: AtomicU64::new(0),
            settled: Notify::new(),
            emptied: Notify::new(),
            #[cfg(feature = "cluster")]
            unknown: UnknownClients::new(),
            metrics,
        }
    }

    /// A client is being admitted.
    pub(crate) fn enter(&self, pid: Pid, socket: W) {
        let client = ClientState::Connected(socket);
        self.state.lock().present.insert(pid, client);
    }

    /// A client has disconnected, and may come back once its socket is kept.
    pub(crate) fn leave(&self, pid: Pid) {
        self.state.lock().present.insert(pid, ClientState::Leaving);
    }

    /// A client has disconnected for good.
    pub(crate) fn forget(&self, pid: Pid) {
        let gone = self.change(|state| {
            state.present.remove(&pid);
            state.away.remove(&pid)
        });
        drop(gone);
    }

    /// Keeps a socket whose client is away.
    pub(crate) fn insert(&self, pid: Pid, socket: S, until: Instant) -> Kept<S> {
        self.change(|state| {
            // The secret moves from one map to the other under the lock, so that a client that asks finds it in one of them.
            let before = state.present.remove(&pid);
            let is_expelled = matches!(before, Some(ClientState::Expelled));
            if state.is_closed || is_expelled || until <= Instant::now() {
                return Kept {
                    gone: vec![socket],
                    must_sweep: false,
                    is_expelled,
                };
            }
            let mut gone = Vec::from_iter(state.away.insert(pid, socket, until));
            // The sockets that would expire first make room.
            while state.away.len() > self.max {
                gone.extend(state.away.pop().map(|(_, socket)| socket));
            }
            Kept {
                gone,
                must_sweep: state.away.must_sweep(),
                is_expelled,
            }
        })
    }

    /// Takes the sockets whose time is over, and returns when the time of the next one is.
    pub(crate) fn take_due(&self, now: Instant) -> (Vec<S>, Option<Instant>) {
        self.change(|state| {
            let due = iter::from_fn(|| state.away.pop_due(now));
            let gone: Vec<_> = due.map(|(_, socket)| socket).collect();
            (gone, state.away.look_again())
        })
    }

    /// Takes all sockets; from here on none is kept.
    pub(crate) fn take_all(&self) -> Vec<S> {
        self.change(|state| {
            state.is_closed = true;
            let all = iter::from_fn(|| state.away.pop());
            all.map(|(_, socket)| socket).collect()
        })
    }

    /// What is known about the client with this secret; `upgrade` finds the socket of one that is connected.
    pub(crate) fn find(
        &self,
        pid: Pid,
        upgrade: impl FnOnce(&W) -> Option<S>,
    ) -> Option<KnownClient<S>>
    where
        S: Clone,
    {
        let state = self.state.lock();
        match (state.away.get(&pid), state.present.get(&pid)) {
            (Some(socket), _) => Some(KnownClient::Away(socket.clone())),
            (None, Some(ClientState::Connected(socket))) => {
                upgrade(socket).map(KnownClient::Connected)
            }
            (None, Some(ClientState::Leaving)) => Some(KnownClient::Leaving),
            (None, Some(ClientState::Expelled) | None) => None,
        }
    }

    /// All sockets whose clients are away at this moment.
    pub(crate) fn all_away(&self) -> Vec<(Pid, S)>
    where
        S: Clone,
    {
        let state = self.state.lock();
        let away = state.away.iter();
        away.map(|(pid, socket)| (pid, socket.clone())).collect()
    }

    /// All sockets are about to be revalidated.
    pub(crate) fn begin_round(&self) {
        // Release and acquire: whoever sees that a round has begun also sees what was revoked before.
        self.rounds.fetch_add(1, Ordering::AcqRel);
    }

    /// How often all sockets have been revalidated.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Another server asks for a client.
    #[cfg(feature = "cluster")]
    pub(crate) fn question(self: &Arc<Self>) -> OpenQuestion<S, W> {
        self.state.lock().questions += 1;
        OpenQuestion(Arc::clone(self))
    }

    /// Waits until no client is connected, none is away that may come back, and other servers have their answers.
    #[cfg(feature = "cluster")]
    pub(crate) async fn emptied(&self) {
        loop {
            // The waiter is made before the look, and sees every `notify_waiters` from then on.
            let emptied = self.emptied.notified();
            if self.state.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Takes the socket of a client that may not come back, if it is kept already; if it is about to be, it will not.
    pub(crate) fn lock_out(&self, pid: Pid) -> Option<S> {
        self.change(|state| {
            if let Some(state @ ClientState::Leaving) = state.present.get_mut(&pid) {
                *state = ClientState::Expelled;
            }
            state.away.remove(&pid).map(|(_, socket)| socket)
        })
    }

    /// Takes a socket whose client is away, with the time until which it was to be kept.
    pub(crate) fn take(&self, pid: Pid) -> Option<(Instant, S)> {
        self.change(|state| state.away.remove(&pid))
    }

    /// Changes the table and the gauge together. What is removed is returned, to be dropped without
    /// the lock.
    fn change<R>(&self, change: impl FnOnce(&mut Entries<S, W>) -> R) -> R {
        let mut state = self.state.lock();
        let before = state.away.len() as i64;
        let result = change(&mut state);
        give_back(&mut state.present);
        let after = state.away.len() as i64;
        if after != before {
            self.metrics.shift(Gauge::RecoverySessions, after - before);
        }
        let is_empty = state.is_empty();
        drop(state);
        if is_empty {
            self.emptied.notify_waiters();
        }
        result
    }
}

impl<S, W> fmt::Debug for RecoveryTable<S, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecoveryTable").finish_non_exhaustive()
    }
}
