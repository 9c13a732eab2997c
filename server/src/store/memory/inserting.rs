//! Inserts messages and conversations.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::tables::{ENTRY_BYTES, Room, Stored, Tables, add, size};
use crate::store::lane::InsertOutcome;
use crate::store::rows::{Conversation, NewConversation, NewMessage};
use crate::store::{StoreError, Time};

impl Tables {
    pub(super) fn insert_message(
        &mut self,
        new: NewMessage,
        now: Time,
    ) -> Result<InsertOutcome, StoreError> {
        let max = self.max();
        let Some(room) = self.room(new.conversation_id, Some(&new.user_id)) else {
            return Ok(InsertOutcome::Absent);
        };
        let key = new
            .client_message_id
            .clone()
            .map(|id| (new.user_id.clone(), id));
        // Repetitions are found before references are checked, because the original may have been
        // removed since.
        if let Some(&(conversation, seq)) = key.as_ref().and_then(|key| self.index.sent.get(key)) {
            return Ok(match room.messages.get(room.index(seq)) {
                Some(stored) if conversation == new.conversation_id => InsertOutcome::Row {
                    message: self.shown(stored, None),
                    repeated: true,
                },
                Some(_) | None => InsertOutcome::Conflict,
            });
        }
        let original = match self.references(&new) {
            Ok(original) => original,
            Err(Some(place)) => return Ok(InsertOutcome::NoMember(place)),
            Err(None) => return Ok(InsertOutcome::NoOriginal),
        };
        let bytes = size(&new.content, &new.metadata, &new.user_id, &new.user_name)
            + new.client_message_id.as_ref().map_or(0, |id| 3 * id.len())
            + new.mentions.iter().map(|id| id.len() + 24).sum::<usize>();
        let seq = room.last_seq() + 1;
        self.bytes = add(self.bytes, bytes, max)?;
        let stored = new.clone().stored(seq, now, original);
        // The entries are stored under the same lock as the message, so that both or neither exist.
        self.notify(&new, &stored);
        let place = (stored.conversation_id, stored.seq);
        let message = Arc::new(stored);
        if let Some(room) = self.rooms.get_mut(&new.conversation_id) {
            room.messages.push_back(Stored {
                message: Arc::clone(&message),
                client_message_id: new.client_message_id,
                reactions: Vec::new(),
            });
        }
        self.index.places.insert(message.id, place);
        if let Some(key) = key {
            self.index.sent.insert(key, place);
        }
        Ok(InsertOutcome::Row {
            message,
            repeated: false,
        })
    }

    pub(super) fn insert_conversation(
        &mut self,
        new: NewConversation,
        now: Time,
    ) -> Result<Conversation, StoreError> {
        if let Some(room) = self.rooms.get(&new.id) {
            return Ok(room.conversation.clone());
        }
        let founders = new.member_ids.into_iter().chain(new.owner_id.clone());
        let members: BTreeMap<String, u64> = founders.map(|member| (member, 0)).collect();
        let bytes = members
            .keys()
            .map(|member| 2 * member.len() + ENTRY_BYTES)
            .sum::<usize>();
        self.bytes = add(self.bytes, bytes + ENTRY_BYTES, self.max())?;
        let conversation = Conversation {
            id: new.id,
            title: new.title,
            owner_id: new.owner_id,
            member_ids: members.keys().cloned().collect(),
            created_at: now,
            updated_at: now,
        };
        let room = Room {
            conversation: conversation.clone(),
            deleted: None,
            members,
            is_open: new.is_open,
            changes: 0,
            expired: 0,
            messages: VecDeque::new(),
            reads: HashMap::new(),
            pins: Vec::new(),
            levels: HashMap::new(),
        };
        self.rooms.insert(new.id, room);
        Ok(conversation)
    }
}
