//! Emits events to the clients in a conversation.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::trace::TraceContext;
use crate::metrics::{Counter, Metrics, Timing};
use crate::service::chat::presence::conversation::Notice;
use crate::service::chat::sequencer::closing::emit_deleted;
use crate::service::chat::sequencer::confirming::{PendingConfirmation, report};
use crate::service::chat::sequencer::conversations::{LiveConversation, SharedContext, room_of};
use crate::service::chat::sequencer::growing::Readers;
use crate::service::chat::sequencer::traced;
use crate::service::rules::emissions::attendance::{
    Kind, PRESENCE, System, TYPING, Typing, USER_DISCONNECTED, USER_JOINED, USER_LEFT, User,
};
use crate::service::rules::emissions::conversations::{CONVERSATION_UPDATED, Updated};
use crate::service::rules::emissions::messages::{
    Deleted, MESSAGE, MESSAGE_DELETED, MESSAGE_EDITED, MESSAGE_PINNED, MESSAGE_REACTION,
    MESSAGE_UNPINNED,
};
use crate::service::rules::rooms::{RoomKind, room_named};
use crate::store::{Annotated, Commit, Committed, Conversation, Message, Revision, Time};
use roomcast::{Broadcast, Namespace, Room, SocketId, broadcast::Emitted};

impl LiveConversation {
    /// Emits a commit to the joined sockets except the sender. With `confirm`, also requests
    /// confirmations.
    pub(super) fn show(
        &mut self,
        namespace: &Namespace,
        revision: Revision,
        event: &Committed,
        from: Option<SocketId>,
        confirm: Option<Duration>,
        trace: Option<TraceContext>,
    ) -> Option<PendingConfirmation> {
        // Records the change, so that the feed does not notify the members again later.
        self.common.is_news(event, revision);
        let span = traced::start_emission(&self.common.traces, event, revision, trace);
        let mut emitted = Emitted::default();
        let mut pending = None;
        if let Some(recorded) = &mut self.recorded
            && !recorded.note(revision, event)
        {
            self.recorded = None;
        }
        match event {
            Committed::Message(message) => {
                tracing::debug!(
                    message_id = %message.id,
                    conversation = %message.conversation_id,
                    seq = message.seq,
                    "message emitted"
                );
                let opened = message.streaming.then(|| {
                    let now = tokio::time::Instant::now().into_std();
                    self.streams.open(message, now)
                });
                let message = opened.as_ref().unwrap_or(message);
                (emitted, pending) = self.emit_message(namespace, message, from.clone(), confirm);
                self.note_emitted(namespace, (event, revision, trace), from, &emitted);
            }
            Committed::Edited(_) | Committed::Deleted { .. } | Committed::Annotated(_) => {
                if let Committed::Edited(message) | Committed::Deleted { message, .. } = event {
                    self.streams.end(message);
                }
                emitted = emit_step(self.audience(namespace, from.clone()), event);
                self.note_emitted(namespace, (event, revision, trace), from, &emitted);
            }
            Committed::Renamed(conversation) => {
                if revision.changes > self.reloaded_at {
                    emit_to_members(self.audience(namespace, from), conversation);
                }
            }
            Committed::Members {
                conversation,
                user_id,
                removed,
            } => {
                // An added or removed user is notified in all tabs, also in those that have not
                // joined.
                if revision.changes > self.reloaded_at {
                    let here = self.audience(namespace, from);
                    emit_updated(here.to(user_room(user_id)), conversation);
                } else {
                    emit_updated(namespace.local().to(user_room(user_id)), conversation);
                }
                // A removed user who is a member again is notified too, but expelled only if the
                // sockets have already been removed.
                let is_out =
                    !conversation.member_ids.contains(user_id) || self.presence.is_evicted(user_id);
                if *removed && is_out {
                    self.expel(namespace, user_id, revision.changes);
                } else if !is_out {
                    self.streams.unmute(user_id);
                }
            }
            Committed::ConversationDeleted {
                deleted,
                member_ids,
            } => {
                emit_deleted(self.audience(namespace, from), deleted, member_ids);
                self.close(namespace, revision.changes);
            }
            // The earlier message was already emitted.
            Committed::Repeated(_) => {}
            // It only says that another server committed. All changes up to it have been emitted.
            Committed::Announced(_) => {}
        }
        if let Some(span) = span {
            traced::end_emission(span, &emitted);
        }
        pending
    }

    /// Emits a message to all joined sockets except the sender. With a `timeout`, each of them is
    /// asked to confirm it.
    fn emit_message(
        &self,
        namespace: &Namespace,
        message: &Message,
        from: Option<SocketId>,
        timeout: Option<Duration>,
    ) -> (Emitted, Option<PendingConfirmation>) {
        let to = self.audience(namespace, from);
        let Some(timeout) = timeout else {
            return (MESSAGE.emit(to, message), None);
        };
        // Waiting for confirmations takes memory for each socket, so each needs a permit.
        let receivers = u32::try_from(self.presence.connections()).unwrap_or(u32::MAX);
        let confirmations = Arc::clone(&self.common.confirmations);
        if !self.common.has_recovery
            // The message never waits for permits: it must be emitted in order, confirmed or not.
            && let Ok(permits) = confirmations.try_acquire_many_owned(receivers)
        {
            let acks = MESSAGE.emit_with_acks(&to.clone().timeout(timeout), message);
            if acks.error().is_none() {
                let expected = acks.expected();
                let mut outcome = Emitted::default();
                outcome.queued = expected;
                let pending = PendingConfirmation::Confirming {
                    expected,
                    acks,
                    _permits: permits,
                };
                return (outcome, Some(pending));
            }
        }
        // Either too many confirmations are outstanding, or recoverable clients would miss the
        // message. It is emitted without requesting confirmations.
        let metrics = &self.common.metrics;
        metrics.count(Counter::ConfirmationsSkipped);
        let outcome = MESSAGE.emit(to, message);
        let expected = outcome.queued;
        (outcome, Some(PendingConfirmation::Skipped { expected }))
    }

    /// Records an emitted step for tracers.
    fn note_emitted(
        &self,
        namespace: &Namespace,
        step: (&Committed, Revision, Option<TraceContext>),
        from: Option<SocketId>,
        outcome: &Emitted,
    ) {
        let to = || traced::recipients(&self.audience(namespace, from));
        traced::emitted(&self.common.traces, to, step, outcome);
    }

    /// Removes a socket. If it was the user's last, announces the departure.
    ///
    /// A deliberate departure is announced immediately, a lost connection after the grace period.
    pub(in crate::service) fn depart(
        &mut self,
        namespace: &Namespace,
        now: Instant,
        socket: &SocketId,
        user: &User,
        deliberate: bool,
    ) {
        let recoverable_until = self.recoverable_until.filter(|_| !deliberate);
        self.streams.depart(socket, recoverable_until);
        let notice = if deliberate {
            self.presence.leave(now, socket, &user.user_id)
        } else {
            self.presence.lose(now, socket, &user.user_id);
            None
        };
        // A user may type in one tab and close another.
        if !self.presence.is_connected(&user.user_id)
            && let Some(typist) = self.typing.stop(&user.user_id)
        {
            self.emit_typing(namespace, &typist, false, None);
            self.announce_typing(&typist, false);
        }
        if let Some(notice) = notice {
            self.emit_notice(namespace, notice);
        }
        self.advance(namespace, now);
    }

    /// Removes all sockets of a user who is no member after this number of changes, and announces
    /// the departure.
    pub(super) fn expel(&mut self, namespace: &Namespace, user: &str, changes: u64) {
        let now = tokio::time::Instant::now().into_std();
        // Set first: a join that read the membership before this change detects it under this lock,
        // and reads again.
        self.removed_at = changes.max(self.removed_at);
        self.leaving.remove(user);
        self.streams.mute(user);
        if let Some(typist) = self.typing.stop(user) {
            self.emit_typing(namespace, &typist, false, None);
        }
        // Recoverable sockets leave as well. Otherwise they would receive the missed steps after
        // recovery.
        let own = namespace.local().in_(user_room(user));
        // The sockets leave the room here, after the last step that they may receive and before the
        // next.
        own.leave(&self.room);
        if let Some((sockets, notice)) = self.presence.expel(now, user) {
            for socket in &sockets {
                self.streams.depart(socket, None);
            }
            self.expelled.extend(sockets);
            if let Some(notice) = notice {
                self.emit_notice(namespace, notice);
            }
            self.advance(namespace, now);
        }
    }

    /// Sends the text of a message that is being written, as soon as the interval permits.
    pub(in crate::service) fn grow_text(&mut self, namespace: &Namespace, seq: u64, now: Instant) {
        let readers = Readers {
            namespace,
            room: &self.room,
            conversation_id: self.id,
        };
        self.streams.grow(&readers, seq, self.common.streams, now);
    }

    /// Emits everything that is due by now.
    pub(in crate::service) fn advance(&mut self, namespace: &Namespace, now: Instant) {
        self.evict_due(namespace, now);
        while let Some(notice) = self.presence.handle_timeout(now) {
            self.emit_notice(namespace, notice);
        }
        while let Some((user, socket)) = self.typing.handle_timeout(now) {
            self.emit_typing(namespace, &user, false, socket.clone());
            if socket.is_some() {
                self.announce_typing(&user, false);
            }
        }
        let readers = Readers {
            namespace,
            room: &self.room,
            conversation_id: self.id,
        };
        self.streams.advance(&readers, self.common.streams, now);
        self.early_confirmations.handle_timeout(now);
        self.recoverable_until = self.recoverable_until.filter(|until| *until > now);
    }

    /// Emits a presence change to all joined sockets except those of the user it is about.
    pub(in crate::service) fn emit_notice(&self, namespace: &Namespace, notice: Notice) {
        let sockets = self.audience(namespace, None);
        let (event, user) = match notice {
            Notice::Joined(user) => (&USER_JOINED, user),
            Notice::Left(user) => (&USER_LEFT, user),
            Notice::Disconnected(user) => (&USER_DISCONNECTED, user),
            Notice::List => {
                PRESENCE.emit(sockets, &self.presence.list(self.id));
                return;
            }
        };
        // The user's own sockets, in all tabs, need no notice.
        let own = self.presence.sockets_of(&user.user_id);
        let sockets = own.iter().fold(sockets, |sockets, own| sockets.except(own));
        let system = System {
            kind: Kind::System,
            conversation_id: self.id,
            user,
            timestamp: Time::now(),
        };
        event.emit(sockets, &system);
    }

    /// Emits that a user types or has stopped. Slow clients may miss it.
    pub(in crate::service) fn emit_typing(
        &self,
        namespace: &Namespace,
        user: &User,
        is_typing: bool,
        except: Option<SocketId>,
    ) {
        let typing = Typing {
            conversation_id: self.id,
            user: user.clone(),
            is_typing,
            timestamp: Time::now(),
        };
        TYPING.emit(self.audience(namespace, except), &typing);
    }

    /// Announces to other servers that a user types here or has stopped.
    pub(in crate::service) fn announce_typing(&self, user: &User, is_typing: bool) {
        self.common.announce_typing(self.id, user, is_typing);
    }

    /// Emits that a user of another server types or has stopped.
    pub(in crate::service) fn receive_typing(
        &mut self,
        namespace: &Namespace,
        now: Instant,
        user: &User,
        is_typing: bool,
    ) {
        let is_news = if is_typing {
            self.typing.start(now, user, None)
        } else {
            self.typing.stop(&user.user_id).is_some()
        };
        if is_news {
            self.emit_typing(namespace, user, is_typing, None);
        }
    }

    /// Returns the broadcast to this server's joined sockets. Every server emits stored steps
    /// itself.
    pub(super) fn audience(
        &self,
        namespace: &Namespace,
        except: Option<SocketId>,
    ) -> Broadcast<'_> {
        // The broadcast is local. Through the adapter each step would arrive twice, and in the
        // order of its sender instead of the order of the store.
        let all = namespace.local().to(&self.room);
        match except {
            Some(socket) => all.except(socket),
            None => all,
        }
    }
}

/// Emits a step to the given sockets only, not to other users that it concerns.
pub(in crate::service) fn emit_step(to: Broadcast<'_>, event: &Committed) -> Emitted {
    match event {
        Committed::Message(message) => MESSAGE.emit(to, message),
        Committed::Edited(message) => MESSAGE_EDITED.emit(to, message),
        Committed::Deleted { message, by } => {
            let deleted = Deleted {
                conversation_id: message.conversation_id,
                message_id: message.id,
                seq: message.seq,
                deleted_at: message.deleted_at,
                deleted_by: by,
            };
            MESSAGE_DELETED.emit(to, &deleted)
        }
        Committed::Annotated(annotated) => match &**annotated {
            Annotated::Reaction(reacted) => MESSAGE_REACTION.emit(to, reacted),
            Annotated::Pinned(pinned) => MESSAGE_PINNED.emit(to, pinned),
            Annotated::Unpinned(unpinned) => MESSAGE_UNPINNED.emit(to, unpinned),
        },
        Committed::Renamed(conversation) | Committed::Members { conversation, .. } => {
            emit_updated(to, conversation);
            Emitted::default()
        }
        Committed::ConversationDeleted { deleted, .. } => {
            emit_deleted(to, deleted, &[]);
            Emitted::default()
        }
        // The message was emitted before, and an announcement has no content.
        Committed::Repeated(_) | Committed::Announced(_) => Emitted::default(),
    }
}

/// Answers the sender of a commit in a conversation that no socket has joined.
pub(in crate::service) fn unseen(namespace: &Namespace, common: &SharedContext, commit: Commit) {
    traced::unseen(&common.traces, &commit);
    if common.is_news(commit.event(), commit.revision()) {
        notify_unjoined(namespace, commit.event(), sender(&commit));
    }
    answer(namespace, common, commit, None);
}

/// Answers the sender of a commit, and reports confirmations if they were requested.
pub(super) fn answer(
    namespace: &Namespace,
    common: &SharedContext,
    commit: Commit,
    pending: Option<PendingConfirmation>,
) {
    // The time is measured before the answer, which is not part of the processing.
    note_time(&common.metrics, &commit);
    let revision = commit.revision();
    if commit.is_foreign() {
        if commit.origin().confirm {
            let message = (commit.event().conversation_id(), revision.seq);
            common.confirmation_requests.answer(message, pending);
        }
        commit.resolve();
        return;
    }
    let confirmed = if let Committed::Message(message) = commit.event()
        && commit.origin().confirm
    {
        Some(Arc::clone(message))
    } else {
        None
    };
    let (from, trace) = (sender(&commit), commit.origin().trace);
    // The sender is answered after the emission: an acknowledged message is queued for all joined
    // sockets.
    commit.resolve();
    let Some(message) = confirmed else {
        return;
    };
    // The confirmation request also announces the message to other servers.
    let event = Committed::Message(Arc::clone(&message));
    let announcer = common.announcer.as_ref();
    // Other servers are queried after the local emission, so that the answer to the sender never
    // waits for them.
    let peers = announcer.map(|announcer| announcer.announce_and_confirm(&event, revision, trace));
    if let Some(socket) = from.and_then(|id| namespace.socket(id)) {
        let timeout = common.confirm_timeout;
        report(
            socket,
            &message,
            pending,
            peers,
            timeout,
            (common.traces.clone(), trace),
        );
    }
}

/// Notifies members who have not joined, in all tabs, of a change that concerns them.
pub(super) fn notify_unjoined(namespace: &Namespace, event: &Committed, from: Option<SocketId>) {
    let target = |room: Room| match from {
        Some(socket) => namespace.local().to(room).except(socket),
        None => namespace.local().to(room),
    };
    match event {
        Committed::Renamed(conversation) => {
            emit_to_members(target(room_of(conversation.id)), conversation);
        }
        Committed::Members {
            conversation,
            user_id,
            ..
        } => emit_updated(target(user_room(user_id)), conversation),
        Committed::ConversationDeleted {
            deleted,
            member_ids,
        } => {
            let room = room_of(deleted.conversation_id);
            emit_deleted(target(room.clone()), deleted, member_ids);
            // Recoverable sockets are removed as well.
            namespace.local().in_(&room).leave(&room);
        }
        Committed::Message(_)
        | Committed::Repeated(_)
        | Committed::Edited(_)
        | Committed::Deleted { .. }
        | Committed::Annotated(_)
        | Committed::Announced(_) => {}
    }
}

/// Records the time from the receipt of a new message until it is stored and queued for all
/// sockets.
fn note_time(metrics: &Metrics, commit: &Commit) {
    if let (Committed::Message(_), Some(received)) = (commit.event(), commit.origin().received) {
        metrics.time(Timing::MessageProcessing, received.elapsed());
    }
}

pub(super) fn sender(commit: &Commit) -> Option<SocketId> {
    let sid = commit.origin().socket?;
    SocketId::parse(sid.as_str())
}

/// Notifies the members of a new conversation in all tabs.
pub(in crate::service) fn emit_created(to: Broadcast<'_>, conversation: &Conversation) {
    let members = conversation.member_ids.iter();
    let rooms: Vec<Room> = members.map(|id| user_room(id)).collect();
    if !rooms.is_empty() {
        emit_updated(to.to(rooms), conversation);
    }
}

/// Emits that a conversation was created or has changed.
pub(in crate::service) fn emit_updated(to: Broadcast<'_>, conversation: &Conversation) {
    let updated = Updated {
        conversation: Cow::Borrowed(conversation),
        timestamp: Time::now(),
    };
    CONVERSATION_UPDATED.emit(to, &updated);
}

/// Emits to the joined sockets, and to all tabs of the members, that a conversation has changed.
pub(super) fn emit_to_members(here: Broadcast<'_>, conversation: &Conversation) {
    let members: Vec<Room> = conversation
        .member_ids
        .iter()
        .map(|id| user_room(id))
        .collect();
    emit_updated(here.to(members), conversation);
}

/// Returns the room of all sockets of a user.
pub(in crate::service) fn user_room(user: &str) -> Room {
    room_named(RoomKind::User.prefix(), user)
}

/// Returns whether a room contains the sockets of one user.
pub(in crate::service) fn is_user_room(room: &Room) -> bool {
    let name = room.as_str();
    name.starts_with("user:") || name.starts_with("user#")
}
