//! The features of the store: each folder defines the types of one feature, the rules that hold on
//! every backend, the methods of [`Store`](crate::store::Store), and beside them the
//! queries of both backends.
//!
//! Services create and receive these values. Both backends use the rules, so that each is written
//! once. The queries of a feature are [statements](super::statement) that both backends run, or are
//! in its files `sqlite.rs` and `postgres.rs`.

use std::sync::Arc;

use uuid::Uuid;

pub(super) mod annotations;
pub(super) mod blocks;
pub(super) mod conversations;
pub(super) mod deletion;
pub(super) mod deliveries;
pub(super) mod erasure;
pub(super) mod invites;
pub(super) mod keys;
pub(super) mod logins;
pub(super) mod members;
pub(super) mod messages;
pub(super) mod read_marks;
pub(super) mod statuses;

pub use annotations::{
    Annotate, Annotated, Annotation, Level, Opening, Pin, Pinned, Quote, Reaction, ReactionChange,
    Unpinned,
};
pub(super) use annotations::{MAX_PINS, PinRow, ReactionCounts};
pub use conversations::{
    Conversation, ConversationSummary, Cursor, InvalidCursor, LastMessage, List,
    ListedConversation, Membership, NewConversation, Rename, Revision,
};
pub(super) use deletion::Removal;
pub use deletion::{DeleteConversation, DeletedConversation};
pub use deliveries::{ClaimedDelivery, Delivery};
pub use erasure::{ERASED_NAME, ERASED_USER, EraseAuthor, UserDataPage, UserDataPlace, UserRecord};
pub use invites::Invite;
pub use keys::{Attempt, KeyState, StoredResponse};
pub use logins::{Login, Revocation};
pub use members::MemberChange;
pub use messages::streams::{
    Extension, Finish, IDLE_MARGIN, OpenStream, STREAMS_READ, StoredStream, StreamHolder,
    StreamPlace,
};
pub use messages::{
    Authorship, Delete, Edit, Insert, Message, MessageKind, NewMessage, Notice, Search, Version,
    words,
};
pub use read_marks::{MAX_UNREAD_COUNT, MarkRead, ReadMark};
pub use statuses::{NewStatus, Status, UserStatus};

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
