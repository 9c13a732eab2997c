//! Sockets that connect, are lost, are recovered, and leave.

use std::time::Duration;

use roomcast::{DisconnectReason, Room, Socket};
use uuid::Uuid;

use super::handle::{Chat, now, user};
use super::sequencer::{conversations::conversation_of, delivery::user_room};

impl Chat {
    /// A socket has connected and may join conversations from now on. A recovered socket is at once
    /// in the conversations in which it was before, so that it misses nothing; the caller has to
    /// call [`Chat::recheck`] after that.
    pub(crate) fn connected(&self, socket: &Socket) {
        let own = user_room(&socket.principal().subject);
        if let Err(error) = socket.join(own) {
            tracing::warn!(socket = %socket.id(), %error, "will not hear of its conversations");
        }
        // The socket is noted before it goes on in its conversations, since entering one fails for
        // a socket that is not in the table.
        self.0.conversations.connect(socket.id());
        if socket.recovered() {
            for room in socket.rooms() {
                if let Some(id) = conversation_of(&room) {
                    self.go_on(socket, id, &room);
                }
            }
        }
        // The socket may have gone before it was noted here, and then nobody would remove it.
        if !socket.is_connected() {
            self.0.conversations.disconnect(socket.id());
        }
    }

    /// A recovered socket is in a conversation again, which was kept for it.
    fn go_on(&self, socket: &Socket, id: Uuid, room: &Room) {
        let by = &socket.principal();
        let entered = self.0.conversations.with(id, |live| {
            // A user who was removed just now has been taken out of the room.
            socket.rooms().contains(room) && self.enter(live, socket, by).is_ok()
        });
        if entered != Some(true) {
            socket.leave(room);
        }
    }

    /// Checks again whether a recovered socket may be in its conversations, by the claims it has
    /// now and by the members in the store. If the store does not answer, the socket stays: a user
    /// who is removed is taken out in any case, also while away.
    pub(crate) async fn recheck(&self, socket: &Socket) {
        self.reconsider(socket);
        let by = &socket.principal();
        let ids = self
            .0
            .conversations
            .of_sockets(std::iter::once(socket.id()));
        for id in ids {
            if let Ok(false) = self.0.store.is_member(id, &by.subject).await {
                self.depart(socket, by, id);
            }
        }
    }

    /// A socket has gone: on purpose, or lost so that its user may come back.
    pub(crate) fn disconnected(&self, socket: &Socket, reason: DisconnectReason) {
        let by = &socket.principal();
        for id in self.0.conversations.disconnect(socket.id()) {
            self.0.conversations.with(id, |live| {
                let deliberate = reason.is_deliberate();
                if let (Some(window), false) = (self.0.recovery, deliberate) {
                    // As long as somebody may come back, what is emitted has to pass through the
                    // room, which keeps it for the client.
                    live.kept_until = live.kept_until.max(Some(now() + window + SETTLING));
                }
                live.depart(
                    &socket.namespace(),
                    now(),
                    socket.id(),
                    &user(by),
                    deliberate,
                );
            });
        }
    }
}

/// How much longer a conversation is kept than the sessions of the users who were lost: a session
/// is kept a little later, and recovery takes a moment.
const SETTLING: Duration = Duration::from_secs(10);
