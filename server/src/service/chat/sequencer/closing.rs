//! The removal of a deleted conversation.

use crate::service::chat::presence::typing::Typing;
use crate::service::chat::sequencer::conversations::LiveConversation;
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::rules::emissions::conversations::CONVERSATION_DELETED;
use crate::store::DeletedConversation;
use roomcast::{Broadcast, Namespace, Room};

impl LiveConversation {
    /// Removes all users without notices, since `conversation_deleted` covers them.
    pub(in crate::service) fn close(&mut self, namespace: &Namespace, changes: u64) {
        // Memberships that were read before this change must be read again.
        self.removed_at = changes.max(self.removed_at);
        // The end of typing is not emitted, since the event about the deletion covers it.
        self.typing = Typing::default();
        self.leaving.clear();
        // This also removes the sockets of disconnected clients that can still recover.
        namespace.local().in_(&self.room).leave(&self.room);
        self.expelled.extend(self.presence.close());
    }
}

/// Emits the deletion to the joined sockets and to all sockets of all members.
pub(super) fn emit_deleted(
    here: Broadcast<'_>,
    deleted: &DeletedConversation,
    member_ids: &[String],
) {
    let members: Vec<Room> = member_ids.iter().map(|id| user_room(id)).collect();
    CONVERSATION_DELETED.emit(here.to(members), deleted);
}
