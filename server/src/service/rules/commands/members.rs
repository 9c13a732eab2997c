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
    ADD_MEMBER {
        event: "add_member", payload: AddMember, answer: Changed,
        permission: ChatManage, limit: Changes, room: Owner, argument: object,
        does: "adds a member to a conversation",
        example: {"conversationId": CONVERSATION, "userId": BOB},
        answered: Changed { conversation: examples::conversation() },
        call: Chat::add_member(from),
        moderates: Member,
    }
    REMOVE_MEMBER {
        event: "remove_member", payload: RemoveMember, answer: Changed,
        permission: ChatRead, limit: Changes, room: OwnerOrOneself, argument: object,
        does: "removes a member, or the sender, from a conversation",
        example: {"conversationId": CONVERSATION, "userId": "eve"},
        answered: Changed { conversation: examples::conversation() },
        call: Chat::remove_member(from),
        moderates: Member,
    }
    SET_NOTIFICATION_LEVEL {
        event: "set_notification_level", payload: SetNotificationLevel, answer: NotificationLevel,
        permission: ChatRead, limit: Requests, room: Member, argument: object,
        does: "sets which events of a conversation notify the sender",
        example: {"conversationId": CONVERSATION, "level": "mentions"},
        answered: NotificationLevel { conversation_id: CONVERSATION, level: Level::Mentions },
        call: Chat::set_level(socket),
    }
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
