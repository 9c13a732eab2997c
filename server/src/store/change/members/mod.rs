//! Members of conversations: adding, removing and finding them.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use uuid::Uuid;

use super::{Actor, Change, Conversation};
use crate::store::statement::{Single, Statement, values};
use crate::store::write::{MemberOperation, Write};
use crate::store::{Backend, Origin, Store, StoreError, Time};

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
    pub(in crate::store) fn transfers_ownership(&self, owner: Option<&str>) -> bool {
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
    pub(in crate::store) fn most(&self, owner: Option<&str>) -> usize {
        self.limit.saturating_add(usize::from(owner.is_some()))
    }
}

/// The statements of a change.
impl MemberChange {
    pub(in crate::store) fn delete(&self) -> Statement {
        Statement::new(
            "DELETE FROM members WHERE conversation_id = $1 AND user_id = $2",
            values![self.conversation_id, &*self.user_id],
        )
    }

    pub(in crate::store) fn insert(conversation: Uuid, user: &str, now: Time) -> Statement {
        Statement::new(
            "INSERT INTO members (conversation_id, user_id, joined_at)
             VALUES ($1, $2, $3) ON CONFLICT (conversation_id, user_id) DO NOTHING",
            values![conversation, user, now],
        )
    }

    /// Makes the longest-standing other member the owner, if there is one.
    pub(in crate::store) fn transfer(&self) -> Statement {
        Statement::new(
            "UPDATE conversations SET owner_id = heir.user_id FROM (
                 SELECT user_id FROM members WHERE conversation_id = $1 AND user_id <> $2
                 ORDER BY joined_at, user_id LIMIT 1) AS heir
             WHERE id = $1",
            values![self.conversation_id, &*self.user_id],
        )
    }

    /// Reads whether the conversation is full for a new member.
    pub(in crate::store) fn is_full(&self, owner: Option<&str>) -> Statement {
        Statement::new(
            "SELECT count(*) >= $3 AND count(*) FILTER (WHERE user_id = $2) = 0 AS value
             FROM members WHERE conversation_id = $1",
            values![self.conversation_id, &*self.user_id, self.most(owner)],
        )
    }

    pub(in crate::store) fn touch(&self, now: Time) -> Statement {
        Statement::new(
            "UPDATE conversations SET updated_at = $2 WHERE id = $1",
            values![self.conversation_id, now],
        )
    }
}

impl Store {
    /// Adds or removes a member and waits until that is emitted. Only the owner or an admin may do
    /// so.
    ///
    /// The owner cannot be removed. If the owner leaves, the longest-standing member becomes the
    /// owner. If there is none, the owner cannot leave ([`Change::Conflict`]).
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn change_member(
        &self,
        change: MemberChange,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        let conversation_id = change.conversation_id;
        let invite = None;
        let operation = MemberOperation { change, invite };
        self.submit(operation, conversation_id, origin, Write::Member)
            .await
    }

    /// Returns whether `user` is a member of a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn is_member(&self, conversation: Uuid, user: &str) -> Result<bool, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.is_member(conversation, user)).await)
    }

    /// Returns at most `limit` users who share a conversation of at most `most_members` members
    /// with `user`.
    ///
    /// Each appears once, in no particular order.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn contacts(
        &self,
        user: &str,
        most_members: usize,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        // The SQL adds one.
        let most_members = i64::try_from(most_members).unwrap_or(i64::MAX - 1);
        // The count stops at the limit, however large a conversation is.
        let select = Statement::new(
            "WITH small AS MATERIALIZED (
                 SELECT own.conversation_id FROM members own
                 WHERE own.user_id = $1 AND (SELECT count(*) FROM (SELECT 1 FROM members m
                     WHERE m.conversation_id = own.conversation_id
                     LIMIT CAST($2 AS bigint) + 1) counted) <= $2)
             SELECT DISTINCT m.user_id AS value FROM small JOIN members m USING (conversation_id)
             WHERE m.user_id <> $1 LIMIT $3",
            values![user, most_members, limit],
        );
        let found = self.with_answer_timeout(self.rows(select)).await?;
        Ok(found.into_iter().map(|Single(user)| user).collect())
    }
}
