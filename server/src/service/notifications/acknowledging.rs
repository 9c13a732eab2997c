//! Acknowledgements, which end notifications that their user has seen.

use super::{Body, KIND, MENTION, Notifications};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read, write};
use crate::service::rules::commands::notifications::{AckAllNotifications, AckNotification};
use crate::service::rules::content::check_name;
use crate::service::rules::emissions::notifications::{AllAcked, Notification, NotificationAcked};
use crate::store::{Append, Appended, Current, Entry, StoreError, Time};
use roomcast::{Namespace, Socket, SocketId};
use uuid::Uuid;

impl Notifications {
    /// Records that a user has seen a notification, and emits that to the user's other tabs. Only
    /// the first time counts.
    pub(crate) async fn acknowledge(
        &self,
        allowed: Allowed<AckNotification>,
        socket: &Socket,
    ) -> Result<NotificationAcked, ServiceError> {
        let (by, AckNotification { notification_id }) = allowed.into_parts();
        check_name("notificationId", &notification_id)?;
        let journal = journal_of(KIND, &by.subject);
        let acked = NotificationAcked {
            notification_id,
            timestamp: Time::now(),
        };
        let (journals, id) = (&self.0.journals, &acked.notification_id);
        let open = journals.store().journal_entry(&journal, id).await?;
        let open = open.as_ref();
        let append = self.closing(&journal, (id, open), acked.timestamp, Some(socket.id()));
        match journals.append(&socket.namespace(), append).await? {
            Appended::Stored(entry) => {
                self.trim(&journal, &[entry.revision]).await;
                Ok(acked)
            }
            Appended::There(entry) => match read(&entry) {
                Some(Body::Acked { acked, .. }) => Ok(acked),
                Some(Body::New(_) | Body::Withdrawn { .. }) | None => Err(NONE),
            },
            Appended::Absent | Appended::Full => Err(NONE),
        }
    }

    /// Acknowledges all notifications of a user, or those up to a revision, and emits that to the
    /// user's other tabs.
    pub(crate) async fn acknowledge_all(
        &self,
        allowed: Allowed<AckAllNotifications>,
        socket: &Socket,
    ) -> Result<AllAcked, ServiceError> {
        let (by, AckAllNotifications { revision }) = allowed.into_parts();
        let journal = journal_of(KIND, &by.subject);
        let (timestamp, mut acknowledged) = (Time::now(), 0);
        // The newest entries are read first. Each iteration reads older entries.
        let mut before = revision.map(|revision| revision.saturating_add(1));
        loop {
            let current = Current {
                journal: &journal,
                category: None,
                open: BATCH_SIZE,
                newest: 0,
                is_closed: false,
                with_withdrawn: false,
                before,
                now: timestamp,
            };
            let view = self.0.journals.store().journal(current).await?;
            let Some(oldest) = view.entries.first() else {
                break;
            };
            before = Some(oldest.revision);
            let closing = view.entries.iter().map(|entry| {
                let open = (&*entry.key, Some(entry));
                self.closing(&journal, open, timestamp, Some(socket.id()))
            });
            let (namespace, closing) = (socket.namespace(), closing.collect());
            acknowledged += self.close(&namespace, &journal, closing).await?;
        }
        Ok(AllAcked {
            acknowledged,
            timestamp,
        })
    }

    /// Acknowledges a user's mentions in a conversation up to a message that the user has read.
    ///
    /// No tab knows which notifications these are, so all tabs are notified. After a failure, the
    /// user's next read mark tries again.
    pub(in crate::service) async fn acknowledge_mentions(
        &self,
        namespace: &Namespace,
        user: &str,
        conversation: Uuid,
        seq: u64,
    ) {
        let acknowledged = self.end_mentions(namespace, user, conversation, seq).await;
        if let Err(error) = acknowledged {
            tracing::debug!(%error, "could not acknowledge read mentions");
        }
    }

    async fn end_mentions(
        &self,
        namespace: &Namespace,
        user: &str,
        conversation: Uuid,
        seq: u64,
    ) -> Result<(), StoreError> {
        let (journal, category) = (journal_of(KIND, user), conversation.to_string());
        let now = Time::now();
        let current = Current {
            journal: &journal,
            category: Some(&category),
            open: self.0.config.mentions as usize,
            newest: 0,
            is_closed: false,
            with_withdrawn: false,
            before: None,
            now,
        };
        let view = self.0.journals.store().journal(current).await?;
        let is_read = |entry: &&Entry| {
            entry.key.starts_with(MENTION) && seq_of(entry).is_some_and(|place| place <= seq)
        };
        let read = view.entries.iter().filter(is_read);
        let closing =
            read.map(|entry| self.closing(&journal, (&entry.key, Some(entry)), now, None));
        let closing: Vec<Append> = closing.collect();
        if !closing.is_empty() {
            self.close(namespace, &journal, closing).await?;
        }
        Ok(())
    }

    /// Stores acknowledgements of one user's notifications, and returns how many were stored.
    async fn close(
        &self,
        namespace: &Namespace,
        journal: &str,
        closing: Vec<Append>,
    ) -> Result<u64, StoreError> {
        let appended = self.0.journals.append_all(namespace, closing).await?;
        let stored = appended.into_iter().filter_map(|appended| match appended {
            Appended::Stored(entry) => Some(entry.revision),
            Appended::There(_) | Appended::Absent | Appended::Full => None,
        });
        let stored: Vec<u64> = stored.collect();
        self.trim(journal, &stored).await;
        Ok(stored.len() as u64)
    }

    /// Removes history that is too old, at intervals.
    async fn trim(&self, journal: &str, stored: &[u64]) {
        let due = stored.iter().find(|revision| *revision % TRIM_EVERY == 0);
        let Some(before) = due.and_then(|revision| revision.checked_sub(MOST_HISTORY)) else {
            return;
        };
        let trimmed = self
            .0
            .journals
            .store()
            .trim_journal(journal, before, Time::now())
            .await;
        if let Err(error) = trimmed {
            tracing::debug!(%error, "could not trim the notification history");
        }
    }

    /// Returns the entry that closes an open notification because its user has seen it.
    fn closing(
        &self,
        journal: &str,
        (id, open): (&str, Option<&Entry>),
        timestamp: Time,
        socket: Option<SocketId>,
    ) -> Append {
        let notification = open.and_then(|entry| match read(entry) {
            Some(Body::New(notification)) => Some(notification),
            Some(Body::Acked { .. } | Body::Withdrawn { .. }) | None => None,
        });
        Append {
            needs_open: true,
            created_at: timestamp,
            expires_at: Some(timestamp.after(self.0.config.history)),
            ..Append::new(
                journal.to_owned(),
                id.to_owned(),
                write(&Body::Acked {
                    acked: NotificationAcked {
                        notification_id: id.to_owned(),
                        timestamp,
                    },
                    socket: socket.map(|socket| socket.to_string()).unwrap_or_default(),
                    notification,
                }),
            )
        }
    }
}

/// The number of journal revisions after which an acknowledged notification is removed from the
/// history.
const MOST_HISTORY: u64 = 2000;
/// The number of journal revisions between two removals of old history.
const TRIM_EVERY: u64 = 50;
/// The number of notifications acknowledged per transaction. They fit into one event.
const BATCH_SIZE: usize = 100;

/// Returns the `seq` of the message that mentioned the user, from the notification's action URL.
fn seq_of(entry: &Entry) -> Option<u64> {
    let Some(Body::New(Notification { action_url, .. })) = read(entry) else {
        return None;
    };
    let action_url = action_url?;
    let (_, seq) = action_url.rsplit_once('/')?;
    seq.parse().ok()
}

const NONE: ServiceError = ServiceError::NotFound("no such notification");
