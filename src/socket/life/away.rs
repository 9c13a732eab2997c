//! Sockets whose clients are away. They stay in their rooms, where their outboxes go on keeping
//! what is sent to them, but they count as absent.

use crate::socket::{
    core::Socket,
    recovery::Recoverable,
    types::{DisconnectReason, Room},
};

impl Socket {
    /// Begins the end of the session. Returns `Some` if the client may come back as the same
    /// socket.
    pub(crate) fn leave_session(&self, reason: DisconnectReason) -> Option<&Recoverable> {
        let recoverable = self.recoverable()?;
        let sessions = self.io().sessions()?;
        if reason.is_recoverable() {
            sessions.leave(recoverable.pid);
            Some(recoverable)
        } else {
            sessions.forget(recoverable.pid);
            // Another server can, when this one stops.
            if reason == DisconnectReason::ServerShuttingDown {
                self.keep_session(true);
            }
            None
        }
    }

    /// Keeps the socket in its rooms for a client that is away.
    pub(crate) fn keep_away(&self, recoverable: &Recoverable) {
        let is_told = self.tells_of_rooms();
        let mut news: Vec<(Room, bool)> = Vec::new();
        self.stay(|room, cell| {
            let was_last = cell.lock().keep_away(self.id(), self.outbox());
            if is_told {
                news.push((room.clone(), was_last));
            }
        });
        self.namespace_inner().keep_away(self);
        self.tell_left(&news);
        if let Some(sessions) = self.io().sessions() {
            sessions.keep_away(recoverable.pid, self);
        }
    }

    /// Ends the session: the client will not come back as this socket.
    pub(crate) fn end_session(&self) {
        self.leave_all();
        let namespace = self.namespace_inner();
        if namespace.dismiss(self.id()) {
            self.io().take_down(namespace);
        }
        namespace.forget_replay(self);
    }

    /// Ends the session of a client that is away, so that it cannot come back as the same socket.
    pub(crate) fn expel_away(&self) {
        if let (Some(sessions), Some(recoverable)) = (self.io().sessions(), self.recoverable()) {
            sessions.expel(recoverable.pid);
        }
    }

    /// Takes over the rooms of the socket that this one was recovered from.
    pub(crate) fn rejoin(&self, old: &Self) {
        let is_told = self.tells_of_rooms();
        let mut news: Vec<(Room, bool)> = Vec::new();
        self.inherit(old, |room, cell| {
            let is_first = cell.lock().resume(self.id(), self.outbox());
            if is_told {
                news.push((room.clone(), is_first));
            }
        });
        self.tell_joined(&news);
    }
}
