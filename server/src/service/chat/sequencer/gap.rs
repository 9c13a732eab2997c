//! What is emitted in a conversation, what waits behind a gap, and how the steps that were missing fill it.

use std::time::Duration;

use crate::service::chat::sequencer::behind::{BehindGap, MAX_BEHIND_GAP};
use crate::service::chat::sequencer::confirming::{Asked, patience};
use crate::service::chat::sequencer::conversations::Live;
use crate::service::chat::sequencer::delivery::{
    answer, sender, tell_members, tell_unseen, tell_updated, user_room,
};
use crate::service::chat::sequencer::order::{Gap, Verdict};
use crate::service::cluster::Announcer;
use crate::service::rules::html::Rules;
use crate::store::{Commit, Committed, Conversation, Membership, Message, Missed, Revision, Time};
use roomcast::{Namespace, SocketId};

impl Live {
    /// Emits what was stored, in the order of the sequencer, and answers who asked for it. If steps that are
    /// stored before it have not arrived, it waits with all that is behind it, and the gap is returned.
    pub(in crate::service) fn sequence(
        &mut self,
        namespace: &Namespace,
        commit: Commit,
    ) -> Option<Gap> {
        if self.behind_gap.is_some() {
            self.note_waiting(namespace, &commit);
        }
        match &mut self.behind_gap {
            // A commit behind a gap waits, whatever it is: emitted now it would overtake what is
            // missing.
            Some(BehindGap::Waiting(waiting)) if waiting.len() < MAX_BEHIND_GAP => {
                waiting.push_back(commit);
                return None;
            }
            // Too many wait, or the gap has lasted too long. What comes after the gap must not be
            // emitted before it is known who is still a member, so it is dropped and read later.
            Some(_) => {
                self.interrupt(namespace);
                self.set_aside(namespace, commit);
                return None;
            }
            None => {}
        }
        match self.verdict(&commit) {
            Verdict::Gap(gap) => {
                self.note_waiting(namespace, &commit);
                // From here on the conversation counts as not empty, so that it is not forgotten
                // while the gap is read.
                self.behind_gap = Some(BehindGap::new(commit));
                Some(gap)
            }
            Verdict::Next | Verdict::Past | Verdict::Unseen => {
                self.emit(namespace, commit);
                None
            }
        }
    }

    /// Emits what was missing, and then what waited behind the gap. Returns the next gap, if there is one.
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
                // What was removed from the store since has no step any more, and counts as emitted
                // up to there.
                self.sequencer.advance(reached);
            }
            Missed::Forgotten(Some(now)) => {
                // Only the changes are given up. The messages of the gap are still stored, and the
                // next gap brings them.
                self.sequencer.forget(gap.through.changes);
                self.reload(namespace, &now);
            }
            Missed::Forgotten(None) => {
                self.sequencer.advance(gap.through);
                self.close(namespace, gap.through.changes);
            }
        }
        let mut waiting = match self.behind_gap.take()? {
            BehindGap::Waiting(waiting) => waiting,
            BehindGap::Interrupted(interrupted) => {
                // Everything is read up to the last step that was dropped.
                let through = interrupted.through();
                let next = self.sequencer.look(through, through);
                let Verdict::Gap(gap) = next else {
                    return None;
                };
                self.behind_gap = Some(BehindGap::Interrupted(interrupted));
                return Some(gap);
            }
        };
        // The waiting commits go through the sequencer again, since more steps may be missing
        // between two of them.
        while let Some(commit) = waiting.pop_front() {
            if let Some(gap) = self.sequence(namespace, commit) {
                // The rest stays behind the commit that has found the next gap, in the same order.
                if let Some(BehindGap::Waiting(behind)) = &mut self.behind_gap {
                    behind.append(&mut waiting);
                }
                return Some(gap);
            }
        }
        None
    }

    /// Shows a step that another server has committed, unless it was shown before.
    fn catch_up(&mut self, namespace: &Namespace, revision: Revision, event: Committed) {
        let before = event.before(revision);
        if self.sequencer.look(before, revision) == Verdict::Past {
            return;
        }
        let event = as_shown(&self.common.rules, event);
        self.sequencer.advance(revision);
        // Whoever sends a message again that another server has stored gets that one as the answer.
        let from = if let Committed::Message(message) = &event {
            self.repeats(message)
                .or_else(|| self.acknowledged(message.seq))
        } else {
            None
        };
        // Whether the sender wants confirmations is known only when its server tells. A message
        // that went out without being asked about cannot be confirmed later.
        let confirm = self.asks_ahead(&event);
        let asked = self.show(namespace, revision, &event, from, confirm);
        if let (Some(asked), Some(timeout)) = (asked, confirm) {
            let now = tokio::time::Instant::now().into_std();
            self.asked_ahead.keep(now, timeout, revision.seq, asked);
        }
    }

    /// How long those who get a message that was read from the store may take to confirm it. Its sender may want that, and the
    /// server that has stored it has not told of it here yet.
    fn asks_ahead(&self, event: &Committed) -> Option<Duration> {
        let Committed::Message(message) = event else {
            return None;
        };
        let (common, wanted) = (&self.common, self.presence.connections());
        if common.has_recovery || wanted == 0 {
            return None;
        }
        let timeout = common.confirm_timeout;
        let may_be_wanted = || {
            let is_told = common.announcer.as_ref().is_some_and(Announcer::is_up);
            let free = common.confirmations.available_permits();
            is_told
                // An old message, as after an outage, is asked about by nobody any more.
                && message.created_at.after(patience(timeout)) > Time::now()
                // Half of the places are left to messages whose senders are known to want them.
                && free >= common.reserved.saturating_add(wanted)
        };
        let is_wanted = common.questions.has((self.id, message.seq));
        (is_wanted || may_be_wanted()).then_some(timeout)
    }

    /// Takes the socket that has the acknowledgement of a message that was dropped behind a gap.
    fn acknowledged(&mut self, seq: u64) -> Option<SocketId> {
        match &mut self.behind_gap {
            Some(BehindGap::Interrupted(interrupted)) => interrupted.take_sender(seq),
            Some(BehindGap::Waiting(_)) | None => None,
        }
    }

    /// The socket that waits here for the answer to a message that was stored before.
    fn repeats(&self, stored: &Message) -> Option<SocketId> {
        let waiting = self.behind_gap.iter().flat_map(BehindGap::commits);
        let mut repeats = waiting.filter(|commit| {
            matches!(commit.event(), Committed::Repeated(message) if message.id == stored.id)
        });
        repeats.next().and_then(sender)
    }

    /// Goes on with a conversation as it is now, where what has changed is not known: tells members what it is
    /// now, and takes out who is no longer one.
    pub(in crate::service) fn reload(&mut self, namespace: &Namespace, now: &Membership) {
        let conversation = &now.conversation;
        for user in self.presence.users() {
            // The removal and the return of this user are among what is not known.
            if self.presence.is_evicted(&user) {
                self.expel(namespace, &user, now.changes);
            }
        }
        if !now.is_open {
            self.empty_of_strangers(namespace, now);
            let untitled = Conversation {
                title: None,
                ..conversation.clone()
            };
            for user in self.presence.users() {
                let is_member = conversation.member_ids.iter().any(|id| **id == *user);
                if !is_member && !self.presence.is_member_since(&user, now.changes + 1) {
                    // The title may be one that the conversation has got since the removal.
                    tell_updated(namespace.local().to(user_room(&user)), &untitled);
                    self.expel(namespace, &user, now.changes);
                }
            }
        }
        self.reloaded_at = now.changes;
        tell_members(self.audience(namespace, None), conversation);
    }

    /// What is to become of a commit; nothing is emitted by asking.
    fn verdict(&self, commit: &Commit) -> Verdict {
        let (event, revision) = (commit.event(), commit.revision());
        // A message that was sent again is in its place already if the first one was emitted;
        // otherwise the repetition waits for it.
        if let Committed::Repeated(message) = event
            && self.sequencer.has_emitted(message.seq)
        {
            return Verdict::Past;
        }
        self.sequencer.look(event.before(revision), revision)
    }

    /// Shows a commit to those who are here, if they have not seen it, and answers who asked for it.
    fn emit(&mut self, namespace: &Namespace, commit: Commit) {
        let (event, revision, from) = (commit.event(), commit.revision(), sender(&commit));
        let mut asked = None;
        match self.verdict(&commit) {
            Verdict::Next => {
                self.sequencer.advance(revision);
                let timeout = self.common.confirm_timeout;
                let confirm = commit.origin().confirm.then_some(timeout);
                // A commit of this server is shown unchanged, unless it quotes a text that another server may have
                // stored. Texts of this server are cleaned before they are stored, those of others perhaps by other
                // rules.
                asked = if commit.is_foreign() || has_quote(event) {
                    let event = as_shown(&self.common.rules, event.clone());
                    self.show(namespace, revision, &event, from, confirm)
                } else {
                    self.show(namespace, revision, event, from, confirm)
                };
            }
            Verdict::Unseen => {
                self.sequencer.advance(revision);
                if self.common.is_news(event, revision) {
                    tell_unseen(namespace, event, from);
                }
            }
            Verdict::Past | Verdict::Gap(_) => {
                // Whoever has joined since then has read the step; members who are not here have not.
                if self.common.is_news(event, revision) {
                    tell_unseen(namespace, event, from);
                }
                if commit.is_foreign() && commit.origin().confirm {
                    // Those who are here have seen the message, and were asked to confirm it then or not at all.
                    let ahead = self.asked_ahead.take(revision.seq);
                    let expected = self.presence.connections();
                    asked = ahead.or((expected > 0).then_some(Asked::Skipped { expected }));
                }
            }
        }
        answer(namespace, &self.common, commit, asked);
    }
}

/// A committed step, as this server shows it.
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

/// Whether an event shows another message, which was stored before.
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
