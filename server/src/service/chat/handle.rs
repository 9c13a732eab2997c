//! The chat: messages, and who is where.

use std::sync::Arc;
use std::time::{Duration, Instant};

use roomcast_protocol::Sid;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::config;
use crate::metrics::Metrics;
use crate::service::chat::presence::conversation::{Here, Present, Tempo, User};
use crate::service::chat::presence::elsewhere::Shared;
use crate::service::chat::sequencer::conversations::{Common, Conversations, Live};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::rules::commands::{
    AskPresence, Join, Leave, ReadHistory, SendMessage, SetTyping,
};
use crate::service::rules::content;
use crate::service::rules::html::Rules;
use crate::service::{authorization::access::Access, fault::ServiceError, rules::policy};
use crate::store::{
    Conversation, Insert, Message, MessageKind, Messages, NewMessage, Origin, Page, Store, Time,
};
use roomcast::{Io, Namespace, Socket, SocketId};

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

/// Where a user is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Whereabouts {
    user_id: String,
    /// Sockets, in conversations or not.
    connections: usize,
    /// The conversations that they are in, in no order.
    conversations: Vec<Uuid>,
}

/// What a client gets when it has joined a conversation.
#[derive(Debug, Serialize)]
pub(crate) struct Joined {
    conversation: Conversation,
    users: Vec<Present>,
    #[serde(flatten)]
    missed: Messages,
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

    /// Stores a message, which is emitted and answered in the order of storing.
    pub(crate) async fn send(
        &self,
        by: &Principal,
        from: SocketId,
        command: SendMessage,
    ) -> Result<Arc<Message>, ServiceError> {
        let received = Some(Instant::now());
        self.0.access.require(by, &policy::MESSAGE)?;
        let limits = &self.0.limits;
        let content = self.0.rules.admit(command.content, limits.content_chars)?;
        if let Some(id) = &command.client_message_id {
            content::check_client_message_id(id)?;
        }
        if let Some(metadata) = &command.metadata {
            content::check_metadata(metadata, limits.metadata_bytes)?;
        }
        let kind = command.kind.unwrap_or_default();
        match kind {
            MessageKind::User => {}
            MessageKind::Ai => {
                let access = &self.0.access;
                access.require_permission(by, Permission::ChatSendAi)?;
            }
        }
        let conversation_id = command.conversation_id;
        let message = NewMessage {
            conversation_id,
            user_id: by.subject.clone(),
            user_name: by.name.clone(),
            content,
            kind,
            metadata: command.metadata.unwrap_or_else(empty_object),
            client_message_id: command.client_message_id,
        };
        let origin = Origin {
            socket: Sid::parse(from.as_str()),
            confirm: command.confirm_delivery.unwrap_or(false),
            received,
        };
        match self.0.store.insert_message(message, origin).await? {
            Insert::Stored(message) => Ok(message),
            Insert::Repeated(message) => Ok(self.0.rules.show(&message)),
            Insert::Absent => Err(stranger(by, conversation_id)),
            Insert::Conflict => Err(ServiceError::Conflict(
                "clientMessageId belongs to a message in another conversation",
            )),
        }
    }

    /// Lets a socket into a conversation: from one message on it gets all live, and everything
    /// from `last_seq` up to that one is in the answer.
    pub(crate) async fn join(
        &self,
        socket: &Socket,
        command: Join,
    ) -> Result<Joined, ServiceError> {
        self.0.access.require(&socket.principal(), &policy::JOIN)?;
        let (by, id) = (&socket.principal(), command.conversation_id);
        let conversations = &self.0.conversations;
        let pin = conversations.pin(id);
        let mut tries = 0;
        let (membership, emitted, users) = loop {
            let membership = self
                .0
                .store
                .membership(id, &by.subject)
                .await?
                .ok_or_else(|| stranger(by, id))?;
            let entered = conversations.with(id, |live| {
                // Whoever was removed after the store was asked would not be taken out any more.
                if live.removed_at > membership.changes {
                    return Ok(None);
                }
                // What is emitted up to here is read from the store, the rest comes live.
                let Some(emitted) = live.gate.open(membership.revision()) else {
                    return Ok(None);
                };
                self.enter(live, socket, by)?;
                Ok(Some((emitted.seq, live.presence.list(id).users)))
            });
            if let Some((emitted, users)) = entered.unwrap_or(Err(NO_CONVERSATION))? {
                break (membership, emitted, users);
            }
            tries += 1;
            if tries >= JOIN_TRIES {
                return Err(ServiceError::Unavailable {
                    retry_after: JOIN_PAUSE,
                });
            }
        };
        drop(pin);
        self.reconsider(socket);
        let missed = match command.last_seq {
            Some(after) if after < emitted => self.missed(by, id, after, emitted).await,
            Some(_) | None => Messages::default(),
        };
        Ok(Joined {
            conversation: membership.conversation,
            users,
            missed,
        })
    }

    pub(super) fn enter(
        &self,
        live: &mut Live,
        socket: &Socket,
        by: &Principal,
    ) -> Result<(), ServiceError> {
        if !self.0.conversations.enter(socket.id(), live.id) {
            return Err(NO_CONVERSATION);
        }
        if socket.join(&live.room).is_err() {
            self.0.conversations.exit(socket.id(), live.id);
            return Err(ServiceError::Conflict(
                "this connection is in too many conversations",
            ));
        }
        let namespace = socket.namespace();
        if let Some(notice) = live
            .presence
            .join(now(), socket.id(), &user(by), Time::now())
        {
            live.tell(&namespace, notice);
        }
        live.advance(&namespace, now());
        Ok(())
    }

    /// The messages that were emitted before the socket joined. It has joined by now, so a store
    /// that fails is no reason to refuse: the client learns that there is more, and asks for it.
    async fn missed(&self, by: &Principal, id: Uuid, after: u64, through: u64) -> Messages {
        let page = Page::Between { after, through };
        let read = self
            .0
            .store
            .messages(id, &by.subject, page, self.0.limits.page)
            .await;
        match read {
            Ok(Some(messages)) => self.0.rules.show_all(messages).await,
            Ok(None) | Err(_) => Messages {
                messages: Vec::new(),
                has_more: true,
            },
        }
    }

    /// Lets a socket out of a conversation.
    pub(crate) async fn leave(&self, socket: &Socket, command: Leave) -> Result<(), ServiceError> {
        self.0.access.require(&socket.principal(), &policy::LEAVE)?;
        let id = command.conversation_id;
        let by = &socket.principal();
        if !self.is_here(socket, by, id) {
            return self.require_member(by, id).await;
        }
        self.depart(socket, by, id);
        Ok(())
    }

    /// Takes a socket out of its conversations if its user may not be in any: its claims are those of
    /// now, whenever it came in.
    pub(crate) fn reconsider(&self, socket: &Socket) {
        let by = &socket.principal();
        let is_allowed = policy::JOIN
            .permission
            .is_none_or(|permission| self.0.access.allows(by, permission));
        if is_allowed {
            return;
        }
        let ids = self
            .0
            .conversations
            .of_sockets(std::iter::once(socket.id()));
        for id in ids {
            self.depart(socket, by, id);
        }
    }

    pub(super) fn depart(&self, socket: &Socket, by: &Principal, id: Uuid) {
        self.0.conversations.with(id, |live| {
            socket.leave(&live.room);
            self.0.conversations.exit(socket.id(), id);
            live.depart(&socket.namespace(), now(), socket.id(), &user(by), true);
        });
    }

    /// A page of the messages of a conversation.
    pub(crate) async fn history(
        &self,
        by: &Principal,
        command: ReadHistory,
    ) -> Result<Messages, ServiceError> {
        self.0.access.require(by, &policy::HISTORY)?;
        let page = match (command.before_seq, command.after_seq) {
            (None, None) => Page::Newest,
            (Some(before), None) => Page::Before(before),
            (None, Some(after)) => Page::After(after),
            (Some(_), Some(_)) => {
                return Err(ServiceError::invalid("afterSeq", "excludes beforeSeq"));
            }
        };
        let limit = self.page_limit(command.limit)?;
        let id = command.conversation_id;
        let messages = self.0.store.messages(id, &by.subject, page, limit).await?;
        let messages = messages.ok_or(NO_CONVERSATION)?;
        Ok(self.0.rules.show_all(messages).await)
    }

    /// How many messages a page may have.
    pub(in crate::service) fn page_limit(&self, asked: Option<u64>) -> Result<usize, ServiceError> {
        let limits = &self.0.limits;
        match asked {
            None => Ok(limits.page_default.min(limits.page)),
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=limits.page).contains(limit))
                .ok_or_else(|| {
                    ServiceError::invalid("limit", format!("must be from 1 to {}", limits.page))
                }),
        }
    }

    /// Shows to the others that somebody types, or has stopped.
    pub(crate) async fn set_typing(
        &self,
        socket: &Socket,
        command: SetTyping,
    ) -> Result<(), ServiceError> {
        self.0
            .access
            .require(&socket.principal(), &policy::TYPING)?;
        let (by, id) = (&socket.principal(), command.conversation_id);
        if !self.is_here(socket, by, id) {
            self.require_member(by, id).await?;
        }
        self.0.conversations.with(id, |live| {
            let user = user(by);
            let tell = if command.is_typing {
                live.typing.start(now(), &user, socket.id())
            } else {
                live.typing.stop(&user.user_id).is_some()
            };
            if tell {
                let namespace = socket.namespace();
                live.tell_typing(&namespace, &user, command.is_typing, Some(socket.id()));
            }
        });
        Ok(())
    }

    /// Who is in a conversation.
    pub(crate) async fn presence(
        &self,
        socket: &Socket,
        command: AskPresence,
    ) -> Result<Here, ServiceError> {
        self.0
            .access
            .require(&socket.principal(), &policy::PRESENCE)?;
        let (by, id) = (&socket.principal(), command.conversation_id);
        if !self.is_here(socket, by, id) {
            self.require_member(by, id).await?;
        }
        let here = self.0.conversations.with(id, |live| live.presence.here(id));
        Ok(here.unwrap_or_else(|| Here::nobody(id)))
    }

    /// Who is in a conversation on this server, for other services.
    pub(crate) fn who_is_in(&self, by: &Principal, id: Uuid) -> Result<Here, ServiceError> {
        let access = &self.0.access;
        access.require_permission(by, Permission::ApiPresence)?;
        let here = self.0.conversations.with(id, |live| live.presence.here(id));
        Ok(here.unwrap_or_else(|| Here::nobody(id)))
    }

    /// Where a user is on this server, for other services.
    pub(crate) async fn where_is(
        &self,
        io: &Io,
        by: &Principal,
        user: String,
    ) -> Result<Whereabouts, ServiceError> {
        let access = &self.0.access;
        access.require_permission(by, Permission::ApiPresence)?;
        content::check_user_id("userId", &user)?;
        let sockets = io.of("/").in_(user_room(&user)).sockets().await;
        let ids = sockets.iter().map(Socket::id);
        Ok(Whereabouts {
            user_id: user,
            connections: sockets.len(),
            conversations: self.0.conversations.of_sockets(ids).into_iter().collect(),
        })
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

    fn is_here(&self, socket: &Socket, by: &Principal, id: Uuid) -> bool {
        let here = self
            .0
            .conversations
            .with(id, |live| live.presence.has(socket.id(), &by.subject));
        here.unwrap_or(false)
    }

    async fn require_member(&self, by: &Principal, id: Uuid) -> Result<(), ServiceError> {
        if self.0.store.is_member(id, &by.subject).await? {
            Ok(())
        } else {
            Err(stranger(by, id))
        }
    }
}

pub(super) fn user(by: &Principal) -> User {
    User {
        user_id: by.subject.as_str().into(),
        name: by.name.as_str().into(),
    }
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".into()).expect("an empty object is JSON")
}

/// The time that a test may stop.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How often a socket that joins asks whether it is a member, if others are being removed meanwhile.
const JOIN_TRIES: u32 = 8;
const JOIN_PAUSE: Duration = Duration::from_millis(500);

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
