//! Attendance of conversations: joining, leaving, typing, presence and user statuses.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, hidden_conversation, now, user};
use crate::service::chat::messages::streams::enter_held;
use crate::service::chat::presence::conversation::MAX_LISTED;
use crate::service::chat::presence::remote::remote_present;
use crate::service::chat::sequencer::conversations::{Entered, LiveConversation};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::chat::servers::{retention, statuses_of};
use crate::service::fault::ServiceError;
use crate::service::rules::commands::attendance::{
    GetPresence, GetStatuses, Join, Joined, Leave, SetStatus, SetTyping, Statuses,
};
use crate::service::rules::commands::streams::Held;
use crate::service::rules::content;
use crate::service::rules::emissions::attendance::{Here, Status, UserStatus};
use crate::service::rules::event::Command;
use crate::store::{
    Committed, Messages, NewStatus, Opening, Page, Pin, Revision, StoreError, Time,
};
use roomcast::{Io, Namespace, Socket, SocketId};

/// `GET /api/v1/conversations/{id}/presence`
#[derive(Debug)]
pub(crate) struct WhoIsIn {
    pub(crate) id: Uuid,
}

impl Command for WhoIsIn {
    const PERMISSION: Option<Permission> = Some(Permission::ApiPresence);
}

/// `GET /api/v1/conversations/{id}/pins`
#[derive(Debug)]
pub(crate) struct ReadPins {
    pub(crate) id: Uuid,
}

impl Command for ReadPins {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMessages);
}

/// The pinned messages of a conversation, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Pins {
    pins: Vec<Pin>,
}

/// `GET /api/v1/users/{id}/status`
#[derive(Debug)]
pub(crate) struct ReadStatus {
    pub(crate) user: String,
}

impl Command for ReadStatus {
    const PERMISSION: Option<Permission> = Some(Permission::ApiPresence);
}

/// The status that a user has set, for other services.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundStatus {
    user_id: Arc<str>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Arc<str>>,
    /// When the user set the status. Omitted if the user has set none.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Time>,
}

/// The sockets and conversations of a user on one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::service) struct UserLocations {
    /// The number of sockets, whether in a conversation or not.
    pub(in crate::service) connections: usize,
    /// The conversations that these sockets are in, in no particular order.
    pub(in crate::service) conversations: Vec<Uuid>,
}

impl Chat {
    /// Adds a socket to a conversation and returns the messages that it has missed.
    ///
    /// The socket receives all messages after a certain one live. The answer contains those from
    /// `last_seq` up to that message.
    ///
    /// For a socket that was recovered in the conversation, the boundary is the one of its first
    /// join: it has received all later messages live, or will receive them. Its client may not have
    /// known them when it sent the request, since stock clients send buffered events as soon as
    /// they are connected.
    pub(crate) async fn join(
        &self,
        allowed: Allowed<Join>,
        socket: &Socket,
    ) -> Result<Held<Joined>, ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        let conversations = &self.0.conversations;
        // The pin comes before the query: changes committed while the store is queried must find
        // the conversation, or the sequencer would miss them.
        let pin = conversations.pin(id);
        let mut tries = 0;
        // This server may not yet have emitted messages that the client received from another
        // server.
        let mut known = command.last_seq;
        let (membership, through) = loop {
            let membership = self
                .0
                .store
                .membership(id, &by.subject)
                .await?
                .ok_or_else(|| hidden_conversation(by, id))?;
            let entered = conversations.with(id, |live| {
                // If the user was removed after the query, nothing would remove the socket again.
                if live.removed_at > membership.changes {
                    return Ok(None);
                }
                if known.is_some_and(|known| live.sequencer.is_lagging(known)) {
                    return Ok(None);
                }
                // All steps up to this revision are read from the store, and later steps arrive
                // live. The sequencer starts and the socket enters under one lock, so no step is
                // lost in between.
                let Some(emitted) = live.sequencer.start(membership.revision()) else {
                    return Ok(None);
                };
                let since = enter_held(live, socket, emitted.seq, |live| {
                    self.enter(live, socket, by, emitted.seq)
                })?;
                live.note_member(&by.subject, membership.changes);
                let through = if socket.recovered() {
                    since.min(emitted.seq)
                } else {
                    emitted.seq
                };
                Ok(Some(through))
            });
            if let Some(through) = entered.unwrap_or(Err(NO_CONVERSATION))? {
                break (membership, through);
            }
            // The server waits once for messages that the client has from another server. After
            // that the client gets what this server has, so that the wait cannot block the join
            // forever.
            if known.take().is_some() {
                self.catch_up(id, membership.revision()).await?;
                continue;
            }
            tries += 1;
            if tries >= JOIN_TRIES {
                return Err(ServiceError::unavailable(JOIN_DELAY));
            }
        };
        // Growing texts wait until the answer with their beginnings is queued.
        let reader = self.held(id, socket);
        // The pin retains the conversation only until a socket has joined.
        drop(pin);
        // The claims may have changed during the query, while the socket was in no conversation
        // that it could be removed from.
        self.recheck_permissions(socket);
        let missed = async {
            match command.last_seq {
                Some(after) if after < through => self.missed(by, id, after, through).await,
                Some(_) | None => Messages::default(),
            }
        };
        // Later pins and read marks arrive live, since the socket has joined.
        let opening = self.0.store.opening(id, Some(&by.subject));
        // The socket has joined by now. If the client disconnects here, the disconnect removes it.
        let streaming = self.streaming(by, id);
        let (mut missed, opening, streaming, ()) =
            tokio::join!(missed, opening, streaming, self.await_presence(id));
        // The socket has joined, so a failing store is no reason to reject the join.
        // Texts that its answer lacks are sent after another answer has them.
        let (mut streaming, is_complete) = streaming.unwrap_or_default();
        reader.fit(missed.messages.iter_mut().chain(&mut streaming));
        if is_complete {
            reader.admit();
        }
        let mut opening = opening.ok().flatten().map(|opening| self.show(opening));
        if let Some(opening) = &mut opening
            && !self.emits_read_marks(id)
        {
            opening.others_read_seq = None;
        }
        // The list is built last and reflects all users until now. Later changes follow as events.
        let conversations = &self.0.conversations;
        let users = conversations.with(id, |live| live.presence.list(id).users);
        let users = users.unwrap_or_default();
        // The statuses are read last, since later changes to them arrive live. The socket has
        // joined, so a failure is no reason to reject the join.
        let members = membership
            .conversation
            .member_ids
            .iter()
            .map(String::as_str);
        let present = users.iter().map(|present| &*present.user.user_id);
        let statuses = statuses_of(&self.0.store, members.chain(present)).await;
        let answer = Joined {
            conversation: membership.conversation,
            users,
            statuses: statuses.unwrap_or_default(),
            missed,
            opening,
            streaming,
        };
        Ok(Held {
            answer,
            held: Some(Box::new(reader)),
        })
    }

    fn show(&self, opening: Opening) -> Opening {
        let pins = opening.pins.into_iter();
        Opening {
            pins: pins.map(|pin| self.0.rules.show_pin(pin)).collect(),
            ..opening
        }
    }

    /// Returns the pinned messages of a conversation, for other services.
    pub(crate) async fn pins(&self, allowed: Allowed<ReadPins>) -> Result<Pins, ServiceError> {
        let (_, ReadPins { id }) = allowed.into_parts();
        let opening = self.0.store.opening(id, None).await?;
        let Opening { pins, .. } = self.show(opening.ok_or(NO_CONVERSATION)?);
        Ok(Pins { pins })
    }

    /// Waits until this server has emitted the commits of other servers up to a revision.
    ///
    /// Does not wait if no other server writes to the store. Fails if the steps are not emitted
    /// within [`CATCH_UP`], or if a write worker with a commit in doubt has no room for them: they
    /// would be emitted live a second time.
    pub(super) async fn catch_up(&self, id: Uuid, through: Revision) -> Result<(), ServiceError> {
        let emitted = self
            .0
            .store
            .announce(Committed::Announced(id), through, false);
        match timeout(CATCH_UP, emitted).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if !self.0.store.is_shared() => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ServiceError::unavailable(JOIN_DELAY)),
        }
    }

    /// Adds a socket that receives all messages after `since` live.
    ///
    /// Returns the `since` that applies. A socket that is already in the conversation keeps its
    /// earlier one.
    pub(super) fn enter(
        &self,
        live: &mut LiveConversation,
        socket: &Socket,
        by: &Principal,
        since: u64,
    ) -> Result<u64, ServiceError> {
        // The table of sockets comes first: a disconnected socket is not in it, and would stay in
        // the room forever.
        let entered = Entered { id: live.id, since };
        let Some(since) = self.0.conversations.enter(&socket.id(), entered) else {
            return Err(NO_CONVERSATION);
        };
        if socket.join(&live.room).is_err() {
            // Both tables are undone together. Otherwise a disconnect would look for the socket in
            // a conversation that it is not in.
            self.0.conversations.exit(&socket.id(), live.id);
            return Err(ServiceError::Conflict(
                "this connection is in too many conversations",
            ));
        }
        let namespace = socket.namespace();
        if let Some(notice) = live
            .presence
            .join(now(), socket.id(), &user(by), Time::now())
        {
            live.emit_notice(&namespace, notice);
        }
        let tempo = live.common.streams;
        live.streams.recover(&socket.id());
        live.streams.resume(&socket.id(), tempo, now());
        // Due notices are sent now. The schedule may run later, and the new socket would see an
        // outdated state.
        live.advance(&namespace, now());
        // The first lookup of a conversation's remote users does not wait for the periodic one.
        if self.0.store.is_shared() && !live.presence.remote().is_known() {
            self.0.conversations.request_lookup(live.id);
        }
        Ok(since)
    }

    /// Waits until other servers see this server's users and this server knows theirs.
    ///
    /// Waits for at most [`PRESENCE_TIMEOUT`]. After a timeout, the client receives `user_joined`
    /// later for each user on another server.
    async fn await_presence(&self, id: Uuid) {
        if !self.0.store.is_shared() {
            return;
        }
        let conversations = &self.0.conversations;
        let met = timeout(PRESENCE_TIMEOUT, conversations.arrive(id)).await;
        if !matches!(met, Ok(Ok(()))) {
            conversations.with(id, |live| live.presence.announce_unknown());
            conversations.request_lookup(id);
        }
    }

    /// Returns the messages emitted before the socket joined.
    ///
    /// The socket has joined by now, so a failing store is no reason to reject the join. The answer
    /// then reports that more messages exist, and the client requests them.
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

    /// Removes a socket from a conversation.
    pub(crate) async fn leave(
        &self,
        allowed: Allowed<Leave>,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        // A member that has not joined has nothing to leave. For a non-member the answer is the
        // same as for an unknown conversation.
        if !self.is_here(socket, by, id) {
            return self.require_member(by, id).await;
        }
        self.depart(socket, by, id);
        Ok(())
    }

    /// Removes a socket from all conversations if its user's current claims no longer permit
    /// joining.
    pub(crate) fn recheck_permissions(&self, socket: &Socket) {
        let by = &socket.principal();
        let is_allowed =
            Join::PERMISSION.is_none_or(|permission| self.0.access.allows(by, permission));
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
            // The socket leaves the room and the tables under the lock of the conversation, so that
            // it receives nothing after it has left.
            socket.leave(&live.room);
            self.0.conversations.exit(&socket.id(), id);
            live.depart(&socket.namespace(), now(), &socket.id(), &user(by), true);
        });
    }

    /// Emits that a user types or has stopped typing.
    pub(crate) async fn set_typing(
        &self,
        allowed: Allowed<SetTyping>,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        // A joined socket proves membership without a query, which typing would cause far too
        // often.
        if !self.is_here(socket, by, id) {
            self.require_member(by, id).await?;
        }
        let user = user(by);
        let shown = self.0.conversations.with(id, |live| {
            let must_announce = if command.is_typing {
                live.typing.start(now(), &user, Some(socket.id()))
            } else {
                live.typing.stop(&user.user_id).is_some()
            };
            if must_announce {
                let namespace = socket.namespace();
                live.emit_typing(&namespace, &user, command.is_typing, Some(socket.id()));
                live.announce_typing(&user, command.is_typing);
            }
        });
        if shown.is_none() {
            // No user of this server is in the conversation, but users of other servers may be.
            let common = self.0.conversations.common();
            common.announce_typing(id, &user, command.is_typing);
        }
        Ok(())
    }

    /// Returns the users in a conversation.
    pub(crate) async fn presence(
        &self,
        allowed: Allowed<GetPresence>,
        socket: &Socket,
    ) -> Result<Here, ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        if !self.is_here(socket, by, id) {
            self.require_member(by, id).await?;
        }
        let here = self.0.conversations.with(id, |live| live.presence.here(id));
        match here {
            Some(here) => Ok(here),
            None => Ok(self.remote_users(id).await?),
        }
    }

    /// Reads the users that other servers have in a conversation, if this server has none in it.
    async fn remote_users(&self, id: Uuid) -> Result<Here, StoreError> {
        let mut here = Here::empty(id);
        let Some(leases) = self.0.store.leases() else {
            return Ok(here);
        };
        // No server has the nil id, so the rows of all servers are read. Rows of this server belong
        // to users that have just left.
        let rows = leases.remote_presence(Uuid::nil(), &[id]).await?;
        let present = rows.iter().filter(|row| row.connections > 0);
        here.count = present.clone().count();
        here.users = present.take(MAX_LISTED).map(remote_present).collect();
        Ok(here)
    }

    /// Sets the user's status, which is emitted to all users who share a conversation with the
    /// user.
    pub(crate) async fn set_status(
        &self,
        allowed: Allowed<SetStatus>,
        namespace: &Namespace,
        from: Option<SocketId>,
    ) -> Result<UserStatus, ServiceError> {
        let (by, SetStatus { status, text }) = allowed.into_parts();
        if let Some(text) = &text {
            content::check_status_text(text)?;
        }
        let mut new = NewStatus {
            user_id: by.subject.as_str().into(),
            status,
            text: text.map(Arc::from),
            retention: Duration::ZERO,
        };
        new.retention = retention(&by.subject, new.is_default());
        let Self(inner) = self;
        inner.statuses.set(namespace, &inner.store, new, from).await
    }

    /// Removes the status of a user. Returns whether there was one.
    pub(in crate::service) async fn erase_status(
        &self,
        namespace: &Namespace,
        user: &str,
    ) -> Result<bool, ServiceError> {
        let Self(inner) = self;
        inner.statuses.remove(namespace, &inner.store, user).await
    }

    /// Returns the statuses of the users and members of a conversation.
    pub(crate) async fn statuses(
        &self,
        allowed: Allowed<GetStatuses>,
    ) -> Result<Statuses, ServiceError> {
        let (by, GetStatuses { conversation_id }) = allowed.into_parts();
        let membership = self.0.store.membership(conversation_id, &by.subject);
        let membership = membership
            .await?
            .ok_or_else(|| hidden_conversation(&by, conversation_id))?;
        let conversations = &self.0.conversations;
        let here = conversations.with(conversation_id, |live| live.presence.here(conversation_id));
        let here = here.map_or_else(Vec::new, |here| here.users);
        let members = membership
            .conversation
            .member_ids
            .iter()
            .map(String::as_str);
        let present = here.iter().map(|present| &*present.user.user_id);
        Ok(Statuses {
            conversation_id,
            statuses: statuses_of(&self.0.store, members.chain(present)).await?,
        })
    }

    /// Returns the status of a user, if the user has set one.
    async fn status_of(&self, user: &str) -> Result<Option<UserStatus>, StoreError> {
        let statuses = statuses_of(&self.0.store, [user]).await?;
        Ok(statuses.into_iter().next())
    }

    /// Returns the status of a user who connects. If the store does not answer soon, the user
    /// connects without it.
    pub(crate) async fn status_at_connect(&self, user: &str) -> Option<UserStatus> {
        let status = timeout(CONNECT_TIMEOUT, self.status_of(user)).await;
        status.ok()?.ok()?
    }

    /// Returns the status of a user, for other services.
    pub(crate) async fn found_status(
        &self,
        allowed: Allowed<ReadStatus>,
    ) -> Result<FoundStatus, ServiceError> {
        let (_, ReadStatus { user }) = allowed.into_parts();
        content::check_user_id("userId", &user)?;
        let status = self.status_of(&user).await?;
        Ok(FoundStatus {
            user_id: user.into(),
            status: status
                .as_ref()
                .map(|status| status.status)
                .unwrap_or_default(),
            timestamp: status.as_ref().map(|status| status.timestamp),
            text: status.and_then(|status| status.text),
        })
    }

    /// Returns the users in a conversation, for other services.
    ///
    /// If none is in it on this server, the store decides whether the conversation exists. If the
    /// store fails, the list is empty.
    pub(crate) async fn who_is_in(&self, allowed: Allowed<WhoIsIn>) -> Result<Here, ServiceError> {
        let (_, WhoIsIn { id }) = allowed.into_parts();
        let here = self.0.conversations.with(id, |live| live.presence.here(id));
        if let Some(here) = here {
            return Ok(here);
        }
        match self.0.store.conversation(id).await {
            Ok(None) => Err(NO_CONVERSATION),
            Ok(Some(_)) => {
                let there = self.remote_users(id).await;
                Ok(there.unwrap_or_else(|_| Here::empty(id)))
            }
            Err(_) => Ok(Here::empty(id)),
        }
    }

    /// Returns the sockets and conversations of a user on this server.
    pub(in crate::service) fn local_locations(&self, io: &Io, user: &str) -> UserLocations {
        let sockets = io.of("/").local().in_(user_room(user)).sockets();
        let ids = sockets.iter().map(Socket::id);
        UserLocations {
            connections: sockets.len(),
            conversations: self.0.conversations.of_sockets(ids).into_iter().collect(),
        }
    }

    fn is_here(&self, socket: &Socket, by: &Principal, id: Uuid) -> bool {
        let here = self
            .0
            .conversations
            .with(id, |live| live.presence.has(&socket.id(), &by.subject));
        here.unwrap_or(false)
    }

    async fn require_member(&self, by: &Principal, id: Uuid) -> Result<(), ServiceError> {
        if self.0.store.is_member(id, &by.subject).await? {
            Ok(())
        } else {
            Err(hidden_conversation(by, id))
        }
    }
}

/// The number of attempts to join if members are being removed at the same time.
const JOIN_TRIES: u32 = 8;
/// The delay after which a client whose join failed may retry.
const JOIN_DELAY: Duration = Duration::from_millis(500);

/// The timeout for reading the status of a user who connects.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The timeout for a joining client to learn which users are on other servers.
const PRESENCE_TIMEOUT: Duration = Duration::from_secs(2);

/// The timeout for this server to emit the messages that a joining client has from another server.
const CATCH_UP: Duration = Duration::from_secs(5);
