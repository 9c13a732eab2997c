//! Invitations: links that make users members of a conversation.
//!
//! The token is a secret, since any user who has it may join. It has 256 random bits, and the store
//! has only its hash. Clients cannot distinguish unknown, expired, used up and revoked tokens.

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

/// The maximum number of valid invitations to a conversation.
const MAX_INVITES: usize = 20;
/// The default lifetime of an invitation in seconds.
const LIFETIME: u64 = 7 * 24 * 60 * 60;
/// The permitted lifetimes of an invitation in seconds: one minute to 30 days.
const LIFETIMES: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 60 * 60;
/// The permitted numbers of uses of an invitation.
const USES: std::ops::RangeInclusive<u64> = 1..=10_000;
/// The length of a token: 32 bytes in Base64.
const TOKEN_LENGTH: usize = 43;

const NO_INVITE: ServiceError = ServiceError::NotFound("no such invitation");

impl Chat {
    /// Creates an invitation to a conversation. Only the owner and admins may.
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
            // Read access to the database must not be enough to join.
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
        roomcast::throttled_log!(info, user = by.subject, conversation = %command.conversation_id, "invitation created");
        Ok(CreatedInvite { token, expires_at })
    }

    /// Returns the conversation that an invitation is for.
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

    /// Makes the user a member by an invitation. Repeating it changes nothing and counts as one
    /// use.
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

    /// Revokes all invitations to a conversation. Only the owner and admins may. Users who have
    /// joined stay members.
    pub(crate) async fn revoke_invites(
        &self,
        allowed: Allowed<RevokeInvites>,
    ) -> Result<RevokedInvites, ServiceError> {
        let (by, command) = allowed.into_parts();
        self.must_own(&by, command.conversation_id).await?;
        let revoked = self.0.store.delete_invites(command.conversation_id).await?;
        roomcast::throttled_log!(info, user = by.subject, conversation = %command.conversation_id, "invitations revoked");
        Ok(RevokedInvites { revoked })
    }

    /// Checks that a user may invite to a conversation.
    ///
    /// The conversation may change before the invitation is stored, as if the invitation had been
    /// created earlier.
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

/// Returns the hash of a possible token.
fn hash_of(token: &str) -> Result<String, ServiceError> {
    // A string of another length is not a token. Rejecting it here saves the store a query per
    // guess.
    if token.len() == TOKEN_LENGTH {
        Ok(secret_hash(token))
    } else {
        Err(NO_INVITE)
    }
}
