//! Emits commits of a conversation in order, holds them after a gap, and fills gaps with missing
//! steps.

use std::time::Duration;

use crate::metrics::trace::TraceContext;
use crate::service::chat::sequencer::backlog::{GapBacklog, MAX_GAP_BACKLOG};
use crate::service::chat::sequencer::confirming::{PendingConfirmation, peer_timeout};
use crate::service::chat::sequencer::conversations::LiveConversation;
use crate::service::chat::sequencer::delivery::{
    answer, emit_to_members, emit_updated, notify_unjoined, sender, user_room,
};
use crate::service::chat::sequencer::order::{EmitDecision, Gap};
use crate::service::cluster::Announcer;
use crate::service::rules::html::Rules;
use crate::store::{Commit, Committed, Conversation, Membership, Message, Missed, Revision, Time};
use roomcast::{Namespace, SocketId};

impl LiveConversation {
    /// Emits a commit in the order of the sequencer and answers its sender.
    ///
    /// If earlier stored steps have not arrived, the commit and all later commits wait, and the gap
    /// is returned.
    pub(in crate::service) fn sequence(
        &mut self,
        namespace: &Namespace,
        commit: Commit,
    ) -> Option<Gap> {
        if self.gap_backlog.is_some() {
            self.note_waiting(namespace, &commit);
        }
        match &mut self.gap_backlog {
            // Every commit after a gap waits. Emitted now, it would overtake the missing steps.
            Some(GapBacklog::Waiting(waiting)) if waiting.len() < MAX_GAP_BACKLOG => {
                waiting.push_back(commit);
                return None;
            }
            // Too many commits wait, or the gap has lasted too long. Later steps must not be
            // emitted before the current members are known. They are dropped now and read later.
            Some(_) => {
                self.interrupt(namespace);
                self.drop_until_read(namespace, commit);
                return None;
            }
            None => {}
        }
        match self.decide(&commit) {
            EmitDecision::Gap(gap) => {
                self.note_waiting(namespace, &commit);
                // With a gap the conversation does not count as empty, so it is not evicted while
                // the gap is read.
                self.gap_backlog = Some(GapBacklog::new(commit));
                Some(gap)
            }
            EmitDecision::Next | EmitDecision::Past | EmitDecision::Unseen => {
                self.emit(namespace, commit);
                None
            }
        }
    }

    /// Emits missing steps, then the commits that waited for them. Returns the next gap, if there
    /// is one.
    pub(in crate::service) fn fill(
        &mut self,
        namespace: &Namespace,
        gap: Gap,
        missed: Missed,
    ) -> Option<Gap> {
        match missed {
            Missed::Steps { steps, reached } => {
                for (revision, event) in steps {
                    self.catch_up(namespace, revision, event);
                }
                // Steps removed from the store since then count as emitted up to this revision.
                self.sequencer.advance(reached);
            }
            Missed::Truncated(Some(now)) => {
                // Only the changes are skipped. The messages of the gap are still stored and form
                // the next gap.
                self.sequencer.forget(gap.through.changes);
                self.reload(namespace, &now);
            }
            Missed::Truncated(None) => {
                self.sequencer.advance(gap.through);
                self.close(namespace, gap.through.changes);
            }
        }
        let mut waiting = match self.gap_backlog.take()? {
            GapBacklog::Waiting(waiting) => waiting,
            GapBacklog::DroppedSteps(interrupted) => {
                // The gap continues up to the last dropped step.
                let through = interrupted.through();
                let next = self.sequencer.decide(through, through);
                let EmitDecision::Gap(gap) = next else {
                    return None;
                };
                self.gap_backlog = Some(GapBacklog::DroppedSteps(interrupted));
                return Some(gap);
            }
        };
        // The waiting commits pass through the sequencer again, since more steps may be missing
        // between two of them.
        while let Some(commit) = waiting.pop_front() {
            if let Some(gap) = self.sequence(namespace, commit) {
                // The rest follows the commit that revealed the next gap, in the same order.
                if let Some(GapBacklog::Waiting(commits)) = &mut self.gap_backlog {
                    commits.append(&mut waiting);
                }
                return Some(gap);
            }
        }
        None
    }

    /// Emits a step that was read from the store, unless it was emitted before.
    fn catch_up(&mut self, namespace: &Namespace, revision: Revision, event: Committed) {
        let before = event.before(revision);
        if self.sequencer.decide(before, revision) == EmitDecision::Past {
            return;
        }
        let event = as_shown(&self.common.rules, event);
        self.sequencer.advance(revision);
        // A client may resend a message that another server has stored. It gets the stored message
        // as the answer.
        let from = if let Committed::Message(message) = &event {
            self.repeats(message)
                .or_else(|| self.acknowledged(message.seq))
        } else {
            None
        };
        // Only the announcement of the sender's server states whether the sender wants
        // confirmations. They cannot be requested after the message was emitted.
        let confirm = self.early_confirm_timeout(&event);
        let trace = self.announced_trace(revision);
        let pending = self.show(namespace, revision, &event, from, confirm, trace);
        if let (Some(pending), Some(timeout)) = (pending, confirm) {
            let now = tokio::time::Instant::now().into_std();
            self.early_confirmations
                .store(now, timeout, revision.seq, pending);
        }
    }

    /// Returns the timeout for receivers to confirm a message that was read from the store, or
    /// `None` to request no confirmation.
    ///
    /// The sender may want confirmations, but its server has not announced the message here yet.
    fn early_confirm_timeout(&self, event: &Committed) -> Option<Duration> {
        let Committed::Message(message) = event else {
            return None;
        };
        let (common, receivers) = (&self.common, self.presence.connections());
        if common.has_recovery || receivers == 0 {
            return None;
        }
        let timeout = common.confirm_timeout;
        let may_be_requested = || {
            let may_be_announced = common.announcer.as_ref().is_some_and(Announcer::is_up);
            let free = common.confirmations.available_permits();
            may_be_announced
                // The sender of an old message, as after an outage, no longer waits for
                // confirmations.
                && message.created_at.after(peer_timeout(timeout)) > Time::now()
                // Half of the permits are reserved for messages whose senders are known to want
                // confirmations.
                && free >= common.reserved.saturating_add(receivers)
        };
        let is_requested = common.confirmation_requests.has((self.id, message.seq));
        (is_requested || may_be_requested()).then_some(timeout)
    }

    /// Takes the socket that has received the acknowledgement of a message dropped after a gap.
    fn acknowledged(&mut self, seq: u64) -> Option<SocketId> {
        match &mut self.gap_backlog {
            Some(GapBacklog::DroppedSteps(interrupted)) => interrupted.take_sender(seq),
            Some(GapBacklog::Waiting(_)) | None => None,
        }
    }

    /// Returns the trace of a step that was announced without its content. The store does not
    /// contain the trace, so it is unknown if the announcement was lost.
    fn announced_trace(&self, revision: Revision) -> Option<TraceContext> {
        let waiting = self.gap_backlog.iter().flat_map(GapBacklog::commits);
        let mut announced = waiting.filter(|commit| commit.revision() == revision);
        announced.find_map(|commit| commit.origin().trace)
    }

    /// Returns the socket that waits here for the answer to a repeated message.
    fn repeats(&self, stored: &Message) -> Option<SocketId> {
        let waiting = self.gap_backlog.iter().flat_map(GapBacklog::commits);
        let mut repeats = waiting.filter(|commit| {
            matches!(commit.event(), Committed::Repeated(message) if message.id == stored.id)
        });
        repeats.next().and_then(sender)
    }

    /// Continues from the current state of a conversation whose changes are unknown.
    ///
    /// Sends members the current state and removes users who are no longer members.
    pub(in crate::service) fn reload(&mut self, namespace: &Namespace, now: &Membership) {
        let conversation = &now.conversation;
        for user in self.presence.users() {
            // The removal and the return of this user are among the unknown changes.
            if self.presence.is_evicted(&user) {
                self.expel(namespace, &user, now.changes);
            }
        }
        if !now.is_open {
            self.remove_nonmembers(namespace, now);
            let untitled = Conversation {
                title: None,
                ..conversation.clone()
            };
            for user in self.presence.users() {
                let is_member = conversation.member_ids.iter().any(|id| **id == *user);
                if !is_member && !self.presence.is_member_since(&user, now.changes + 1) {
                    // The title may have been set after the removal.
                    emit_updated(namespace.local().to(user_room(&user)), &untitled);
                    self.expel(namespace, &user, now.changes);
                }
            }
        }
        self.reloaded_at = now.changes;
        emit_to_members(self.audience(namespace, None), conversation);
    }

    /// Decides what to do with a commit, without emitting anything.
    fn decide(&self, commit: &Commit) -> EmitDecision {
        let (event, revision) = (commit.event(), commit.revision());
        // If the first message was emitted, a repetition is already in its place. Otherwise it
        // waits for the first one.
        if let Committed::Repeated(message) = event
            && self.sequencer.has_emitted(message.seq)
        {
            return EmitDecision::Past;
        }
        self.sequencer.decide(event.before(revision), revision)
    }

    /// Emits a commit to the joined sockets, unless they have received it, and answers its sender.
    fn emit(&mut self, namespace: &Namespace, commit: Commit) {
        let (event, revision, from) = (commit.event(), commit.revision(), sender(&commit));
        let trace = commit.origin().trace;
        let mut pending = None;
        match self.decide(&commit) {
            EmitDecision::Next => {
                self.sequencer.advance(revision);
                let timeout = self.common.confirm_timeout;
                let confirm = commit.origin().confirm.then_some(timeout);
                // A commit of this server is emitted unchanged, unless it quotes a text that
                // another server may have stored. This server cleans its texts before storing them.
                // Other servers may use other rules.
                pending = if commit.is_foreign() || has_quote(event) {
                    let event = as_shown(&self.common.rules, event.clone());
                    self.show(namespace, revision, &event, from, confirm, trace)
                } else {
                    self.show(namespace, revision, event, from, confirm, trace)
                };
            }
            EmitDecision::Unseen => {
                self.sequencer.advance(revision);
                if self.common.is_news(event, revision) {
                    notify_unjoined(namespace, event, from);
                }
            }
            EmitDecision::Past | EmitDecision::Gap(_) => {
                // Sockets that have joined since then have read the step. Members who have not
                // joined have not.
                if self.common.is_news(event, revision) {
                    notify_unjoined(namespace, event, from);
                }
                if commit.is_foreign() && commit.origin().confirm {
                    // The joined sockets have received the message. They were asked to confirm it
                    // at that time, or never.
                    let ahead = self.early_confirmations.take(revision.seq);
                    let expected = self.presence.connections();
                    pending = ahead
                        .or((expected > 0).then_some(PendingConfirmation::Skipped { expected }));
                }
            }
        }
        answer(namespace, &self.common, commit, pending);
    }
}

/// Returns a committed step with the texts cleaned by this server's rules.
pub(in crate::service::chat) fn as_shown(rules: &Rules, event: Committed) -> Committed {
    match event {
        Committed::Message(message) => Committed::Message(rules.show(&message)),
        Committed::Edited(message) => Committed::Edited(rules.show(&message)),
        Committed::Annotated(annotated) => Committed::Annotated(rules.show_annotated(annotated)),
        event @ (Committed::Repeated(_)
        | Committed::Deleted { .. }
        | Committed::Renamed(_)
        | Committed::Members { .. }
        | Committed::ConversationDeleted { .. }
        | Committed::Announced(_)) => event,
    }
}

/// Returns whether an event contains another message, stored earlier.
fn has_quote(event: &Committed) -> bool {
    match event {
        Committed::Message(message) | Committed::Edited(message) => message.reply_to.is_some(),
        Committed::Annotated(_) => true,
        Committed::Repeated(_)
        | Committed::Deleted { .. }
        | Committed::Renamed(_)
        | Committed::Members { .. }
        | Committed::ConversationDeleted { .. }
        | Committed::Announced(_) => false,
    }
}
