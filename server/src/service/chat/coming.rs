//! Sockets that connect, are lost, are recovered, and leave.

use std::time::Duration;

use roomcast::{DisconnectReason, Room, Socket};
use uuid::Uuid;

use super::handle::{Chat, now, user};
use super::sequencer::{
    conversations::{Entered, conversation_of},
    delivery::user_room,
};

/// What a socket that was lost was in, kept with it for the one that its client is recovered as.
struct WasIn(Vec<Entered>);

impl Chat {
    /// A socket has connected and may join conversations from now on. A recovered socket is at once
    /// in the conversations in which it was before, so that it misses nothing; the caller has to
    /// call [`Chat::recheck`] after that.
    pub(crate) fn connected(&self, socket: &Socket) {
        let own = user_room(&socket.principal().subject);
        if let Err(error) = socket.join(own) {
            roomcast::throttled_log!(warn, socket = %socket.id(), %error, "will not hear of its conversations");
        }
        // The socket is noted before it goes on in its conversations, since entering one fails for
        // a socket that is not in the table.
        self.0.conversations.connect(socket.id());
        if socket.recovered() {
            let was_in = was_in(socket);
            for room in socket.rooms() {
                if let Some(id) = conversation_of(&room) {
                    self.go_on(socket, id, &room, since_in(&was_in, id));
                }
            }
            // From here on the table of sockets knows better.
            socket.set_data(WasIn(Vec::new()));
        }
        // The socket may have gone before it was noted here, and then nobody would remove it.
        if !socket.is_connected() {
            self.0.conversations.disconnect(socket.id());
        }
    }

    /// A recovered socket is in a conversation again, which was kept for it.
    fn go_on(&self, socket: &Socket, id: Uuid, room: &Room, since: Option<u64>) {
        let by = &socket.principal();
        let entered = self.0.conversations.with(id, |live| {
            let since = since.unwrap_or_else(|| live.told());
            // A user who was removed just now has been taken out of the room.
            socket.rooms().contains(room) && self.enter(live, socket, by, since).is_ok()
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

    /// What a socket is in, or was when it was lost, and since when it is told that live.
    pub(super) fn entered(&self, socket: &Socket) -> Vec<Entered> {
        let entered = self.0.conversations.entered(socket.id());
        entered.unwrap_or_else(|| was_in(socket))
    }

    /// A socket has gone: on purpose, or lost so that its user may come back.
    pub(crate) fn disconnected(&self, socket: &Socket, reason: DisconnectReason) {
        let by = &socket.principal();
        let entered = self.0.conversations.disconnect(socket.id());
        let deliberate = reason.is_deliberate();
        if self.0.recovery.is_some() && !deliberate {
            socket.set_data(WasIn(entered.clone()));
        }
        for Entered { id, .. } in entered {
            self.0.conversations.with(id, |live| {
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

/// What a socket was in when it was lost.
fn was_in(socket: &Socket) -> Vec<Entered> {
    let kept = socket.data::<WasIn>();
    kept.map_or_else(Vec::new, |kept| kept.0.clone())
}

/// Since when a socket was told a conversation live, if that is known.
pub(super) fn since_in(entered: &[Entered], id: Uuid) -> Option<u64> {
    let known = entered.iter().find(|entered| entered.id == id)?;
    Some(known.since)
}

/// How much longer a conversation is kept than the sessions of the users who were lost: a session
/// is kept a little later, and recovery takes a moment.
const SETTLING: Duration = Duration::from_secs(10);
