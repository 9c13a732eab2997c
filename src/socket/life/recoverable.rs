//! Disconnected but recoverable sockets. They stay in their rooms, where their outboxes store
//! missed events, but do not count as members.

use roomcast_protocol::Stamp;

use crate::socket::{
    core::Socket,
    recovery::{LastOffset, Pid, Recoverable},
    types::{DisconnectReason, Room},
};

/// A recoverable socket that no client can claim yet. Dropping this value makes it claimable.
///
/// The drop guarantees that a client that waits for the socket does not wait for a disconnect that
/// never completes.
pub(crate) struct DepartureGuard<'a> {
    socket: &'a Socket,
    pid: Pid,
}

impl Drop for DepartureGuard<'_> {
    fn drop(&mut self) {
        if let Some(table) = self.socket.io().recovery_table() {
            table.retain_recoverable(self.pid, self.socket);
        }
    }
}

impl Socket {
    /// Records that the client disconnects, before its handlers start. Returns `Some` if it may
    /// recover the socket.
    pub(crate) fn begin_leaving(&self, reason: DisconnectReason) -> Option<&Recoverable> {
        let recoverable = self.recoverable()?;
        let table = self.io().recovery_table()?;
        // If this server shuts down, clients remain recoverable while it waits for other servers.
        let stays = reason.is_recoverable()
            || reason == DisconnectReason::ServerShuttingDown && self.io().has_handover_targets();
        // A client whose handover is incomplete lacks events, and cannot recover before it is
        // complete.
        if stays && !self.is_handover_pending() {
            table.leave(recoverable.pid);
            Some(recoverable)
        } else {
            table.forget(recoverable.pid);
            // Claims that wait for the handover to complete cannot succeed.
            table.settled.notify_waiters();
            // Another server can restore the client when this one stops.
            if reason == DisconnectReason::ServerShuttingDown {
                self.save_state(true);
            }
            None
        }
    }

    /// Returns whether the client's handover is incomplete.
    pub(crate) fn is_handover_pending(&self) -> bool {
        let arrival = self.recoverable().and_then(Recoverable::arrival);
        arrival.is_some()
    }

    /// Returns the local stamp of the offset, or of no offset, with which the client came to this
    /// server.
    pub(crate) fn known_from(&self, last: Option<LastOffset>) -> Option<Stamp> {
        let channel = self.namespace_inner().channel.as_ref()?.id();
        let number = self.recoverable()?.number_of(last)?;
        Some(Stamp { channel, number })
    }

    /// Keeps the socket in its rooms as recoverable. It becomes claimable when the result is
    /// dropped.
    pub(crate) fn retain_recoverable(&self, recoverable: &Recoverable) -> DepartureGuard<'_> {
        let reports_rooms = self.reports_rooms();
        let mut news: Vec<(Room, bool)> = Vec::new();
        self.stay(|room, cell| {
            let was_last = cell.lock().retain_recoverable(self.id(), self.outbox());
            if reports_rooms {
                news.push((room.clone(), was_last));
            }
        });
        self.namespace_inner().retain_recoverable(self);
        self.report_left(&news);
        DepartureGuard {
            socket: self,
            pid: recoverable.pid,
        }
    }

    /// Ends the socket permanently. The client cannot recover it.
    pub(crate) fn end_for_good(&self) {
        self.end_membership();
        let namespace = self.namespace_inner();
        if namespace.dismiss(&self.id()) {
            self.io().take_down(namespace);
        }
        namespace.discard_replay(self);
    }

    /// Ends a disconnected but recoverable socket, so that it cannot be recovered.
    pub(crate) fn end_recoverable(&self) {
        if let (Some(table), Some(recoverable)) = (self.io().recovery_table(), self.recoverable()) {
            table.expel(recoverable.pid);
        }
    }

    /// Takes over the rooms of the socket that this socket was recovered from.
    pub(crate) fn rejoin(&self, old: &Self) {
        let reports_rooms = self.reports_rooms();
        let mut news: Vec<(Room, bool)> = Vec::new();
        self.inherit(old, |room, cell| {
            let is_first = cell.lock().resume(self.id(), self.outbox());
            if reports_rooms {
                news.push((room.clone(), is_first));
            }
        });
        self.report_joined(&news);
    }
}
