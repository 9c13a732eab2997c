use std::{
    collections::HashMap,
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{offer::Pid, recoverable::limits, unknown::UnknownClients};
use crate::{
    config::Recovery,
    engine::Limits,
    metrics::{Gauge, Metrics},
    socket::types::{Expiring, shrink_map},
};

/// The recoverable sockets of one server, including those of connected clients.
///
/// The table holds sockets `S` of disconnected clients, and weak references `W` to connected ones.
/// Its lock is a leaf in the lock order: only the upgrade of a reference is called under it.
pub(crate) struct RecoveryTable<S, W> {
    pub(crate) window: Duration,
    /// Maximum time to decide whether a client can recover.
    pub(crate) claim_timeout: Duration,
    max: usize,
    pub(crate) limits: Limits,
    state: Mutex<Entries<S, W>>,
    rounds: AtomicU64,
    /// Notified when a disconnected client's socket is stored, and when a handover is complete.
    pub(crate) settled: Notify,
    /// Notified when the table has no socket of a connected or disconnected client.
    emptied: Notify,
    /// Clients that no server knows.
    pub(crate) unknown: UnknownClients,
    pub(crate) metrics: Arc<Metrics>,
}

/// No secret is in both maps.
struct Entries<S, W> {
    present: HashMap<Pid, ClientState<W>>,
    /// The sockets of disconnected clients.
    recoverable: Expiring<Pid, S>,
    /// Pending requests of other servers for a client.
    pending_requests: usize,
    /// The server shuts down, so sockets are no longer stored.
    is_closed: bool,
}

/// A pending request of another server for a client. Dropped when it is answered.
pub(crate) struct PendingRequest<S, W>(Arc<RecoveryTable<S, W>>);

impl<S, W> Drop for PendingRequest<S, W> {
    fn drop(&mut self) {
        self.0.change(|state| state.pending_requests -= 1);
    }
}

enum ClientState<W> {
    /// The client is connected, as far as the server knows.
    Connected(W),
    /// The client has just disconnected, and its handlers are being called.
    Leaving,
    /// As `Leaving`, but the client may not recover.
    Expelled,
}

/// The result of storing a socket.
pub(crate) struct RetainOutcome<S> {
    /// The sockets that must end, including the new one if it cannot be stored.
    pub(crate) ended: Vec<S>,
    /// Whether the caller must start a sweep task.
    pub(crate) must_sweep: bool,
    /// Whether the client was expelled while it was leaving.
    pub(crate) is_expelled: bool,
}

/// The state of a client's socket.
pub(crate) enum KnownClient<S> {
    /// The client is disconnected but recoverable.
    Recoverable(S),
    /// The client is connected, as far as the server knows.
    Connected(S),
    /// The client has just disconnected, and its handlers are being called.
    Leaving,
}

impl<S, W> Default for Entries<S, W> {
    fn default() -> Self {
        Self {
            present: HashMap::new(),
            recoverable: Expiring::default(),
            pending_requests: 0,
            is_closed: false,
        }
    }
}

impl<S, W> Entries<S, W> {
    fn is_empty(&self) -> bool {
        self.present.is_empty() && self.recoverable.len() == 0 && self.pending_requests == 0
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
            unknown: UnknownClients::new(),
            metrics,
        }
    }

    /// Adds a client that is being admitted.
    pub(crate) fn enter(&self, pid: Pid, socket: W) {
        let client = ClientState::Connected(socket);
        self.state.lock().present.insert(pid, client);
    }

    /// Marks a client as leaving. It may recover when its socket is stored.
    pub(crate) fn leave(&self, pid: Pid) {
        self.state.lock().present.insert(pid, ClientState::Leaving);
    }

    /// Removes a client that cannot recover.
    pub(crate) fn forget(&self, pid: Pid) {
        let ended = self.change(|state| {
            state.present.remove(&pid);
            state.recoverable.remove(&pid)
        });
        drop(ended);
    }

    /// Stores the socket of a disconnected client.
    pub(crate) fn insert(&self, pid: Pid, socket: S, until: Instant) -> RetainOutcome<S> {
        self.change(|state| {
            // The secret moves between the maps under the lock, so that lookups always find it.
            let before = state.present.remove(&pid);
            let is_expelled = matches!(before, Some(ClientState::Expelled));
            if state.is_closed || is_expelled || until <= Instant::now() {
                return RetainOutcome {
                    ended: vec![socket],
                    must_sweep: false,
                    is_expelled,
                };
            }
            let mut ended = Vec::from_iter(state.recoverable.insert(pid, socket, until));
            // Sockets that would expire first are evicted.
            while state.recoverable.len() > self.max {
                ended.extend(state.recoverable.pop().map(|(_, socket)| socket));
            }
            RetainOutcome {
                ended,
                must_sweep: state.recoverable.must_sweep(),
                is_expelled,
            }
        })
    }

    /// Removes and returns expired sockets, and the deadline of the next one.
    pub(crate) fn take_expired(&self, now: Instant) -> (Vec<S>, Option<Instant>) {
        self.change(|state| {
            let due = iter::from_fn(|| state.recoverable.pop_due(now));
            let ended: Vec<_> = due.map(|(_, socket)| socket).collect();
            (ended, state.recoverable.next_sweep())
        })
    }

    /// Removes and returns all sockets. Afterwards, none is stored.
    pub(crate) fn take_all(&self) -> Vec<S> {
        self.change(|state| {
            state.is_closed = true;
            let all = iter::from_fn(|| state.recoverable.pop());
            all.map(|(_, socket)| socket).collect()
        })
    }

    /// Returns the state of the client with this secret. `upgrade` returns the socket of a
    /// connected client.
    pub(crate) fn find(
        &self,
        pid: Pid,
        upgrade: impl FnOnce(&W) -> Option<S>,
    ) -> Option<KnownClient<S>>
    where
        S: Clone,
    {
        let state = self.state.lock();
        match (state.recoverable.get(&pid), state.present.get(&pid)) {
            (Some(socket), _) => Some(KnownClient::Recoverable(socket.clone())),
            (None, Some(ClientState::Connected(socket))) => {
                upgrade(socket).map(KnownClient::Connected)
            }
            (None, Some(ClientState::Leaving)) => Some(KnownClient::Leaving),
            (None, Some(ClientState::Expelled) | None) => None,
        }
    }

    /// Returns all stored sockets.
    pub(crate) fn all_recoverable(&self) -> Vec<(Pid, S)>
    where
        S: Clone,
    {
        let state = self.state.lock();
        let recoverable = state.recoverable.iter();
        recoverable
            .map(|(pid, socket)| (pid, socket.clone()))
            .collect()
    }

    /// Records that a revalidation of all sockets begins.
    pub(crate) fn begin_round(&self) {
        // Release and acquire: code that reads the new round also observes earlier revocations.
        self.rounds.fetch_add(1, Ordering::AcqRel);
    }

    /// Returns the number of revalidations.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    /// Registers a request of another server for a client.
    pub(crate) fn begin_request(self: &Arc<Self>) -> PendingRequest<S, W> {
        self.state.lock().pending_requests += 1;
        PendingRequest(Arc::clone(self))
    }

    /// Waits until no client is connected or recoverable, and requests of other servers are
    /// answered.
    pub(crate) async fn emptied(&self) {
        loop {
            // The waiter is created before the check, so that it sees every later `notify_waiters`.
            let emptied = self.emptied.notified();
            if self.state.lock().is_empty() {
                return;
            }
            emptied.await;
        }
    }

    /// Excludes a client from recovery. Returns its socket if it is stored. A leaving client's
    /// socket will not be stored.
    pub(crate) fn lock_out(&self, pid: Pid) -> Option<S> {
        self.change(|state| {
            if let Some(state @ ClientState::Leaving) = state.present.get_mut(&pid) {
                *state = ClientState::Expelled;
            }
            state.recoverable.remove(&pid).map(|(_, socket)| socket)
        })
    }

    /// Removes the socket of a disconnected client. Returns it with its deadline.
    pub(crate) fn take(&self, pid: Pid) -> Option<(Instant, S)> {
        self.change(|state| state.recoverable.remove(&pid))
    }

    /// Updates the table and its gauge together. Removed values are returned, to be dropped without
    /// the lock.
    fn change<R>(&self, change: impl FnOnce(&mut Entries<S, W>) -> R) -> R {
        let mut state = self.state.lock();
        let before = state.recoverable.len() as i64;
        let result = change(&mut state);
        shrink_map(&mut state.present);
        let after = state.recoverable.len() as i64;
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
