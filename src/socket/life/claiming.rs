//! Recovers sockets: which clients may claim one, which of two claims wins, and when sockets
//! expire.

use std::{net::IpAddr, sync::Arc};

use roomcast_protocol::{Stamp, socket::Nsp};
use tokio::time::{Instant, timeout_at};

use super::Restored;
use crate::{
    Principal,
    metrics::Counter,
    socket::{
        core::{RecoveryTable, Socket},
        recovery::{Channel, KnownClient, Offer, Pid},
        types::sweep,
    },
};

/// The result of looking up the socket that a client requests to recover.
enum ClaimLookup {
    Nothing,
    Connected(Socket),
    /// The socket is about to become recoverable, or its handover is incomplete.
    Unsettled,
    Claim(Claim),
}

/// The client that requests to recover a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Claimant {
    pub(crate) address: IpAddr,
    /// Whether other servers may be queried. `false` if the connection has sent too many offers.
    pub(crate) may_look_up: bool,
}

impl RecoveryTable {
    /// Stores the socket of a disconnected client, whose handlers have started.
    pub(crate) fn retain_recoverable(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        self.retain(pid, socket, Instant::now() + self.window);
        self.settled.notify_waiters();
    }

    /// Stores a socket until a deadline, or ends it if it cannot be stored.
    fn retain(self: &Arc<Self>, pid: Pid, socket: &Socket, until: Instant) {
        let io = socket.io().clone();
        // The state is saved before the table contains the socket, so that expelling the socket
        // also removes the saved state.
        socket.save_state(true);
        let outcome = self.insert(pid, socket.clone(), until);
        if outcome.is_expelled {
            socket.forget_saved_state();
        }
        self.end(outcome.ended);
        // The credentials may have been revoked after the disconnect and before the socket could be
        // found here.
        if !socket.may_recover() {
            self.expel(pid);
        }
        if outcome.must_sweep {
            let table = Arc::downgrade(self);
            let sweeping = move || sweep(table.clone(), Self::expire);
            io.keep("recovery sweep", sweeping);
        }
    }

    /// Ends expired sockets. Returns the deadline of the next one.
    fn expire(&self) -> Option<Instant> {
        let (ended, next) = self.take_expired(Instant::now());
        self.end(ended);
        next
    }

    /// Ends recoverable sockets whose clients would be expelled if they were connected. The
    /// revocation may no longer exist when they reconnect.
    pub(crate) fn revalidate(&self) {
        for (pid, socket) in self.all_recoverable() {
            if !socket.may_recover() {
                self.expel(pid);
            }
        }
    }

    /// Ends all stored sockets. Afterwards, none is stored.
    pub(crate) fn close(&self) {
        self.end(self.take_all());
    }

    /// Ends a socket whose client is disconnected or disconnecting.
    pub(crate) fn expel(&self, pid: Pid) {
        let ended = self.lock_out(pid);
        if let Some(socket) = &ended {
            socket.forget_saved_state();
        }
        self.end(ended);
    }

    /// Takes the socket that a client requests to recover. It belongs to the claim from then on, so
    /// only one of two clients gets it.
    ///
    /// A socket that still seems to be connected is taken from that connection. If its handover is
    /// incomplete, this waits for it. Until then, no client can recover it, and after a timeout it
    /// stays where it is.
    pub(crate) async fn claim(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Option<Claim> {
        self.claim_if(offer, nsp, |_| true).await
    }

    /// Claims like [`claim`](Self::claim), but only sockets that satisfy `may`.
    pub(super) async fn claim_if(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        may: impl Fn(&Socket) -> bool + Send,
    ) -> Option<Claim> {
        // Another server that waits for the answer must receive it in time.
        let deadline = Instant::now() + self.claim_timeout / 2;
        loop {
            // The waiter is registered before the lookup, so that a socket stored in between wakes
            // this task.
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.look(offer, nsp, &may) {
                ClaimLookup::Claim(claim) => return Some(claim),
                // The connection is dead, because its client has a new one. Its socket becomes
                // recoverable before the next iteration. The deadline matters because other
                // connections may take the socket repeatedly.
                ClaimLookup::Connected(socket) if Instant::now() < deadline => socket.break_off(),
                ClaimLookup::Unsettled if timeout_at(deadline, settled.as_mut()).await.is_ok() => {}
                ClaimLookup::Connected(_) | ClaimLookup::Unsettled | ClaimLookup::Nothing => {
                    return None;
                }
            }
        }
    }

    fn look(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        may: impl Fn(&Socket) -> bool,
    ) -> ClaimLookup {
        let (socket, is_recoverable) = match self.find(offer.pid, Socket::upgrade) {
            Some(KnownClient::Recoverable(socket)) => (socket, true),
            Some(KnownClient::Connected(socket)) => (socket, false),
            Some(KnownClient::Leaving) => return ClaimLookup::Unsettled,
            None => return ClaimLookup::Nothing,
        };
        let inner = socket.namespace_inner();
        // The offset of the previous server comes first. It may be an old offset of this server,
        // from before the handover, whose subsequent events are not stored here.
        let origin = socket.known_from(offer.last);
        let Some(known) = origin.or_else(|| inner.known(offer.last?)) else {
            return ClaimLookup::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) || !may(&socket) {
            return ClaimLookup::Nothing;
        }
        // If events of other servers may be missing, the client must not be recovered as complete.
        let lacks = |channel: &Channel<Socket>| channel.has_gap_after(known);
        if socket.io().cluster().has_gap() || inner.channel.as_deref().is_some_and(lacks) {
            return ClaimLookup::Nothing;
        }
        // The round is read before the socket is taken, to detect a revalidation that cannot find
        // the socket.
        let round = self.rounds();
        match is_recoverable {
            // If the socket is missing, another client was faster.
            true => self.take(offer.pid).map_or(ClaimLookup::Nothing, |stored| {
                ClaimLookup::Claim(Claim {
                    table: Arc::clone(self),
                    pid: offer.pid,
                    round,
                    held: Some(Claimed::Local(known, stored)),
                })
            }),
            false if socket.is_connected() && socket.is_handover_pending() => {
                ClaimLookup::Unsettled
            }
            false if socket.is_connected() => ClaimLookup::Connected(socket),
            false => ClaimLookup::Unsettled,
        }
    }

    fn end(&self, ended: impl IntoIterator<Item = Socket>) {
        for socket in ended {
            self.metrics.count(Counter::SessionsExpired);
            socket.end_for_good();
        }
    }
}

/// Exclusive ownership of a recoverable socket. If a claim is dropped unused, its socket is stored
/// again.
pub(crate) struct Claim {
    table: Arc<RecoveryTable>,
    pid: Pid,
    /// The number of revalidation rounds before the claim.
    round: u64,
    held: Option<Claimed>,
}

/// The claimed state, until it is restored or released.
enum Claimed {
    /// The client's stamp, the deadline of the socket, and the socket.
    Local(Stamp, (Instant, Socket)),
    Remote(Box<Restored>),
}

impl Claim {
    /// Claims the state of another server.
    pub(super) fn restored(table: &Arc<RecoveryTable>, restored: Restored) -> Self {
        Self {
            table: Arc::clone(table),
            pid: restored.pid(),
            round: table.rounds(),
            held: Some(Claimed::Remote(Box::new(restored))),
        }
    }

    /// Returns the client's previous principal, if known.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self.held.as_ref()? {
            Claimed::Local(_, (_, socket)) => Some(socket.principal()),
            Claimed::Remote(restored) => restored.principal(),
        }
    }

    /// Returns the rights of the client's previous principal besides its roles. `of` returns those of
    /// a principal of this server.
    pub(crate) fn rights(&self, of: impl Fn(&Principal) -> Option<String>) -> Option<String> {
        match self.held.as_ref()? {
            Claimed::Local(_, (_, socket)) => of(&socket.principal()),
            Claimed::Remote(restored) => restored.rights(),
        }
    }

    /// Ends the socket, because the user or its rights have changed.
    pub(crate) fn give_up(mut self) {
        self.table.metrics.count(Counter::SessionsNotRecovered);
        if let Some(Claimed::Local(_, (_, old))) = self.held.take() {
            self.table.end([old]);
        }
    }

    /// Returns whether a revalidation ran since the claim. It does not find claimed sockets, so the
    /// socket must end, because its client might have been expelled.
    fn was_missed(&self) -> bool {
        self.table.rounds() != self.round
    }

    /// Takes the claimed socket with its client's stamp. Returns `None` if the socket must end or
    /// is not on this server.
    pub(super) fn take_own(&mut self) -> Option<(Stamp, Socket)> {
        if self.was_missed() {
            return None;
        }
        match self.held.take()? {
            Claimed::Local(known, (_, socket)) => Some((known, socket)),
            remote @ Claimed::Remote(_) => {
                self.held = Some(remote);
                None
            }
        }
    }

    /// Takes the state of another server, to be completed with [`settle`](Self::settle).
    pub(crate) fn take_restored(&mut self) -> Option<Restored> {
        if self.was_missed() {
            return None;
        }
        match self.held.take()? {
            Claimed::Remote(restored) => Some(*restored),
            local @ Claimed::Local(..) => {
                self.held = Some(local);
                None
            }
        }
    }

    /// Counts whether a client of another server was recovered.
    pub(crate) fn settle(self, socket: Option<Socket>) -> Option<Socket> {
        self.table.metrics.count(match &socket {
            Some(_) => Counter::SessionsRecovered,
            None => Counter::SessionsNotRecovered,
        });
        socket
    }

    /// Replaces the claimed socket with a new one. If that fails, ends the claimed socket and
    /// returns `None`.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        if self.was_missed() {
            self.give_up();
            return None;
        }
        let Some(Claimed::Local(known, (_, old))) = self.held.take() else {
            return None;
        };
        let socket = resume(&old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(&old, &socket, known, self.table.limits) {
            // Other clients can claim the new socket only from now on.
            self.table.enter(self.pid, socket.downgrade());
            self.table.metrics.count(Counter::SessionsRecovered);
            tracing::debug!(socket = %socket.id(), sent, "session recovered");
            return Some(socket);
        }
        self.table.metrics.count(Counter::SessionsNotRecovered);
        self.table.end([old]);
        None
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let was_missed = self.was_missed();
        match self.held.take() {
            None => {}
            Some(Claimed::Local(_, (_, socket))) if was_missed => self.table.end([socket]),
            Some(Claimed::Local(_, (until, socket))) => self.table.retain(self.pid, &socket, until),
            Some(Claimed::Remote(_)) if was_missed => {}
            Some(Claimed::Remote(restored)) => restored.give_back(self.table.window),
        }
    }
}
