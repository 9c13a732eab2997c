//! The handle of the chat, and what its features share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_protocol::Sid;
use uuid::Uuid;

use crate::auth::Principal;
use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Going, Tempo};
use crate::service::chat::presence::remote::{Gone, SharedPresence};
use crate::service::chat::sequencer::conversations::{Arrival, Common, Conversations, Looks};
use crate::service::chat::sequencer::told::ToldChanges;
use crate::service::chat::servers::SharedStatuses;
use crate::service::cluster::{Announcer, News, Presence as Stir};
use crate::service::feed::Fed;
use crate::service::notifications::Notifications;
use crate::service::rules::emissions::attendance::{Present, User};
use crate::service::rules::html::Rules;
use crate::service::{authorization::access::Access, fault::ServiceError};
use crate::store::{Actor, Origin, Store};
use roomcast::{Namespace, SocketId};

/// The chat of one server. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct Chat(pub(in crate::service) Arc<ChatInner>);

#[derive(Debug)]
pub(in crate::service) struct ChatInner {
    pub(in crate::service) store: Store,
    pub(in crate::service) access: Access,
    pub(super) conversations: Conversations,
    pub(in crate::service) rules: Arc<Rules>,
    pub(in crate::service) limits: config::Chat,
    /// The notifications, by which those are told whom messages mention.
    pub(super) notifications: Notifications,
    /// How long a client may be away and come back as the same socket, if it may at all.
    pub(super) recovery: Option<Duration>,
    /// What users say of themselves.
    pub(super) statuses: SharedStatuses,
    /// How far this server has applied what others have revoked.
    pub(super) fed: Arc<Fed>,
}

impl Chat {
    /// A chat that keeps its messages in `store`, and has other servers told of what is done here if there is
    /// somebody who does that. [`Chat::run`] must run beside it.
    pub(crate) fn new(
        store: Store,
        access: Access,
        notifications: Notifications,
        (chat, presence): (&config::Chat, &config::Presence),
        recovery: Option<Duration>,
        (announcer, fed): (Option<Announcer>, Arc<Fed>),
        metrics: Arc<Metrics>,
    ) -> Self {
        let tempo = Tempo {
            grace: presence.grace,
            interval: presence.interval,
            listed: presence.listed,
            is_shared: store.is_shared(),
        };
        let rules = Arc::new(Rules::new(chat.content));
        let has_recovery = recovery.is_some();
        let common = Common::new(
            Arc::clone(&rules),
            chat,
            has_recovery,
            announcer,
            Arc::clone(&metrics),
        );
        Self(Arc::new(ChatInner {
            store,
            access,
            conversations: Conversations::new(tempo, common),
            rules,
            limits: chat.clone(),
            notifications,
            recovery,
            statuses: SharedStatuses::new(metrics),
            fed,
        }))
    }

    /// What tells other servers of the store, if there are any to be told.
    pub(crate) fn announcer(&self) -> Option<&Announcer> {
        self.0.conversations.announcer()
    }

    pub(super) fn actor(&self, by: &Principal) -> Actor {
        self.0.access.actor(by)
    }

    /// What other servers have to be told of who is here: at most `limit` users, each as it is now.
    pub(crate) fn take_shared(&self, limit: usize) -> Vec<SharedPresence> {
        self.0.conversations.take_shared(limit)
    }

    /// Takes back what could not be told.
    pub(crate) fn restore_shared(&self, rows: Vec<SharedPresence>) {
        self.0.conversations.restore_shared(rows);
    }

    /// Whether so much has changed that it could not be kept: what other servers know of this one is
    /// wrong, and has to be taken away before [`Chat::share_all`].
    pub(crate) fn shared_is_incomplete(&self) -> bool {
        self.0.conversations.is_incomplete()
    }

    /// Other servers know nothing of this one any more: everybody who is here has to be told again.
    pub(crate) fn share_all(&self) {
        self.0.conversations.share_all();
    }

    /// The conversations in which somebody is.
    pub(crate) fn shared_conversations(&self) -> Vec<Uuid> {
        self.0.conversations.ids()
    }

    /// Lets other servers know what they have been told in the store of who is here, if they can be told at once.
    pub(crate) fn announce_shared(&self, rows: &[SharedPresence]) {
        let Some(announcer) = self.0.conversations.announcer() else {
            return;
        };
        for rows in rows.chunk_by(|a, b| a.conversation_id == b.conversation_id) {
            // Other servers read from the store who is gone; only the reason is not in it, so that
            // alone is told.
            let gone = |going| {
                let has = move |row: &&SharedPresence| row.present.is_none() && row.going == going;
                let rows = rows.iter().filter(has);
                rows.map(|row| Arc::clone(&row.user_id)).collect()
            };
            if let Some(row) = rows.first() {
                let stir = Stir {
                    conversation_id: row.conversation_id,
                    left: gone(Going::Left),
                    lost: gone(Going::Lost),
                };
                for part in stir.parts() {
                    announcer.tell(News::Presence(part));
                }
            }
        }
    }

    /// Takes the joins that wait until it is known who is at other servers.
    pub(super) fn take_arrivals(&self) -> Vec<Arrival> {
        self.0.conversations.take_arrivals()
    }

    /// Waits until a join waits.
    pub(super) async fn hurried(&self) {
        self.0.conversations.hurried().await;
    }

    /// Conversations in which others have come or gone at other servers.
    pub(super) fn take_looks(&self) -> Looks {
        self.0.conversations.take_looks()
    }

    /// Waits until there is something to tell other servers, or to look up of them; for ever if they are not told
    /// at once.
    pub(crate) async fn stirred(&self) {
        match self.0.conversations.announcer() {
            Some(_) => self.0.conversations.stirred().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn told(&self) -> &ToldChanges {
        &self.0.conversations.common().told
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Takes note of all users that other servers have in a conversation now, and of how others have gone.
    pub(super) fn set_remote(
        &self,
        namespace: &Namespace,
        id: Uuid,
        rows: Vec<Present>,
        told: &Gone,
    ) {
        let conversations = &self.0.conversations;
        let may_be_told = conversations.announcer().is_some_and(Announcer::is_up);
        // The store may show that a user is gone before the announcement says why. Without an
        // adapter nobody would say.
        let patience = if may_be_told { WORD } else { Duration::ZERO };
        let is_unexplained = conversations.with(id, |live| {
            for notice in live.presence.set_remote(now(), rows, told, patience) {
                live.tell(namespace, notice);
            }
            live.advance(namespace, now());
            live.presence.remote().is_unexplained()
        });
        // The users who are kept for the announcement are looked at again when the patience is
        // over.
        if is_unexplained == Some(true) {
            conversations.look_soon(id);
        }
    }
}

/// How long after another server has taken out users it may be heard how they have gone.
const WORD: Duration = Duration::from_secs(2);

pub(super) fn user(by: &Principal) -> User {
    User {
        user_id: by.subject.as_str().into(),
        name: by.name.as_str().into(),
    }
}

/// The time that a test may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What somebody is told who may not change what belongs to others; the log says who tried.
pub(super) fn denied(by: &Principal, why: &'static str) -> ServiceError {
    roomcast::throttled_log!(info, user = by.subject, "denied: {why}");
    ServiceError::Denied(why)
}

/// Where a change comes from: a socket, or none of them.
pub(super) fn origin(from: Option<SocketId>) -> Origin {
    Origin {
        socket: from.and_then(|socket| Sid::parse(socket.as_str())),
        ..Origin::default()
    }
}

/// What somebody is told of a conversation that is unknown or foreign; the log says who asked.
pub(in crate::service) fn stranger(by: &Principal, conversation: Uuid) -> ServiceError {
    roomcast::throttled_log!(info,
        user = by.subject,
        %conversation,
        "denied: there is no such conversation, or the user is no member"
    );
    NO_CONVERSATION
}

/// The one answer for a conversation that is unknown and for one that is foreign, so that nobody
/// can tell these apart.
pub(in crate::service) const NO_CONVERSATION: ServiceError =
    ServiceError::NotFound("no such conversation");
