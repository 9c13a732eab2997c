//! Invitation links to conversations.

use uuid::Uuid;

use super::{Actor, Change, MemberChange};
use crate::metrics::Timing;
use crate::store::change::Conversation;
use crate::store::statement::{Single, Statement, record, values};
use crate::store::write::{MemberOperation, Write};
use crate::store::{Origin, Store, StoreError, Time};

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

record! { Invite => token_hash, conversation_id, created_by, expires_at, uses_left }

impl Invite {
    /// Returns the statement that uses an invitation for a new member of a conversation. It changes
    /// no row if the invitation is not valid.
    pub(in crate::store) fn take(token_hash: &str, conversation: Uuid, now: Time) -> Statement {
        Statement::new(
            "UPDATE invites SET uses_left = uses_left - 1
             WHERE token_hash = $1 AND conversation_id = $2 AND expires_at > $3
                 AND uses_left IS DISTINCT FROM 0",
            values![token_hash, conversation, now],
        )
    }
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
        let (conversation, now) = (invite.conversation_id, Time::now());
        let expire = Statement::new(
            "DELETE FROM invites
             WHERE conversation_id = $1 AND (expires_at <= $2 OR uses_left = 0)",
            values![conversation, now],
        );
        let insert = Statement::new(
            "INSERT INTO invites (token_hash, conversation_id, created_by, expires_at, uses_left)
             SELECT $1, $2, $3, $4, $5
             WHERE (SELECT count(*) FROM invites
                 WHERE conversation_id = $2 AND token_hash <> $1 AND expires_at > $6
                     AND uses_left IS DISTINCT FROM 0) < $7
             ON CONFLICT (token_hash) DO UPDATE SET expires_at = excluded.expires_at",
            values![
                invite.token_hash,
                conversation,
                invite.created_by,
                invite.expires_at,
                invite.uses_left,
                now,
                limit,
            ],
        );
        let inserted = async {
            self.execute(expire).await?;
            self.execute(insert).await
        };
        Ok(self.timed_answer(Timing::StoreChange, inserted).await? > 0)
    }

    /// Returns a valid invitation to an existing conversation, by the hash of its token.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        let select = Statement::new(
            "SELECT token_hash, conversation_id, created_by, expires_at, uses_left
             FROM invites JOIN conversations ON conversations.id = conversation_id
             WHERE token_hash = $1 AND expires_at > $2 AND uses_left IS DISTINCT FROM 0
                 AND deleted_at IS NULL",
            values![token_hash, Time::now()],
        );
        let found = self.with_answer_timeout(self.rows(select));
        Ok(found.await?.pop())
    }

    /// Returns the number of valid invitations to a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn count_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        let select = Statement::new(
            "SELECT count(*) AS value FROM invites
             WHERE conversation_id = $1 AND expires_at > $2 AND uses_left IS DISTINCT FROM 0",
            values![conversation, Time::now()],
        );
        let counted = self.with_answer_timeout(self.rows(select));
        Ok(counted.await?.pop().map_or(0, |Single(count)| count))
    }

    /// Revokes all invitations to a conversation. Returns how many were valid.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        let remove = Statement::new(
            "DELETE FROM invites WHERE conversation_id = $1
             RETURNING expires_at > $2 AND uses_left IS DISTINCT FROM 0 AS value",
            values![conversation, Time::now()],
        );
        let removed = self.timed_answer(Timing::StoreChange, self.change_rows(remove));
        let valid = removed
            .await?
            .into_iter()
            .filter(|Single(is_valid)| *is_valid);
        Ok(valid.count() as u64)
    }
}
