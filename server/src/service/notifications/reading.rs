//! Pages of unacknowledged notifications, and of the history of acknowledged notifications.

use super::{Body, KIND, Notifications};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{Part, journal_of, read};
use crate::service::rules::commands::notifications::{
    AcknowledgedNotification, NotificationHistory, NotificationList, ReadNotificationHistory,
    ReadNotifications, ReadOwnHistory,
};
use crate::service::rules::commands::pages::PageRequest;
use crate::service::rules::content::{MAX_PAGE, check_user_id};
use crate::service::rules::emissions::published::Update;
use crate::store::{Entry, Time};

impl Notifications {
    /// Returns a page of any user's unacknowledged notifications, for services.
    pub(crate) async fn unacknowledged(
        &self,
        allowed: Allowed<ReadNotifications>,
    ) -> Result<NotificationList, ServiceError> {
        let (_, ReadNotifications { user, page }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        let store = self.0.journals.store();
        let journal = journal_of(KIND, &user);
        let (_, unread) = store.count_open(&journal, Time::now()).await?;
        let (kind, bounds) = (&self.0.kind, (page.cursor.as_deref(), page.limit));
        let page = kind.page(Some(&user), Part::Open, bounds, None).await?;
        let new = page.entries.iter().filter_map(|entry| match read(entry)? {
            Body::New(body) => Some(Update {
                body,
                revision: entry.revision,
            }),
            Body::Acked { .. } | Body::Withdrawn { .. } => None,
        });
        Ok(NotificationList {
            revision: page.revision,
            notifications: new.collect(),
            unread,
            has_more: page.has_more(),
            cursor: page.cursor,
        })
    }

    /// Returns a page of the caller's acknowledged notifications.
    pub(crate) async fn own_history(
        &self,
        allowed: Allowed<ReadOwnHistory>,
    ) -> Result<NotificationHistory, ServiceError> {
        let (by, ReadOwnHistory { cursor, limit }) = allowed.into_parts();
        self.history_of(&by.subject, PageRequest { cursor, limit })
            .await
    }

    /// Returns a page of any user's acknowledged notifications, for services.
    pub(crate) async fn history(
        &self,
        allowed: Allowed<ReadNotificationHistory>,
    ) -> Result<NotificationHistory, ServiceError> {
        let (_, ReadNotificationHistory { user, page }) = allowed.into_parts();
        check_user_id("userId", &user)?;
        self.history_of(&user, page).await
    }

    async fn history_of(
        &self,
        user: &str,
        page: PageRequest,
    ) -> Result<NotificationHistory, ServiceError> {
        let kind = &self.0.kind;
        let bounds = (page.cursor.as_deref(), page.limit);
        let page = kind.page(Some(user), Part::Closed, bounds, None).await?;
        // If only withdrawn notifications follow, there is no further page.
        let mut next = page.cursor.clone();
        while let Some(cursor) = &next {
            let bounds = (Some(&**cursor), Some(MAX_PAGE));
            let beyond = kind.page(Some(user), Part::Closed, bounds, None).await?;
            if beyond
                .entries
                .iter()
                .any(|entry| acknowledged(entry).is_some())
            {
                break;
            }
            next = beyond.cursor;
        }
        let cursor = page.cursor.filter(|_| next.is_some());
        Ok(NotificationHistory {
            revision: page.revision,
            notifications: page.entries.iter().filter_map(acknowledged).collect(),
            has_more: cursor.is_some(),
            cursor,
        })
    }
}

/// Returns the notification that an entry acknowledges. Withdrawn notifications are not in the
/// history.
fn acknowledged(entry: &Entry) -> Option<AcknowledgedNotification> {
    let Body::Acked {
        acked,
        notification,
        ..
    } = read(entry)?
    else {
        return None;
    };
    Some(AcknowledgedNotification {
        notification: notification?,
        acknowledged_at: acked.timestamp,
        revision: entry.revision,
    })
}
