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
        self.keep(pid, socket.clone(), Instant::now() + self.window);
        self.parked.notify_waiters();
    }

    /// Keeps a session until then, or ends it if it cannot be kept.
    fn keep(self: &Arc<Self>, pid: Pid, socket: Socket, until: Instant) {
        let io = socket.io().clone();
        let (gone, must_sweep) = self.insert(pid, socket, until);
        self.end(gone);
        if must_sweep {
            io.spawn(sweep(Arc::downgrade(self), Self::expire));
        }
    }

    /// Ends the sessions whose time has come; when the next one's comes.
    fn expire(&self) -> Option<Instant> {
        let (gone, next) = self.take_due(Instant::now());
        self.end(gone);
        next
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
