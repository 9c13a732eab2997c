//! The read queries: pages, lists, searches.

use std::collections::HashSet;

use super::tables::{Room, Stored, Tables};
use crate::store::change::{Cursor, List, ListedConversation, MAX_UNREAD_COUNT, Search, words};
use crate::store::rows::{Messages, Page, PageBuilder};

impl Tables {
    /// Returns a page of a conversation's messages, as `reader` sees them.
    pub(super) fn page(
        &self,
        room: &Room,
        page: Page,
        limit: usize,
        reader: Option<&str>,
    ) -> Messages {
        let after = |seq: u64| room.index(seq.saturating_add(1));
        let all = room.messages.len();
        let (from, to, descending) = match page {
            Page::Newest => (0, all, true),
            Page::Before(seq) => (0, room.index(seq), true),
            Page::After(seq) => (after(seq), all, false),
            Page::Between {
                after: seq,
                through,
            } => (after(seq), after(through), false),
        };
        let range = room
            .messages
            .range(from.min(to)..to)
            .map(|stored| self.shown(stored, reader));
        let mut builder = PageBuilder::new(limit);
        if descending {
            let _ = range.rev().all(|message| builder.push(message));
        } else {
            let _ = { range }.all(|message| builder.push(message));
        }
        builder.finish(descending)
    }
}

impl Room {
    /// Returns the number of unread messages of other users, up to [`MAX_UNREAD_COUNT`].
    pub(super) fn unread(&self, user: &str) -> u64 {
        let read = self.reads.get(user).copied().unwrap_or(0);
        self.messages
            .range(self.index(read.saturating_add(1))..)
            .map(|stored| &stored.message)
            .filter(|message| message.user_id != user && message.deleted_at.is_none())
            .take(usize::try_from(MAX_UNREAD_COUNT).unwrap_or(usize::MAX))
            .count() as u64
    }
}

impl Tables {
    pub(super) fn conversations(&self, user: &str, before: Option<Cursor>, limit: usize) -> List {
        let place = |room: &Room| Cursor::of(&room.conversation);
        let mut rooms: Vec<&Room> = self
            .rooms
            .values()
            .filter(|room| room.admits(user))
            .filter(|room| before.is_none_or(|before| place(room) < before))
            .collect();
        rooms.sort_by_key(|room| std::cmp::Reverse(place(room)));
        let mut builder = PageBuilder::new(limit);
        for room in rooms {
            let listed = ListedConversation {
                conversation: room.conversation.clone(),
                last_seq: room.last_seq(),
                read_seq: room.reads.get(user).copied().unwrap_or(0),
                unread: room.unread(user),
                notification_level: room.level(user),
            };
            if !builder.push(listed) {
                break;
            }
        }
        builder.finish()
    }

    pub(super) fn search(&self, user: &str, search: &Search, limit: usize) -> Option<Messages> {
        let rooms: Vec<&Room> = match search.conversation {
            Some(id) => vec![self.room(id, Some(user))?],
            None => self
                .rooms
                .values()
                .filter(|room| room.admits(user))
                .collect(),
        };
        let mut found: Vec<&Stored> = rooms
            .into_iter()
            .flat_map(|room| &room.messages)
            .filter(|stored| {
                search
                    .before
                    .is_none_or(|before| stored.message.id < before)
            })
            .filter(|stored| has_words(&stored.message.content, &search.words))
            .collect();
        found.sort_by_key(|stored| std::cmp::Reverse(stored.message.id));
        let mut builder = PageBuilder::new(limit);
        let _ = found
            .into_iter()
            .all(|stored| builder.push(self.shown(stored, Some(user))));
        Some(builder.finish(true))
    }
}

/// Returns whether a text contains all the words; `false` without words.
fn has_words(content: &str, wanted: &[String]) -> bool {
    if wanted.is_empty() {
        return false;
    }
    let words: HashSet<String> = words(content).into_iter().collect();
    wanted.iter().all(|word| words.contains(word))
}
