//! Commands about invitations: links by which somebody becomes a member of a conversation.

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::form::{hyphenated, whole_or_none};
use crate::service::rules::event::events;

events! {
    CREATE_INVITE: CreateInvite = "create_invite", ChatManage, Changes, Owner, object,
        "makes a token by which others become members of a conversation";
    PREVIEW_INVITE: PreviewInvite = "preview_invite", ChatRead, Requests, Anyone, object,
        "reads what conversation a token is for";
    JOIN_INVITE: JoinInvite = "join_invite", ChatRead, Changes, Anyone, object,
        "makes the sender a member of the conversation that a token is for";
    REVOKE_INVITES: RevokeInvites = "revoke_invites", ChatManage, Changes, Owner, object,
        "takes all tokens of a conversation back";
}

/// `create_invite`: a token for a conversation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateInvite {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// Seconds, 60 to 2,592,000 (30 days). Default 604,800 (7 days).
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) expires_in: Option<u64>,
    /// How many may become members by it, 1 to 10,000. Default: as many as there is room for.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) uses: Option<u64>,
}

/// `preview_invite`: a token that somebody was given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviewInvite {
    pub(crate) token: String,
}

/// `join_invite`: a token that somebody was given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct JoinInvite {
    pub(crate) token: String,
}

/// `revoke_invites`: the conversation whose tokens are taken back.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevokeInvites {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}
