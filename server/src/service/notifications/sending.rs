//! Notifications that services send and withdraw, for one user or many.

use std::{collections::HashSet, time::Duration};

use futures_util::future::try_join_all;
use uuid::Uuid;

use super::{Body, KIND, MENTION, Notifications, REMEMBERED};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Source as HookSource;
use crate::service::journals::{journal_of, read, write};
use crate::service::rules::bounds::{
    ACTION_URL_CHARS, NOTIFICATION_CHARS, NOTIFICATION_TITLE_CHARS, NOTIFIED_USERS,
    is_control_in_text,
};
use crate::service::rules::commands::notifications::{
    Notified, NotifiedMany, Notify, SentOutcome, UserResult, WithdrawNotification,
    WithdrawalOutcome, Withdrawals,
};
use crate::service::rules::content::{check_name, check_user_id, is_http_url};
use crate::service::rules::emissions::notifications::{Notification, Priority, WithdrawalReason};
use crate::store::{Append, Appended, Entry, IfOpen, Quota, Time};
use roomcast::Namespace;

/// A notification to send, and which of its times the service has set.
pub(super) struct New {
    pub(super) notification: Notification,
    pub(super) has_time: bool,
    pub(super) has_end: bool,
    /// Why the clock excludes its expiry. A repeated request may arrive after the expiry.
    pub(super) expiry_fault: Option<ServiceError>,
}

impl Notifications {
    /// Stores a notification for one user or many until it is acknowledged, and emits it.
    ///
    /// For one user, any outcome other than a stored notification is an error. For many, the answer
    /// has the outcome for each.
    pub(crate) async fn notify(
        &self,
        allowed: Allowed<Notify>,
        namespace: &Namespace,
    ) -> Result<Notified, ServiceError> {
        let (_, mut new) = allowed.into_parts();
        let users = named_users(new.user_id.take(), new.user_ids.take())?;
        let new = self.checked(new)?;
        match users {
            Users::One(user) => {
                if new.expiry_fault.is_some() {
                    let appended = self.repeated(&user, &new).await?;
                    return one_result(appended, &new).map(Notified::One);
                }
                let append = self.entry_of(&user, &new);
                let appended = self.0.journals.append(namespace, append).await?;
                self.hook_stored(&user, &appended);
                one_result(appended, &new).map(Notified::One)
            }
            Users::Many(users) => {
                let mut results = Vec::with_capacity(users.len());
                for some in users.chunks(BATCH_SIZE) {
                    let appended = if new.expiry_fault.is_some() {
                        let repeated = some.iter().map(|user| self.repeated(user, &new));
                        try_join_all(repeated).await?
                    } else {
                        let entries = some.iter().map(|user| self.entry_of(user, &new));
                        let journals = &self.0.journals;
                        journals.append_all(namespace, entries.collect()).await?
                    };
                    for (user, appended) in some.iter().zip(appended) {
                        self.hook_stored(user, &appended);
                        results.push(UserResult {
                            user_id: user.clone(),
                            outcome: outcome(&appended, &new),
                        });
                    }
                }
                let stored = results.iter();
                let stored = stored.filter(|result| result.outcome == SentOutcome::Stored);
                Ok(Notified::Many(NotifiedMany {
                    stored: stored.count(),
                    notification: new.notification,
                    results,
                }))
            }
        }
    }

    /// Withdraws unacknowledged notifications, and emits that to the user's tabs. Repeating it
    /// changes nothing.
    pub(crate) async fn withdraw(
        &self,
        allowed: Allowed<WithdrawNotification>,
        namespace: &Namespace,
    ) -> Result<Withdrawals, ServiceError> {
        let (_, command) = allowed.into_parts();
        check_name("notificationId", &command.notification_id)?;
        let users = match named_users(command.user_id, command.user_ids)? {
            Users::One(user) => vec![user],
            Users::Many(users) => users,
        };
        let timestamp = Time::now();
        let body = Body::Withdrawn {
            reason: WithdrawalReason::Withdrawn,
            timestamp,
        };
        let body = write(&body);
        let mut results = Vec::with_capacity(users.len());
        for some in users.chunks(BATCH_SIZE) {
            let entries = some.iter().map(|user| Append {
                needs_open: true,
                created_at: timestamp,
                expires_at: Some(timestamp.after(REMEMBERED)),
                ..Append::new(
                    journal_of(KIND, user),
                    command.notification_id.clone(),
                    body.clone(),
                )
            });
            let journals = &self.0.journals;
            let appended = journals.append_all(namespace, entries.collect()).await?;
            for (user, appended) in some.iter().zip(appended) {
                self.hook_stored(user, &appended);
                results.push(UserResult {
                    user_id: user.clone(),
                    outcome: withdrawal(&appended),
                });
            }
        }
        let withdrawn = results.iter();
        let withdrawn = withdrawn.filter(|result| result.outcome == WithdrawalOutcome::Withdrawn);
        Ok(Withdrawals {
            notification_id: command.notification_id,
            withdrawn: withdrawn.count(),
            results,
        })
    }

    /// Checks a notification and sets what the service has omitted.
    pub(super) fn checked(&self, new: Notify) -> Result<New, ServiceError> {
        if let Some(id) = &new.notification_id {
            check_name("notificationId", id)?;
            // The prefix distinguishes mentions from notifications of services, which have another
            // quota.
            if id.starts_with(MENTION) {
                let problem = "must not begin with mention:, as the ids of mentions do";
                return Err(ServiceError::invalid("notificationId", problem));
            }
        }
        check_text("title", &new.title, NOTIFICATION_TITLE_CHARS)?;
        check_text("message", &new.message, NOTIFICATION_CHARS)?;
        if let Some(url) = &new.action_url
            && (url.chars().nth(ACTION_URL_CHARS).is_some() || !(is_http_url(url) || is_path(url)))
        {
            let problem = "must be an http or https address, or a path that begins with one /";
            return Err(ServiceError::invalid("actionUrl", problem));
        }
        let now = Time::now();
        let latest = now.after(LONGEST);
        let is_excluded = |expires_at: &Time| *expires_at <= now || *expires_at > latest;
        let excluded = new.expires_at.filter(is_excluded);
        let expiry_fault = excluded.map(|_| ServiceError::Unfit {
            field: "expiresAt".into(),
            problem: "must be in the future, within a year",
        });
        let (has_time, has_end) = (new.timestamp.is_some(), new.expires_at.is_some());
        let new_id = || Uuid::now_v7().to_string();
        let notification = Notification {
            notification_id: new.notification_id.unwrap_or_else(new_id),
            kind: new.kind,
            priority: new.priority,
            title: new.title,
            message: new.message,
            action_url: new.action_url,
            timestamp: new.timestamp.unwrap_or(now),
            expires_at: new
                .expires_at
                .unwrap_or_else(|| now.after(self.0.config.expiry)),
        };
        Ok(New {
            notification,
            has_time,
            has_end,
            expiry_fault,
        })
    }

    /// Returns the stored entry that a notification whose expiry the clock excludes may repeat.
    async fn repeated(&self, user: &str, new: &New) -> Result<Appended, ServiceError> {
        let store = self.0.journals.store();
        let (journal, id) = (journal_of(KIND, user), &new.notification.notification_id);
        match (store.journal_entry(&journal, id).await?, &new.expiry_fault) {
            (Some(entry), _) => Ok(Appended::There(entry)),
            (None, Some(fault)) => Err(fault.clone()),
            (None, None) => Ok(Appended::Absent),
        }
    }

    fn entry_of(&self, user: &str, New { notification, .. }: &New) -> Append {
        let is_urgent = notification.priority == Priority::Urgent;
        Append {
            is_open: true,
            if_open: IfOpen::Refuse,
            expires_at: Some(notification.expires_at),
            most_open: self.0.config.most_sent(is_urgent),
            quota: Quota::Without(MENTION),
            ..Append::new(
                journal_of(KIND, user),
                notification.notification_id.clone(),
                write(&Body::New(notification.clone())),
            )
        }
    }

    fn hook_stored(&self, user: &str, appended: &Appended) {
        if let Appended::Stored(entry) = appended {
            self.hook(&journal_of(KIND, user), entry, HookSource::Service);
        }
    }
}

/// The users in a request.
enum Users {
    One(String),
    Many(Vec<String>),
}

fn named_users(one: Option<String>, many: Option<Vec<String>>) -> Result<Users, ServiceError> {
    match (one, many) {
        (Some(user), None) => {
            check_user_id("userId", &user)?;
            Ok(Users::One(user))
        }
        (None, Some(users)) => {
            if !(1..=NOTIFIED_USERS).contains(&users.len()) {
                return Err(ServiceError::invalid("userIds", "must be 1 to 1000"));
            }
            let mut known = HashSet::new();
            for (n, user) in users.iter().enumerate() {
                check_user_id(format!("userIds[{n}]"), user)?;
                if !known.insert(user) {
                    let field = format!("userIds[{n}]");
                    return Err(ServiceError::invalid(field, "is named twice"));
                }
            }
            drop(known);
            Ok(Users::Many(users))
        }
        (Some(_), Some(_)) => Err(ServiceError::invalid("userIds", "excludes userId")),
        (None, None) => {
            let problem = "is missing: name one user, or many in userIds";
            Err(ServiceError::invalid("userId", problem))
        }
    }
}

fn one_result(appended: Appended, new: &New) -> Result<Notification, ServiceError> {
    let conflict = match (outcome(&appended, new), appended) {
        (SentOutcome::Stored, _) => return Ok(new.notification.clone()),
        // A service that repeats its request gets the first answer, even after the user has
        // acknowledged the notification.
        (SentOutcome::Known | SentOutcome::Acknowledged, Appended::There(entry)) => {
            match stored_notification(&entry) {
                Some(known) => return Ok(known),
                None => ACKNOWLEDGED,
            }
        }
        (SentOutcome::Known | SentOutcome::Acknowledged, _) => ACKNOWLEDGED,
        (SentOutcome::Withdrawn, _) => "it was withdrawn",
        (SentOutcome::Conflict, _) => "another notification has this id",
        (SentOutcome::Full, _) => "the user has too many unacknowledged notifications",
    };
    Err(ServiceError::Conflict(conflict))
}

fn outcome(appended: &Appended, new: &New) -> SentOutcome {
    match appended {
        Appended::Stored(_) => SentOutcome::Stored,
        Appended::There(entry) => known(entry, new),
        Appended::Full | Appended::Absent => SentOutcome::Full,
    }
}

/// Returns the notification that an entry has, whether its user has acknowledged it or not.
fn stored_notification(entry: &Entry) -> Option<Notification> {
    match read(entry)? {
        Body::New(known) => Some(known),
        Body::Acked { notification, .. } => notification,
        Body::Withdrawn { .. } => None,
    }
}

/// Compares a notification with the stored entry that has its id.
fn known(entry: &Entry, new: &New) -> SentOutcome {
    let outcome = match read(entry) {
        Some(Body::New(_)) => SentOutcome::Known,
        Some(Body::Withdrawn { .. }) => return SentOutcome::Withdrawn,
        Some(Body::Acked { .. }) | None => SentOutcome::Acknowledged,
    };
    let Some(known) = stored_notification(entry) else {
        return outcome;
    };
    // Times that the service has not set differ with each attempt.
    let mut same = new.notification.clone();
    if !new.has_time {
        same.timestamp = known.timestamp;
    }
    if !new.has_end {
        same.expires_at = known.expires_at;
    }
    if same == known {
        outcome
    } else {
        SentOutcome::Conflict
    }
}

fn withdrawal(appended: &Appended) -> WithdrawalOutcome {
    match appended {
        Appended::Stored(_) => WithdrawalOutcome::Withdrawn,
        Appended::There(entry) => match read(entry) {
            Some(Body::Withdrawn { .. }) => WithdrawalOutcome::Withdrawn,
            Some(Body::Acked { .. }) => WithdrawalOutcome::Acknowledged,
            Some(Body::New(_)) | None => WithdrawalOutcome::Absent,
        },
        Appended::Absent | Appended::Full => WithdrawalOutcome::Absent,
    }
}

/// Checks a displayed text of at most `max` characters.
fn check_text(field: &'static str, text: &str, max: usize) -> Result<(), ServiceError> {
    if text.is_empty() || text.chars().nth(max).is_some() {
        let problem = format!("must have 1 to {max} characters");
        return Err(ServiceError::invalid(field, problem));
    }
    if text.chars().any(is_control_in_text) {
        return Err(ServiceError::invalid(field, "has control characters"));
    }
    Ok(())
}

/// Returns whether this is a path on the client's site, and nothing that a browser takes for
/// another host.
fn is_path(url: &str) -> bool {
    let is_one = url.starts_with('/') && !url.starts_with("//");
    is_one
        && url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

const ACKNOWLEDGED: &str = "it is acknowledged already";
/// The number of users whose journals one transaction locks.
const BATCH_SIZE: usize = 100;
const LONGEST: Duration = Duration::from_secs(366 * 86_400);
