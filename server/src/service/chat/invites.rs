//! Invitations: links by which somebody becomes a member of a conversation.
//!
//! Whoever has the token may join, so it is a secret: 256 random bits, of which the store has the hash. Tokens that are
//! unknown, have ended, are used up or were taken back are told apart for nobody.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use uuid::Uuid;

use crate::auth::{Principal, secret_hash};
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, denied, origin};
use crate::service::fault::ServiceError;
use crate::service::rules::commands::conversations::Changed;
use crate::service::rules::commands::invites::{
    CreateInvite, CreatedInvite, InvitePreview, JoinInvite, PreviewInvite, PreviewedConversation,
    RevokeInvites, RevokedInvites,
};
use crate::store::{Change, Invite, Membership, Time};
use roomcast::SocketId;

/// A conversation has so many valid ones at most.
const MAX_INVITES: usize = 20;
/// Seconds that one is valid if nobody says for how long.
const LIFETIME: u64 = 7 * 24 * 60 * 60;
const LIFETIMES: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 60 * 60;
const USES: std::ops::RangeInclusive<u64> = 1..=10_000;
/// The length of a token: 32 bytes in Base64.
const TOKEN_LENGTH: usize = 43;

const NO_INVITE: ServiceError = ServiceError::NotFound("no such invitation");

impl Chat {
    /// Makes an invitation to a conversation: the owner may, and admins.
    pub(crate) async fn create_invite(
        &self,
        allowed: Allowed<CreateInvite>,
    ) -> Result<CreatedInvite, ServiceError> {
        let (by, command) = allowed.into_parts();
        let lifetime = command.expires_in.unwrap_or(LIFETIME);
        if !LIFETIMES.contains(&lifetime) {
            let problem = "is not between 60 and 2592000 seconds";
            return Err(ServiceError::invalid("expiresIn", problem));
        }
        if command.uses.is_some_and(|uses| !USES.contains(&uses)) {
            return Err(ServiceError::invalid("uses", "is not between 1 and 10000"));
        }
        self.must_own(&by, command.conversation_id).await?;
        let mut random = [0; 32];
        getrandom::fill(&mut random).expect("the operating system gives random bytes");
        let token = URL_SAFE_NO_PAD.encode(random);
        let expires_at = Time::from(SystemTime::now() + Duration::from_secs(lifetime));
        let invite = Invite {
            // Whoever reads the database must not be able to join by what it finds there.
            token_hash: secret_hash(&token),
            conversation_id: command.conversation_id,
            created_by: by.subject.clone(),
            expires_at,
            uses_left: command.uses.and_then(|uses| uses.try_into().ok()),
        };
        if !self.0.store.insert_invite(invite, MAX_INVITES).await? {
            let full = "the conversation has as many invitations as it may have";
            return Err(ServiceError::Conflict(full));
        }
        roomcast::throttled_log!(info, user = by.subject, conversation = %command.conversation_id, "made an invitation");
        Ok(CreatedInvite { token, expires_at })
    }

    /// What conversation an invitation is for.
    pub(crate) async fn preview_invite(
        &self,
        allowed: Allowed<PreviewInvite>,
    ) -> Result<InvitePreview, ServiceError> {
        let (by, command) = allowed.into_parts();
        let hash = hash_of(&command.token)?;
        let invite = self.0.store.invite(&hash).await?.ok_or(NO_INVITE)?;
        let found = self.0.store.conversation(invite.conversation_id).await?;
        let Membership { conversation, .. } = found.ok_or(NO_INVITE)?;
        Ok(InvitePreview {
            is_member: conversation.member_ids.contains(&by.subject),
            conversation: PreviewedConversation {
                id: conversation.id,
                member_count: conversation.member_ids.len(),
                title: conversation.title,
            },
            expires_at: invite.expires_at,
        })
    }

    /// Makes the user a member by an invitation. Doing so twice changes nothing, and counts once.
    pub(crate) async fn join_invite(
        &self,
        allowed: Allowed<JoinInvite>,
        from: SocketId,
    ) -> Result<Changed, ServiceError> {
        let (by, command) = allowed.into_parts();
        let hash = hash_of(&command.token)?;
        let most = self.0.limits.members;
        let joining = self
            .0
            .store
            .join_by_invite(&hash, &by.subject, most, origin(Some(from)));
        match joining.await? {
            Change::Done(conversation) | Change::Unchanged(conversation) => {
                Ok(Changed { conversation })
            }
            Change::Absent | Change::Denied => Err(NO_INVITE),
            Change::Conflict => Err(ServiceError::Conflict(
                "the conversation has as many members as it may have",
            )),
        }
    }

    /// Takes all invitations to a conversation back: the owner may, and admins. Who has become a member stays one.
    pub(crate) async fn revoke_invites(
        &self,
        allowed: Allowed<RevokeInvites>,
    ) -> Result<RevokedInvites, ServiceError> {
        let (by, command) = allowed.into_parts();
        self.must_own(&by, command.conversation_id).await?;
        let revoked = self.0.store.delete_invites(command.conversation_id).await?;
        roomcast::throttled_log!(info, user = by.subject, conversation = %command.conversation_id, "took invitations back");
        Ok(RevokedInvites { revoked })
    }

    /// Whether somebody may invite to a conversation. The answer may be a moment old when the invitation
    /// is stored, as if that had been made before.
    async fn must_own(&self, by: &Principal, id: Uuid) -> Result<(), ServiceError> {
        let found = self
            .0
            .store
            .conversation(id)
            .await?
            .ok_or(NO_CONVERSATION)?;
        let is_member = found.is_open || found.conversation.member_ids.contains(&by.subject);
        match self.actor(by).invitations_refused::<()>(&found, is_member) {
            Some(Change::Denied) => Err(denied(by, "only its owner invites to a conversation")),
            Some(Change::Conflict) => Err(ServiceError::Conflict(
                "a conversation that is open to everyone needs no invitations",
            )),
            Some(_) => Err(NO_CONVERSATION),
            None => Ok(()),
        }
    }
}

/// The hash of what may be a token.
fn hash_of(token: &str) -> Result<String, ServiceError> {
    // What has another length is no token, and spares the store a question by whoever guesses.
    if token.len() == TOKEN_LENGTH {
        Ok(secret_hash(token))
    } else {
        Err(NO_INVITE)
    }
}
