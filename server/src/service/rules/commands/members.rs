//! Commands about the members of a conversation, and a member's notification level.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{self, Deserializer};
use uuid::Uuid;

use super::conversations::Changed;
use super::form::hyphenated;
use crate::auth::Permission;
use crate::service::rules::bounds::UserId;
use crate::service::rules::emissions::conversations::NotificationLevel;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, BOB, CONVERSATION};
use crate::store::Level;

events! {
    ADD_MEMBER: AddMember => Changed = "add_member", ChatManage, Changes, Owner, object,
        "adds a member to a conversation",
        {"conversationId": CONVERSATION, "userId": BOB} => Changed { conversation: examples::conversation() };
    REMOVE_MEMBER: RemoveMember => Changed = "remove_member", ChatRead, Changes, OwnerOrOneself, object,
        "removes a member from a conversation, or the sender itself",
        {"conversationId": CONVERSATION, "userId": "eve"} => Changed { conversation: examples::conversation() };
    SET_NOTIFICATION_LEVEL: SetNotificationLevel => NotificationLevel =
        "set_notification_level", ChatRead, Requests, Member, object,
        "says of what in a conversation the sender wants to be notified",
        {"conversationId": CONVERSATION, "level": "mentions"} =>
        NotificationLevel { conversation_id: CONVERSATION, level: Level::Mentions };
}

/// `add_member`: adds a member.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddMember {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `remove_member`: removes a member.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RemoveMember {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// `set_notification_level`: sets which events of a conversation notify the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetNotificationLevel {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// With `none`, mentions create no notifications. Apart from that, clients apply the level
    /// themselves.
    #[schemars(with = "String", extend("enum" = ["all", "mentions", "none"]))]
    #[serde(deserialize_with = "level")]
    pub(crate) level: Level,
}

/// Deserializes a level from a string only. A derived enum also accepts `{"all": null}`.
fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Level, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "all" => Ok(Level::All),
        "mentions" => Ok(Level::Mentions),
        "none" => Ok(Level::None),
        other => Err(de::Error::unknown_variant(
            other,
            &["all", "mentions", "none"],
        )),
    }
}

impl RemoveMember {
    /// Returns the permission that the command needs in addition to its row's: none to remove
    /// oneself.
    pub(crate) fn permission(by: &str, user_id: &str) -> Option<Permission> {
        (by != user_id).then_some(Permission::ChatManage)
    }
}
