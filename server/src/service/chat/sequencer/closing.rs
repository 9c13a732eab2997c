//! The end of a conversation that is deleted.

use crate::service::chat::presence::typing::Typing;
use crate::service::chat::sequencer::conversations::Live;
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::rules::emissions::conversations::CONVERSATION_DELETED;
use crate::store::DeletedConversation;
use roomcast::{Broadcast, Namespace, Room};

impl Live {
    /// Takes everybody out without notices, since `conversation_deleted` tells all.
    pub(in crate::service) fn close(&mut self, namespace: &Namespace, changes: u64) {
        // A user whose membership was read before has to read it again.
        self.removed_at = changes.max(self.removed_at);
        // Nobody is told that typing has ended: the event about the end of the conversation tells
        // it all.
        self.typing = Typing::default();
        self.leaving.clear();
        // Sockets whose clients are away and may come back are taken out as well.
        namespace.local().in_(&self.room).leave(&self.room);
        self.expelled.extend(self.presence.close());
    }
}

/// Tells those who have joined, and all members in all tabs.
pub(super) fn tell_deleted(
    here: Broadcast<'_>,
    deleted: &DeletedConversation,
    member_ids: &[String],
) {
    let members: Vec<Room> = member_ids.iter().map(|id| user_room(id)).collect();
    CONVERSATION_DELETED.emit(here.to(members), deleted);
}
