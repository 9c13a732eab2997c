//! Going on with a session: who may, who gets it, and when it ends.

use std::{fmt, sync::Arc, time::Duration};

use roomcast_protocol::{Stamp, socket::Nsp};
use tokio::time::{Instant, timeout_at};

use crate::{
    Principal,
    metrics::Counter,
    socket::{
        core::{Sessions, Socket},
        recovery::{Held, Offer, Pid},
        words::sweep,
    },
};

enum Found {
    Nothing,
    Connected(Socket),
    Leaving,
    Claim(Claim),
}

impl Sessions {
    /// Keeps a session whose client is away.
    pub(crate) fn park(self: &Arc<Self>, pid: Pid, socket: &Socket) {
        self.keep(pid, socket, Instant::now() + self.window);
        self.parked.notify_waiters();
    }

    /// Keeps a session until then, or ends it if it cannot be kept.
    fn keep(self: &Arc<Self>, pid: Pid, socket: &Socket, until: Instant) {
        let io = socket.io().clone();
        let (gone, must_sweep) = self.insert(pid, socket.clone(), until);
        self.end(gone);
        // It may have been revoked after it had left and before anybody found it here.
        if !socket.may_go_on() {
            self.expel(pid);
        }
        if must_sweep {
            let sessions = Arc::downgrade(self);
            let sweeping = move || sweep(sessions.clone(), Self::expire);
            io.keep("recovery sweep", sweeping);
        }
    }

    /// Ends the sessions whose time has come; when the next one's comes.
    fn expire(&self) -> Option<Instant> {
        let (gone, next) = self.take_due(Instant::now());
        self.end(gone);
        next
    }

    /// Ends the sessions of clients that are away and would be expelled if they were there. What is
    /// revoked then may not be any more when they come back.
    pub(crate) fn revalidate(&self) {
        for (pid, socket) in self.all_parked() {
            if !socket.may_go_on() {
                self.expel(pid);
            }
        }
    }

    /// Ends all sessions; none is parked from here on.
    pub(crate) fn close(&self) {
        self.end(self.take_all());
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
        let (socket, is_parked) = match self.find(offer.pid, Socket::upgrade) {
            Some(Held::Parked(socket)) => (socket, true),
            Some(Held::Connected(socket)) => (socket, false),
            Some(Held::Leaving) => return Found::Leaving,
            None => return Found::Nothing,
        };
        let inner = socket.namespace_inner();
        let Some(known) = inner.known(offer.last) else {
            return Found::Nothing;
        };
        if inner.name != *nsp || !socket.outbox().has_all_after(known) {
            return Found::Nothing;
        }
        let round = self.rounds();
        match is_parked {
            // If it is not there any more, somebody else was faster.
            true => self.take(offer.pid).map_or(Found::Nothing, |parked| {
                Found::Claim(Claim {
                    sessions: Arc::clone(self),
                    pid: offer.pid,
                    known,
                    round,
                    parked: Some(parked),
                })
            }),
            false if socket.is_connected() => Found::Connected(socket),
            false => Found::Leaving,
        }
    }

    fn end(&self, gone: impl IntoIterator<Item = Socket>) {
        for socket in gone {
            self.metrics.count(Counter::SessionsExpired);
            socket.end_session();
        }
    }
}

/// A session that nobody else can take. Dropped unused, it is parked again.
pub(crate) struct Claim {
    sessions: Arc<Sessions>,
    pid: Pid,
    known: Stamp,
    /// How often everybody had been asked for again before it was taken.
    round: u64,
    /// The socket, and until when it is kept.
    parked: Option<(Instant, Socket)>,
}

impl Claim {
    /// Who the client was.
    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        self.parked.as_ref().map(|(_, socket)| socket.principal())
    }

    /// Ends the session, whose client is not what it was.
    pub(crate) fn give_up(mut self) {
        self.sessions.metrics.count(Counter::SessionsNotRecovered);
        self.sessions.end(self.parked.take().map(|(_, old)| old));
    }

    /// Whether everybody has been asked for again since it was taken. Nobody found the session
    /// meanwhile, so that it must end: its client may be one that was to be expelled.
    fn was_missed(&self) -> bool {
        self.sessions.rounds() != self.round
    }

    /// Lets a new socket go on with the session. `None` if that cannot be: it ends then.
    pub(crate) fn resume(mut self, resume: impl FnOnce(&Socket) -> Socket) -> Option<Socket> {
        if self.was_missed() {
            self.give_up();
            return None;
        }
        let (_, old) = self.parked.take()?;
        let socket = resume(&old);
        let inner = old.namespace_inner();
        if let Some(sent) = inner.readmit(&old, &socket, self.known, self.sessions.limits) {
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
        let Some((until, socket)) = self.parked.take() else {
            return;
        };
        if self.was_missed() {
            self.sessions.end([socket]);
        } else {
            self.sessions.keep(self.pid, &socket, until);
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
