//! Corrections of notifications that their users have not acknowledged.

use roomcast::Namespace;

use super::{Body, KIND, Notifications};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Source as HookSource;
use crate::service::journals::{Amended, journal_of, read, write};
use crate::service::rules::commands::corrections::CorrectNotification;
use crate::service::rules::content::{check_same_id, check_user_id};
use crate::service::rules::emissions::notifications::Notification;
use crate::service::rules::emissions::published::Update;
use crate::store::Entry;

impl Notifications {
    /// Replaces the content of a notification and emits it again. Its expiry stays. Without a time,
    /// the published one stays.
    pub(crate) async fn correct(
        &self,
        allowed: Allowed<CorrectNotification>,
        namespace: &Namespace,
    ) -> Result<Update<Notification>, ServiceError> {
        let (_, command) = allowed.into_parts();
        let (user, id, mut new) = (command.user, command.notification_id, command.notification);
        check_user_id("userId", &user)?;
        if new.user_ids.is_some() {
            return Err(ServiceError::Unfit {
                field: "userIds".into(),
                problem: "must be left out: a correction is for one user",
            });
        }
        check_same_id("userId", new.user_id.as_deref(), &user)?;
        check_same_id("notificationId", new.notification_id.as_deref(), &id)?;
        new.notification_id = Some(id.clone());
        let new = self.checked(new)?;
        let journal = journal_of(KIND, &user);
        let amended = |entry: &Entry| {
            let known = unacknowledged(entry)?;
            let mut corrected = new.notification.clone();
            if !new.has_time {
                corrected.timestamp = known.timestamp;
            }
            if new.has_end && corrected.expires_at != known.expires_at {
                return Err(ServiceError::Unfit {
                    field: "expiresAt".into(),
                    problem: "cannot be corrected",
                });
            }
            corrected.expires_at = known.expires_at;
            Ok((corrected != known).then(|| Amended {
                body: write(&Body::New(corrected)),
                is_open: true,
            }))
        };
        let (journals, target) = (&self.0.journals, (&*journal, &*id));
        let missing = "the user has no such notification";
        let (entry, is_new) = journals.amend(namespace, target, missing, amended).await?;
        if is_new {
            self.hook(&journal, &entry, HookSource::Service);
        }
        Ok(Update {
            body: unacknowledged(&entry)?,
            revision: entry.revision,
        })
    }
}

/// Returns the notification in an entry if it is neither acknowledged nor withdrawn.
fn unacknowledged(entry: &Entry) -> Result<Notification, ServiceError> {
    match read(entry) {
        Some(Body::New(known)) => Ok(known),
        Some(Body::Acked { .. }) => Err(ServiceError::Conflict("the user has acknowledged it")),
        Some(Body::Withdrawn { .. }) => Err(ServiceError::WITHDRAWN),
        None => Err(ServiceError::OTHER_FORM),
    }
}
