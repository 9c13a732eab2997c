//! Deletes conversations and purges their remains.

use std::mem;

use super::tables::{ENTRY_BYTES, Tables};
use crate::store::Time;
use crate::store::change::{Change, DeleteConversation, DeletedConversation, Removal};

impl Tables {
    pub(super) fn delete_conversation(
        &mut self,
        deletion: &DeleteConversation,
        now: Time,
    ) -> Change<Removal> {
        let Some(room) = self.rooms.get_mut(&deletion.conversation_id) else {
            return Change::Absent;
        };
        let owner = room.conversation.owner_id.as_deref();
        if let Some(deleted) = &room.deleted {
            return deletion.repeated(owner, deleted.clone());
        }
        let is_member = room.admits(&deletion.by.user_id);
        if let Some(refused) = deletion.refused(owner, room.is_open, is_member) {
            return refused;
        }
        let deleted = DeletedConversation {
            conversation_id: deletion.conversation_id,
            deleted_at: now,
            deleted_by: deletion.by.user_id.clone(),
        };
        room.deleted = Some(deleted.clone());
        room.members.clear();
        self.invites.remove(deletion.conversation_id, now);
        let member_ids = mem::take(&mut room.conversation.member_ids);
        let title = room
            .conversation
            .title
            .take()
            .map_or(0, |title| title.len());
        let members = member_ids.iter().map(|id| 2 * id.len() + ENTRY_BYTES);
        let freed = title + members.sum::<usize>();
        self.bytes = self.bytes.saturating_sub(freed as u64);
        Change::Done(Removal {
            deleted,
            member_ids,
        })
    }

    pub(super) fn purge(&mut self, time: Time, limit: usize) -> u64 {
        let mut removed = 0;
        let mut bytes = 0;
        for room in self.rooms.values_mut() {
            if room.deleted.is_none() {
                continue;
            }
            while removed < limit
                && let Some(stored) = room.messages.pop_front()
            {
                room.expired += 1;
                removed += 1;
                bytes += room.unpin(stored.message.seq).unwrap_or(0);
                bytes += self.index.forget(stored);
            }
            if removed < limit {
                let reads = mem::take(&mut room.reads);
                removed += reads.len();
                bytes += reads
                    .keys()
                    .map(|user| user.len() + ENTRY_BYTES)
                    .sum::<usize>();
                let levels = mem::take(&mut room.levels);
                let levels = levels.keys().map(|user| user.len() + ENTRY_BYTES);
                bytes += levels.sum::<usize>();
            }
        }
        // The conversation is removed last, when nothing refers to it, as in the databases.
        if removed == 0 {
            let before = self.rooms.len();
            self.rooms
                .retain(|_, room| room.deleted.as_ref().is_none_or(|d| d.deleted_at >= time));
            removed = before - self.rooms.len();
            bytes += removed * ENTRY_BYTES;
        }
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        removed as u64
    }
}
