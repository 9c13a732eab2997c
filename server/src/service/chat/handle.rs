//! The handle of the chat, and functions that its features share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_protocol::Sid;
use uuid::Uuid;

use crate::auth::Principal;
use crate::config;
use crate::metrics::trace::{TraceContext, Traces};
use crate::metrics::{Inventoried, Inventory, Metrics};
use crate::service::chat::messages::streams::Streams;
use crate::service::chat::presence::conversation::{Departure, PresenceConfig};
use crate::service::chat::presence::losses::Losses;
use crate::service::chat::presence::remote::{Departures, SharedPresence};
use crate::service::chat::sequencer::announced::AnnouncedChanges;
use crate::service::chat::sequencer::conversations::{
    Arrival, Conversations, PresenceLookups, SharedContext,
};
use crate::service::chat::servers::StatusEmitter;
use crate::service::cluster::{Announcer, News, Presence as PresenceNews};
use crate::service::feed::FeedProgress;
use crate::service::notifications::Notifications;
use crate::service::rules::emissions::attendance::{Present, User};
use crate::service::rules::html::Rules;
use crate::service::{authorization::access::Access, fault::ServiceError};
use crate::store::{Actor, Origin, Store};
use roomcast::{Namespace, SocketId};

/// The chat of one server. Clones share its state.
#[derive(Clone, Debug)]
pub(crate) struct Chat(pub(in crate::service) Arc<ChatInner>);

#[derive(Debug)]
pub(in crate::service) struct ChatInner {
    pub(in crate::service) store: Store,
    pub(in crate::service) access: Access,
    pub(super) conversations: Conversations,
    pub(in crate::service) rules: Arc<Rules>,
    pub(in crate::service) limits: config::Chat,
    /// Notifies the users whom messages mention.
    pub(super) notifications: Notifications,
    /// The recovery window of disconnected clients, or `None` without recovery.
    pub(super) recovery: Option<Duration>,
    /// The users who lost a connection a moment ago.
    pub(super) losses: Losses,
    /// The messages that are being written here.
    pub(super) streams: Streams,
    /// Stores and emits the statuses of users.
    pub(super) statuses: StatusEmitter,
    /// Reports which revocations of other servers are applied here.
    pub(super) fed: Arc<FeedProgress>,
}

impl Chat {
    /// Creates a chat that stores its messages in `store` and announces changes through
    /// `announcer`, if there is one.
    ///
    /// [`Chat::run`] must run alongside it.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(crate) fn new(
        store: Store,
        access: Access,
        notifications: Notifications,
        (chat, presence): (&config::Chat, &config::Presence),
        recovery: Option<Duration>,
        (announcer, fed, traces): (Option<Announcer>, Arc<FeedProgress>, Traces),
        metrics: Arc<Metrics>,
    ) -> Result<Self, &'static str> {
        let tempo = PresenceConfig {
            grace: presence.grace,
            interval: presence.interval,
            listed: presence.listed,
            is_shared: store.is_shared(),
        };
        let rules = Arc::new(Rules::new(chat.content)?);
        let has_recovery = recovery.is_some();
        let common = SharedContext::new(
            Arc::clone(&rules),
            chat,
            has_recovery,
            announcer,
            traces,
            Arc::clone(&metrics),
        );
        Ok(Self(Arc::new(ChatInner {
            store,
            access,
            conversations: Conversations::new(tempo, common),
            rules,
            limits: chat.clone(),
            notifications,
            recovery,
            losses: Losses::new(Arc::clone(&metrics)),
            streams: Streams::new(chat.streams.clone(), metrics),
            statuses: StatusEmitter::new(),
            fed,
        })))
    }

    /// Checks whether a chat can be created with these settings.
    ///
    /// # Errors
    ///
    /// If this build lacks a feature that they need; the error names it.
    pub(crate) fn check(chat: &config::Chat) -> Result<(), &'static str> {
        Rules::new(chat.content).map(drop)
    }

    /// Returns the announcer to other servers of the store, if there is one.
    pub(crate) fn announcer(&self) -> Option<&Announcer> {
        self.0.conversations.announcer()
    }

    pub(super) fn actor(&self, by: &Principal) -> Actor {
        self.0.access.actor(by)
    }

    /// Takes at most `limit` users whose presence must be published to other servers, each with the
    /// current state.
    pub(crate) fn take_shared(&self, limit: usize) -> Vec<SharedPresence> {
        self.0.conversations.take_shared(limit)
    }

    /// Puts back presence rows that could not be published.
    pub(crate) fn restore_shared(&self, rows: Vec<SharedPresence>) {
        self.0.conversations.restore_shared(rows);
    }

    /// Returns whether there were too many presence changes to store.
    ///
    /// The rows published by this server are then wrong, and must be removed before
    /// [`Chat::share_all`].
    pub(crate) fn shared_is_incomplete(&self) -> bool {
        self.0.conversations.is_incomplete()
    }

    /// Marks all present users for publishing, after this server's published presence was removed.
    pub(crate) fn share_all(&self) {
        self.0.conversations.share_all();
    }

    /// Returns the conversations that are live on this server.
    pub(crate) fn shared_conversations(&self) -> Vec<Uuid> {
        self.0.conversations.ids()
    }

    /// Announces published presence rows to other servers, if there is an announcer.
    pub(crate) fn announce_shared(&self, rows: &[SharedPresence]) {
        let Some(announcer) = self.0.conversations.announcer() else {
            return;
        };
        for rows in rows.chunk_by(|a, b| a.conversation_id == b.conversation_id) {
            // Other servers read departures from the store. Only the reason is not stored, so the
            // announcement contains it.
            let departed = |departure| {
                let has = move |row: &&SharedPresence| {
                    row.present.is_none() && row.departure == departure
                };
                let rows = rows.iter().filter(has);
                rows.map(|row| Arc::clone(&row.user_id)).collect()
            };
            if let Some(row) = rows.first() {
                let stir = PresenceNews {
                    conversation_id: row.conversation_id,
                    left: departed(Departure::Left),
                    lost: departed(Departure::Lost),
                };
                for part in stir.parts() {
                    announcer.announce(News::Presence(part));
                }
            }
        }
    }

    /// Takes the joins that wait for the presence of other servers.
    pub(super) fn take_arrivals(&self) -> Vec<Arrival> {
        self.0.conversations.take_arrivals()
    }

    /// Waits until a join is waiting.
    pub(super) async fn hurried(&self) {
        self.0.conversations.hurried().await;
    }

    /// Takes the conversations whose users on other servers have changed.
    pub(super) fn take_lookups(&self) -> PresenceLookups {
        self.0.conversations.take_lookups()
    }

    /// Waits until there is presence to publish or to look up. Never returns without an announcer.
    pub(crate) async fn stirred(&self) {
        match self.0.conversations.announcer() {
            Some(_) => self.0.conversations.stirred().await,
            None => std::future::pending().await,
        }
    }

    pub(super) fn announced(&self) -> &AnnouncedChanges {
        &self.0.conversations.common().announced
    }

    pub(in crate::service) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Replaces the users that other servers have in a conversation. `reasons` gives the reasons of
    /// departures.
    pub(super) fn set_remote(
        &self,
        namespace: &Namespace,
        id: Uuid,
        rows: Vec<Present>,
        reasons: &Departures,
    ) {
        let conversations = &self.0.conversations;
        let may_be_explained = conversations.announcer().is_some_and(Announcer::is_up);
        // The store may show a departure before its reason is announced. Without an adapter no
        // reason ever arrives.
        let timeout = if may_be_explained {
            EXPLANATION_TIMEOUT
        } else {
            Duration::ZERO
        };
        let is_unexplained = conversations.with(id, |live| {
            for notice in live.presence.set_remote(now(), rows, reasons, timeout) {
                live.emit_notice(namespace, notice);
            }
            live.advance(namespace, now());
            live.presence.remote().is_unexplained()
        });
        // Users retained for an explanation are looked up again when the timeout has expired.
        if is_unexplained == Some(true) {
            conversations.request_lookup(id);
        }
    }
}

/// The timeout for the announced reason of a departure that the store shows.
const EXPLANATION_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) fn user(by: &Principal) -> User {
    User {
        user_id: by.subject.as_str().into(),
        name: by.name.as_str().into(),
    }
}

/// Returns the current time, which tests can pause.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns the error for a command without the required rights, and logs the user.
pub(super) fn denied(by: &Principal, why: &'static str) -> ServiceError {
    roomcast::throttled_log!(
        info,
        user = by.subject,
        why,
        "denied: the user lacks rights in the conversation"
    );
    ServiceError::Denied(why)
}

/// Returns the origin of a change: a socket, or none.
pub(super) fn origin(from: Option<SocketId>) -> Origin {
    Origin {
        socket: from.and_then(|socket| Sid::parse(socket.as_str())),
        trace: TraceContext::current(),
        ..Origin::default()
    }
}

/// Returns the error for an unknown or inaccessible conversation, and logs the user.
pub(in crate::service) fn hidden_conversation(by: &Principal, conversation: Uuid) -> ServiceError {
    roomcast::throttled_log!(info,
        user = by.subject,
        %conversation,
        "denied: the conversation does not exist, or the user is not a member"
    );
    NO_CONVERSATION
}

/// The error for both unknown and inaccessible conversations, so that clients cannot distinguish
/// them.
pub(in crate::service) const NO_CONVERSATION: ServiceError =
    ServiceError::NotFound("no such conversation");

impl Inventoried for Chat {
    fn report(&self, inventory: &mut Inventory) {
        self.0.conversations.report(inventory);
        self.0.losses.report(inventory);
        self.0.streams.report(inventory);
        if let Some(announcer) = self.announcer() {
            announcer.report(inventory);
        }
    }
}
