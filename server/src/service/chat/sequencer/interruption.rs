//! Handling of a lasting gap in a conversation: content waits or is dropped, and removed users
//! leave.

use std::time::{Duration, Instant};

use crate::service::chat::sequencer::backlog::{DroppedSteps, GapBacklog};
use crate::service::chat::sequencer::confirming::PendingConfirmation;
use crate::service::chat::sequencer::conversations::LiveConversation;
use crate::service::chat::sequencer::delivery::{answer, sender, user_room};
use crate::service::rules::emissions::conversations::{CONVERSATION_INTERRUPTED, Interruption};
use crate::store::{Commit, Committed, Membership};
use roomcast::{Namespace, Room};

impl LiveConversation {
    /// Stops waiting: drops the commits after the gap, keeps the position, and notifies the clients
    /// once.
    ///
    /// From here on, later steps are emitted only after they are read from the store.
    pub(in crate::service) fn interrupt(&mut self, namespace: &Namespace) {
        let Some(GapBacklog::Waiting(waiting)) = &mut self.gap_backlog else {
            return;
        };
        let waiting = std::mem::take(waiting);
        self.gap_backlog = Some(GapBacklog::DroppedSteps(DroppedSteps::default()));
        for commit in waiting {
            self.drop_until_read(namespace, commit);
        }
        tracing::debug!(conversation = %self.id, "sequence gap was not filled in time, conversation interrupted");
        let interruption = Interruption {
            conversation_id: self.id,
        };
        CONVERSATION_INTERRUPTED.emit(self.audience(namespace, None), &interruption);
    }

    /// Drops a commit that is read from the store later. Its sender gets the acknowledgement now.
    pub(super) fn drop_until_read(&mut self, namespace: &Namespace, commit: Commit) {
        let Some(GapBacklog::DroppedSteps(interrupted)) = &mut self.gap_backlog else {
            return;
        };
        let revision = commit.revision();
        let is_message = matches!(commit.event(), Committed::Message(_));
        let is_foreign = commit.is_foreign();
        let sender = sender(&commit).filter(|_| is_message && !is_foreign);
        interrupted.note(revision, sender);
        let expected = self.presence.connections();
        let pending = (expected > 0).then_some(PendingConfirmation::Skipped { expected });
        if !is_foreign {
            answer(namespace, &self.common, commit, pending);
        } else if commit.origin().confirm {
            // The commit of the other server is dropped unresolved, so it counts as not emitted.
            let message = (commit.event().conversation_id(), revision.seq);
            self.common.confirmation_requests.answer(message, pending);
        }
    }

    /// Stops reading a gap without an answer of the store. The waiting commits are not emitted.
    pub(in crate::service) fn abandon(&mut self, namespace: &Namespace) {
        self.interrupt(namespace);
        self.gap_backlog = None;
        if !self.is_attended() {
            self.close(namespace, 0);
        }
    }

    /// Returns whether a socket is joined or can still recover.
    pub(in crate::service) fn is_attended(&self) -> bool {
        self.pins > 0 || self.recoverable_until.is_some() || self.presence.is_attended()
    }

    /// Records that another server has removed a user, whose sockets must leave.
    ///
    /// They first receive the steps that arrived before the removal, but wait at most [`LEAVING`]
    /// for them.
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
            // The clients of recoverable sockets may be disconnected for longer than the grace
            // period.
            namespace.local().in_(user_room(user)).leave(&self.room);
            return;
        }
        // The announcement may be late. A user whose membership was read since then stays.
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

    /// Records the removal in a commit that waits after a gap.
    ///
    /// The user still receives earlier steps. Since steps are emitted in order, none of those was
    /// committed after the removal.
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

    /// Removes the users whose waiting time has expired.
    pub(super) fn evict_due(&mut self, namespace: &Namespace, now: Instant) {
        let due = self.leaving.iter().filter(|(_, (due, _))| *due <= now);
        let users: Vec<_> = due.map(|(user, _)| user.clone()).collect();
        for user in users {
            self.evict(namespace, &user);
        }
    }

    /// Removes all users that are no longer members, before steps after a lasting gap are emitted.
    pub(in crate::service) fn evict_nonmembers(&mut self, namespace: &Namespace, now: &Membership) {
        if now.is_open {
            return;
        }
        self.removed_at = now.changes.max(self.removed_at);
        self.remove_nonmembers(namespace, now);
        for user in self.presence.users() {
            let is_member = now.conversation.member_ids.iter().any(|id| **id == *user);
            if !is_member && !self.presence.is_member_since(&user, now.changes + 1) {
                self.evict(namespace, &user);
            }
        }
    }

    /// Removes all sockets of non-members from the room, including recoverable sockets.
    pub(super) fn remove_nonmembers(&self, namespace: &Namespace, now: &Membership) {
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

    /// Removes the sockets of a user. The user stays in the list until the removal is emitted in
    /// order.
    fn evict(&mut self, namespace: &Namespace, user: &str) {
        self.leaving.remove(user);
        let now = tokio::time::Instant::now().into_std();
        if let Some(typist) = self.typing.stop(user) {
            self.emit_typing(namespace, &typist, false, None);
        }
        // Recoverable sockets leave as well. Otherwise they would receive the missed steps after
        // recovery.
        namespace.local().in_(user_room(user)).leave(&self.room);
        self.expelled.extend(self.presence.evict(now, user));
    }

    /// Records that a joined user is a member as of this number of changes. Earlier removals no
    /// longer count.
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

/// Maximum time for which sockets of a removed user wait for earlier steps that the server still
/// reads from the store.
const LEAVING: Duration = Duration::from_secs(3);

/// The maximum number of removed users of one conversation that wait.
const MAX_LEAVING: usize = 1024;
