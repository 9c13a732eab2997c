//! Recovers sockets: which client may, which of two gets the socket, and when a socket that is kept ends.

use std::{fmt, net::IpAddr, sync::Arc};

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

/// What becomes of the socket that a client asks to recover.
enum ClaimLookup {
    Nothing,
    Connected(Socket),
    /// In a moment it is away, or the application is done with it.
    Unsettled,
    Claim(Claim),
}

/// The client that asks to recover a socket.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "there are no other servers")
)]
pub(crate) struct Asker {
    pub(crate) address: IpAddr,
    /// Whether its connection has not asked too often for sockets of other servers.
    pub(crate) may_look_up: bool,
}

impl RecoveryTable {
    /// Keeps a socket whose client is away, and of whose end its handlers have begun to be told.
    pub(crate) fn keep_away(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        self.keep(pid, socket, Instant::now() + self.window);
        self.settled.notify_waiters();
    }

    /// Keeps a socket until a time, or ends it if it cannot be kept.
    fn keep(self: &Arc<Self>, pid: Pid, socket: &Socket, until: Instant) {
        let io = socket.io().clone();
        // The state is saved before the table knows the socket, so that whoever expels the socket removes what was saved.
        socket.save_state(true);
        let kept = self.insert(pid, socket.clone(), until);
        if kept.is_expelled {
            socket.forget_saved_state();
        }
        self.end(kept.gone);
        // The credentials may have been revoked after the client had left and before the socket
        // could be found here.
        if !socket.may_go_on() {
            self.expel(pid);
        }
        if kept.must_sweep {
            let table = Arc::downgrade(self);
            let sweeping = move || sweep(table.clone(), Self::expire);
            io.keep("recovery sweep", sweeping);
        }
    }

    /// Ends the sockets whose time is over, and returns when the time of the next one is.
    fn expire(&self) -> Option<Instant> {
        let (gone, next) = self.take_due(Instant::now());
        self.end(gone);
        next
    }

    /// Ends the sockets of clients that are away and would be expelled if they were connected.
    /// What is revoked now may not be revoked any more when they come back.
    pub(crate) fn revalidate(&self) {
        for (pid, socket) in self.all_away() {
            if !socket.may_go_on() {
                self.expel(pid);
            }
        }
    }

    /// Ends all sockets that are kept; from here on none is.
    pub(crate) fn close(&self) {
        self.end(self.take_all());
    }

    /// Ends a socket whose client is away, or is just leaving.
    pub(crate) fn expel(&self, pid: Pid) {
        let gone = self.lock_out(pid);
        if let Some(socket) = &gone {
            socket.forget_saved_state();
        }
        self.end(gone);
    }

    /// Takes the socket that a client asks to recover. The socket belongs to the claim from then
    /// on, so one of two clients gets it. A socket whose client seems to be connected is taken
    /// from that connection. One that has come from another server is taken when the application is done with it: until then
    /// nobody could go on as it, and it stays where it is if that takes too long.
    pub(crate) async fn claim(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Option<Claim> {
        self.claim_if(offer, nsp, |_| true).await
    }

    /// As [`claim`](Self::claim), but a socket for which `may` says no stays where it is.
    pub(super) async fn claim_if(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        may: impl Fn(&Socket) -> bool + Send,
    ) -> Option<Claim> {
        // Another server that waits for the answer must still get it in time.
        let deadline = Instant::now() + self.claim_timeout / 2;
        loop {
            // The waiter is registered before looking, so that a socket that is kept in between wakes this task.
            let settled = self.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            match self.look(offer, nsp, &may) {
                ClaimLookup::Claim(claim) => return Some(claim),
                // The connection is known to be dead, since its client has a new one. Its socket is
                // kept or about to be when this looks again. The time is looked at because others may let the client in
                // again and again meanwhile.
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
        let (socket, is_away) = match self.find(offer.pid, Socket::upgrade) {
            Some(KnownClient::Away(socket)) => (socket, true),
            Some(KnownClient::Connected(socket)) => (socket, false),
            Some(KnownClient::Leaving) => return ClaimLookup::Unsettled,
            None => return ClaimLookup::Nothing,
        };
        let inner = socket.namespace_inner();
        // What the client came with comes first: it may be an offset of this server, where it was before it was elsewhere, and
        // what followed that then is not kept here.
        let came_with = socket.known_from(offer.last);
        let Some(known) = came_with.or_else(|| inner.known(offer.last)) else {
            return ClaimLookup::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) || !may(&socket) {
            return ClaimLookup::Nothing;
        }
        // What other servers have sent meanwhile may never have arrived here, and no client is told that it has
        // everything.
        let lacks = |channel: &Channel<Socket>| channel.has_gap_after(known);
        if socket.io().cluster().has_gap() || inner.channel.as_deref().is_some_and(lacks) {
            return ClaimLookup::Nothing;
        }
        // The round is read before the socket is taken, so that a revalidation that does not find it any more is noticed.
        let round = self.rounds();
        match is_away {
            // If the socket is gone, another client was faster.
            true => self.take(offer.pid).map_or(ClaimLookup::Nothing, |away| {
                ClaimLookup::Claim(Claim {
                    table: Arc::clone(self),
                    pid: offer.pid,
                    round,
                    held: Some(Claimed::Here(known, away)),
                })
            }),
            false if socket.is_connected() && socket.is_arriving() => ClaimLookup::Unsettled,
            false if socket.is_connected() => ClaimLookup::Connected(socket),
            false => ClaimLookup::Unsettled,
        }
    }

    fn end(&self, gone: impl IntoIterator<Item = Socket>) {
        for socket in gone {
            self.metrics.count(Counter::SessionsExpired);
            socket.end_for_good();
        }
    }
}

/// A socket that no other client can take. If a claim is dropped unused, its socket is kept
/// again.
pub(crate) struct Claim {
    table: Arc<RecoveryTable>,
    pid: Pid,
    /// How often everybody had been asked for again before it was taken.
    round: u64,
    held: Option<Claimed>,
}

/// What a claim has taken, until it is restored or given back.
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "there are no other servers")
)]
enum Claimed {
    /// What the client has, until when the socket is kept, and the socket.
    Here(Stamp, (Instant, Socket)),
    Remote(Box<Restored>),
}

impl Claim {
    /// Claims the state that another server has kept.
    #[cfg(feature = "cluster")]
    pub(super) fn restored(table: &Arc<RecoveryTable>, restored: Restored) -> Self {
        Self {
            table: Arc::clone(table),
            pid: restored.pid(),
            round: table.rounds(),
            held: Some(Claimed::Remote(Box::new(restored))),
        }
    }

    /// Who the client was, if that is known.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self.held.as_ref()? {
            Claimed::Here(_, (_, socket)) => Some(socket.principal()),
            Claimed::Remote(restored) => restored.principal(),
        }
    }

    /// Ends the socket, because its client has changed.
    pub(crate) fn give_up(mut self) {
        self.table.metrics.count(Counter::SessionsNotRecovered);
        if let Some(Claimed::Here(_, (_, old))) = self.held.take() {
            self.table.end([old]);
        }
    }

    /// Whether all sockets have been revalidated since this one was claimed. Revalidation does
    /// not find a claimed socket, which must end therefore: its client may have been one to expel.
    fn was_missed(&self) -> bool {
        self.table.rounds() != self.round
    }

    /// The socket that was taken, and what its client has; `None` if it has to end, or is none of this server.
    #[cfg(feature = "cluster")]
    pub(super) fn take_own(&mut self) -> Option<(Stamp, Socket)> {
        if self.was_missed() {
            return None;
        }
        match self.held.take()? {
            Claimed::Here(known, (_, socket)) => Some((known, socket)),
            remote @ Claimed::Remote(_) => {
                self.held = Some(remote);
                None
            }
        }
    }

    /// What another server has kept, to be gone on with by [`settle`](Self::settle).
    pub(crate) fn take_restored(&mut self) -> Option<Restored> {
        if self.was_missed() {
            return None;
        }
        match self.held.take()? {
            Claimed::Remote(restored) => Some(*restored),
            here @ Claimed::Here(..) => {
                self.held = Some(here);
                None
            }
        }
    }

    /// Counts whether a client that was on another server goes on here.
    pub(crate) fn settle(self, socket: Option<Socket>) -> Option<Socket> {
        self.table.metrics.count(match &socket {
            Some(_) => Counter::SessionsRecovered,
            None => Counter::SessionsNotRecovered,
        });
        socket
    }

    /// Lets a new socket go on in the place of the claimed one. `None` if that cannot be, which ends the claimed one.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        if self.was_missed() {
            self.give_up();
            return None;
        }
        let Some(Claimed::Here(known, (_, old))) = self.held.take() else {
            return None;
        };
        let socket = resume(&old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(&old, &socket, known, self.table.limits) {
            // Only now can another client take the new socket over.
            self.table.enter(self.pid, socket.downgrade());
            self.table.metrics.count(Counter::SessionsRecovered);
            tracing::debug!(socket = %socket.id(), sent, "a session goes on");
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
            Some(Claimed::Here(_, (_, socket))) if was_missed => self.table.end([socket]),
            Some(Claimed::Here(_, (until, socket))) => self.table.keep(self.pid, &socket, until),
            Some(Claimed::Remote(_)) if was_missed => {}
            Some(Claimed::Remote(restored)) => restored.give_back(self.table.window),
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}
