//! Changes and further data of the store: each folder defines the types of one kind, the rules that
//! hold on every backend, the methods of [`Store`](crate::store::Store), and beside them the
//! queries of both backends.
//!
//! Services create and receive these values. Both backends use the rules, so that each is written
//! once. Only the files `sqlite.rs` and `postgres.rs` contain SQL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Serialize, Serializer};
use uuid::Uuid;

use super::Time;
use super::rows::{Conversation, Membership, Message, Revision};

pub(super) mod annotations;
pub(super) mod blocks;
pub(super) mod deletion;
pub(super) mod deliveries;
pub(super) mod invites;
pub(super) mod keys;
pub(super) mod logins;
mod notices;

pub use annotations::{
    Annotate, Annotated, Annotation, Level, Opening, Pin, Pinned, Quote, Reaction, ReactionChange,
    Unpinned,
};
pub(super) use annotations::{MAX_PINS, ReactionCounts};
pub(super) use deletion::Removal;
pub use deletion::{DeleteConversation, DeletedConversation};
pub use deliveries::{Delivery, TakenDelivery};
pub use invites::Invite;
pub use keys::{Attempt, KeyState, StoredResponse};
pub use logins::{Login, Revocation};
pub use notices::Notice;

/// The user who asks for a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user.
    pub user_id: String,
    /// Whether this user may change data of other users, without being a member.
    pub is_admin: bool,
}

impl Actor {
    /// Returns why a change is refused, if it is.
    ///
    /// `owner` owns the changed item, and `is_member` tells whether the actor is a member of the
    /// conversation.
    pub(crate) fn refused<T>(&self, owner: Option<&str>, is_member: bool) -> Option<Change<T>> {
        // A moderator need not be a member.
        if self.is_admin {
            None
        } else if !is_member {
            // A user who is not a member gets the answer for a missing item, and cannot tell the
            // two apart.
            Some(Change::Absent)
        } else if owner != Some(self.user_id.as_str()) {
            Some(Change::Denied)
        } else {
            None
        }
    }

    /// Returns why creating or revoking invitations to a conversation is refused, if it is.
    pub(crate) fn invitations_refused<T>(
        &self,
        found: &Membership,
        is_member: bool,
    ) -> Option<Change<T>> {
        let owner = found.conversation.owner_id.as_deref();
        let refused = self.refused(owner, is_member);
        refused.or_else(|| found.is_open.then_some(Change::Conflict))
    }
}

/// The author of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Authorship {
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The user who sent the message.
    pub user_id: String,
    /// Whether it has been deleted.
    pub is_deleted: bool,
}

/// A new text for a message.
#[derive(Clone, Debug)]
pub struct Edit {
    /// The message.
    pub message_id: Uuid,
    /// The user who edits the message: its author or an admin.
    pub by: Actor,
    /// The new text.
    pub content: String,
    /// The version that the editor has seen. The edit is refused if there is a newer version.
    pub version: Option<u32>,
}

impl Edit {
    /// Returns whether a message can be edited: a deleted one cannot.
    pub(crate) const fn is_possible(is_deleted: bool) -> bool {
        !is_deleted
    }
}

/// A request to delete a message: its row stays, without its text.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The message.
    pub message_id: Uuid,
    /// The user who deletes the message: its author or an admin.
    pub by: Actor,
}

/// A request to add or remove a member.
#[derive(Clone, Debug)]
pub struct MemberChange {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user who is added or removed.
    pub user_id: String,
    /// The user who asks for the change: the owner, an admin, or a member that removes itself.
    pub by: Actor,
    /// Whether the user is removed.
    pub removes: bool,
    /// The maximum number of members besides the owner.
    pub limit: usize,
}

impl MemberChange {
    /// Returns why the change is refused, if it is. `is_member` refers to the user who asks.
    pub(crate) fn refused<T>(&self, owner: Option<&str>, is_member: bool) -> Option<Change<T>> {
        // Members own their own membership, so every member may leave.
        let leaves = self.leaves();
        let owner_of_change = if leaves { Some(&*self.user_id) } else { owner };
        let removes_owner = self.is_of(owner) && !leaves;
        let refused = self.by.refused(owner_of_change, is_member);
        // The owner is checked last: a user without the right to remove members does not learn who
        // the owner is.
        refused.or_else(|| removes_owner.then_some(Change::Conflict))
    }

    /// Returns whether the owner leaves, so that the conversation needs a new owner.
    pub(super) fn transfers_ownership(&self, owner: Option<&str>) -> bool {
        self.is_of(owner) && self.leaves()
    }

    fn leaves(&self) -> bool {
        self.removes && self.by.user_id == self.user_id
    }

    /// Returns whether the change removes the owner.
    fn is_of(&self, owner: Option<&str>) -> bool {
        self.removes && owner == Some(self.user_id.as_str())
    }

    /// Returns the maximum number of members, including the owner.
    pub(super) fn most(&self, owner: Option<&str>) -> usize {
        self.limit.saturating_add(usize::from(owner.is_some()))
    }
}

/// A new title for a conversation.
#[derive(Clone, Debug)]
pub struct Rename {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The new title.
    pub title: String,
    /// The user who asks for the change: the owner or an admin.
    pub by: Actor,
}

impl Rename {
    /// Returns why the change is refused, if it is. `is_member` refers to the user who asks.
    pub(super) fn refused<T>(&self, owner: Option<&str>, is_member: bool) -> Option<Change<T>> {
        self.by.refused(owner, is_member)
    }
}

/// How far a user has read.
#[derive(Clone, Debug)]
pub struct MarkRead {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user.
    pub user_id: String,
    /// The last `seq` that was read. A value past the newest message means the newest message.
    pub seq: u64,
}

/// How far a user has read, and what is left; its JSON is part of the acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ReadMark {
    /// The last `seq` that was read.
    pub seq: u64,
    /// Messages of others after that which are not deleted; counted up to 1,000.
    pub unread: u64,
    /// Whether that is further than before.
    #[serde(skip)]
    pub advanced: bool,
}

/// One of a user's conversations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ListedConversation")]
pub struct ListedConversation {
    /// The conversation.
    #[serde(flatten)]
    pub conversation: Conversation,
    /// The `seq` of its newest message; 0 if it has none.
    pub last_seq: u64,
    /// The last `seq` that the user has read.
    pub read_seq: u64,
    /// Messages of others after that which are not deleted; counted up to 1,000.
    pub unread: u64,
    /// Of what the user wants to be notified in it.
    pub notification_level: Level,
}

/// A page of a user's conversations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationPage")]
pub struct List {
    /// The conversations, those with the newest changes of title or members first.
    pub conversations: Vec<ListedConversation>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub cursor: Option<Cursor>,
    /// Whether the user has more.
    pub has_more: bool,
}

/// The last conversation of a page: the next page has those that changed before it. One that
/// changes meanwhile comes to the front of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
#[expect(clippy::exhaustive_structs, reason = "a position in an order")]
pub struct Cursor {
    /// When its title or members last changed.
    pub updated_at: Time,
    /// The id of the conversation.
    pub id: Uuid,
}

impl Cursor {
    /// Returns the position of a conversation.
    pub(super) fn of(conversation: &Conversation) -> Self {
        Self {
            updated_at: conversation.updated_at,
            id: conversation.id,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.updated_at, self.id)
    }
}

/// The error for a text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "it has no fields")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    /// Parses what [`Display`](fmt::Display) has written, and no other spelling of it.
    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let (updated_at, id) = text.split_once('_').ok_or(InvalidCursor)?;
        let cursor = Self {
            updated_at: updated_at.parse().map_err(|_| InvalidCursor)?,
            id: id.parse().map_err(|_| InvalidCursor)?,
        };
        // A cursor has only one spelling, so clients cannot construct other positions.
        (cursor.to_string() == text)
            .then_some(cursor)
            .ok_or(InvalidCursor)
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A search in messages.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The words that a message must contain; see [`words`].
    pub words: Vec<String>,
    /// The conversation to search; `None` searches all conversations of the user.
    pub conversation: Option<Uuid>,
    /// Only messages that are older than this one.
    pub before: Option<Uuid>,
}

/// The outcome of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle every outcome")]
pub enum Change<T> {
    /// The change is stored.
    Done(T),
    /// Nothing would change: nothing is stored or emitted.
    Unchanged(T),
    /// The item does not exist, or the user who asked must not know that it does.
    Absent,
    /// The user who asked may see the item, but not change it.
    Denied,
    /// The change conflicts with the stored state: another version, the owner cannot be removed, or
    /// the member limit is reached.
    Conflict,
}

impl<T> Change<T> {
    /// Returns what is stored, or `None` if nothing has changed.
    pub(super) fn done(&self) -> Option<&T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Unchanged(_) | Self::Absent | Self::Denied | Self::Conflict => None,
        }
    }

    /// Converts the content.
    pub(super) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Done(value) => Change::Done(convert(value)),
            Self::Unchanged(value) => Change::Unchanged(convert(value)),
            Self::Absent => Change::Absent,
            Self::Denied => Change::Denied,
            Self::Conflict => Change::Conflict,
        }
    }
}

/// A stored change, for the emitter.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "emitters must handle every variant"
)]
pub enum Committed {
    /// A new message.
    Message(Arc<Message>),
    /// A message that an earlier request stored. It was emitted then, unless the emission was
    /// interrupted.
    Repeated(Arc<Message>),
    /// A message with a new text.
    Edited(Arc<Message>),
    /// A message without its text.
    Deleted {
        /// The row as it is now.
        message: Arc<Message>,
        /// The user who deleted the message.
        by: String,
    },
    /// A reaction or a pin was added to a message or removed.
    Annotated(Arc<Annotated>),
    /// A conversation has a new title.
    Renamed(Arc<Conversation>),
    /// A member was added or removed.
    Members {
        /// The conversation as it is now.
        conversation: Arc<Conversation>,
        /// The user.
        user_id: String,
        /// Whether the user was removed.
        removed: bool,
    },
    /// A conversation is deleted, with all messages.
    ConversationDeleted {
        /// The content of the event.
        deleted: Arc<DeletedConversation>,
        /// The users who were members.
        member_ids: Arc<[String]>,
    },
    /// Another server has committed something in this conversation, up to the revision.
    Announced(Uuid),
}

impl Committed {
    /// Returns the conversation of the change.
    #[must_use]
    pub fn conversation_id(&self) -> Uuid {
        match self {
            Self::Message(message)
            | Self::Repeated(message)
            | Self::Edited(message)
            | Self::Deleted { message, .. } => message.conversation_id,
            Self::Annotated(annotated) => annotated.conversation_id(),
            Self::Renamed(conversation) | Self::Members { conversation, .. } => conversation.id,
            Self::ConversationDeleted { deleted, .. } => deleted.conversation_id,
            Self::Announced(conversation_id) => *conversation_id,
        }
    }

    /// Returns the revision that must be emitted before this change, if the change has this
    /// revision.
    ///
    /// A change that takes no step waits for everything up to the revision.
    pub(crate) fn before(&self, revision: Revision) -> Revision {
        let Revision { seq, changes } = revision;
        match self {
            Self::Message(_) => Revision {
                seq: seq.saturating_sub(1),
                changes,
            },
            Self::Edited(_)
            | Self::Deleted { .. }
            | Self::Annotated(_)
            | Self::Renamed(_)
            | Self::Members { .. }
            | Self::ConversationDeleted { .. } => Revision {
                seq,
                changes: changes.saturating_sub(1),
            },
            // These events refer to the whole revision, so they follow everything up to it.
            Self::Repeated(_) | Self::Announced(_) => revision,
        }
    }
}

/// Returns the words of a text for search in all stores: runs of letters and digits, in lower case.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// The maximum count of unread messages.
pub const MAX_UNREAD_COUNT: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_parses_only_its_own_spelling() {
        let text = "2025-01-31T12:00:00.000Z_0f8fad5b-d9cb-469f-a165-70867728950e";
        let cursor: Cursor = text.parse().unwrap();
        assert_eq!(cursor.to_string(), text);
        for wrong in [
            "",
            "_",
            "x",
            "2025-01-31T12:00:00Z_0f8fad5b-d9cb-469f-a165-70867728950e",
            "2025-01-31T12:00:00.000Z_0F8FAD5B-d9cb-469f-a165-70867728950e",
            "2025-01-31T12:00:00.000Z_0f8fad5b-d9cb-469f-a165-70867728950e_",
            "2025-01-31T12:00:00.000Z 0f8fad5b-d9cb-469f-a165-70867728950e",
        ] {
            assert_eq!(wrong.parse::<Cursor>(), Err(InvalidCursor), "{wrong}");
        }
    }

    #[test]
    fn words_are_letters_and_digits_in_lower_case() {
        assert_eq!(
            words("Hello, WORLD-2! \"quoted\" a.b_c"),
            ["hello", "world", "2", "quoted", "a", "b", "c"]
        );
        assert_eq!(words("Ärger Ελλάδα"), ["ärger", "ελλάδα"]);
        assert!(words(" \n\t*:'\"()-^ ").is_empty());
    }
}
