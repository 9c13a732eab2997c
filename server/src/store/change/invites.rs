//! Links by which somebody becomes a member of a conversation.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Actor, Change, MemberChange};
use crate::store::lane::Write;
use crate::store::rows::{Conversation, Origin};
use crate::store::{Backend, Store, StoreError, Time};

/// An invitation: not the token, which only those have who were given it, but the hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, made by who stores it")]
pub struct Invite {
    /// SHA-256 of the token in hexadecimal digits.
    pub token_hash: String,
    /// The conversation that it is for.
    pub conversation_id: Uuid,
    /// The user who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at: Time,
    /// How many may still become members by it; none stands for as many as there is room for.
    pub uses_left: Option<u32>,
}

impl Invite {
    /// Whether somebody may become a member by it.
    fn is_valid(&self, now: Time) -> bool {
        self.expires_at > now && self.uses_left != Some(0)
    }
}

/// The table, in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct Invites {
    rows: HashMap<String, Invite>,
    /// The hashes of each conversation.
    of: HashMap<Uuid, Vec<String>>,
}

impl Invites {
    /// Keeps an invitation, unless its conversation has `limit` others that are valid. Those that
    /// are not valid go.
    pub(in crate::store) fn insert(&mut self, invite: Invite, limit: usize, now: Time) -> bool {
        let rows = &mut self.rows;
        let hashes = self.of.entry(invite.conversation_id).or_default();
        // Invitations that have ended go when the next one is made, so that no sweep is needed for
        // them.
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

    /// A valid invitation, by the hash of its token.
    pub(in crate::store) fn find(&self, token_hash: &str, now: Time) -> Option<Invite> {
        let found = self.rows.get(token_hash);
        found.filter(|invite| invite.is_valid(now)).cloned()
    }

    /// Counts somebody who becomes a member of a conversation by an invitation. Returns `false` if
    /// that is not valid.
    pub(in crate::store) fn take(&mut self, token_hash: &str, id: Uuid, now: Time) -> bool {
        let found = self.rows.get_mut(token_hash);
        let valid = found.filter(|invite| invite.conversation_id == id && invite.is_valid(now));
        let Some(invite) = valid else {
            return false;
        };
        invite.uses_left = invite.uses_left.map(|uses| uses.saturating_sub(1));
        true
    }

    /// Removes the invitations to a conversation, and says how many were valid.
    pub(in crate::store) fn remove(&mut self, conversation: Uuid, now: Time) -> u64 {
        let hashes = self.of.remove(&conversation).unwrap_or_default();
        let removed = hashes.iter().filter_map(|hash| self.rows.remove(hash));
        removed.filter(|invite| invite.is_valid(now)).count() as u64
    }

    /// What all of it takes, roughly.
    pub(in crate::store) fn bytes(&self) -> u64 {
        (self.rows.len() * ROW_BYTES) as u64
    }
}

/// A row, with the longest id of a user and the hash twice.
const ROW_BYTES: usize = 512;

impl Store {
    /// Makes a user a member by an invitation, counts that, and waits until it is emitted. Who is a member already stays
    /// one, and is not counted. One that is unknown, has ended, is used up or was taken back is absent. `limit` is how
    /// many members the conversation may have beside its owner.
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
        // The invitation is only looked up for its conversation. Whether it counts is decided in
        // the transaction, where it may have been used up.
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

    /// Stores an invitation. Returns `false` if its conversation has `limit` others that are valid.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_invite(&self, invite: Invite, limit: usize) -> Result<bool, StoreError> {
        each!(self, backend => self.patiently(backend.insert_invite(invite, limit)).await)
    }

    /// A valid invitation to a conversation that there is, by the hash of its token.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        each!(self, backend => self.patiently(backend.invite(token_hash)).await)
    }

    /// Takes all invitations of a conversation back; says how many were valid.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        each!(self, backend => self.patiently(backend.delete_invites(conversation)).await)
    }
}
