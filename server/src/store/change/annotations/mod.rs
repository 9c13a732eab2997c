//! Annotations of messages: reactions, pins and quotes.
//!
//! A reaction or a pin is one write, one step of its conversation, and one announcement. What
//! members receive is stored with the step, because the count of that moment cannot be read later.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Actor, Change};
use crate::store::change::Message;
use crate::store::statement::{Columns, Pair, Record, Statement, record, values};
use crate::store::write::Write;
use crate::store::{Backend, Origin, Store, StoreError, Time};

/// What is shown of a message elsewhere: its beginning. Wherever it is read it is as the message is
/// now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Quote {
    /// The id of the message.
    pub id: Uuid,
    /// Its place in its conversation.
    pub seq: u64,
    /// The user who sent it.
    pub user_id: String,
    /// The sender's name at the time of sending.
    pub user_name: String,
    /// The first 200 characters of its text; empty once it is deleted.
    pub excerpt: String,
    /// When it was last edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Time>,
    /// When it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

record! { Quote => id, seq, user_id, user_name, excerpt, edited_at, deleted_at }

impl Record for Pin {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        Ok(Self {
            message: Quote::read(row)?,
            pinned_by: row.get("pinned_by")?,
            pinned_at: row.get("pinned_at")?,
        })
    }
}

impl Quote {
    /// Returns the quote of a message.
    pub(in crate::store) fn of(message: &Message) -> Self {
        Self {
            id: message.id,
            seq: message.seq,
            user_id: message.user_id.clone(),
            user_name: message.user_name.clone(),
            excerpt: message
                .content
                .chars()
                .take(EXCERPT_CHARS as usize)
                .collect(),
            edited_at: message.edited_at,
            deleted_at: message.deleted_at,
        }
    }
}

/// Those who have reacted to a message with one emoji.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// How many have reacted with it.
    pub count: u64,
    /// At most ten of them, in the order of their ids.
    pub user_ids: Vec<String>,
    /// Whether the reader is one of them, where a message is read by somebody; left out if not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own: bool,
}

record! { Reaction => emoji, count, user_ids, own }

/// A message that is to be found at once in its conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Pin {
    /// The beginning of the message.
    pub message: Quote,
    /// The user who pinned it.
    pub pinned_by: String,
    /// When it was pinned.
    pub pinned_at: Time,
}

/// Of what in a conversation a member wants to be notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol of the chat closes the set"
)]
pub enum Level {
    /// Of everything: clients draw attention to each message.
    #[default]
    All,
    /// Of messages that mention the member.
    Mentions,
    /// Of nothing.
    None,
}

impl Level {
    /// Returns the word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Mentions => "mentions",
            Self::None => "none",
        }
    }

    /// Returns the level for a word from the database, where a check constraint allows no other
    /// words.
    pub(in crate::store) fn of(word: Option<&str>) -> Self {
        match word {
            Some("mentions") => Self::Mentions,
            Some("none") => Self::None,
            Some(_) | None => Self::All,
        }
    }
}

/// What a member finds in a conversation beside its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_structs,
    reason = "a result, callers destructure it"
)]
pub struct Opening {
    /// The pins, the newest first.
    pub pins: Vec<Pin>,
    /// Of what the member wants to be notified.
    pub notification_level: Level,
    /// The newest message that somebody else has read, by its `seq`; left out if nobody has read
    /// any, and where the conversation has so many sockets that `message_read` is not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others_read_seq: Option<u64>,
}

/// A request to add or remove a reaction or a pin.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Annotate {
    /// The message, which must not be deleted.
    pub message_id: Uuid,
    /// The user who asks for it: a member for a reaction, the owner or an admin for a pin.
    pub by: Actor,
    /// The requested change.
    pub annotation: Annotation,
}

/// A change of a message that does not affect its text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each backend must do each of them")]
pub enum Annotation {
    /// The user reacts with an emoji.
    React(String),
    /// The user removes a reaction with an emoji.
    Unreact(String),
    /// The reaction of a user who is erased is removed. The user need not be a member.
    EraseReaction(String),
    /// The message is pinned.
    Pin,
    /// The message is no longer pinned.
    Unpin,
}

/// The result of an [`Annotation`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "emitters must handle every variant"
)]
pub enum Annotated {
    /// A user added or removed a reaction.
    Reaction(ReactionChange),
    /// The message is pinned.
    Pinned(Pinned),
    /// The message is no longer pinned.
    Unpinned(Unpinned),
}

/// A reaction that was added or taken back; its JSON is what members are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageReaction")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct ReactionChange {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// Its place in its conversation.
    pub seq: u64,
    /// The emoji.
    pub emoji: String,
    /// The user whose reaction it is.
    pub user_id: String,
    /// Whether it is there now.
    pub added: bool,
    /// How many have reacted with the emoji now.
    pub count: u64,
    /// When that was.
    pub timestamp: Time,
}

/// A message that is pinned now; its JSON is what members are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessagePinned")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Pinned {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The pin.
    pub pin: Pin,
}

/// A message that is not pinned any more; its JSON is what members are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "MessageUnpinned")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Unpinned {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The message.
    pub message_id: Uuid,
    /// Its place in its conversation.
    pub seq: u64,
    /// The user who has taken the pin away.
    pub unpinned_by: String,
    /// When that was.
    pub timestamp: Time,
}

impl Annotated {
    /// Returns the conversation of the message.
    #[must_use]
    pub fn conversation_id(&self) -> Uuid {
        match self {
            Self::Reaction(reacted) => reacted.conversation_id,
            Self::Pinned(pinned) => pinned.conversation_id,
            Self::Unpinned(unpinned) => unpinned.conversation_id,
        }
    }

    /// Returns the `seq` of the message.
    #[must_use]
    pub fn seq(&self) -> u64 {
        match self {
            Self::Reaction(reacted) => reacted.seq,
            Self::Pinned(pinned) => pinned.pin.message.seq,
            Self::Unpinned(unpinned) => unpinned.seq,
        }
    }
}

impl Annotate {
    /// Returns why the request is refused, if it is.
    ///
    /// `owner` owns the conversation, and `is_member` refers to the user who asks. Only members may
    /// react; admins are no exception.
    pub(in crate::store) fn refused<T>(
        &self,
        owner: Option<&str>,
        is_member: bool,
    ) -> Option<Change<T>> {
        match self.annotation {
            // A reaction is personal, so the right of an admin to act for other users does not
            // apply.
            Annotation::React(_) | Annotation::Unreact(_) => (!is_member).then_some(Change::Absent),
            Annotation::EraseReaction(_) => None,
            Annotation::Pin | Annotation::Unpin => self.by.refused(owner, is_member),
        }
    }

    /// Returns the user's reaction as added or removed, with the new count.
    pub(in crate::store) fn reacted(
        &self,
        message: &Message,
        emoji: &str,
        count: u64,
        now: Time,
    ) -> Arc<Annotated> {
        Arc::new(Annotated::Reaction(ReactionChange {
            conversation_id: message.conversation_id,
            message_id: message.id,
            seq: message.seq,
            emoji: emoji.to_owned(),
            user_id: self.by.user_id.clone(),
            added: matches!(self.annotation, Annotation::React(_)),
            count,
            timestamp: now,
        }))
    }

    /// Returns the event for a message that was pinned.
    pub(in crate::store) fn pinned(message: &Message, by: String, at: Time) -> Arc<Annotated> {
        Arc::new(Annotated::Pinned(Pinned {
            conversation_id: message.conversation_id,
            pin: Pin {
                message: Quote::of(message),
                pinned_by: by,
                pinned_at: at,
            },
        }))
    }

    /// Returns the event for a message that was unpinned.
    pub(in crate::store) fn unpinned(&self, message: &Message, now: Time) -> Arc<Annotated> {
        Arc::new(Annotated::Unpinned(Unpinned {
            conversation_id: message.conversation_id,
            message_id: message.id,
            seq: message.seq,
            unpinned_by: self.by.user_id.clone(),
            timestamp: now,
        }))
    }
}

/// The statements of a change.
impl Annotate {
    /// Reads the emojis of the message: whether each is this one, its count, and whether the user
    /// has reacted with it.
    pub(in crate::store) fn emojis(&self, emoji: &str) -> Statement {
        Statement::new(
            "SELECT e.emoji = $3 AS is_it, e.count, EXISTS (SELECT 1 FROM message_reactions r
                 WHERE r.message_id = e.message_id AND r.emoji = e.emoji AND r.user_id = $2) AS is_own
             FROM message_emojis e WHERE e.message_id = $1",
            values![self.message_id, &*self.by.user_id, emoji],
        )
    }

    pub(in crate::store) fn react(&self, emoji: &str, now: Time) -> [Statement; 2] {
        [
            Statement::new(
                "INSERT INTO message_emojis AS e (message_id, emoji, count, first_at)
                 VALUES ($1, $2, 1, $3)
                 ON CONFLICT (message_id, emoji) DO UPDATE SET count = e.count + 1",
                values![self.message_id, emoji, now],
            ),
            Statement::new(
                "INSERT INTO message_reactions (message_id, emoji, user_id) VALUES ($1, $2, $3)",
                values![self.message_id, emoji, &*self.by.user_id],
            ),
        ]
    }

    /// `count` is the number of users who still react with the emoji.
    pub(in crate::store) fn unreact(&self, emoji: &str, count: u64) -> [Statement; 2] {
        let values = values![self.message_id, emoji, &*self.by.user_id];
        let counted = if count == 0 {
            "DELETE FROM message_emojis WHERE message_id = $1 AND emoji = $2"
        } else {
            "UPDATE message_emojis SET count = count - 1 WHERE message_id = $1 AND emoji = $2"
        };
        [
            Statement::new(
                "DELETE FROM message_reactions WHERE message_id = $1 AND emoji = $2 AND user_id = $3",
                values,
            ),
            Statement::new(counted, values![self.message_id, emoji]),
        ]
    }

    pub(in crate::store) fn pins(conversation: Uuid) -> Statement {
        Statement::new(
            "SELECT message_id, pinned_by, pinned_at FROM pins WHERE conversation_id = $1",
            values![conversation],
        )
    }

    pub(in crate::store) fn pin(&self, conversation: Uuid, now: Time) -> Statement {
        Statement::new(
            "INSERT INTO pins (message_id, conversation_id, pinned_by, pinned_at)
             VALUES ($1, $2, $3, $4)",
            values![self.message_id, conversation, &*self.by.user_id, now],
        )
    }

    pub(in crate::store) fn unpin(&self) -> Statement {
        Statement::new(
            "DELETE FROM pins WHERE message_id = $1",
            values![self.message_id],
        )
    }
}

/// A row of [`Annotate::emojis`].
pub(in crate::store) struct EmojiCount {
    is_it: bool,
    count: u64,
    is_own: bool,
}

record!(EmojiCount => is_it, count, is_own);

/// A row of [`Annotate::pins`].
pub(in crate::store) struct PinRow {
    pub(in crate::store) message_id: Uuid,
    pub(in crate::store) pinned_by: String,
    pub(in crate::store) pinned_at: Time,
}

record!(PinRow => message_id, pinned_by, pinned_at);

/// The reactions to a message, from the view of one user and one emoji.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct ReactionCounts {
    /// The number of users who have reacted with the emoji.
    pub(in crate::store) count: u64,
    /// Whether the user has reacted with the emoji.
    pub(in crate::store) is_there: bool,
    /// The number of different emojis.
    pub(in crate::store) emojis: usize,
    /// The number of emojis with which the user has reacted.
    pub(in crate::store) own: usize,
}

impl ReactionCounts {
    pub(in crate::store) fn new(emojis: &[EmojiCount]) -> Self {
        let current = emojis.iter().find(|emoji| emoji.is_it);
        Self {
            count: current.map_or(0, |emoji| emoji.count),
            is_there: current.is_some_and(|emoji| emoji.is_own),
            emojis: emojis.len(),
            own: emojis.iter().filter(|emoji| emoji.is_own).count(),
        }
    }

    /// Returns whether the user may react with the emoji.
    pub(in crate::store) fn has_room(&self) -> bool {
        // An emoji that already occurs needs no further row.
        self.own < USER_EMOJIS && (self.count > 0 || self.emojis < MESSAGE_EMOJIS)
    }
}

impl Store {
    /// Adds or removes a reaction or a pin, and waits until that is emitted.
    ///
    /// The result is [`Change::Unchanged`] if nothing changes, [`Change::Absent`] for a deleted
    /// message, and [`Change::Conflict`] if a limit is reached.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn annotate(
        &self,
        annotate: Annotate,
        origin: Origin,
    ) -> Result<Change<Arc<Annotated>>, StoreError> {
        let Some(conversation_id) = self.conversation_of(annotate.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(annotate, conversation_id, origin, Write::Annotate)
            .await
    }

    /// Returns the pins of a conversation, the user's notification level and how far other users
    /// have read.
    ///
    /// Returns `None` if the conversation is unknown or the user, if given, is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn opening(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Opening>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.opening(conversation, user)).await)
    }

    /// Returns who pinned a message and when, or `None` if it is not pinned. This is for admins:
    /// membership is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn pinned(&self, message: Uuid) -> Result<Option<(String, Time)>, StoreError> {
        let select = Statement::new(
            "SELECT pinned_by AS key, pinned_at AS value FROM pins WHERE message_id = $1",
            values![message],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?.pop();
        Ok(found.map(|Pair(by, at)| (by, at)))
    }

    /// Stores a user's notification level in a conversation. Returns `false` if it is unknown or
    /// the user is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn set_level(
        &self,
        conversation: Uuid,
        user: &str,
        level: Level,
    ) -> Result<bool, StoreError> {
        let set = Statement::new(
            "INSERT INTO notification_levels (conversation_id, user_id, level)
             SELECT id, $2, $3 FROM conversations
             WHERE id = $1 AND deleted_at IS NULL AND (is_open OR EXISTS (
                 SELECT 1 FROM members WHERE conversation_id = $1 AND user_id = $2))
             ON CONFLICT (conversation_id, user_id) DO UPDATE SET level = excluded.level",
            values![conversation, user, level.as_str()],
        );
        Ok(self.execute_timed(set).await? > 0)
    }
}

/// The maximum number of characters of a [`Quote`].
const EXCERPT_CHARS: u32 = 200;
/// The maximum number of different emojis on a message; [`USER_EMOJIS`] is the maximum for one
/// user.
const MESSAGE_EMOJIS: usize = 20;
const USER_EMOJIS: usize = 10;
/// The maximum number of pins in a conversation.
pub(in crate::store) const MAX_PINS: usize = 50;
