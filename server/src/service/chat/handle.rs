//! The handle of the chat, and what its features share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_protocol::Sid;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::Principal;
use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Present, Tempo, User};
use crate::service::chat::presence::elsewhere::Shared;
use crate::service::chat::sequencer::conversations::{Common, Conversations};
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
    /// How long a client may be away and come back as the same socket, if it may at all.
    pub(super) recovery: Option<Duration>,
}

impl Chat {
    /// A chat that keeps its messages in `store`. [`Chat::run`] must run beside it.
    pub(crate) fn new(
        store: Store,
        access: Access,
        chat: &config::Chat,
        presence: &config::Presence,
        recovery: Option<Duration>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let tempo = Tempo {
            grace: presence.grace,
            interval: presence.interval,
            listed: presence.listed,
            is_shared: store.is_shared(),
        };
        let rules = Arc::new(Rules::new(chat.content));
        let places = chat.confirmations.min(Semaphore::MAX_PERMITS);
        let common = Common {
            rules: Arc::clone(&rules),
            confirmations: Arc::new(Semaphore::new(places)),
            has_recovery: recovery.is_some(),
            metrics,
        };
        Self(Arc::new(ChatInner {
            store,
            access,
            conversations: Conversations::new(tempo, common),
            rules,
            limits: chat.clone(),
            recovery,
        }))
    }

    pub(super) fn actor(&self, by: &Principal) -> Actor {
        self.0.access.actor(by)
    }

    /// What other servers have to be told of who is here: at most `limit` users, each as it is now.
    pub(crate) fn take_shared(&self, limit: usize) -> Vec<Shared> {
        self.0.conversations.take_shared(limit)
    }

    /// Takes back what could not be told.
    pub(crate) fn restore_shared(&self, rows: Vec<Shared>) {
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

    /// Takes note of all users that other servers have in a conversation now.
    pub(crate) fn set_elsewhere(&self, namespace: &Namespace, id: Uuid, rows: Vec<Present>) {
        self.0.conversations.with(id, |live| {
            for notice in live.presence.set_elsewhere(now(), rows) {
                live.tell(namespace, notice);
            }
            live.advance(namespace, now());
        });
    }
}

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
    tracing::info!(user = by.subject, "denied: {why}");
    ServiceError::Denied(why)
}

pub(super) fn origin(from: SocketId) -> Origin {
    Origin {
        socket: Sid::parse(from.as_str()),
        ..Origin::default()
    }
}

/// What somebody is told of a conversation that is unknown or foreign; the log says who asked.
pub(in crate::service) fn stranger(by: &Principal, conversation: Uuid) -> ServiceError {
    tracing::info!(
        user = by.subject,
        %conversation,
        "denied: there is no such conversation, or the user is no member"
    );
    NO_CONVERSATION
}

/// The same for one that is unknown and for one that is foreign.
pub(in crate::service) const NO_CONVERSATION: ServiceError =
    ServiceError::NotFound("no such conversation");
