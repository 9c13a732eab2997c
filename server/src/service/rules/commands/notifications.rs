//! Commands about notifications: following, acknowledging, sending, withdrawing and reading them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Permission, Principal};
use crate::service::rules::bounds::{
    ActionUrl, NOTIFIED_USERS, NotificationId, NotificationText, NotificationTitle, RevisionCursor,
    ServiceName, UserId, one_of,
};
use crate::service::rules::commands::form::{whole_or_none, word};
use crate::service::rules::commands::pages::PageRequest;
use crate::service::rules::emissions::notifications::{
    self, AllAcked, Notification, NotificationAcked, NotificationKind, Notifications, Priority,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::event::{Command, events};
use crate::service::rules::examples::MESSAGE_ID;
use crate::store::Time;

events! {
    SUBSCRIBE_NOTIFICATIONS {
        event: "subscribe:notifications",
        payload: SubscribeNotifications,
        answer: Subscribed<Notifications>,
        permission: None, limit: Changes, room: Oneself, argument: object_or_none,
        does: "follows the sender's notifications",
        example: {},
        answered: notifications::subscribed(),
        call: Notifications::subscribe(socket), serial: true,
    }
    UNSUBSCRIBE_NOTIFICATIONS {
        event: "unsubscribe:notifications", payload: UnsubscribeNotifications, answer: Unsubscribed,
        permission: None, limit: Changes, room: Oneself, argument: object_or_none,
        does: "stops following the sender's notifications",
        example: {},
        answered: Unsubscribed::example("notifications:ada"),
        call: Notifications::unsubscribe(socket), serial: true,
    }
    NOTIFICATION_ACK {
        event: "notification:ack", payload: AckNotification, answer: NotificationAcked,
        permission: None, limit: Requests, room: Oneself, argument: object,
        does: "acknowledges a notification, so that it is not sent again",
        example: {"notificationId": MESSAGE_ID},
        answered: notifications::acked(),
        call: Notifications::acknowledge(socket),
    }
    NOTIFICATION_ACK_ALL {
        event: "notification:ack_all", payload: AckAllNotifications, answer: AllAcked,
        permission: None, limit: Requests, room: Oneself, argument: object_or_none,
        does: "acknowledges all notifications, or all up to a revision",
        example: {"revision": 7},
        answered: notifications::all_acked(),
        call: Notifications::acknowledge_all(socket),
    }
    NOTIFICATIONS_HISTORY {
        event: "notifications:history", payload: ReadOwnHistory, answer: NotificationHistory,
        permission: None, limit: Requests, room: Oneself, argument: object_or_none,
        does: "reads a page of the notifications that the sender has acknowledged, newest acknowledgement first",
        example: {"limit": 1},
        answered: history(),
        call: Notifications::own_history(),
    }
}

/// `subscribe:notifications`: follows the notifications of the sender.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct SubscribeNotifications {}

/// `unsubscribe:notifications`: ends the subscription.
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
    /// Only notifications up to this revision, which the sender has received. Default: all.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) revision: Option<u64>,
}

/// `notifications:history`: reads a page of the notifications that the sender acknowledged.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ReadOwnHistory {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<RevisionCursor>")]
    #[serde(default)]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
}

/// `POST /api/v1/notifications`: sends a notification to one or several users.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = one_of(["userId", "userIds"], ["string", "array"])))]
pub(crate) struct Notify {
    /// A notification sent again under the same id is stored only once. Default: a new id.
    #[schemars(with = "Option<NotificationId>")]
    pub(crate) notification_id: Option<String>,
    /// The user who gets the notification. Excludes `userIds`.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// The users who get the notification: 1 to 1,000, without duplicates. The response has the
    /// outcome for each.
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
    /// In the future and within a year; any other time is a conflict. Default: after
    /// `notifications.expiry`.
    pub(crate) expires_at: Option<Time>,
}

impl Command for Notify {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}

/// The response to a sent notification.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Notified {
    /// To one user.
    One(Notification),
    /// To many users.
    Many(NotifiedMany),
}

/// A notification sent to several users, with the outcomes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotifiedMany {
    pub(crate) notification: Notification,
    /// For how many users this request stored the notification.
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

/// The outcome of a notification for one of several users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SentOutcome {
    /// The notification is stored.
    Stored,
    /// The same notification was already stored.
    Known,
    /// The same notification was already stored, and the user has acknowledged it.
    Acknowledged,
    /// The notification was stored and then withdrawn.
    Withdrawn,
    /// Another notification of the user has this id.
    Conflict,
    /// The user has too many unacknowledged notifications.
    Full,
}

/// `POST /api/v1/notifications/withdraw`: withdraws a notification of one or several users.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = one_of(["userId", "userIds"], ["string", "array"])))]
pub(crate) struct WithdrawNotification {
    #[schemars(with = "ServiceName")]
    pub(crate) notification_id: String,
    /// The user who has the notification. Excludes `userIds`.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// The users who have the notification: 1 to 1,000, without duplicates.
    #[schemars(with = "Option<Vec<UserId>>", length(min = 1, max = NOTIFIED_USERS), extend("uniqueItems" = true))]
    pub(crate) user_ids: Option<Vec<String>>,
}

impl Command for WithdrawNotification {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}

/// The outcomes of withdrawing a notification.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Withdrawals {
    pub(crate) notification_id: String,
    /// For how many users the notification is withdrawn, by this or an earlier request.
    pub(crate) withdrawn: usize,
    /// In the order of `userIds`.
    pub(crate) results: Vec<UserResult<WithdrawalOutcome>>,
}

/// The outcome of withdrawing a notification of one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum WithdrawalOutcome {
    /// The notification is withdrawn.
    Withdrawn,
    /// The user had already acknowledged the notification.
    Acknowledged,
    /// The user has no such notification, or it has expired.
    Absent,
}

/// `GET /api/v1/users/{id}/notifications`: reads the notifications that a user has not
/// acknowledged.
#[derive(Debug)]
pub(crate) struct ReadNotifications {
    pub(crate) user: String,
    pub(crate) page: PageRequest,
}

impl Command for ReadNotifications {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}

/// A page of a user's unacknowledged and unexpired notifications, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationList {
    /// The revision of the last notification or acknowledgement when the page was read.
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<Update<Notification>>,
    /// The number of notifications on all pages.
    pub(crate) unread: u64,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older notifications.
    pub(crate) has_more: bool,
}

/// `GET /api/v1/users/{id}/notifications/history`: reads the notifications that a user has
/// acknowledged.
#[derive(Debug)]
pub(crate) struct ReadNotificationHistory {
    pub(crate) user: String,
    pub(crate) page: PageRequest,
}

impl Command for ReadNotificationHistory {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsRead);

    fn is_about(&self, by: &Principal) -> bool {
        self.user == by.subject
    }
}

/// A page of the notifications that a user has acknowledged, newest acknowledgement first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationHistory {
    /// The revision of the last notification or acknowledgement when the page was read.
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<AcknowledgedNotification>,
    /// The start of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cursor: Option<String>,
    /// Whether there are older acknowledgements. Even then, a page can have fewer than `limit`
    /// items, or none.
    pub(crate) has_more: bool,
}

/// A notification that its user has acknowledged.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AcknowledgedNotification {
    #[serde(flatten)]
    pub(crate) notification: Notification,
    pub(crate) acknowledged_at: Time,
    /// The revision of the acknowledgement.
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
