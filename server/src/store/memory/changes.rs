//! Changes of stored data: edits, deletions, members, read marks, expiry.

use std::sync::Arc;

use super::annotations::bytes_of;
use super::tables::{ENTRY_BYTES, Stored, Tables, add};
use crate::store::change::{Actor, Change, Delete, Edit, MarkRead, MemberChange, ReadMark, Rename};
use crate::store::rows::{Conversation, Message, Version};
use crate::store::{StoreError, Time};

impl Tables {
    pub(super) fn edit(
        &mut self,
        edit: &Edit,
        now: Time,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let old = match self.changeable(edit.message_id, &edit.by) {
            Ok(message) if Edit::is_possible(message.deleted_at.is_some()) => message,
            Ok(_) => return Ok(Change::Absent),
            Err(refused) => return Ok(refused),
        };
        // The version is compared under the lock: of two concurrent edits, only the first succeeds.
        if edit.version.is_some_and(|version| version != old.version) {
            return Ok(Change::Conflict);
        }
        let new = old.edited(edit.content.clone(), now);
        self.replace(&old, new, &edit.by, now).map(Change::Done)
    }

    pub(super) fn delete(
        &mut self,
        delete: &Delete,
        now: Time,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let old = match self.changeable(delete.message_id, &delete.by) {
            Ok(message) if message.deleted_at.is_none() => message,
            Ok(message) => return Ok(Change::Unchanged(self.as_it_is(&message))),
            Err(refused) => return Ok(refused),
        };
        let new = old.deleted(now);
        self.replace(&old, new, &delete.by, now).map(Change::Done)
    }

    /// Returns a message that `by` may change, or the refusal.
    fn changeable(&self, id: uuid::Uuid, by: &Actor) -> Result<Arc<Message>, Change<Arc<Message>>> {
        let place = self.index.places.get(&id);
        let Some((room, message)) = place.and_then(|(conversation, seq)| {
            let room = self.room(*conversation, None)?;
            Some((room, room.message(*seq)?))
        }) else {
            return Err(Change::Absent);
        };
        match message.refuses(by, room.admits(&by.user_id)) {
            Some(refused) => Err(refused),
            None => Ok(Arc::clone(message)),
        }
    }

    fn replace(
        &mut self,
        old: &Arc<Message>,
        new: Message,
        by: &Actor,
        now: Time,
    ) -> Result<Arc<Message>, StoreError> {
        let max = self.max();
        let bytes = new.content.len() + old.metadata.get().len() + ENTRY_BYTES;
        self.bytes = add(self.bytes, bytes, max)?;
        self.index
            .versions
            .entry(old.id)
            .or_default()
            .push(Version {
                version: old.version,
                content: old.content.clone(),
                metadata: old.metadata.clone(),
                replaced_at: now,
                replaced_by: by.user_id.clone(),
            });
        let new = Arc::new(new);
        if let Some(room) = self.rooms.get_mut(&old.conversation_id) {
            let index = room.index(old.seq);
            if let Some(stored) = room.messages.get_mut(index) {
                stored.message = Arc::clone(&new);
                if new.deleted_at.is_some() {
                    let mut freed = bytes_of(&std::mem::take(&mut stored.reactions));
                    freed += room.unpin(old.seq).unwrap_or(0);
                    self.bytes = self.bytes.saturating_sub(freed as u64);
                }
            }
        }
        Ok(self.as_it_is(&new))
    }

    /// Returns a message with its quote and reactions.
    fn as_it_is(&self, message: &Arc<Message>) -> Arc<Message> {
        let room = self.rooms.get(&message.conversation_id);
        let stored = room.and_then(|room| room.messages.get(room.index(message.seq)));
        stored.map_or_else(|| Arc::clone(message), |stored| self.shown(stored, None))
    }

    pub(super) fn change_member(
        &mut self,
        change: &MemberChange,
        invite: Option<&str>,
        now: Time,
    ) -> Result<Change<Conversation>, StoreError> {
        let max = self.max();
        let found = self.rooms.get_mut(&change.conversation_id);
        let Some(room) = found.filter(|room| room.deleted.is_none()) else {
            return Ok(Change::Absent);
        };
        let is_member = room.admits(&change.by.user_id);
        let owner = room.conversation.owner_id.as_deref();
        if invite.is_none()
            && let Some(refused) = change.refused(owner, is_member)
        {
            return Ok(refused);
        }
        if change.removes != room.members.contains_key(&change.user_id) {
            return Ok(Change::Unchanged(room.conversation.clone()));
        }
        if change.transfers_ownership(owner) {
            let Some(heir) = room.longest_standing_except(&change.user_id).cloned() else {
                return Ok(Change::Conflict);
            };
            room.conversation.owner_id = Some(heir);
            room.members.remove(&change.user_id);
        } else if change.removes {
            room.members.remove(&change.user_id);
        } else if room.members.len() >= change.most(owner) {
            return Ok(Change::Conflict);
        } else {
            let bytes = 2 * change.user_id.len() + ENTRY_BYTES;
            let sum = add(self.bytes, bytes, max)?;
            if let Some(hash) = invite
                && !self.invites.take(hash, change.conversation_id, now)
            {
                return Ok(Change::Absent);
            }
            self.bytes = sum;
            let last = room.members.values().max().copied().unwrap_or_default();
            room.members.insert(change.user_id.clone(), last + 1);
        }
        room.conversation.member_ids = room.members.keys().cloned().collect();
        room.conversation.updated_at = now;
        Ok(Change::Done(room.conversation.clone()))
    }

    pub(super) fn rename(
        &mut self,
        rename: &Rename,
        now: Time,
    ) -> Result<Change<Conversation>, StoreError> {
        let max = self.max();
        let found = self.rooms.get_mut(&rename.conversation_id);
        let Some(room) = found.filter(|room| room.deleted.is_none()) else {
            return Ok(Change::Absent);
        };
        let is_member = room.admits(&rename.by.user_id);
        let owner = room.conversation.owner_id.as_deref();
        if let Some(refused) = rename.refused(owner, is_member) {
            return Ok(refused);
        }
        let old = room.conversation.title.as_deref();
        if old == Some(rename.title.as_str()) {
            return Ok(Change::Unchanged(room.conversation.clone()));
        }
        let freed = old.map_or(0, str::len) as u64;
        self.bytes = add(self.bytes.saturating_sub(freed), rename.title.len(), max)?;
        room.conversation.title = Some(rename.title.clone());
        room.conversation.updated_at = now;
        Ok(Change::Done(room.conversation.clone()))
    }

    pub(super) fn mark_read(&mut self, read: &MarkRead) -> Result<Option<ReadMark>, StoreError> {
        let max = self.max();
        let Some(room) = self
            .rooms
            .get_mut(&read.conversation_id)
            .filter(|room| room.admits(&read.user_id))
        else {
            return Ok(None);
        };
        let seq = read.seq.min(room.last_seq());
        let before = match room.reads.get_mut(&read.user_id) {
            Some(known) => std::mem::replace(known, seq.max(*known)),
            None => {
                let bytes = read.user_id.len() + ENTRY_BYTES;
                self.bytes = add(self.bytes, bytes, max)?;
                room.reads.insert(read.user_id.clone(), seq);
                0
            }
        };
        Ok(Some(ReadMark {
            seq: seq.max(before),
            unread: room.unread(&read.user_id),
            advanced: seq > before,
        }))
    }

    pub(super) fn expire(&mut self, time: Time, limit: usize) -> u64 {
        let mut removed = 0;
        let (mut bytes, limit) = (0, limit as u64);
        for room in self.rooms.values_mut() {
            // Only the oldest messages are removed, so that the rest has no gap.
            while removed < limit
                && let Some(Stored { message, .. }) = room.messages.front()
                && message.created_at < time
                && let Some(stored) = room.messages.pop_front()
            {
                room.expired += 1;
                removed += 1;
                bytes += room.unpin(stored.message.seq).unwrap_or(0);
                bytes += self.index.forget(stored);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes as u64);
        removed
    }
}
