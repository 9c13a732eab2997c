//! Commands that correct published signals, trades and notifications.
//!
//! The body is that of the publication. Ids in it must match the path.

use super::signals::PublishSignal;
use super::trades::PublishTrade;
use crate::auth::Permission;
use crate::service::rules::commands::notifications::Notify;
use crate::service::rules::event::Command;

/// `PUT /api/v1/signals/{id}`: replaces the content of a signal.
#[derive(Debug)]
pub(crate) struct CorrectSignal {
    pub(crate) signal_id: String,
    pub(crate) signal: PublishSignal,
}

impl Command for CorrectSignal {
    const PERMISSION: Option<Permission> = Some(Permission::SignalsPublish);
}

/// `PUT /api/v1/users/{id}/trades/{tradeId}`: replaces a trade that is not executed.
#[derive(Debug)]
pub(crate) struct CorrectTrade {
    pub(crate) user: String,
    pub(crate) trade_id: String,
    pub(crate) trade: PublishTrade,
}

impl Command for CorrectTrade {
    const PERMISSION: Option<Permission> = Some(Permission::TradesPublish);
}

/// `PUT /api/v1/users/{id}/notifications/{notificationId}`: replaces the content of a notification
/// that its user has not acknowledged.
#[derive(Debug)]
pub(crate) struct CorrectNotification {
    pub(crate) user: String,
    pub(crate) notification_id: String,
    pub(crate) notification: Notify,
}

impl Command for CorrectNotification {
    const PERMISSION: Option<Permission> = Some(Permission::NotificationsPublish);
}
