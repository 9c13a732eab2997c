//! Events about a user's notifications.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::emission::{Keyed, emissions};
use crate::service::rules::examples::{self, MESSAGE_ID, NOON};
use crate::store::Time;

emissions! {
    NOTIFICATIONS_SUBSCRIBED {
        event: "notifications:subscribed", payload: Subscribed<Notifications>, delivery: Reliable,
        summary: "the socket now follows its user's notifications",
        to: "the socket", rooms: [],
        example: subscribed(),
    }
    NOTIFICATIONS_UNSUBSCRIBED {
        event: "notifications:unsubscribed", payload: Unsubscribed, delivery: Reliable,
        summary: "the socket has stopped following its user's notifications",
        to: "the socket", rooms: [],
        example: Unsubscribed::example("notifications:ada"),
    }
    NOTIFICATION_NEW {
        event: "notification:new", payload: Update<Notification>, delivery: Reliable,
        summary: "the user has a new notification",
        to: "sockets that follow the user's notifications", rooms: [Notifications],
        example: Update { body: notification(), revision: 1 },
    }
    NOTIFICATION_BATCH {
        event: "notification:batch", payload: NotificationBatch, delivery: Reliable,
        summary: "the user has several new notifications",
        to: "sockets that follow the user's notifications", rooms: [Notifications],
        example: NotificationBatch {
            notifications: vec![Update { body: notification(), revision: 1 }],
        },
    }
    NOTIFICATION_ACKED {
        event: "notification:acked", payload: NotificationAcked, delivery: Reliable,
        summary: "a notification was acknowledged",
        to: "sockets that follow the user's notifications, except the acknowledging socket",
        rooms: [Notifications],
        example: acked(),
    }
    NOTIFICATIONS_ACKED {
        event: "notifications:acked", payload: NotificationsAcked, delivery: Reliable,
        summary: "several notifications were acknowledged together",
        to: "sockets that follow the user's notifications, except the acknowledging socket",
        rooms: [Notifications],
        example: NotificationsAcked {
            notification_ids: vec![MESSAGE_ID.to_string()],
            timestamp: examples::time("2025-01-31T12:01:00Z"),
        },
    }
    NOTIFICATIONS_UNREAD {
        event: "notifications:unread", payload: NotificationsUnread, delivery: Conflated,
        summary: "the number of notifications that the user has not acknowledged has changed",
        to: "sockets that follow the user's notifications", rooms: [Notifications],
        example: NotificationsUnread { unread: 3, revision: 7 },
    }
    NOTIFICATION_WITHDRAWN {
        event: "notification:withdrawn", payload: NotificationWithdrawn, delivery: Reliable,
        summary: "a notification ended before the user acknowledged it",
        to: "sockets that follow the user's notifications", rooms: [Notifications],
        example: NotificationWithdrawn {
            notification_id: MESSAGE_ID.to_string(),
            reason: WithdrawalReason::Withdrawn,
            timestamp: examples::time("2025-01-31T12:01:00Z"),
        },
    }
}

/// The kind of a notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum NotificationKind {
    Info,
    Warning,
    Error,
    Success,
}

/// How urgent a notification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Priority {
    Low,
    #[default]
    Normal,
    High,
    // An urgent notification is sent without waiting for a batch.
    Urgent,
}

/// A notification for a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notification {
    pub(crate) notification_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: NotificationKind,
    pub(crate) priority: Priority,
    pub(crate) title: String,
    pub(crate) message: String,
    /// A URL, or a path on the site.
    pub(crate) action_url: Option<String>,
    pub(crate) timestamp: Time,
    pub(crate) expires_at: Time,
}

/// A notification was acknowledged by one of the user's sockets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationAcked {
    pub(crate) notification_id: String,
    pub(crate) timestamp: Time,
}

/// Several notifications were acknowledged together, by one of the user's sockets or because the
/// user read their subject.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NotificationsAcked {
    pub(crate) notification_ids: Vec<String>,
    pub(crate) timestamp: Time,
}

/// The sender acknowledged all notifications up to a revision.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AllAcked {
    /// How many notifications this request acknowledged.
    pub(crate) acknowledged: u64,
    pub(crate) timestamp: Time,
}

/// The number of a user's unacknowledged notifications at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, JsonSchema)]
pub(crate) struct NotificationsUnread {
    /// Notifications that have not expired, including those that did not fit into the snapshot.
    pub(crate) unread: u64,
    pub(crate) revision: u64,
}

impl Keyed for NotificationsUnread {
    const BY: &'static str = "socket";

    fn key(&self) -> String {
        // A socket is in the notification room of only one user, so the newest event is always
        // about that user.
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

/// Why a notification ended: a service withdrew it, or a newer mention replaced the oldest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum WithdrawalReason {
    Withdrawn,
    Replaced,
}

/// Several notifications in order.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NotificationBatch {
    pub(crate) notifications: Vec<Update<Notification>>,
}

/// The unacknowledged notifications of a user at one moment.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Notifications {
    pub(crate) revision: u64,
    pub(crate) notifications: Vec<Notification>,
    /// Whether older notifications did not fit. A subscription returns them once these are
    /// acknowledged.
    pub(crate) has_more: bool,
    /// The number of notifications, including those that did not fit.
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
