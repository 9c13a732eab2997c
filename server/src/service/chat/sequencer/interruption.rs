//! What happens in a conversation while a gap in its order lasts: content waits or is dropped, and removed users leave.

use std::time::{Duration, Instant};

use crate::service::chat::sequencer::behind::{BehindGap, Interrupted};
use crate::service::chat::sequencer::confirming::Asked;
use crate::service::chat::sequencer::conversations::Live;
use crate::service::chat::sequencer::delivery::{answer, sender, user_room};
use crate::service::rules::emissions::conversations::{CONVERSATION_INTERRUPTED, Interruption};
use crate::store::{Commit, Committed, Membership};
use roomcast::{Namespace, Room};

impl Live {
    /// Gives up waiting: drops what waits behind the gap, keeps the position, and notifies the clients once.
    ///
    /// Nothing behind the gap is emitted from here on but what is read from the store.
    pub(in crate::service) fn interrupt(&mut self, namespace: &Namespace) {
        let Some(BehindGap::Waiting(waiting)) = &mut self.behind_gap else {
            return;
        };
        let waiting = std::mem::take(waiting);
        self.behind_gap = Some(BehindGap::Interrupted(Interrupted::default()));
        for commit in waiting {
            self.set_aside(namespace, commit);
        }
        tracing::debug!(conversation = %self.id, "a gap lasts, its conversation is interrupted");
        let interruption = Interruption {
            conversation_id: self.id,
        };
        CONVERSATION_INTERRUPTED.emit(self.audience(namespace, None), &interruption);
    }

    /// Drops a commit that is read from the store later. A client that has sent it gets its acknowledgement now.
    pub(super) fn set_aside(&mut self, namespace: &Namespace, commit: Commit) {
        let Some(BehindGap::Interrupted(interrupted)) = &mut self.behind_gap else {
            return;
        };
        let revision = commit.revision();
        let is_message = matches!(commit.event(), Committed::Message(_));
        let is_foreign = commit.is_foreign();
        let sender = sender(&commit).filter(|_| is_message && !is_foreign);
        interrupted.note(revision, sender);
        let expected = self.presence.connections();
        let asked = (expected > 0).then_some(Asked::Skipped { expected });
        if !is_foreign {
            answer(namespace, &self.common, commit, asked);
        } else if commit.origin().confirm {
            // Dropped without being resolved, a foreign commit counts as not emitted.
            let message = (commit.event().conversation_id(), revision.seq);
            self.common.questions.answer(message, asked);
        }
    }

    /// Ends the reading of a gap without an answer of the store: nothing that waits is emitted.
    pub(in crate::service) fn abandon(&mut self, namespace: &Namespace) {
        self.interrupt(namespace);
        self.behind_gap = None;
        if !self.is_attended() {
            self.close(namespace, 0);
        }
    }

    /// Returns whether a socket is here or may come back as the same one.
    pub(in crate::service) fn is_attended(&self) -> bool {
        self.pins > 0 || self.kept_until.is_some() || self.presence.is_attended()
    }

    /// Notes that another server has removed a user, whose sockets have to leave.
    ///
    /// They leave behind the steps that have arrived before, but do not wait longer than [`LEAVING`] for these.
    pub(in crate::service) fn note_removal(
        &mut self,
        namespace: &Namespace,
        now: Instant,
        user: &str,
        changes: u64,
    ) {
        self.removed_at = changes.max(self.removed_at);
        let emitted = self.sequencer.emitted();
        let is_emitted = emitted.is_none_or(|emitted| changes <= emitted.changes);
        if is_emitted {
            return;
        }
        if !self.presence.is_here(user) {
            // The clients of kept sockets may be away for longer than the grace.
            namespace.local().in_(user_room(user)).leave(&self.room);
            return;
        }
        // The announcement may be late: a user whose membership was read since then stays.
        if self.presence.is_member_since(user, changes) {
            return;
        }
        let due = now.checked_add(LEAVING).unwrap_or(now);
        if let Some((_, removed_at)) = self.leaving.get_mut(user) {
            *removed_at = changes.max(*removed_at);
        } else if self.leaving.len() >= MAX_LEAVING {
            self.evict(namespace, user);
        } else {
            self.leaving.insert(user.into(), (due, changes));
        }
    }

    /// Notes the removal in a commit that waits behind a gap.
    ///
    /// The user stays for what was committed before the removal. Steps are emitted in order, so nothing that was
    /// committed after it is among them.
    pub(super) fn note_waiting(&mut self, namespace: &Namespace, commit: &Commit) {
        if let Committed::Members {
            conversation,
            user_id,
            removed: true,
        } = commit.event()
            && !conversation.member_ids.contains(user_id)
        {
            let now = tokio::time::Instant::now().into_std();
            self.note_removal(namespace, now, user_id, commit.revision().changes);
        }
    }

    /// Has the removed users leave that have waited long enough.
    pub(super) fn evict_due(&mut self, namespace: &Namespace, now: Instant) {
        let due = self.leaving.iter().filter(|(_, (due, _))| *due <= now);
        let users: Vec<_> = due.map(|(user, _)| user.clone()).collect();
        for user in users {
            self.evict(namespace, &user);
        }
    }

    /// Has all users leave that are not members now, before anything is emitted behind a gap that has lasted.
    pub(in crate::service) fn evict_strangers(&mut self, namespace: &Namespace, now: &Membership) {
        if now.is_open {
            return;
        }
        self.removed_at = now.changes.max(self.removed_at);
        self.empty_of_strangers(namespace, now);
        for user in self.presence.users() {
            let is_member = now.conversation.member_ids.iter().any(|id| **id == *user);
            if !is_member && !self.presence.is_member_since(&user, now.changes + 1) {
                self.evict(namespace, &user);
            }
        }
    }

    /// Takes all sockets out of the room whose users are not members, also those whose clients are away.
    pub(super) fn empty_of_strangers(&self, namespace: &Namespace, now: &Membership) {
        let members = now.conversation.member_ids.iter();
        let mut stay: Vec<Room> = members.map(|user| user_room(user)).collect();
        for user in self.presence.users() {
            if self.presence.is_member_since(&user, now.changes + 1) {
                stay.push(user_room(&user));
            }
        }
        let all = namespace.local().in_(&self.room);
        all.except(stay).leave(&self.room);
    }

    /// Has the sockets of a user leave. The user stays in the list until the removal is announced in its turn.
    fn evict(&mut self, namespace: &Namespace, user: &str) {
        self.leaving.remove(user);
        let now = tokio::time::Instant::now().into_std();
        if let Some(typist) = self.typing.stop(user) {
            self.tell_typing(namespace, &typist, false, None);
        }
        // Sockets whose clients are away leave as well, or they would get what was missed when they come back.
        namespace.local().in_(user_room(user)).leave(&self.room);
        self.expelled.extend(self.presence.evict(now, user));
    }

    /// Notes that a user who has joined is a member, as of so many changes: removals before that are over.
    pub(in crate::service) fn note_member(&mut self, user: &str, changes: u64) {
        if self
            .leaving
            .get(user)
            .is_some_and(|(_, removed_at)| *removed_at <= changes)
        {
            self.leaving.remove(user);
        }
        self.presence.note_member(user, changes);
    }
}

/// How long sockets of a removed user may wait for steps that were committed before the removal, and that
/// the server still reads from the store.
const LEAVING: Duration = Duration::from_secs(3);

/// The number of removed users of one conversation that may wait.
const MAX_LEAVING: usize = 1024;
