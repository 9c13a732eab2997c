//! The in-memory tables and their approximate size.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use serde_json::value::RawValue;
use uuid::Uuid;

use super::{annotations, journals};
use crate::store::change::blocks::Blocks;
use crate::store::change::deliveries::Deliveries;
use crate::store::change::keys::Keys;
use crate::store::change::logins::Logins;
use crate::store::change::{DeletedConversation, Invites, Level};
use crate::store::lane::{Commit, Done, Lanes, Write};
use crate::store::rows::{Conversation, Message, Revision, Version};
use crate::store::{StoreError, Time};

/// The tables. The lock of this state serves as the lane: its holder stores and forwards, so both
/// happen in one order.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) rooms: HashMap<Uuid, Room>,
    pub(super) index: Index,
    pub(super) logins: Logins,
    pub(super) blocks: Blocks,
    pub(super) journals: HashMap<String, journals::Journal>,
    pub(super) keys: Keys,
    pub(super) deliveries: Deliveries,
    pub(super) invites: Invites,
    /// The approximate size of everything except logins, idempotency keys, deliveries and
    /// invitations. Together they take at most `max_bytes`.
    pub(super) bytes: u64,
    pub(super) max_bytes: u64,
    /// `None` after the store is closed.
    pub(super) commits: Option<Lanes<Commit>>,
}

/// Indexes of messages across conversations.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// The conversation and `seq` of each message.
    pub(super) places: HashMap<Uuid, (Uuid, u64)>,
    /// The conversation and `seq` of each message with a client id, by user and client id.
    pub(super) sent: HashMap<(String, String), (Uuid, u64)>,
    /// The former versions of messages.
    pub(super) versions: HashMap<Uuid, Vec<Version>>,
}

impl Index {
    /// Removes a message from the indexes and returns the freed bytes.
    pub(super) fn forget(&mut self, stored: Stored) -> usize {
        let Stored {
            message,
            client_message_id,
            reactions,
        } = stored;
        let mut bytes = size(
            &message.content,
            &message.metadata,
            &message.user_id,
            &message.user_name,
        );
        bytes += annotations::bytes_of(&reactions);
        bytes += message
            .mentions
            .iter()
            .map(|id| id.len() + 24)
            .sum::<usize>();
        self.places.remove(&message.id);
        for version in self.versions.remove(&message.id).unwrap_or_default() {
            bytes += version.content.len() + ENTRY_BYTES;
        }
        if let Some(id) = client_message_id {
            bytes += 3 * id.len();
            self.sent.remove(&(message.user_id.clone(), id));
        }
        bytes
    }
}

#[derive(Debug)]
pub(super) struct Room {
    pub(super) conversation: Conversation,
    /// Set when the conversation is deleted: it then has no members and is unknown to all users.
    pub(super) deleted: Option<DeletedConversation>,
    /// The members, with their position in the order of joining.
    pub(super) members: BTreeMap<String, u64>,
    pub(super) is_open: bool,
    /// The number of changes that are not messages.
    pub(super) changes: u64,
    /// The number of expired messages: the message with `seq` n is at index n - 1 - expired.
    pub(super) expired: u64,
    pub(super) messages: VecDeque<Stored>,
    /// The last `seq` that each user has read.
    pub(super) reads: HashMap<String, u64>,
    /// The pins, the oldest first.
    pub(super) pins: Vec<annotations::Pinned>,
    /// The notification levels that users have chosen.
    pub(super) levels: HashMap<String, Level>,
}

#[derive(Debug)]
pub(super) struct Stored {
    /// The row. [`Tables::shown`] adds the current quote and the reactions.
    pub(super) message: Arc<Message>,
    pub(super) client_message_id: Option<String>,
    pub(super) reactions: Vec<annotations::EmojiReactions>,
}

impl Room {
    pub(super) fn admits(&self, user: &str) -> bool {
        self.is_open || self.members.contains_key(user)
    }

    /// Returns the longest-standing member other than `user`.
    pub(super) fn longest_standing_except(&self, user: &str) -> Option<&String> {
        let others = self.members.iter().filter(|(member, _)| *member != user);
        others
            .min_by_key(|(member, came)| (**came, *member))
            .map(|(member, _)| member)
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.expired + self.messages.len() as u64
    }

    /// Returns the index of a `seq`, or of the first message after it.
    pub(super) fn index(&self, seq: u64) -> usize {
        usize::try_from(seq.saturating_sub(self.expired).saturating_sub(1))
            .unwrap_or(usize::MAX)
            .min(self.messages.len())
    }

    pub(super) fn message(&self, seq: u64) -> Option<&Arc<Message>> {
        let index = seq.checked_sub(self.expired)?.checked_sub(1)?;
        let stored = self.messages.get(usize::try_from(index).ok()?)?;
        Some(&stored.message)
    }
}

impl Tables {
    /// Returns a conversation as a user sees it; without a user, regardless of membership.
    pub(super) fn room(&self, conversation: Uuid, user: Option<&str>) -> Option<&Room> {
        self.rooms
            .get(&conversation)
            // Unknown and foreign conversations give the same result here, so that no caller can
            // distinguish them by mistake.
            .filter(|room| room.deleted.is_none() && user.is_none_or(|user| room.admits(user)))
    }

    /// Counts a change and returns the revision of its conversation.
    pub(super) fn step(&mut self, conversation: Uuid, done: &Done) -> Revision {
        let Some(room) = self.rooms.get_mut(&conversation) else {
            return Revision::default();
        };
        room.changes += u64::from(done.is_change());
        Revision {
            seq: room.last_seq(),
            changes: room.changes,
        }
    }

    pub(super) fn available_bytes(&self) -> u64 {
        self.max().saturating_sub(self.bytes)
    }

    /// Returns the maximum size of everything except logins, idempotency keys, deliveries and
    /// invitations.
    pub(super) fn max(&self) -> u64 {
        let others = self.logins.bytes()
            + self.keys.bytes()
            + self.deliveries.bytes()
            + self.invites.bytes();
        self.max_bytes.saturating_sub(others)
    }

    pub(super) fn apply(&mut self, write: &Write) -> Result<Done, StoreError> {
        let now = Time::now();
        Ok(match write {
            Write::Message { message, .. } => {
                Done::Message(self.insert_message(message.clone(), now)?)
            }
            Write::Conversation { conversation, .. } => {
                Done::Conversation(self.insert_conversation(conversation.clone(), now)?)
            }
            Write::Edit { edit, .. } => Done::Changed(self.edit(edit, now)?),
            Write::Delete { delete, .. } => Done::Changed(self.delete(delete, now)?),
            Write::Annotate { annotate, .. } => Done::Annotated(self.annotate(annotate, now)?),
            Write::Member { change, invite, .. } => {
                Done::Member(self.change_member(change, invite.as_deref(), now)?)
            }
            Write::Rename { rename, .. } => Done::Member(self.rename(rename, now)?),
            Write::Deletion { deletion, .. } => {
                Done::Deletion(self.delete_conversation(deletion, now))
            }
            Write::Read { read, .. } => Done::Read(self.mark_read(read)?),
        })
    }
}

/// Returns the approximate size of a message in bytes.
pub(super) fn size(content: &str, metadata: &RawValue, user_id: &str, user_name: &str) -> usize {
    content.len()
        + metadata.get().len()
        + 2 * user_id.len()
        + user_name.len()
        + size_of::<Stored>()
        + size_of::<Message>()
        + ENTRY_BYTES
}

/// Returns the new sum, or an error if it exceeds the limit.
pub(super) fn add(bytes: u64, more: usize, max: u64) -> Result<u64, StoreError> {
    let sum = bytes.saturating_add(more as u64);
    // Without a limit, senders could exhaust the memory of the process.
    if sum > max {
        Err(StoreError::Failed)
    } else {
        Ok(sum)
    }
}

/// The approximate overhead of a table entry, in bytes.
pub(super) const ENTRY_BYTES: usize = 64;
