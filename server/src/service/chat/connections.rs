//! Connections: sockets that connect, are lost, recover, and leave.

use std::time::Duration;

use roomcast::{DisconnectReason, Room, Socket};
use uuid::Uuid;

use super::handle::{Chat, now, user};
use super::sequencer::{
    conversations::{Entered, conversation_of},
    delivery::user_room,
};

/// The conversations that a lost socket was in, stored with its session for recovery.
struct LostConversations(Vec<Entered>);

impl Chat {
    /// Records that a socket has connected and may join conversations.
    ///
    /// A recovered socket is immediately in its earlier conversations again, so that it misses
    /// nothing. The caller must call [`Chat::recheck`] afterwards.
    pub(crate) fn connected(&self, socket: &Socket) {
        let user = &socket.principal().subject;
        self.0.losses.returned(user, socket.recovered(), now());
        let own = user_room(user);
        if let Err(error) = socket.join(own) {
            roomcast::throttled_log!(warn, socket = %socket.id(), %error, "could not join the user's room, socket will miss conversation updates");
        }
        // The socket is recorded before it resumes its conversations, since a socket that is not in
        // the table cannot enter any.
        self.0.conversations.connect(socket.id());
        if socket.recovered() {
            let lost_conversations = lost_conversations(socket);
            for room in socket.rooms() {
                if let Some(id) = conversation_of(&room) {
                    self.resume(socket, id, &room, live_since(&lost_conversations, id));
                }
            }
            // From here on the table of sockets is up to date.
            socket.set_data(LostConversations(Vec::new()));
        }
        // The socket may have disconnected before it was recorded, and then no event would remove
        // it.
        if !socket.is_connected() {
            self.0.conversations.disconnect(&socket.id());
        }
    }

    /// Resumes a conversation of a recovered socket whose session retained its room.
    fn resume(&self, socket: &Socket, id: Uuid, room: &Room, since: Option<u64>) {
        let by = &socket.principal();
        let entered = self.0.conversations.with(id, |live| {
            let since = since.unwrap_or_else(|| live.emitted_seq());
            // A user removed in the meantime is no longer in the room.
            socket.rooms().contains(room) && self.enter(live, socket, by, since).is_ok()
        });
        if entered != Some(true) {
            socket.leave(room);
        }
    }

    /// Checks whether a recovered socket may stay in its conversations, by its current claims and
    /// by the members in the store.
    ///
    /// If the store does not answer, the socket stays. A removal takes the user out in any case,
    /// even while disconnected.
    pub(crate) async fn recheck(&self, socket: &Socket) {
        self.recheck_permissions(socket);
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

    /// Returns the conversations of a socket, or those it had when it was lost.
    pub(super) fn entered(&self, socket: &Socket) -> Vec<Entered> {
        let entered = self.0.conversations.entered(&socket.id());
        entered.unwrap_or_else(|| lost_conversations(socket))
    }

    /// Records that a socket has disconnected, either deliberately or because its connection was
    /// lost.
    pub(crate) fn disconnected(&self, socket: &Socket, reason: DisconnectReason) {
        let by = &socket.principal();
        let entered = self.0.conversations.disconnect(&socket.id());
        let deliberate = reason.is_deliberate();
        if reason == DisconnectReason::ServerNamespaceDisconnect {
            self.interrupt_of(&socket.id());
        }
        if !deliberate {
            self.0.losses.lost(&by.subject, now());
        }
        if self.0.recovery.is_some() && !deliberate {
            socket.set_data(LostConversations(entered.clone()));
        }
        for Entered { id, .. } in entered {
            self.0.conversations.with(id, |live| {
                if let (Some(window), false) = (self.0.recovery, deliberate) {
                    // While the client can recover, emissions must go through the room, which
                    // stores them for the client.
                    live.recoverable_until = live
                        .recoverable_until
                        .max(Some(now() + window + RECOVERY_MARGIN));
                }
                live.depart(
                    &socket.namespace(),
                    now(),
                    &socket.id(),
                    &user(by),
                    deliberate,
                );
            });
        }
    }
}

/// Returns the conversations that a socket was in when it was lost.
fn lost_conversations(socket: &Socket) -> Vec<Entered> {
    let lost = socket.data::<LostConversations>();
    lost.map_or_else(Vec::new, |lost| lost.0.clone())
}

/// Returns the number of the message after which a socket receives a conversation live, if known.
pub(super) fn live_since(entered: &[Entered], id: Uuid) -> Option<u64> {
    let known = entered.iter().find(|entered| entered.id == id)?;
    Some(known.since)
}

/// Time for which a conversation is retained after the sessions of its lost sockets.
///
/// The retention of a session starts slightly later, and recovery takes a moment.
const RECOVERY_MARGIN: Duration = Duration::from_secs(10);
