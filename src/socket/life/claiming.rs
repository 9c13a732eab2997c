//! Recovers sessions: which client may, which of two gets the session, and when a session ends.

use std::{fmt, sync::Arc, time::Duration};

use roomcast_protocol::{Stamp, socket::Nsp};
use tokio::time::{Instant, timeout_at};

use super::Restored;
use crate::{
    Principal,
    metrics::Counter,
    socket::{
        core::{Sessions, Socket},
        recovery::{KnownSession, Offer, Pid},
        types::sweep,
    },
};

/// What becomes of the session that a client asks to recover.
enum SessionLookup {
    Nothing,
    Connected(Socket),
    Leaving,
    Claim(Claim),
}

impl Sessions {
    /// Keeps a session whose client is away.
    pub(crate) fn keep_away(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        self.keep(pid, socket, Instant::now() + self.window);
        self.went_away.notify_waiters();
    }

    /// Keeps a session until a time, or ends it if it cannot be kept.
    fn keep(self: &Arc<Self>, pid: Pid, socket: &Socket, until: Instant) {
        let io = socket.io().clone();
        socket.keep_session(true);
        let (gone, must_sweep) = self.insert(pid, socket.clone(), until);
        self.end(gone);
        // The credentials may have been revoked after the client had left and before the session
        // could be found here.
        if !socket.may_go_on() {
            self.expel(pid);
        }
        if must_sweep {
            let sessions = Arc::downgrade(self);
            let sweeping = move || sweep(sessions.clone(), Self::expire);
            io.keep("recovery sweep", sweeping);
        }
    }

    /// Ends the sessions whose time is over, and returns when the time of the next one is.
    fn expire(&self) -> Option<Instant> {
        let (gone, next) = self.take_due(Instant::now());
        self.end(gone);
        next
    }

    /// Ends the sessions of clients that are away and would be expelled if they were connected.
    /// What is revoked now may not be revoked any more when they come back.
    pub(crate) fn revalidate(&self) {
        for (pid, socket) in self.all_away() {
            if !socket.may_go_on() {
                self.expel(pid);
            }
        }
    }

    /// Ends all sessions; from here on none is kept.
    pub(crate) fn close(&self) {
        self.end(self.take_all());
    }

    /// Ends a session whose client is away.
    pub(crate) fn expel(&self, pid: Pid) {
        let gone = self.take(pid).map(|(_, socket)| socket);
        if let Some(socket) = &gone {
            socket.forget_session();
        }
        self.end(gone);
    }

    /// Takes the session that a client asks to recover. The session belongs to the claim from then
    /// on, so one of two clients gets it. A session whose client seems to be connected is taken
    /// from that connection.
    pub(crate) async fn claim(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> Option<Claim> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Registered before looking, so that a session that is kept in between wakes this task.
            let went_away = self.went_away.notified();
            tokio::pin!(went_away);
            went_away.as_mut().enable();
            match self.look(offer, nsp) {
                SessionLookup::Claim(claim) => return Some(claim),
                // The connection is known to be dead, since its client has a new one. Its session is
                // kept or about to be when this looks again.
                SessionLookup::Connected(socket) => socket.break_off(),
                SessionLookup::Leaving
                    if timeout_at(deadline, went_away.as_mut()).await.is_ok() => {}
                SessionLookup::Leaving | SessionLookup::Nothing => return None,
            }
        }
    }

    fn look(self: &Arc<Self>, offer: Offer, nsp: &Nsp) -> SessionLookup {
        let (socket, is_away) = match self.find(offer.pid, Socket::upgrade) {
            Some(KnownSession::Away(socket)) => (socket, true),
            Some(KnownSession::Connected(socket)) => (socket, false),
            Some(KnownSession::Leaving) => return SessionLookup::Leaving,
            None => return SessionLookup::Nothing,
        };
        let inner = socket.namespace_inner();
        let Some(known) = inner.known(offer.last) else {
            return SessionLookup::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) {
            return SessionLookup::Nothing;
        }
        let round = self.rounds();
        match is_away {
            // If the session is gone, another client was faster.
            true => self.take(offer.pid).map_or(SessionLookup::Nothing, |away| {
                SessionLookup::Claim(Claim {
                    sessions: Arc::clone(self),
                    pid: offer.pid,
                    round,
                    held: Some(ClaimedSession::Here(known, away)),
                })
            }),
            false if socket.is_connected() => SessionLookup::Connected(socket),
            false => SessionLookup::Leaving,
        }
    }

    fn end(&self, gone: impl IntoIterator<Item = Socket>) {
        for socket in gone {
            self.metrics.count(Counter::SessionsExpired);
            socket.end_session();
        }
    }
}

/// A session that no other client can take. If a claim is dropped unused, its session is kept
/// again.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    pid: Pid,
    /// How often everybody had been asked for again before it was taken.
    round: u64,
    held: Option<ClaimedSession>,
}

/// The session that a claim has taken, until it is restored or given back.
#[cfg_attr(
    not(feature = "cluster"),
    allow(dead_code, reason = "there are no other servers")
)]
enum ClaimedSession {
    /// What the client has, until when the socket is kept, and the socket.
    Here(Stamp, (Instant, Socket)),
    Remote(Box<Restored>),
}

impl Claim {
    /// Claims a session that another server has kept.
    #[cfg(feature = "cluster")]
    pub(super) fn restored(sessions: &Arc<Sessions>, restored: Restored) -> Self {
        Self {
            sessions: Arc::clone(sessions),
            pid: restored.pid(),
            round: sessions.rounds(),
            held: Some(ClaimedSession::Remote(Box::new(restored))),
        }
    }

    /// Who the client was, if that is known.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match self.held.as_ref()? {
            ClaimedSession::Here(_, (_, socket)) => Some(socket.principal()),
            ClaimedSession::Remote(restored) => restored.principal(),
        }
    }

    /// Ends the session, because its client has changed.
    pub(crate) fn give_up(mut self) {
        self.sessions.metrics.count(Counter::SessionsNotRecovered);
        if let Some(ClaimedSession::Here(_, (_, old))) = self.held.take() {
            self.sessions.end([old]);
        }
    }

    /// Whether all sockets have been revalidated since the session was claimed. Revalidation does
    /// not find a claimed session, so the session must end: its client may have been one to expel.
    fn was_missed(&self) -> bool {
        self.sessions.rounds() != self.round
    }

    /// What another server has kept, to be gone on with by [`settle`](Self::settle).
    pub(crate) fn take_restored(&mut self) -> Option<Restored> {
        if self.was_missed() {
            return None;
        }
        match self.held.take()? {
            ClaimedSession::Remote(restored) => Some(*restored),
            here @ ClaimedSession::Here(..) => {
                self.held = Some(here);
                None
            }
        }
    }

    /// Decides whether a session that another server has kept goes on here.
    pub(crate) fn settle(self, socket: Option<Socket>) -> Option<Socket> {
        self.sessions.metrics.count(match &socket {
            Some(_) => Counter::SessionsRecovered,
            None => Counter::SessionsNotRecovered,
        });
        socket
    }

    /// Lets a new socket go on with the session. `None` if that cannot be: it ends then.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        if self.was_missed() {
            self.give_up();
            return None;
        }
        let Some(ClaimedSession::Here(known, (_, old))) = self.held.take() else {
            return None;
        };
        let socket = resume(&old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(&old, &socket, known, self.sessions.limits) {
            // Only now can somebody else take it over.
            self.sessions.enter(self.pid, socket.downgrade());
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
        let was_missed = self.was_missed();
        match self.held.take() {
            None => {}
            Some(ClaimedSession::Here(_, (_, socket))) if was_missed => self.sessions.end([socket]),
            Some(ClaimedSession::Here(_, (until, socket))) => {
                self.sessions.keep(self.pid, &socket, until)
            }
            Some(ClaimedSession::Remote(_)) if was_missed => {}
            Some(ClaimedSession::Remote(restored)) => restored.give_back(self.sessions.window),
        }
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// How long a client that comes back waits for the handlers of its socket that was just
/// disconnected. After that it is admitted as a new one.
const PATIENCE: Duration = Duration::from_secs(1);
