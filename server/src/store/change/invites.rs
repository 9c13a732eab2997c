//! Invitation links to conversations.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Actor, Change, MemberChange};
use crate::store::lane::Write;
use crate::store::rows::{Conversation, Origin};
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

impl Invite {
    /// Returns whether a user may join with it.
    fn is_valid(&self, now: Time) -> bool {
        self.expires_at > now && self.uses_left != Some(0)
    }
}

/// The in-memory table.
#[derive(Debug, Default)]
pub(in crate::store) struct Invites {
    rows: HashMap<String, Invite>,
    /// The token hashes of each conversation.
    of: HashMap<Uuid, Vec<String>>,
}

impl Invites {
    /// Stores an invitation, unless its conversation has `limit` other valid ones. Removes invalid
    /// ones.
    pub(in crate::store) fn insert(&mut self, invite: Invite, limit: usize, now: Time) -> bool {
        let rows = &mut self.rows;
        let hashes = self.of.entry(invite.conversation_id).or_default();
        // Expired invitations are removed when the next one is created, so they need no sweep.
        hashes.retain(|hash| {
            let is_valid = rows.get(hash).is_some_and(|other| other.is_valid(now));
            if !is_valid {
                rows.remove(hash);
            }
            is_valid
        });
        let has_room = hashes.len() < limit;
        if has_room {
            hashes.push(invite.token_hash.clone());
            rows.insert(invite.token_hash.clone(), invite);
        }
        has_room
    }

    /// Returns a valid invitation by the hash of its token.
    pub(in crate::store) fn find(&self, token_hash: &str, now: Time) -> Option<Invite> {
        let found = self.rows.get(token_hash);
        found.filter(|invite| invite.is_valid(now)).cloned()
    }

    /// Uses an invitation for a new member of a conversation. Returns `false` if it is not valid.
    pub(in crate::store) fn take(&mut self, token_hash: &str, id: Uuid, now: Time) -> bool {
        let found = self.rows.get_mut(token_hash);
        let valid = found.filter(|invite| invite.conversation_id == id && invite.is_valid(now));
        let Some(invite) = valid else {
            return false;
        };
        invite.uses_left = invite.uses_left.map(|uses| uses.saturating_sub(1));
        true
    }

    /// Removes the invitations to a conversation. Returns how many were valid.
    pub(in crate::store) fn remove(&mut self, conversation: Uuid, now: Time) -> u64 {
        let hashes = self.of.remove(&conversation).unwrap_or_default();
        let removed = hashes.iter().filter_map(|hash| self.rows.remove(hash));
        removed.filter(|invite| invite.is_valid(now)).count() as u64
    }

    /// Returns the approximate size of all rows in bytes.
    pub(in crate::store) fn bytes(&self) -> u64 {
        (self.rows.len() * ROW_BYTES) as u64
    }
}

/// The approximate size of a row in bytes, with the longest user id and two copies of the hash.
const ROW_BYTES: usize = 512;

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
        self.submit(|reply| Write::Member {
            change,
            invite: Some(invite.token_hash),
            origin,
            reply,
        })
        .await
    }

    /// Stores an invitation. Returns `false` if its conversation has `limit` other valid ones.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_invite(&self, invite: Invite, limit: usize) -> Result<bool, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.insert_invite(invite, limit)).await)
    }

    /// Returns a valid invitation to an existing conversation, by the hash of its token.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.invite(token_hash)).await)
    }

    /// Revokes all invitations to a conversation. Returns how many were valid.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.delete_invites(conversation)).await)
    }
}
