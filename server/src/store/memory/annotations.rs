//! Reactions, pins and notification levels, and the parts of a shown message that are not in its
//! row.

use std::collections::BTreeSet;
use std::sync::Arc;

use uuid::Uuid;

use super::Memory;
use super::tables::{ENTRY_BYTES, Room, Stored, Tables, add};
use crate::store::change::{
    Annotate, Annotated, Annotation, Change, Level, MAX_NAMED_USERS, MAX_PINS, Opening, Pin, Quote,
    Reaction, ReactionCounts,
};
use crate::store::rows::{Message, NewMessage};
use crate::store::{Append, StoreError, Time};

/// The users who have reacted to a message with an emoji.
#[derive(Debug)]
pub(super) struct EmojiReactions {
    emoji: String,
    users: BTreeSet<String>,
}

impl EmojiReactions {
    fn bytes(&self) -> usize {
        let users = self.users.iter().map(|user| user.len() + ENTRY_BYTES);
        self.emoji.len() + ENTRY_BYTES + users.sum::<usize>()
    }

    fn shown(&self, reader: Option<&str>) -> Reaction {
        Reaction {
            emoji: self.emoji.clone(),
            count: self.users.len() as u64,
            user_ids: self
                .users
                .iter()
                .take(MAX_NAMED_USERS as usize)
                .cloned()
                .collect(),
            own: reader.is_some_and(|reader| self.users.contains(reader)),
        }
    }
}

/// Returns the size of the reactions to a message, in bytes.
pub(super) fn bytes_of(reactions: &[EmojiReactions]) -> usize {
    reactions.iter().map(EmojiReactions::bytes).sum()
}

/// A pinned message.
#[derive(Debug)]
pub(super) struct Pinned {
    seq: u64,
    by: String,
    at: Time,
}

impl Memory {
    pub(in crate::store) async fn opening(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Opening>, StoreError> {
        let state = self.0.state.lock();
        Ok(state.room(conversation, user).map(|room| {
            let pins = room.pins.iter().rev().filter_map(|pinned| {
                Some(Pin {
                    message: Quote::of(room.message(pinned.seq)?),
                    pinned_by: pinned.by.clone(),
                    pinned_at: pinned.at,
                })
            });
            Opening {
                pins: pins.collect(),
                notification_level: user.map_or(Level::All, |user| room.level(user)),
                others_read_seq: user.and_then(|user| room.others_read_seq(user)),
            }
        }))
    }

    pub(in crate::store) async fn set_level(
        &self,
        conversation: Uuid,
        user: &str,
        level: Level,
    ) -> Result<bool, StoreError> {
        let mut state = self.open()?;
        self.record(state.set_level(conversation, user, level))
    }
}

impl Room {
    /// Returns a user's notification level.
    pub(super) fn level(&self, user: &str) -> Level {
        self.levels.get(user).copied().unwrap_or_default()
    }

    /// Returns the `seq` of the newest message that another user has read.
    fn others_read_seq(&self, user: &str) -> Option<u64> {
        let others = self.reads.iter().filter(|(reader, _)| *reader != user);
        others.map(|(_, seq)| *seq).max().filter(|seq| *seq > 0)
    }
}

impl Tables {
    fn set_level(
        &mut self,
        conversation: Uuid,
        user: &str,
        level: Level,
    ) -> Result<bool, StoreError> {
        let max = self.max();
        let Some(room) = self.rooms.get_mut(&conversation) else {
            return Ok(false);
        };
        if room.deleted.is_some() || !room.admits(user) {
            return Ok(false);
        }
        if !room.levels.contains_key(user) {
            // The size is checked before anything changes, so that a refusal has no effect.
            self.bytes = add(self.bytes, user.len() + ENTRY_BYTES, max)?;
        }
        room.levels.insert(user.to_owned(), level);
        Ok(true)
    }

    /// Returns a message with its quote and reactions, as `reader` sees it.
    pub(super) fn shown(&self, stored: &Stored, reader: Option<&str>) -> Arc<Message> {
        let message = &stored.message;
        if message.answers.is_none() && stored.reactions.is_empty() {
            return Arc::clone(message);
        }
        let reactions = stored.reactions.iter().map(|one| one.shown(reader));
        Arc::new(Message {
            reply_to: message.answers.and_then(|id| self.quote(id)),
            reactions: reactions.collect(),
            ..Message::clone(message)
        })
    }

    /// Returns the quote of a message.
    fn quote(&self, id: Uuid) -> Option<Quote> {
        let (conversation, seq) = self.index.places.get(&id)?;
        let message = self.room(*conversation, None)?.message(*seq)?;
        Some(Quote::of(message))
    }

    /// Returns the quote of the message that `new` replies to.
    ///
    /// The error is the index of a mentioned user who is not a member, or `None` if the original
    /// does not exist.
    pub(super) fn references(&self, new: &NewMessage) -> Result<Option<Quote>, Option<usize>> {
        let Some(room) = self.room(new.conversation_id, None) else {
            return Err(None);
        };
        let mut mentions = new.mentions.iter();
        if let Some(place) = mentions.position(|user| !room.admits(user)) {
            return Err(Some(place));
        }
        let Some(id) = new.reply_to else {
            return Ok(None);
        };
        let place = self.index.places.get(&id);
        let here = place.filter(|(conversation, _)| *conversation == new.conversation_id);
        let original = here.and_then(|(_, seq)| room.message(*seq));
        let original = original.filter(|message| message.deleted_at.is_none());
        original.map(|message| Some(Quote::of(message))).ok_or(None)
    }

    /// Stores the journal entries that notify mentioned users. Drops an entry if its journal is
    /// full.
    pub(super) fn notify(&mut self, new: &NewMessage, message: &Message) {
        let Some(notice) = &new.notice else {
            return;
        };
        let entries: Vec<Append> = match self.room(new.conversation_id, None) {
            Some(room) => notice.entries(message, |user| room.level(user) == Level::None),
            None => Vec::new(),
        };
        for entry in entries {
            // A message matters more than its notification, so a full journal does not refuse the
            // message.
            let journal = entry.journal.clone();
            if let Ok(appended) = self.append(entry) {
                notice.note(journal, appended);
            }
        }
    }

    pub(super) fn annotate(
        &mut self,
        annotate: &Annotate,
        now: Time,
    ) -> Result<Change<Arc<Annotated>>, StoreError> {
        let max = self.max();
        let place = self.index.places.get(&annotate.message_id);
        let Some(&(conversation, seq)) = place else {
            return Ok(Change::Absent);
        };
        let found = self.rooms.get_mut(&conversation);
        let Some(room) = found.filter(|room| room.deleted.is_none()) else {
            return Ok(Change::Absent);
        };
        let is_member = room.admits(&annotate.by.user_id);
        let owner = room.conversation.owner_id.as_deref();
        if let Some(refused) = annotate.refused(owner, is_member) {
            return Ok(refused);
        }
        let index = room.index(seq);
        let Some(stored) = room.messages.get_mut(index) else {
            return Ok(Change::Absent);
        };
        let message = Arc::clone(&stored.message);
        if message.deleted_at.is_some() {
            return Ok(Change::Absent);
        }
        let user = &annotate.by.user_id;
        match &annotate.annotation {
            Annotation::React(emoji) => {
                let standing = stored.standing(emoji, user);
                if standing.is_there {
                    let as_it_is = annotate.reacted(&message, emoji, standing.count, now);
                    return Ok(Change::Unchanged(as_it_is));
                }
                if !standing.has_room() {
                    return Ok(Change::Conflict);
                }
                let bytes = user.len() + emoji.len() + 2 * ENTRY_BYTES;
                self.bytes = add(self.bytes, bytes, max)?;
                match stored.reactions.iter_mut().find(|one| one.emoji == *emoji) {
                    Some(one) => {
                        one.users.insert(user.clone());
                    }
                    None => stored.reactions.push(EmojiReactions {
                        emoji: emoji.clone(),
                        users: BTreeSet::from([user.clone()]),
                    }),
                }
                let count = standing.count + 1;
                Ok(Change::Done(annotate.reacted(&message, emoji, count, now)))
            }
            Annotation::Unreact(emoji) => {
                let standing = stored.standing(emoji, user);
                if !standing.is_there {
                    let as_it_is = annotate.reacted(&message, emoji, standing.count, now);
                    return Ok(Change::Unchanged(as_it_is));
                }
                let before = bytes_of(&stored.reactions);
                for one in &mut stored.reactions {
                    if one.emoji == *emoji {
                        one.users.remove(user);
                    }
                }
                stored.reactions.retain(|one| !one.users.is_empty());
                let freed = before - bytes_of(&stored.reactions);
                self.bytes = self.bytes.saturating_sub(freed as u64);
                let count = standing.count - 1;
                Ok(Change::Done(annotate.reacted(&message, emoji, count, now)))
            }
            Annotation::Pin => {
                if let Some(pinned) = room.pins.iter().find(|pinned| pinned.seq == seq) {
                    let pinned = Annotate::pinned(&message, pinned.by.clone(), pinned.at);
                    return Ok(Change::Unchanged(pinned));
                }
                if room.pins.len() >= MAX_PINS {
                    return Ok(Change::Conflict);
                }
                self.bytes = add(self.bytes, user.len() + ENTRY_BYTES, max)?;
                room.pins.push(Pinned {
                    seq,
                    by: user.clone(),
                    at: now,
                });
                let pinned = Annotate::pinned(&message, user.clone(), now);
                Ok(Change::Done(pinned))
            }
            Annotation::Unpin => {
                let unpinned = annotate.unpinned(&message, now);
                let freed = room.unpin(seq);
                self.bytes = self.bytes.saturating_sub(freed.unwrap_or(0) as u64);
                Ok(match freed {
                    Some(_) => Change::Done(unpinned),
                    None => Change::Unchanged(unpinned),
                })
            }
        }
    }
}

impl Stored {
    fn standing(&self, emoji: &str, user: &str) -> ReactionCounts {
        let with = self.reactions.iter().find(|one| one.emoji == emoji);
        let own = self.reactions.iter().filter(|one| one.users.contains(user));
        ReactionCounts {
            count: with.map_or(0, |one| one.users.len() as u64),
            is_there: with.is_some_and(|one| one.users.contains(user)),
            emojis: self.reactions.len(),
            own: own.count(),
        }
    }
}

impl Room {
    /// Unpins a message and returns the freed bytes, or `None` if it was not pinned.
    pub(super) fn unpin(&mut self, seq: u64) -> Option<usize> {
        let place = self.pins.iter().position(|pinned| pinned.seq == seq)?;
        let pinned = self.pins.remove(place);
        Some(pinned.by.len() + ENTRY_BYTES)
    }
}
