//! What is emitted in a conversation, what waits behind a gap, and how the steps that were missing fill it.

use std::collections::VecDeque;
use std::time::Duration;

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
        if let Some(behind_gap) = &mut self.behind_gap {
            // A commit behind a gap waits, whatever it is: emitted now it would overtake what is
            // missing.
            if behind_gap.len() < MAX_BEHIND_GAP {
                behind_gap.push_back(commit);
                return None;
            }
            // Too many wait: the conversation goes on without what is missing.
            // Going on is better than holding ever more in memory; clients find the missing numbers
            // and ask for them.
            for waiting in self.behind_gap.take().unwrap_or_default() {
                self.skip_to(&waiting);
                self.emit(namespace, waiting);
            }
            self.skip_to(&commit);
        }
        match self.verdict(&commit) {
            Verdict::Gap(gap) => {
                // From here on the conversation counts as not empty, so that it is not forgotten
                // while the gap is read.
                self.behind_gap = Some(VecDeque::from([commit]));
                Some(gap)
            }
            Verdict::Next | Verdict::Past | Verdict::Unseen => {
                self.emit(namespace, commit);
                None
            }
        }
    }

    /// Emits what was missing, and then what waited behind the gap. `None` is what could not be read.
    pub(in crate::service) fn fill(
        &mut self,
        namespace: &Namespace,
        gap: Gap,
        missed: Option<Missed>,
    ) -> Filling {
        let is_unsure = missed.is_none();
        match missed {
            Some(Missed::Steps { steps, reached }) => {
                for (revision, event) in steps {
                    self.catch_up(namespace, revision, event);
                }
                // What was removed from the store since has no step any more, and counts as emitted
                // up to there.
                self.sequencer.advance(reached);
            }
            Some(Missed::Forgotten(Some(now))) => {
                // Only the changes are given up. The messages of the gap are still stored, and the
                // next gap brings them.
                self.sequencer.forget(gap.through.changes);
                self.reload(namespace, &now);
            }
            Some(Missed::Forgotten(None)) => {
                self.sequencer.advance(gap.through);
                self.close(namespace, gap.through.changes);
            }
            // The store did not answer in time: the gap is given up rather than holding everything
            // behind it.
            None => self.sequencer.advance(gap.through),
        }
        // Nothing waits any more because too much did: which steps were given up then is not known.
        let Some(mut waiting) = self.behind_gap.take() else {
            return Filling::Unsure;
        };
        // The waiting commits go through the sequencer again, since more steps may be missing
        // between two of them.
        while let Some(commit) = waiting.pop_front() {
            if let Some(gap) = self.sequence(namespace, commit) {
                // The rest stays behind the commit that has found the next gap, in the same order.
                self.behind_gap.get_or_insert_default().append(&mut waiting);
                return Filling::Gap(gap);
            }
        }
        if is_unsure {
            Filling::Unsure
        } else {
            Filling::Done
        }
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

    /// The socket that waits here for the answer to a message that was stored before.
    fn repeats(&self, stored: &Message) -> Option<SocketId> {
        let waiting = self.behind_gap.iter().flatten();
        let mut repeats = waiting.filter(|commit| {
            matches!(commit.event(), Committed::Repeated(message) if message.id == stored.id)
        });
        repeats.next().and_then(sender)
    }

    /// Goes on with a conversation as it is now, where what has changed is not known: tells members what it is
    /// now, and takes out who is no longer one.
    pub(in crate::service) fn reload(&mut self, namespace: &Namespace, now: &Membership) {
        let conversation = &now.conversation;
        if !now.is_open {
            let untitled = Conversation {
                title: None,
                ..conversation.clone()
            };
            for user in self.presence.users() {
                if !conversation.member_ids.iter().any(|id| **id == *user) {
                    // The title may be one that the conversation has got since the removal.
                    tell_updated(namespace.local().to(user_room(&user)), &untitled);
                    self.expel(namespace, &user, now.changes);
                }
            }
        }
        tell_members(self.audience(namespace, None), conversation);
    }

    fn skip_to(&mut self, commit: &Commit) {
        if let Verdict::Gap(gap) = self.verdict(commit) {
            self.sequencer.advance(gap.through);
        }
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

/// What came of an attempt to fill a gap.
#[derive(Debug)]
pub(in crate::service) enum Filling {
    Done,
    /// More steps are missing.
    Gap(Gap),
    /// Something was given up: who is a member has to be looked up.
    Unsure,
}

/// How many commits of one conversation may wait behind a gap.
const MAX_BEHIND_GAP: usize = 1024;
