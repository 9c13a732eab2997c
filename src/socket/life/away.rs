//! Sockets whose clients are away. They stay in their rooms, where their outboxes go on keeping
//! what is sent to them, but they count as absent.

use roomcast_protocol::Stamp;

use crate::socket::{
    core::Socket,
    recovery::{Last, Pid, Recoverable},
    types::{DisconnectReason, Room},
};

/// A socket that is away in all rooms, and that no client can claim yet. It can from when this is dropped, whatever
/// happens in between: who waits for the client would wait in vain for one that leaves for ever.
pub(crate) struct Leaving<'a> {
    socket: &'a Socket,
    pid: Pid,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.socket.io().recovery_table() {
            table.keep_away(self.pid, self.socket);
        }
    }
}

impl Socket {
    /// Notes that the client leaves, before its handlers are told. Returns `Some` if it may come back as the same
    /// socket.
    pub(crate) fn begin_leaving(&self, reason: DisconnectReason) -> Option<&Recoverable> {
        let recoverable = self.recoverable()?;
        let table = self.io().recovery_table()?;
        // When this server stops its clients are kept for others as long as it waits for them.
        let stays = reason.is_recoverable()
            || reason == DisconnectReason::ServerShuttingDown && self.io().has_others_to_go_to();
        // A client from another server lacks what the application has yet to give it, and cannot be recovered before.
        if stays && !self.is_arriving() {
            table.leave(recoverable.pid);
            Some(recoverable)
        } else {
            table.forget(recoverable.pid);
            // Whoever waits for the application to be done with the socket waits in vain.
            table.settled.notify_waiters();
            // Another server can go on with the client when this one stops.
            if reason == DisconnectReason::ServerShuttingDown {
                self.save_state(true);
            }
            None
        }
    }

    /// Whether the application has yet to give the client what it lacks of another server.
    pub(crate) fn is_arriving(&self) -> bool {
        let arrival = self.recoverable().and_then(Recoverable::arrival);
        arrival.is_some()
    }

    /// The place here that stands for what a client has of the server from which it came.
    pub(crate) fn known_from(&self, last: Last) -> Option<Stamp> {
        let channel = self.namespace_inner().channel.as_ref()?.id();
        let number = self.recoverable()?.number_of(last)?;
        Some(Stamp { channel, number })
    }

    /// Keeps the socket in its rooms for a client that is away. The client may come back once what is returned is dropped.
    pub(crate) fn keep_away(&self, recoverable: &Recoverable) -> Leaving<'_> {
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
        Leaving {
            socket: self,
            pid: recoverable.pid,
        }
    }

    /// Ends the socket for good: the client will not come back as this socket.
    pub(crate) fn end_for_good(&self) {
        self.end_membership();
        let namespace = self.namespace_inner();
        if namespace.dismiss(self.id()) {
            self.io().take_down(namespace);
        }
        namespace.forget_replay(self);
    }

    /// Ends the socket of a client that is away, so that it cannot come back as the same one.
    pub(crate) fn expel_away(&self) {
        if let (Some(table), Some(recoverable)) = (self.io().recovery_table(), self.recoverable()) {
            table.expel(recoverable.pid);
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
