//! What a user is told of notifications.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emission::{Keyed, emissions};
use crate::service::rules::examples::{self, MESSAGE_ID, NOON};
use crate::store::Time;

emissions! {
    NOTIFICATIONS_SUBSCRIBED: Subscribed<Notifications>, Reliable = "notifications:subscribed",
        "the socket follows its user's notifications from here on", "the socket", [], subscribed();
    NOTIFICATIONS_UNSUBSCRIBED: Unsubscribed, Reliable = "notifications:unsubscribed",
        "the socket follows its user's notifications no longer", "the socket", [],
        Unsubscribed::example("notifications:ada");
    NOTIFICATION_NEW: Update<Notification>, Reliable = "notification:new", "there is a notification",
        "who follows the notifications of the user", [Notifications], Update { body: notification(), revision: 1 };
    NOTIFICATION_BATCH: NotificationBatch, Reliable = "notification:batch", "there are several",
        "who follows the notifications of the user", [Notifications], NotificationBatch {
            notifications: vec![Update { body: notification(), revision: 1 }],
        };
    NOTIFICATION_ACKED: NotificationAcked, Reliable = "notification:acked",
        "a notification was acknowledged",
        "who follows the notifications of the user, but the socket that has done it", [Notifications], acked();
    NOTIFICATIONS_ACKED: NotificationsAcked, Reliable = "notifications:acked",
        "several notifications were acknowledged together",
        "who follows the notifications of the user, but the socket that has done it", [Notifications], NotificationsAcked {
            notification_ids: vec![MESSAGE_ID.to_string()],
            timestamp: examples::time("2025-01-31T12:01:00Z"),
        };
    NOTIFICATIONS_UNREAD: NotificationsUnread, Conflated = "notifications:unread",
        "how many notifications the user has not acknowledged, after it has changed",
        "who follows the notifications of the user", [Notifications], NotificationsUnread { unread: 3, revision: 7 };
    NOTIFICATION_WITHDRAWN: NotificationWithdrawn, Reliable = "notification:withdrawn",
        "a notification ended before the user acknowledged it",
        "who follows the notifications of the user", [Notifications], NotificationWithdrawn {
            notification_id: MESSAGE_ID.to_string(),
            reason: WithdrawalReason::Withdrawn,
            timestamp: examples::time("2025-01-31T12:01:00Z"),
        };
}

/// What a notification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum NotificationKind {
    Info,
    Warning,
    Error,
    Success,
}

/// How soon a notification has to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Priority {
    Low,
    #[default]
    Normal,
    High,
    // An urgent notification waits for no others.
    Urgent,
}

/// Something that a user should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notification {
    pub(crate) notification_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: NotificationKind,
    pub(crate) priority: Priority,
    pub(crate) title: String,
    pub(crate) message: String,
    /// An address, or a path of the site.
    pub(crate) action_url: Option<String>,
    pub(crate) timestamp: Time,
    pub(crate) expires_at: Time,
}

/// One of the user's tabs has acknowledged a notification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationAcked {
    pub(crate) notification_id: String,
    pub(crate) timestamp: Time,
}

/// Several notifications were acknowledged together, by one of the user's tabs or by reading what they are about.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationsAcked {
    pub(crate) notification_ids: Vec<String>,
    pub(crate) timestamp: Time,
}

/// The sender has acknowledged all notifications up to one.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllAcked {
    /// How many were acknowledged by this.
    pub(crate) acknowledged: u64,
    pub(crate) timestamp: Time,
}

/// How many notifications a user has not acknowledged, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct NotificationsUnread {
    /// Those that have not expired, also those that did not fit into the snapshot.
    pub(crate) unread: u64,
    pub(crate) revision: u64,
}

impl Keyed for NotificationsUnread {
    const BY: &'static str = "socket";

    fn key(&self) -> String {
        // A socket is in the room of one user, so that the newest of all is the newest of that user.
        "notifications unread".to_owned()
    }
}

/// A notification ended before the user acknowledged it.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationWithdrawn {
    pub(crate) notification_id: String,
    pub(crate) reason: WithdrawalReason,
    pub(crate) timestamp: Time,
}

/// Why a notification ended: the service withdrew it, or a newer mention took the place of the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum WithdrawalReason {
    Withdrawn,
    Replaced,
}

/// Several notifications, in their order.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NotificationBatch {
    pub(crate) notifications: Vec<Update<Notification>>,
}

/// What nobody has acknowledged, at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notifications {
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<Notification>,
    /// There are older ones that did not fit, which come with a subscription when these are acknowledged.
    pub(crate) has_more: bool,
    /// How many there are, with those that did not fit.
    pub(crate) unread: u64,
}

pub(in crate::service::rules) fn notification() -> Notification {
    Notification {
        notification_id: MESSAGE_ID.to_string(),
        kind: NotificationKind::Info,
        priority: Priority::Normal,
        title: "Order filled".into(),
        message: "2 AAPL at 190.5".into(),
        action_url: Some("/orders/1".into()),
        timestamp: examples::time(NOON),
        expires_at: examples::time("2025-03-02T12:00:00Z"),
    }
}

pub(in crate::service::rules) fn subscribed() -> Subscribed<Notifications> {
    Subscribed {
        room: "notifications:ada".into(),
        snapshot: Notifications {
            revision: 1,
            notifications: vec![notification()],
            has_more: false,
            unread: 1,
        },
    }
}

pub(in crate::service::rules) fn all_acked() -> AllAcked {
    AllAcked {
        acknowledged: 3,
        timestamp: examples::time("2025-01-31T12:01:00Z"),
    }
}

pub(in crate::service::rules) fn acked() -> NotificationAcked {
    NotificationAcked {
        notification_id: MESSAGE_ID.to_string(),
        timestamp: examples::time("2025-01-31T12:01:00Z"),
    }
}
