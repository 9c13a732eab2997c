//! Notifications of users: each user has a journal, in which a notification is open until
//! acknowledged or expired.
//!
//! A subscription begins with all unacknowledged notifications. Every connection except a recovered
//! one subscribes again and so receives them again. Urgent notifications are emitted immediately.
//! The first notification of another priority is emitted immediately too, and starts a window. At
//! its end, all notifications that arrived in the window are emitted together.

mod acknowledging;
mod correcting;
mod reading;
mod sending;

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::hooks::Source as HookSource;
use crate::service::journals::{
    JournalEmitter, JournalKind, Journals, Snapshot, Topics, journal_of, read, user_of, write,
};
use crate::service::rules::commands::notifications::{
    SubscribeNotifications, UnsubscribeNotifications,
};
use crate::service::rules::emissions::notifications::{
    self as emissions, NOTIFICATION_ACKED, NOTIFICATION_BATCH, NOTIFICATION_NEW,
    NOTIFICATION_WITHDRAWN, NOTIFICATIONS_ACKED, NOTIFICATIONS_SUBSCRIBED, NOTIFICATIONS_UNREAD,
    NOTIFICATIONS_UNSUBSCRIBED, Notification, NotificationAcked, NotificationBatch,
    NotificationKind, NotificationWithdrawn, NotificationsAcked, NotificationsUnread, Priority,
    WithdrawalReason,
};
use crate::service::rules::emissions::published::{Subscribed, Unsubscribed, Update};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Append, Entry, IfOpen, Notice, Quota, Time};
use roomcast::{Broadcast, Namespace, Socket, SocketId};

/// The notifications. Clones share their state.
#[derive(Clone)]
pub(crate) struct Notifications(Arc<NotificationsInner>);

struct NotificationsInner {
    journals: Journals,
    config: config::Notifications,
    kind: JournalKind<emissions::Notifications>,
}

/// The content of a notification's journal entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Body {
    New(Notification),
    Acked {
        #[serde(flatten)]
        acked: NotificationAcked,
        /// The socket that acknowledged it, which gets no event. Empty if there is none.
        socket: String,
        /// The acknowledged notification, for the history. Absent if it was not open any more.
        #[serde(skip_serializing_if = "Option::is_none")]
        notification: Option<Notification>,
    },
    /// The notification ended before the user acknowledged it. The key of the entry is its id.
    Withdrawn {
        reason: WithdrawalReason,
        timestamp: Time,
    },
}

/// What webhooks receive of a notification. It contains the user, which the event for clients does
/// not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Hooked<'a, T> {
    user_id: &'a str,
    #[serde(flatten)]
    update: T,
}

impl fmt::Debug for Notifications {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifications").finish_non_exhaustive()
    }
}

impl From<Snapshot> for emissions::Notifications {
    fn from(snapshot: Snapshot) -> Self {
        let bodies = snapshot.entries.iter().filter_map(read);
        let new = bodies.filter_map(|body| match body {
            Body::New(notification) => Some(notification),
            Body::Acked { .. } | Body::Withdrawn { .. } => None,
        });
        Self {
            revision: snapshot.revision,
            notifications: new.collect(),
            has_more: snapshot.has_more(),
            unread: snapshot.open,
        }
    }
}

struct NotificationsEmitter {
    window: Duration,
}

impl JournalEmitter for NotificationsEmitter {
    fn emit(&self, to: &Namespace, journal: &str, entries: &[Entry]) {
        let to = to.local().to(room_named(KIND, user_of(KIND, journal)));
        let mut together = AckedTogether::default();
        let now = Time::now();
        let (mut new, mut bytes) = (Vec::new(), 0);
        for entry in entries {
            match read::<Body>(entry) {
                // A notification that expired while it waited is of no use to clients.
                Some(Body::New(body)) if body.expires_at > now => {
                    let more = entry.body.len() + REVISION_BYTES;
                    // One event must not exceed what clients accept.
                    if bytes + more > BATCH_BYTES {
                        emit_batch(to.clone(), std::mem::take(&mut new));
                        bytes = 0;
                    }
                    bytes += more;
                    let revision = entry.revision;
                    new.push(Update { body, revision });
                }
                Some(Body::Acked { acked, socket, .. }) => together.add(&to, acked, socket),
                Some(Body::Withdrawn { reason, timestamp }) => {
                    let withdrawn = NotificationWithdrawn {
                        notification_id: entry.key.clone(),
                        reason,
                        timestamp,
                    };
                    NOTIFICATION_WITHDRAWN.emit(to.clone(), &withdrawn);
                }
                Some(Body::New(_)) | None => {}
            }
        }
        together.emit(&to);
        emit_batch(to, new);
    }

    fn batch_window(&self, entry: &Entry) -> Duration {
        match read::<Body>(entry) {
            Some(Body::New(notification)) if notification.priority != Priority::Urgent => {
                self.window
            }
            Some(Body::New(_) | Body::Acked { .. } | Body::Withdrawn { .. }) | None => {
                Duration::ZERO
            }
        }
    }

    fn counts_open(&self) -> bool {
        true
    }

    fn emit_open_count(&self, to: &Namespace, journal: &str, revision: u64, open: u64) {
        let to = to.local().to(room_named(KIND, user_of(KIND, journal)));
        NOTIFICATIONS_UNREAD.emit(
            to,
            &NotificationsUnread {
                unread: open,
                revision,
            },
        );
    }

    fn is_gathered(&self, entry: &Entry) -> bool {
        matches!(read(entry), Some(Body::Acked { .. }))
    }
}

/// Acknowledgements of one socket that are emitted in one event.
#[derive(Default)]
struct AckedTogether {
    socket: String,
    acked: Vec<NotificationAcked>,
}

impl AckedTogether {
    fn add(&mut self, to: &Broadcast<'_>, acked: NotificationAcked, socket: String) {
        if self.socket != socket {
            self.emit(to);
            self.socket = socket;
        }
        self.acked.push(acked);
    }

    fn emit(&mut self, to: &Broadcast<'_>) {
        let acked = std::mem::take(&mut self.acked);
        let others = match SocketId::parse(&self.socket) {
            Some(socket) => to.clone().except(socket),
            None => to.clone(),
        };
        if let [only] = acked.as_slice() {
            NOTIFICATION_ACKED.emit(others, only);
        } else if let Some(last) = acked.last() {
            let timestamp = last.timestamp;
            let ids = acked.into_iter().map(|acked| acked.notification_id);
            let notification_ids = ids.collect();
            NOTIFICATIONS_ACKED.emit(
                others,
                &NotificationsAcked {
                    notification_ids,
                    timestamp,
                },
            );
        }
    }
}

/// Emits notifications in one event.
fn emit_batch(to: Broadcast<'_>, notifications: Vec<Update<Notification>>) {
    if notifications.len() > 1 {
        NOTIFICATION_BATCH.emit(to, &NotificationBatch { notifications });
    } else if let Some(only) = notifications.first() {
        NOTIFICATION_NEW.emit(to, only);
    }
}

impl Notifications {
    pub(crate) fn new(journals: Journals, config: &config::Notifications) -> Self {
        let emitter = NotificationsEmitter {
            window: config.window,
        };
        let kind = JournalKind {
            journals: journals.clone(),
            prefix: KIND,
            topics: Topics::Users,
            open: config.most_open(),
            newest: 0,
            is_replayed: true,
            emitter: Arc::new(emitter),
            subscribed: &NOTIFICATIONS_SUBSCRIBED,
            unsubscribed: &NOTIFICATIONS_UNSUBSCRIBED,
        };
        Self(Arc::new(NotificationsInner {
            journals,
            config: config.clone(),
            kind,
        }))
    }

    /// Subscribes a socket to its user's notifications. The snapshot has all unacknowledged
    /// notifications.
    pub(crate) async fn subscribe(
        &self,
        allowed: Allowed<SubscribeNotifications>,
        socket: &Socket,
    ) -> Result<Subscribed<emissions::Notifications>, ServiceError> {
        let (by, SubscribeNotifications {}) = allowed.into_parts();
        let kind = self.kind();
        kind.subscribe(Some(&by.subject), None, socket).await
    }

    /// Unsubscribes a socket from its user's notifications.
    pub(crate) fn unsubscribe(
        &self,
        allowed: Allowed<UnsubscribeNotifications>,
        socket: &Socket,
    ) -> Result<Unsubscribed, ServiceError> {
        let (by, UnsubscribeNotifications {}) = allowed.into_parts();
        Ok(self.kind().unsubscribe(Some(&by.subject), socket))
    }

    /// Subscribes a connected socket, if the configuration says so.
    pub(crate) async fn connected(&self, socket: &Socket) {
        if !self.0.config.on_connect {
            return;
        }
        let (kind, by) = (self.kind(), socket.principal());
        let user = Some(&*by.subject);
        if let Err(error) = kind.subscribe(user, None, socket).await {
            tracing::debug!(%error, "could not subscribe a connected socket to notifications");
            kind.unsubscribe(user, socket);
        }
    }

    /// Returns the kind of notifications.
    pub(in crate::service) fn kind(&self) -> &JournalKind<emissions::Notifications> {
        &self.0.kind
    }

    /// Returns the notification to store for each user mentioned in a message, in a conversation
    /// with this title.
    ///
    /// It contains nothing of the message's text, which may be deleted.
    pub(in crate::service) fn of_mentions(&self, title: Option<&str>) -> Notice {
        let (expiry, most_open) = (self.0.config.expiry, self.0.config.mentions);
        let place = title
            .unwrap_or("in a conversation without a title")
            .to_owned();
        Notice::new(move |message, user| {
            let id = format!("{MENTION}{}", message.id);
            let dropped = Body::Withdrawn {
                reason: WithdrawalReason::Replaced,
                timestamp: message.created_at,
            };
            let expires_at = message.created_at.after(expiry);
            let notification = Notification {
                notification_id: id.clone(),
                kind: NotificationKind::Info,
                priority: Priority::Normal,
                title: format!("{} mentioned you", message.user_name),
                message: place.clone(),
                action_url: Some(format!("/#/c/{}/{}", message.conversation_id, message.seq)),
                timestamp: message.created_at,
                expires_at,
            };
            Append {
                // Reading the conversation acknowledges its mentions, which are found by this
                // category.
                category: Some(message.conversation_id.to_string()),
                is_open: true,
                if_open: IfOpen::Refuse,
                created_at: message.created_at,
                expires_at: Some(expires_at),
                most_open,
                quota: Quota::Dropping {
                    prefix: MENTION,
                    body: write(&dropped),
                    expires_at: message.created_at.after(REPLACED),
                },
                ..Append::new(journal_of(KIND, user), id, write(&Body::New(notification)))
            }
        })
    }

    /// Passes a stored entry of a user's journal to webhooks, with the source that caused it.
    pub(in crate::service) fn hook(&self, journal: &str, entry: &Entry, source: HookSource) {
        let journals = &self.0.journals;
        if !journals.hooks(&NOTIFICATION_NEW) && !journals.hooks(&NOTIFICATION_WITHDRAWN) {
            return;
        }
        let user_id = user_of(KIND, journal);
        match read(entry) {
            Some(Body::New(body)) => {
                let revision = entry.revision;
                let update = Update { body, revision };
                journals.hook_from(&NOTIFICATION_NEW, source, || Hooked { user_id, update });
            }
            Some(Body::Withdrawn { reason, timestamp }) => {
                let update = NotificationWithdrawn {
                    notification_id: entry.key.clone(),
                    reason,
                    timestamp,
                };
                journals.hook_from(&NOTIFICATION_WITHDRAWN, source, || Hooked {
                    user_id,
                    update,
                });
            }
            Some(Body::Acked { .. }) | None => {}
        }
    }

    /// Schedules the emission of notifications that were stored for these users but not emitted
    /// here.
    pub(in crate::service) fn schedule(&self, users: &[String]) {
        let journals = users.iter().map(|user| journal_of(KIND, user));
        self.0.journals.schedule(journals);
    }
}

const KIND: &str = RoomKind::Notifications.prefix();
/// The prefix of the ids of mentions.
const MENTION: &str = "mention:";
/// The maximum size of the notifications in one event in bytes, as in a snapshot: several such
/// events may wait for one client.
const BATCH_BYTES: usize = 192 << 10;
/// The size of a revision with its name in bytes, which an entry does not include.
const REVISION_BYTES: usize = 40;
/// How long a withdrawn notification is retained.
const REMEMBERED: Duration = Duration::from_secs(86_400);
/// How long a mention replaced by a newer one is retained: as long as servers that catch up read
/// replaced entries.
const REPLACED: Duration = Duration::from_secs(3600);
