//! Commands about notifications: following one's own, acknowledging one, sending one to a user, and reading what a user has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Permission;
use crate::service::rules::commands::form::whole_or_none;
use crate::service::rules::commands::pages::AskedPage;
use crate::service::rules::emissions::notifications::{
    self, AllAcked, Notification, NotificationAcked, NotificationKind, Notifications, Priority,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::MESSAGE_ID;
use crate::store::Time;

events! {
    SUBSCRIBE_NOTIFICATIONS: SubscribeNotifications => Subscribed<Notifications> =
        "subscribe:notifications", Nothing, Changes, Oneself, object_or_none,
        "follows the sender's notifications",
        {} => notifications::subscribed();
    UNSUBSCRIBE_NOTIFICATIONS: UnsubscribeNotifications => Unsubscribed =
        "unsubscribe:notifications", Nothing, Changes, Oneself, object_or_none,
        "follows the sender's notifications no longer",
        {} => Unsubscribed::example("notifications:ada");
    NOTIFICATION_ACK: AckNotification => NotificationAcked =
        "notification:ack", Nothing, Requests, Oneself, object,
        "acknowledges a notification, which does not come again",
        {"notificationId": MESSAGE_ID} => notifications::acked();
    NOTIFICATION_ACK_ALL: AckAllNotifications => AllAcked =
        "notification:ack_all", Nothing, Requests, Oneself, object_or_none,
        "acknowledges all notifications, or those up to a revision",
        {"revision": 7} => notifications::all_acked();
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

/// `notification:ack_all`: the sender has seen all notifications.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct AckAllNotifications {
    /// Only those up to this revision, which the sender has received. Default: all that there are.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) revision: Option<u64>,
}

/// `POST /api/v1/notifications`: a notification of a user.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
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

/// `GET /api/v1/users/{id}/notifications`: what a user has not acknowledged.
#[derive(Debug)]
pub(crate) struct ReadNotifications {
    pub(crate) user: String,
    pub(crate) page: AskedPage,
}

impl Command for ReadNotifications {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsRead);
}

/// A page of the notifications that a user has not acknowledged and that have not expired, the newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationList {
    /// That of the last notification or acknowledgement when the page was read.
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<Update<Notification>>,
    /// How many there are on all pages.
    pub(crate) unread: u64,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older ones.
    pub(crate) has_more: bool,
}
