//! Sockets whose clients are away: they stay in their rooms, where their outboxes go on keeping
//! what is sent to them, but nobody counts or finds them there.

use crate::socket::{
    core::Socket,
    recovery::Recoverable,
    words::{DisconnectReason, Room},
};

impl Socket {
    /// Its end has begun; `Some` if the client may come back as the same socket.
    pub(crate) fn leave_session(&self, reason: DisconnectReason) -> Option<&Recoverable> {
        let recoverable = self.recoverable()?;
        let sessions = self.io().sessions()?;
        if reason.is_recoverable() {
            sessions.leave(recoverable.pid);
            Some(recoverable)
        } else {
            sessions.forget(recoverable.pid);
            None
        }
    }

    /// Stays where it is for a client that is away.
    pub(crate) fn park(&self, recoverable: &Recoverable) {
        let is_told = self.tells_of_rooms();
        let mut news: Vec<(Room, bool)> = Vec::new();
        self.stay(|room, cell| {
            let was_last = cell.lock().park(self.id(), self.outbox());
            if is_told {
                news.push((room.clone(), was_last));
            }
        });
        self.namespace_inner().park(self);
        self.tell_left(&news);
        if let Some(sessions) = self.io().sessions() {
            sessions.park(recoverable.pid, self);
        }
    }

    /// Nobody will come back as this socket.
    pub(crate) fn end_session(&self) {
        self.leave_all();
        let namespace = self.namespace_inner();
        if namespace.dismiss(self.id()) {
            self.io().take_down(namespace);
        }
        namespace.forget_replay(self);
    }

    /// Its client, which is away, must not come back as the same socket.
    pub(crate) fn expel_away(&self) {
        if let (Some(sessions), Some(recoverable)) = (self.io().sessions(), self.recoverable()) {
            sessions.expel(recoverable.pid);
        }
    }

    /// Takes the rooms of a socket over, as the same one.
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
