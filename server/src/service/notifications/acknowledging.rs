//! Notifications that end because their user has seen them.

use super::{Body, KIND, MENTION, Notifications, REMEMBERED};
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::journals::{journal_of, read, write};
use crate::service::rules::commands::notifications::{AckAllNotifications, AckNotification};
use crate::service::rules::emissions::notifications::{AllAcked, Notification, NotificationAcked};
use crate::store::{Append, Appended, Current, Entry, IfOpen, Quota, StoreError, Time};
use roomcast::{Namespace, Socket, SocketId};
use uuid::Uuid;

impl Notifications {
    /// Notes that a user has seen a notification, and emits that to the user's other tabs. The first time counts.
    pub(crate) async fn acknowledge(
        &self,
        allowed: Allowed<AckNotification>,
        socket: &Socket,
    ) -> Result<NotificationAcked, ServiceError> {
        let (by, AckNotification { notification_id }) = allowed.into_parts();
        let journal = journal_of(KIND, &by.subject);
        let acked = NotificationAcked {
            notification_id,
            timestamp: Time::now(),
        };
        let append = closing(journal, acked.clone(), Some(socket.id()));
        let journals = &self.0.journals;
        match journals.append(&socket.namespace(), append).await? {
            Appended::Stored(_) => Ok(acked),
            Appended::There(entry) => match read(&entry) {
                Some(Body::Acked { acked, .. }) => Ok(acked),
                Some(Body::New(_) | Body::Withdrawn { .. }) | None => Err(NONE),
            },
            Appended::Absent | Appended::Full => Err(NONE),
        }
    }

    /// Acknowledges all notifications of a user, or those up to a revision, and emits that to the user's other tabs.
    pub(crate) async fn acknowledge_all(
        &self,
        allowed: Allowed<AckAllNotifications>,
        socket: &Socket,
    ) -> Result<AllAcked, ServiceError> {
        let (by, AckAllNotifications { revision }) = allowed.into_parts();
        let journal = journal_of(KIND, &by.subject);
        let (timestamp, mut acknowledged) = (Time::now(), 0);
        // The newest are read first, and each round reads what is older.
        let mut before = revision.map(|revision| revision.saturating_add(1));
        loop {
            let current = Current {
                journal: &journal,
                category: None,
                open: AT_ONCE,
                newest: 0,
                before,
                now: timestamp,
            };
            let view = self.0.journals.store().journal(current).await?;
            let Some(oldest) = view.entries.first() else {
                break;
            };
            before = Some(oldest.revision);
            let closing = view.entries.iter().map(|entry| {
                let acked = NotificationAcked {
                    notification_id: entry.key.clone(),
                    timestamp,
                };
                closing(journal.clone(), acked, Some(socket.id()))
            });
            let journals = &self.0.journals;
            let appended = journals
                .append_all(&socket.namespace(), closing.collect())
                .await?;
            let stored = appended.iter();
            let stored = stored.filter(|appended| matches!(appended, Appended::Stored(_)));
            acknowledged += stored.count() as u64;
        }
        Ok(AllAcked {
            acknowledged,
            timestamp,
        })
    }

    /// Acknowledges the notifications of a user's mentions in a conversation up to a message, which the user has read. No
    /// tab knows which these are, so that all are notified. If it fails, the next mark that the user sets does it.
    pub(in crate::service) async fn acknowledge_mentions(
        &self,
        namespace: &Namespace,
        user: &str,
        conversation: Uuid,
        seq: u64,
    ) {
        let acknowledged = self.end_mentions(namespace, user, conversation, seq).await;
        if let Err(error) = acknowledged {
            tracing::debug!(%error, "mentions that were read could not be acknowledged");
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
            before: None,
            now,
        };
        let view = self.0.journals.store().journal(current).await?;
        let is_read = |entry: &&Entry| {
            entry.key.starts_with(MENTION) && seq_of(entry).is_some_and(|place| place <= seq)
        };
        let read = view.entries.iter().filter(is_read);
        let closing = read.map(|entry| {
            let acked = NotificationAcked {
                notification_id: entry.key.clone(),
                timestamp: now,
            };
            closing(journal.clone(), acked, None)
        });
        let closing: Vec<Append> = closing.collect();
        if !closing.is_empty() {
            self.0.journals.append_all(namespace, closing).await?;
        }
        Ok(())
    }
}

/// Notifications that are acknowledged in one transaction. They fit into one event.
const AT_ONCE: usize = 100;

/// The entry that closes an open notification because its user has seen it.
fn closing(journal: String, acked: NotificationAcked, socket: Option<SocketId>) -> Append {
    let timestamp = acked.timestamp;
    Append {
        journal,
        key: acked.notification_id.clone(),
        body: write(&Body::Acked {
            acked,
            socket: socket.map(|socket| socket.to_string()).unwrap_or_default(),
        }),
        category: None,
        is_open: false,
        if_open: IfOpen::Remove,
        needs_open: true,
        created_at: timestamp,
        expires_at: Some(timestamp.after(REMEMBERED)),
        most_open: 0,
        quota: Quota::All,
    }
}

/// The place of the message that a notification of a mention is about, which its action leads to.
fn seq_of(entry: &Entry) -> Option<u64> {
    let Some(Body::New(Notification { action_url, .. })) = read(entry) else {
        return None;
    };
    let action_url = action_url?;
    let (_, seq) = action_url.rsplit_once('/')?;
    seq.parse().ok()
}

const NONE: ServiceError = ServiceError::NotFound("no such notification");
