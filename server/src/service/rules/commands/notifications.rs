//! Commands about notifications: following one's own, acknowledging one, sending one to a user, and reading what a user has.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Permission, Principal};
use crate::service::rules::bounds::{
    ActionUrl, NOTIFIED_USERS, NotificationId, NotificationText, NotificationTitle, RevisionCursor,
    ServiceName, UserId, one_of,
};
use crate::service::rules::commands::form::{whole_or_none, word};
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
    NOTIFICATIONS_HISTORY: ReadOwnHistory => NotificationHistory =
        "notifications:history", Nothing, Requests, Oneself, object_or_none,
        "reads a page of the notifications that the sender has acknowledged, the newest acknowledgement first",
        {"limit": 1} => history();
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
    #[schemars(with = "ServiceName")]
    pub(crate) notification_id: String,
}

/// `notification:ack_all`: the sender has seen all notifications.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct AckAllNotifications {
    /// Only those up to this revision, which the sender has received. Default: all that there are.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) revision: Option<u64>,
}

/// `notifications:history`: a page of what the sender has acknowledged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ReadOwnHistory {
    /// The `cursor` of the page before; without it, the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
}

/// `POST /api/v1/notifications`: a notification of a user, or of many.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = one_of(["userId", "userIds"], ["string", "array"])))]
pub(crate) struct Notify {
    /// Sent again under the same id it is stored once. Default: a new one.
    #[schemars(with = "Option<NotificationId>")]
    pub(crate) notification_id: Option<String>,
    /// The user who gets it; not together with `userIds`.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// The users who get it, each once: 1 to 1,000. The answer has the outcome for each.
    #[schemars(with = "Option<Vec<UserId>>", length(min = 1, max = NOTIFIED_USERS), extend("uniqueItems" = true))]
    pub(crate) user_ids: Option<Vec<String>>,
    #[serde(rename = "type", deserialize_with = "word")]
    pub(crate) kind: NotificationKind,
    #[serde(default, deserialize_with = "word")]
    pub(crate) priority: Priority,
    #[schemars(with = "NotificationTitle")]
    pub(crate) title: String,
    #[schemars(with = "NotificationText")]
    pub(crate) message: String,
    #[schemars(with = "Option<ActionUrl>")]
    pub(crate) action_url: Option<String>,
    /// Default: now.
    pub(crate) timestamp: Option<Time>,
    /// In the future, within a year: another time is a conflict. Default: after `notifications.expiry`.
    pub(crate) expires_at: Option<Time>,
}

impl Command for Notify {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}

/// The answer to a notification that was sent.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Notified {
    /// To one user.
    One(Notification),
    /// To many users.
    Many(NotifiedMany),
}

/// A notification that was sent to many users, and what came of it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotifiedMany {
    pub(crate) notification: Notification,
    /// For how many users it was stored by this request.
    pub(crate) stored: usize,
    /// In the order of `userIds`.
    pub(crate) results: Vec<UserResult<SentOutcome>>,
}

/// The outcome for one user.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Result")]
pub(crate) struct UserResult<T> {
    pub(crate) user_id: String,
    pub(crate) outcome: T,
}

/// What came of a notification for one of many users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SentOutcome {
    /// It is stored.
    Stored,
    /// The same notification was stored before.
    Known,
    /// The same notification was stored before, and the user has acknowledged it.
    Acknowledged,
    /// It was stored before and withdrawn.
    Withdrawn,
    /// Another notification of the user has this id.
    Conflict,
    /// The user has too many unacknowledged notifications.
    Full,
}

/// `POST /api/v1/notifications/withdraw`: ends a notification of a user, or of many.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = one_of(["userId", "userIds"], ["string", "array"])))]
pub(crate) struct WithdrawNotification {
    #[schemars(with = "ServiceName")]
    pub(crate) notification_id: String,
    /// The user who has it; not together with `userIds`.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// The users who have it, each once: 1 to 1,000.
    #[schemars(with = "Option<Vec<UserId>>", length(min = 1, max = NOTIFIED_USERS), extend("uniqueItems" = true))]
    pub(crate) user_ids: Option<Vec<String>>,
}

impl Command for WithdrawNotification {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}

/// What came of withdrawing a notification.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawals {
    pub(crate) notification_id: String,
    /// For how many users it is withdrawn, by this request or before.
    pub(crate) withdrawn: usize,
    /// In the order of `userIds`.
    pub(crate) results: Vec<UserResult<WithdrawalOutcome>>,
}

/// What came of withdrawing the notification of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WithdrawalOutcome {
    /// It is withdrawn.
    Withdrawn,
    /// The user has acknowledged it before.
    Acknowledged,
    /// The user has no such notification, or it has expired.
    Absent,
}

/// `GET /api/v1/users/{id}/notifications`: what a user has not acknowledged.
#[derive(Debug)]
pub(crate) struct ReadNotifications {
    pub(crate) user: String,
    pub(crate) page: AskedPage,
}

impl Command for ReadNotifications {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
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

/// `GET /api/v1/users/{id}/notifications/history`: what a user has acknowledged.
#[derive(Debug)]
pub(crate) struct ReadNotificationHistory {
    pub(crate) user: String,
    pub(crate) page: AskedPage,
}

impl Command for ReadNotificationHistory {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}

/// A page of the notifications that a user has acknowledged, the newest acknowledgement first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationHistory {
    /// That of the last notification or acknowledgement when the page was read.
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<AcknowledgedNotification>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older ones. A page may have fewer than `limit`, or none, also if there are.
    pub(crate) has_more: bool,
}

/// A notification that its user has acknowledged.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcknowledgedNotification {
    #[serde(flatten)]
    pub(crate) notification: Notification,
    pub(crate) acknowledged_at: Time,
    /// That of the acknowledgement.
    pub(crate) revision: u64,
}

fn history() -> NotificationHistory {
    NotificationHistory {
        revision: 2,
        notifications: vec![AcknowledgedNotification {
            notification: notifications::notification(),
            acknowledged_at: notifications::acked().timestamp,
            revision: 2,
        }],
        cursor: None,
        has_more: false,
    }
}
