//! Commands about the members of a conversation.

use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

use super::conversations::Changed;
use super::form::hyphenated;
use crate::auth::Permission;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, BOB, CONVERSATION};

events! {
    ADD_MEMBER: AddMember => Changed = "add_member", ChatManage, Changes, Owner, object,
        "adds a member to a conversation",
        {"conversationId": CONVERSATION, "userId": BOB} => Changed { conversation: examples::conversation() };
    REMOVE_MEMBER: RemoveMember => Changed = "remove_member", ChatRead, Changes, OwnerOrOneself, object,
        "removes a member from a conversation, or the sender itself",
        {"conversationId": CONVERSATION, "userId": "eve"} => Changed { conversation: examples::conversation() };
}

/// `add_member`: somebody becomes a member.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddMember {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: String,
}

/// `remove_member`: somebody is a member no longer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoveMember {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: String,
}

impl RemoveMember {
    /// The permission that it takes beyond that of its row: none for whoever leaves.
    pub(crate) fn permission(by: &str, user_id: &str) -> Option<Permission> {
        (by != user_id).then_some(Permission::ChatManage)
    }
}
