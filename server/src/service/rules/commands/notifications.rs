//! Commands about notifications: following one's own, acknowledging one, and sending one to a user.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Permission;
use crate::service::rules::event::{Command, events};
use crate::store::Time;

events! {
    SUBSCRIBE_NOTIFICATIONS: SubscribeNotifications =
        "subscribe:notifications", Nothing, Changes, Oneself, object_or_none,
        "follows the sender's notifications";
    UNSUBSCRIBE_NOTIFICATIONS: UnsubscribeNotifications =
        "unsubscribe:notifications", Nothing, Changes, Oneself, object_or_none,
        "follows the sender's notifications no longer";
    NOTIFICATION_ACK: AckNotification = "notification:ack", Nothing, Requests, Oneself, object,
        "acknowledges a notification, which does not come again";
}

/// `subscribe:notifications`: the notifications of the sender.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SubscribeNotifications {}

/// `unsubscribe:notifications`: no longer.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct UnsubscribeNotifications {}

/// `notification:ack`: the sender has seen a notification.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AckNotification {
    pub(crate) notification_id: String,
}

/// What a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NotificationKind {
    Info,
    Warning,
    Error,
    Success,
}

/// How soon a notification has to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Priority {
    Low,
    #[default]
    Normal,
    High,
    /// It waits for no others.
    Urgent,
}

/// `POST /api/v1/notifications`: a notification of a user.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notify {
    /// Sent again under the same id it is stored once. Default: a new one.
    pub(crate) notification_id: Option<String>,
    pub(crate) user_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: NotificationKind,
    #[serde(default)]
    pub(crate) priority: Priority,
    pub(crate) title: String,
    pub(crate) message: String,
    pub(crate) action_url: Option<String>,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
    /// Default: after `notifications.expiry`.
    pub(crate) expires_at: Option<Time>,
}

impl Command for Notify {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}
