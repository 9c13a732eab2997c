//! Commands about invitations: tokens that make users members of a conversation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::conversations::Changed;
use super::form::{hyphenated, whole_or_none};
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, CONVERSATION, NOON};
use crate::store::Time;

const TOKEN: &str = "mvsPbdmSR4nTSCmCdlvSV9WlYLCvbnfRRIdxuBFC3lY";

events! {
    CREATE_INVITE {
        event: "create_invite", payload: CreateInvite, answer: CreatedInvite,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "creates a token with which users become members of a conversation",
        example: {"conversationId": CONVERSATION, "expiresIn": 86_400, "uses": 5},
        answered: CreatedInvite { token: TOKEN.to_owned(), expires_at: examples::time(NOON) },
        call: Chat::create_invite(),
        moderates: Conversation,
    }
    PREVIEW_INVITE {
        event: "preview_invite", payload: PreviewInvite, answer: InvitePreview,
        permission: ChatRead, limit: Requests, room: Anyone, argument: object,
        does: "reads which conversation a token is for",
        example: {"token": TOKEN},
        answered: InvitePreview {
            conversation: PreviewedConversation {
                id: CONVERSATION,
                title: Some("Engines".to_owned()),
                member_count: 2,
            },
            is_member: false,
            expires_at: examples::time(NOON),
        },
        call: Chat::preview_invite(),
    }
    JOIN_INVITE {
        event: "join_invite", payload: JoinInvite, answer: Changed,
        permission: ChatRead, limit: Changes, room: Anyone, argument: object,
        does: "makes the sender a member of the conversation that a token is for",
        example: {"token": TOKEN},
        answered: Changed { conversation: examples::conversation() },
        call: Chat::join_invite(from),
    }
    REVOKE_INVITES {
        event: "revoke_invites", payload: RevokeInvites, answer: RevokedInvites,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "revokes all tokens of a conversation",
        example: {"conversationId": CONVERSATION},
        answered: RevokedInvites { revoked: 1 },
        call: Chat::revoke_invites(),
        moderates: Conversation,
    }
}

/// The acknowledgement of `create_invite`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedInvite {
    /// The token. Any user who has it can become a member.
    pub(crate) token: String,
    /// When the token expires.
    pub(crate) expires_at: Time,
}

/// The acknowledgement of `preview_invite`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InvitePreview {
    pub(crate) conversation: PreviewedConversation,
    /// Whether the sender is already a member.
    pub(crate) is_member: bool,
    /// When the token expires.
    pub(crate) expires_at: Time,
}

/// The data of a conversation that users can read before they become members.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewedConversation {
    pub(crate) id: Uuid,
    pub(crate) title: Option<String>,
    /// The number of members.
    pub(crate) member_count: usize,
}

/// The acknowledgement of `revoke_invites`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct RevokedInvites {
    /// How many valid tokens were revoked.
    pub(crate) revoked: u64,
}

/// `create_invite`: creates a token for a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateInvite {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// Lifetime in seconds, 60 to 2,592,000 (30 days). Default 604,800 (7 days).
    #[schemars(range(min = 60, max = 2_592_000))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) expires_in: Option<u64>,
    /// How many users can become members with the token, 1 to 10,000. Default: limited only by
    /// `chat.members`.
    #[schemars(range(min = 1, max = 10_000))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) uses: Option<u64>,
}

/// `preview_invite`: reads the conversation of a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewInvite {
    pub(crate) token: String,
}

/// `join_invite`: makes the sender a member of the conversation of a token.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinInvite {
    pub(crate) token: String,
}

/// `revoke_invites`: revokes all tokens of a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokeInvites {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}
