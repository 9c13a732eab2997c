//! Who attends a conversation: sockets that join and leave it, those who type, those who are there, and what they say of
//! themselves.

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::{Permission, Principal};
use crate::service::authorization::Allowed;
use crate::service::chat::handle::{Chat, NO_CONVERSATION, now, stranger, user};
use crate::service::chat::presence::conversation::MAX_LISTED;
use crate::service::chat::presence::remote::present_there;
use crate::service::chat::sequencer::conversations::{Entered, Live};
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::fault::ServiceError;
use crate::service::rules::commands::attendance::{
    AskPresence, AskStatuses, Join, Joined, Leave, SetStatus, SetTyping, Statuses,
};
use crate::service::rules::content;
use crate::service::rules::emissions::attendance::{Here, Status, UserStatus};
use crate::service::rules::event::Command;
use crate::store::{Committed, Messages, Opening, Page, Pin, Revision, StoreError, Time};
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

/// What is pinned in a conversation, the newest first.
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

/// What a user says of itself, for other services.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundStatus {
    user_id: Arc<str>,
    status: Status,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Arc<str>>,
    /// When it was said; left out if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<Time>,
}

/// Where a user is on one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::service) struct Whereabouts {
    /// Sockets, in conversations or not.
    pub(in crate::service) connections: usize,
    /// The conversations that they are in, in no order.
    pub(in crate::service) conversations: Vec<Uuid>,
}

impl Chat {
    /// Lets a socket into a conversation: from one message on it gets all live, and everything
    /// from `last_seq` up to that one is in the answer. To a socket that was recovered in the conversation that is the message
    /// with which it had joined before its connection broke: it was told, or is told, all later ones live. Its client may not
    /// have known them when it asked, since stock clients send what they have buffered as soon as they are connected.
    pub(crate) async fn join(
        &self,
        allowed: Allowed<Join>,
        socket: &Socket,
    ) -> Result<Joined, ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        let conversations = &self.0.conversations;
        // The pin comes before the store is asked: changes that are committed while it is asked
        // must find the conversation, or the sequencer would not know of them.
        let pin = conversations.pin(id);
        let mut tries = 0;
        // This server may still have to emit what the client has from another one.
        let mut known = command.last_seq;
        let (membership, through) = loop {
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
                if known.is_some_and(|known| live.sequencer.is_behind(known)) {
                    return Ok(None);
                }
                // All that is emitted up to this revision is read from the store, and the rest
                // comes live. The sequencer starts and the socket enters under one lock, so that no
                // step falls between what is read and what comes live.
                let Some(emitted) = live.sequencer.start(membership.revision()) else {
                    return Ok(None);
                };
                let since = self.enter(live, socket, by, emitted.seq)?;
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
            // What the client has seen elsewhere is waited for once; after that the client gets
            // what this server has, so that it is not kept out.
            if known.take().is_some() {
                self.catch_up(id, membership.revision()).await?;
                continue;
            }
            tries += 1;
            if tries >= JOIN_TRIES {
                return Err(ServiceError::Unavailable {
                    retry_after: JOIN_PAUSE,
                });
            }
        };
        // The pin keeps the conversation only until somebody is in it.
        drop(pin);
        // The claims may have changed while the store was asked, when the socket was in no
        // conversation to be taken out of.
        self.reconsider(socket);
        let missed = async {
            match command.last_seq {
                Some(after) if after < through => self.missed(by, id, after, through).await,
                Some(_) | None => Messages::default(),
            }
        };
        // Later pins and read marks come live, since the socket has joined.
        let opening = self.0.store.opening(id, Some(&by.subject));
        // The socket has joined by now. If the client goes away here, its disconnect takes it out.
        let (missed, opening, ()) = tokio::join!(missed, opening, self.meet(id));
        let mut opening = opening.ok().flatten().map(|opening| self.show(opening));
        if let Some(opening) = &mut opening
            && !self.tells_of_readers(id)
        {
            opening.others_read_seq = None;
        }
        // The list is made last: who comes and goes until now is in it, and later comings and goings follow it as events.
        let conversations = &self.0.conversations;
        let users = conversations.with(id, |live| live.presence.list(id).users);
        let users = users.unwrap_or_default();
        // The statuses are asked last, since changes of them come live from now on.
        let members = membership
            .conversation
            .member_ids
            .iter()
            .map(String::as_str);
        let present = users.iter().map(|present| &*present.user.user_id);
        let statuses = self.0.statuses.of(members.chain(present));
        Ok(Joined {
            conversation: membership.conversation,
            users,
            statuses,
            missed,
            opening,
        })
    }

    fn show(&self, opening: Opening) -> Opening {
        let pins = opening.pins.into_iter();
        Opening {
            pins: pins.map(|pin| self.0.rules.show_pin(pin)).collect(),
            ..opening
        }
    }

    /// The pins of a conversation, for other services.
    pub(crate) async fn pins(&self, allowed: Allowed<ReadPins>) -> Result<Pins, ServiceError> {
        let (_, ReadPins { id }) = allowed.into_parts();
        let opening = self.0.store.opening(id, None).await?;
        let Opening { pins, .. } = self.show(opening.ok_or(NO_CONVERSATION)?);
        Ok(Pins { pins })
    }

    /// Waits until everything up to a revision is emitted here that other servers have committed. Nothing
    /// is waited for if nobody else writes into the store. What is not emitted in time, or has no place in a
    /// lane that does not know what its own last changes came to, would come live a second time.
    pub(super) async fn catch_up(&self, id: Uuid, through: Revision) -> Result<(), ServiceError> {
        let emitted = self
            .0
            .store
            .announce(Committed::Announced(id), through, false);
        match tokio::time::timeout(CATCH_UP, emitted).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) if !self.0.store.is_shared() => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ServiceError::Unavailable {
                retry_after: JOIN_PAUSE,
            }),
        }
    }

    /// Lets a socket in that is told live all messages after `since`. Returns since when that is so: one that is in already
    /// stays as it is.
    pub(super) fn enter(
        &self,
        live: &mut Live,
        socket: &Socket,
        by: &Principal,
        since: u64,
    ) -> Result<u64, ServiceError> {
        // The table of sockets comes first: a socket that has gone is not in it, and would stay in
        // the room for ever.
        let entered = Entered { id: live.id, since };
        let Some(since) = self.0.conversations.enter(socket.id(), entered) else {
            return Err(NO_CONVERSATION);
        };
        if socket.join(&live.room).is_err() {
            // Both tables are undone together, or a disconnect would look for the socket where it
            // is not.
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
        // What is due is told at once, since the schedule may run only later and the newcomer would
        // see an old state.
        live.advance(&namespace, now());
        // The first look at a conversation should not wait for the next turn of all conversations.
        if self.0.store.is_shared() && !live.presence.remote().is_known() {
            self.0.conversations.look_soon(live.id);
        }
        Ok(since)
    }

    /// Waits until other servers can see who is here, and it is known who is there, for [`MEETING`] at most.
    ///
    /// A client that is answered without knowing gets `user_joined` later for everyone at other servers.
    async fn meet(&self, id: Uuid) {
        if !self.0.store.is_shared() {
            return;
        }
        let conversations = &self.0.conversations;
        let met = tokio::time::timeout(MEETING, conversations.arrive(id)).await;
        if !matches!(met, Ok(Ok(()))) {
            conversations.with(id, |live| live.presence.announce_unknown());
            conversations.look_soon(id);
        }
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
    pub(crate) async fn leave(
        &self,
        allowed: Allowed<Leave>,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        // A member that is not here has nothing to leave, and a stranger learns no more than of an
        // unknown conversation.
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
            // it sees nothing that is behind its leaving.
            socket.leave(&live.room);
            self.0.conversations.exit(socket.id(), id);
            live.depart(&socket.namespace(), now(), socket.id(), &user(by), true);
        });
    }

    /// Shows to the others that somebody types, or has stopped.
    pub(crate) async fn set_typing(
        &self,
        allowed: Allowed<SetTyping>,
        socket: &Socket,
    ) -> Result<(), ServiceError> {
        let (by, command) = allowed.into_parts();
        let (by, id) = (&*by, command.conversation_id);
        // Being here proves membership without asking the store, which typing would ask far too
        // often.
        if !self.is_here(socket, by, id) {
            self.require_member(by, id).await?;
        }
        let user = user(by);
        let shown = self.0.conversations.with(id, |live| {
            let tell = if command.is_typing {
                live.typing.start(now(), &user, Some(socket.id()))
            } else {
                live.typing.stop(&user.user_id).is_some()
            };
            if tell {
                let namespace = socket.namespace();
                live.tell_typing(&namespace, &user, command.is_typing, Some(socket.id()));
                live.announce_typing(&user, command.is_typing);
            }
        });
        if shown.is_none() {
            // With nobody here, others may be at other servers.
            let common = self.0.conversations.common();
            common.announce_typing(id, &user, command.is_typing);
        }
        Ok(())
    }

    /// Who is in a conversation.
    pub(crate) async fn presence(
        &self,
        allowed: Allowed<AskPresence>,
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
            None => Ok(self.here_elsewhere(id).await?),
        }
    }

    /// Reads who is in a conversation at other servers, where no user is in it at this one.
    async fn here_elsewhere(&self, id: Uuid) -> Result<Here, StoreError> {
        let mut here = Here::nobody(id);
        let Some(leases) = self.0.store.leases() else {
            return Ok(here);
        };
        // No server has this id, so that the rows of all are read. Those of this one are about users that have just left.
        let rows = leases.remote_presence(Uuid::nil(), &[id]).await?;
        let present = rows.iter().filter(|row| row.connections > 0);
        here.count = present.clone().count();
        here.users = present.take(MAX_LISTED).map(present_there).collect();
        Ok(here)
    }

    /// Says something of oneself, which all are told who share a conversation.
    pub(crate) async fn set_status(
        &self,
        allowed: Allowed<SetStatus>,
        from: Option<SocketId>,
    ) -> Result<UserStatus, ServiceError> {
        let (by, SetStatus { status, text }) = allowed.into_parts();
        if let Some(text) = &text {
            content::check_status_text(text)?;
        }
        let text = text.map(Arc::from);
        self.0.statuses.say(&by.subject, status, text, from).await
    }

    /// What those of a conversation say of themselves.
    pub(crate) async fn statuses(
        &self,
        allowed: Allowed<AskStatuses>,
    ) -> Result<Statuses, ServiceError> {
        let (by, AskStatuses { conversation_id }) = allowed.into_parts();
        let membership = self.0.store.membership(conversation_id, &by.subject);
        let membership = membership
            .await?
            .ok_or_else(|| stranger(&by, conversation_id))?;
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
            statuses: self.0.statuses.of(members.chain(present)),
        })
    }

    /// What a user says, if there is something.
    pub(crate) fn status_of(&self, user: &str) -> Option<UserStatus> {
        self.0.statuses.get(user)
    }

    /// What a user says, for other services.
    pub(crate) fn found_status(
        &self,
        allowed: Allowed<ReadStatus>,
    ) -> Result<FoundStatus, ServiceError> {
        let (_, ReadStatus { user }) = allowed.into_parts();
        content::check_user_id("userId", &user)?;
        let said = self.status_of(&user);
        Ok(FoundStatus {
            user_id: user.into(),
            status: said.as_ref().map(|said| said.status).unwrap_or_default(),
            timestamp: said.as_ref().map(|said| said.timestamp),
            text: said.and_then(|said| said.text),
        })
    }

    /// Reads what users have said before the server was started.
    pub(crate) async fn open_statuses(&self, io: &Io) {
        if let Some(values) = io.values() {
            self.0.statuses.open(&values).await;
        }
    }

    /// Tells what users say of themselves, here and at other servers; for ever.
    pub(crate) async fn keep_statuses(self, namespace: Namespace) {
        let announcer = self.0.conversations.announcer().cloned();
        let keeping = self.0.statuses.keep(&namespace, &self.0.store, announcer);
        keeping.await;
    }

    /// Who is in a conversation, for other services. Where nobody is, the store says whether there is such a conversation, as far as
    /// it can be asked.
    pub(crate) async fn who_is_in(&self, allowed: Allowed<WhoIsIn>) -> Result<Here, ServiceError> {
        let (_, WhoIsIn { id }) = allowed.into_parts();
        let here = self.0.conversations.with(id, |live| live.presence.here(id));
        if let Some(here) = here {
            return Ok(here);
        }
        match self.0.store.conversation(id).await {
            Ok(None) => Err(NO_CONVERSATION),
            Ok(Some(_)) => {
                let there = self.here_elsewhere(id).await;
                Ok(there.unwrap_or_else(|_| Here::nobody(id)))
            }
            Err(_) => Ok(Here::nobody(id)),
        }
    }

    /// Where a user is on this server.
    pub(in crate::service) async fn where_here(&self, io: &Io, user: &str) -> Whereabouts {
        let sockets = io.of("/").local().in_(user_room(user)).sockets().await;
        let ids = sockets.iter().map(Socket::id);
        Whereabouts {
            connections: sockets.len(),
            conversations: self.0.conversations.of_sockets(ids).into_iter().collect(),
        }
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

/// How often a socket that joins asks whether it is a member, if others are being removed meanwhile.
const JOIN_TRIES: u32 = 8;
const JOIN_PAUSE: Duration = Duration::from_millis(500);

/// How long a client that joins waits until it is known who is at other servers.
const MEETING: Duration = Duration::from_secs(2);

/// How long a client that joins waits for what it has seen at another server to be emitted at this one.
const CATCH_UP: Duration = Duration::from_secs(5);
