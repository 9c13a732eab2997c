//! The handle of the chat, and what its features share.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_protocol::Sid;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Present, Tempo, User};
use crate::service::chat::presence::elsewhere::Shared;
use crate::service::chat::sequencer::conversations::{Common, Conversations};
use crate::service::chat::sequencer::delivery;
use crate::service::chat::sequencer::gate::Gap;
use crate::service::rules::html::Rules;
use crate::service::{authorization::access::Access, fault::ServiceError};
use crate::store::{Actor, Commit, Commits, Message, Origin, Page, Store, StoreError};
use roomcast::{Io, Namespace, SocketId};

/// The chat of one server. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct Chat(pub(in crate::service) Arc<Inner>);

#[derive(Debug)]
pub(in crate::service) struct Inner {
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
        Self(Arc::new(Inner {
            store,
            access,
            conversations: Conversations::new(tempo, common),
            rules,
            limits: chat.clone(),
            recovery,
        }))
    }

    pub(super) fn actor(&self, by: &Principal) -> Actor {
        Actor {
            user_id: by.subject.clone(),
            is_admin: self.0.access.allows(by, Permission::ChatModerate),
        }
    }

    /// Emits what is stored, in the order of storing, and what is due by time. Ends when the
    /// store is closed and everything that was stored is emitted, and panics with whatever fills a gap.
    pub(crate) async fn run(self, io: Io, mut commits: Commits) {
        let namespace = io.of("/");
        let emitting = async {
            let mut filling = JoinSet::new();
            loop {
                tokio::select! {
                    commit = commits.next() => match commit {
                        Some(commit) => if let Some((id, gap)) = self.emit(&namespace, commit) {
                            filling.spawn(self.clone().fill(namespace.clone(), id, gap));
                        },
                        None => break,
                    },
                    Some(filled) = filling.join_next() => {
                        if let Err(error) = filled && error.is_panic() {
                            resume_unwind(error.into_panic());
                        }
                    }
                }
            }
            // The store is closed, so that nothing is waited for any more.
            filling.join_all().await;
        };
        let advancing = async {
            loop {
                let id = self.0.conversations.next_timeout().await;
                self.0
                    .conversations
                    .with(id, |live| live.advance(&namespace, now()));
            }
        };
        tokio::select! {
            () = emitting => {}
            () = advancing => {}
        }
    }

    /// Shows what was stored to those who are in its conversation, then answers who asked for it.
    /// This is the only place from which messages go out. Says what is missing before it.
    fn emit(&self, namespace: &Namespace, commit: Commit) -> Option<(Uuid, Gap)> {
        let id = commit.event().conversation_id();
        let mut commit = Some(commit);
        let gap = self.0.conversations.with(id, |live| {
            commit
                .take()
                .and_then(|commit| live.pass(namespace, commit, self.0.limits.confirm_timeout))
        });
        if let Some(commit) = commit {
            delivery::unseen(namespace, self.0.conversations.metrics(), commit);
        }
        gap.flatten().map(|gap| (id, gap))
    }

    /// Reads what was stored but has not come by: another server stored it, or this one before its
    /// connection was lost. What came by meanwhile waits in its conversation, for a limited time.
    async fn fill(self, namespace: Namespace, id: Uuid, mut gap: Gap) {
        loop {
            let missing = self.missing(id, gap).await;
            let timeout = self.0.limits.confirm_timeout;
            let next = self
                .0
                .conversations
                .with(id, |live| live.fill(&namespace, gap, &missing, timeout));
            match next.flatten() {
                Some(next) => gap = next,
                None => return,
            }
        }
    }

    /// The first messages of a gap. While the store does not answer it is asked again: until it does there
    /// is nothing new either.
    async fn missing(&self, id: Uuid, gap: Gap) -> Vec<Arc<Message>> {
        let deadline = tokio::time::Instant::now() + GAP_PATIENCE;
        let page = Page::Between {
            after: gap.after,
            through: gap.through,
        };
        loop {
            let read = self.0.store.history(id, page, self.0.limits.page);
            match tokio::time::timeout_at(deadline, read).await {
                Ok(Ok(Some(messages))) => return messages.messages,
                Ok(Ok(None) | Err(StoreError::Closed)) | Err(_) => return Vec::new(),
                Ok(Err(error)) => {
                    tokio::time::sleep(error.retry_after().min(GAP_PAUSE)).await;
                }
            }
        }
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

/// How long messages of a conversation may wait for one that is stored before them.
const GAP_PATIENCE: Duration = Duration::from_secs(30);

/// Between two tries to read it.
const GAP_PAUSE: Duration = Duration::from_millis(250);

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
