//! Deletes conversations: hides them immediately, and removes their data step by step.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use super::{Actor, Change};
use crate::store::statement::{Statement, values};
use crate::store::write::{DeletionOperation, Write};
use crate::store::{Backend, Origin, Store, StoreError, Time};

/// A request to delete a conversation with everything that belongs to it.
#[derive(Clone, Debug)]
pub struct DeleteConversation {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user who asks for the deletion: the owner or an admin.
    pub by: Actor,
}

impl DeleteConversation {
    /// Returns why the request is refused, if it is. `is_member` refers to the user who asks.
    pub(crate) fn refused<T>(
        &self,
        owner: Option<&str>,
        is_open: bool,
        is_member: bool,
    ) -> Option<Change<T>> {
        let refused = self.by.refused(owner, is_member);
        // The right to delete is checked first, so that a user without it learns nothing about the
        // conversation.
        refused.or_else(|| is_open.then_some(Change::Conflict))
    }

    /// Returns the statements that hide the conversation and remove its members and invitations.
    pub(in crate::store) fn statements(&self, now: Time) -> [Statement; 3] {
        let (id, by) = (self.conversation_id, &*self.by.user_id);
        [
            Statement::new(
                "UPDATE conversations SET title = NULL, deleted_at = $2, deleted_by = $3 WHERE id = $1",
                values![id, now, by],
            ),
            Statement::new(
                "DELETE FROM members WHERE conversation_id = $1",
                values![id],
            ),
            Statement::new(
                "DELETE FROM invites WHERE conversation_id = $1",
                values![id],
            ),
        ]
    }

    /// Returns the result of a request to delete a conversation that is already deleted.
    pub(in crate::store) fn repeated(
        &self,
        owner: Option<&str>,
        deleted: DeletedConversation,
    ) -> Change<Removal> {
        // The members were deleted with the conversation, so only the owner can be checked.
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

/// The result of a deletion in a lane.
#[derive(Debug)]
pub(in crate::store) struct Removal {
    pub(in crate::store) deleted: DeletedConversation,
    /// The users who were members.
    pub(in crate::store) member_ids: Vec<String>,
}

impl Store {
    /// Deletes a conversation and waits until that is emitted. Only the owner or an admin may do
    /// so.
    ///
    /// The conversation is then unknown to all users, with its messages, which [`Store::purge`]
    /// removes later. Repeated requests get the same result until its row is removed. A
    /// conversation that is open to everyone cannot be deleted.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn delete_conversation(
        &self,
        deletion: DeleteConversation,
        origin: Origin,
    ) -> Result<Change<DeletedConversation>, StoreError> {
        self.delete(deletion, None, origin).await
    }

    /// Deletes a conversation like [`Store::delete_conversation`] if no other user than
    /// `sole_member` is a member. Otherwise it stays ([`Change::Conflict`]).
    ///
    /// One transaction checks the members and deletes the conversation.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn delete_conversation_without_others(
        &self,
        deletion: DeleteConversation,
        sole_member: String,
        origin: Origin,
    ) -> Result<Change<DeletedConversation>, StoreError> {
        self.delete(deletion, Some(sole_member), origin).await
    }

    async fn delete(
        &self,
        deletion: DeleteConversation,
        sole_member: Option<String>,
        origin: Origin,
    ) -> Result<Change<DeletedConversation>, StoreError> {
        let conversation_id = deletion.conversation_id;
        let operation = DeletionOperation {
            deletion,
            sole_member,
        };
        let deleted = self.submit(operation, conversation_id, origin, Write::Deletion);
        let deleted = deleted.await?;
        Ok(deleted.map(|removal| removal.deleted))
    }

    /// Removes part of the remains of deleted conversations and returns the number of rows.
    ///
    /// One call removes at most `limit` messages with their versions, or read marks. If none are
    /// left, it removes the rows of conversations that were deleted before `time`. 0 means that
    /// nothing can be removed yet.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    pub async fn purge(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        each!(self, backend => backend.purge(time, limit).await)
    }
}
