//! Invitation links to conversations.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use uuid::Uuid;

use super::{Actor, Change, MemberChange};
use crate::metrics::Timing;
use crate::store::change::Conversation;
use crate::store::write::Origin;
use crate::store::write::{MemberOperation, Write};
use crate::store::{Backend, Store, StoreError, Time};

/// An invitation. It contains only the hash of the token, which the invited users know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, callers construct it")]
pub struct Invite {
    /// SHA-256 of the token in hexadecimal digits.
    pub token_hash: String,
    /// The conversation that a user joins with it.
    pub conversation_id: Uuid,
    /// The user who created it.
    pub created_by: String,
    /// When it expires.
    pub expires_at: Time,
    /// How many more users may join with it; `None` if only the member limit applies.
    pub uses_left: Option<u32>,
}

impl Store {
    /// Makes a user a member by an invitation, counts its use, and waits until that is emitted.
    ///
    /// An existing member stays a member and is not counted. An invitation that is unknown,
    /// expired, used up or revoked gives [`Change::Absent`]. `limit` is the maximum number of
    /// members besides the owner.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn join_by_invite(
        &self,
        token_hash: &str,
        user_id: &str,
        limit: usize,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        // This lookup only finds the conversation. The transaction decides whether the invitation
        // is still valid.
        let Some(invite) = self.invite(token_hash).await? else {
            return Ok(Change::Absent);
        };
        let by = Actor {
            user_id: user_id.to_owned(),
            is_admin: false,
        };
        let change = MemberChange {
            conversation_id: invite.conversation_id,
            user_id: user_id.to_owned(),
            by,
            removes: false,
            limit,
        };
        let (conversation_id, invite) = (invite.conversation_id, Some(invite.token_hash));
        let operation = MemberOperation { change, invite };
        self.submit(operation, conversation_id, origin, Write::Member)
            .await
    }

    /// Stores an invitation. Returns `false` if its conversation has `limit` other valid ones.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_invite(&self, invite: Invite, limit: usize) -> Result<bool, StoreError> {
        each!(self, backend => self.timed_answer(Timing::StoreChange, backend.insert_invite(invite, limit)).await)
    }

    /// Returns a valid invitation to an existing conversation, by the hash of its token.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.invite(token_hash)).await)
    }

    /// Returns the number of valid invitations to a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn count_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.count_invites(conversation)).await)
    }

    /// Revokes all invitations to a conversation. Returns how many were valid.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        each!(self, backend => self.timed_answer(Timing::StoreChange, backend.delete_invites(conversation)).await)
    }
}
