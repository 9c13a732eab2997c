//! Conversations that are deleted: first for everybody, and a little at a time from the store.

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::super::lane::Write;
use super::super::{Backend, Origin, Store, StoreError, Time};
use super::{Actor, Change};

/// A conversation that is to be deleted, with all that belongs to it.
#[derive(Clone, Debug)]
pub struct DeleteConversation {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user who asks for the deletion: the owner or an admin.
    pub by: Actor,
}

impl DeleteConversation {
    /// What it is refused for, if anything. `is_member` is about the one who asks.
    pub(crate) fn refused<T>(
        &self,
        owner: Option<&str>,
        is_open: bool,
        is_member: bool,
    ) -> Option<Change<T>> {
        let refused = self.by.refused(owner, is_member);
        // Who may not delete at all hears of that first, and learns nothing about the conversation.
        refused.or_else(|| is_open.then_some(Change::Conflict))
    }

    /// What whoever asks is told of one that is deleted already.
    pub(in crate::store) fn repeated(
        &self,
        owner: Option<&str>,
        deleted: DeletedConversation,
    ) -> Change<Removal> {
        // The members are gone with the conversation, so that the owner is all that is left to go
        // by.
        if self.by.is_admin || owner == Some(self.by.user_id.as_str()) {
            Change::Unchanged(Removal {
                deleted,
                member_ids: Vec::new(),
            })
        } else {
            Change::Absent
        }
    }
}

/// A conversation that is deleted; its JSON is on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationDeleted")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct DeletedConversation {
    /// The conversation.
    pub conversation_id: Uuid,
    /// When.
    pub deleted_at: Time,
    /// By whom.
    pub deleted_by: String,
}

/// What a lane has deleted.
#[derive(Debug)]
pub(in crate::store) struct Removal {
    pub(in crate::store) deleted: DeletedConversation,
    /// The users who were members.
    pub(in crate::store) member_ids: Vec<String>,
}

impl Store {
    /// Deletes a conversation and waits until that is emitted. From then on it is unknown to everybody,
    /// with its messages, which [`Store::purge`] removes later. Only the owner or an admin may, and are
    /// told the same again until the row is removed too. One that is open to everyone is never deleted.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn delete_conversation(
        &self,
        deletion: DeleteConversation,
        origin: Origin,
    ) -> Result<Change<DeletedConversation>, StoreError> {
        self.submit(|reply| Write::Deletion {
            deletion,
            origin,
            reply,
        })
        .await
    }

    /// Removes what conversations that are deleted have left: at most `limit` messages, with their
    /// versions, or read marks; and of those that were deleted before `time` and have nothing left, the
    /// row. Returns how many rows; 0 says that nothing is left to be removed by now.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    pub async fn purge(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        each!(self, backend => backend.purge(time, limit).await)
    }
}
