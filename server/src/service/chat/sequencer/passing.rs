//! What passes the gate of a conversation, what waits before it, and what is read because it is missing.

use std::collections::VecDeque;

use crate::service::chat::sequencer::confirming::Asked;
use crate::service::chat::sequencer::conversations::Live;
use crate::service::chat::sequencer::delivery::{
    answer, sender, tell_members, tell_unseen, tell_updated, user_room,
};
use crate::service::chat::sequencer::gate::{Gap, Passage};
use crate::store::{Commit, Committed, Conversation, Membership, Message, Missed, Revision};
use roomcast::{Namespace, SocketId};

impl Live {
    /// Lets out what was stored, in the order of the gate, and answers who asked for it. If others are
    /// stored before it that have not come by, it waits, and all after it.
    pub(in crate::service) fn pass(
        &mut self,
        namespace: &Namespace,
        commit: Commit,
    ) -> Option<Gap> {
        if let Some(parked) = &mut self.parked {
            if parked.len() < PARKED {
                parked.push_back(commit);
                return None;
            }
            // Too many: go on without what is missing.
            for waiting in self.parked.take().unwrap_or_default() {
                self.skip_to(&waiting);
                self.let_out(namespace, waiting);
            }
            self.skip_to(&commit);
        }
        match self.passage(&commit) {
            Passage::Gap(gap) => {
                self.parked = Some(VecDeque::from([commit]));
                Some(gap)
            }
            Passage::Next | Passage::Past | Passage::Unseen => {
                self.let_out(namespace, commit);
                None
            }
        }
    }

    /// Lets out what was missing, and then what waited for it. None is what could not be had.
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
                self.gate.advance(reached);
            }
            Some(Missed::Forgotten(Some(now))) => {
                self.gate.forget(gap.through.changes);
                self.reload(namespace, &now);
            }
            Some(Missed::Forgotten(None)) => {
                self.gate.advance(gap.through);
                self.close(namespace, gap.through.changes);
            }
            None => self.gate.advance(gap.through),
        }
        // Nothing waits where too much did: what was given up then is not known.
        let Some(mut waiting) = self.parked.take() else {
            return Filling::Unsure;
        };
        while let Some(commit) = waiting.pop_front() {
            if let Some(gap) = self.pass(namespace, commit) {
                self.parked.get_or_insert_default().append(&mut waiting);
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
        if self.gate.look(before, revision) == Passage::Past {
            return;
        }
        let event = self.as_shown(event);
        self.gate.advance(revision);
        // Who sends a message again that another server has stored gets it as the answer.
        let from = if let Committed::Message(message) = &event {
            self.repeats(message)
        } else {
            None
        };
        self.show(namespace, revision, &event, from, None);
    }

    /// What another server has committed, as this one shows it.
    fn as_shown(&self, event: Committed) -> Committed {
        let rules = &self.common.rules;
        match event {
            Committed::Message(message) => Committed::Message(rules.show(&message)),
            Committed::Edited(message) => Committed::Edited(rules.show(&message)),
            event @ (Committed::Repeated(_)
            | Committed::Deleted { .. }
            | Committed::Renamed(_)
            | Committed::Members { .. }
            | Committed::ConversationDeleted { .. }
            | Committed::Announced(_)) => event,
        }
    }

    /// The socket that waits here for the answer to a message that was stored before.
    fn repeats(&self, stored: &Message) -> Option<SocketId> {
        let waiting = self.parked.iter().flatten();
        let mut repeats = waiting.filter(|commit| {
            matches!(commit.event(), Committed::Repeated(message) if message.id == stored.id)
        });
        repeats.next().and_then(sender)
    }

    /// Goes on with a conversation as it is now, where what has changed is not known: tells so, and takes
    /// out who is no longer a member.
    pub(in crate::service) fn reload(&mut self, namespace: &Namespace, now: &Membership) {
        let conversation = &now.conversation;
        if !now.is_open {
            let untitled = Conversation {
                title: None,
                ..conversation.clone()
            };
            for user in self.presence.users() {
                if !conversation.member_ids.iter().any(|id| **id == *user) {
                    // The title may be one that it has got since.
                    tell_updated(namespace.local().to(user_room(&user)), &untitled);
                    self.expel(namespace, &user, now.changes);
                }
            }
        }
        tell_members(self.audience(namespace, None), conversation);
    }

    fn skip_to(&mut self, commit: &Commit) {
        if let Passage::Gap(gap) = self.passage(commit) {
            self.gate.advance(gap.through);
        }
    }

    /// Where the gate stands for something; nothing is let out by asking.
    fn passage(&self, commit: &Commit) -> Passage {
        let (event, revision) = (commit.event(), commit.revision());
        if let Committed::Repeated(message) = event
            && self.gate.has_emitted(message.seq)
        {
            return Passage::Past;
        }
        self.gate.look(event.before(revision), revision)
    }

    /// Shows something to those who are here, if they have not seen it, and answers who asked for it.
    fn let_out(&mut self, namespace: &Namespace, commit: Commit) {
        let (event, revision, from) = (commit.event(), commit.revision(), sender(&commit));
        let mut asked = None;
        match self.passage(&commit) {
            Passage::Next => {
                self.gate.advance(revision);
                let timeout = self.common.confirm_timeout;
                let confirm = commit.origin().confirm.then_some(timeout);
                asked = if commit.is_foreign() {
                    let event = self.as_shown(event.clone());
                    self.show(namespace, revision, &event, from, confirm)
                } else {
                    self.show(namespace, revision, event, from, confirm)
                };
            }
            Passage::Unseen => {
                self.gate.advance(revision);
                if self.common.is_news(event, revision) {
                    tell_unseen(namespace, event, from);
                }
            }
            Passage::Past | Passage::Gap(_) => {
                // Whoever has joined since then has read it, and members who are not here have not.
                if self.common.is_news(event, revision) {
                    tell_unseen(namespace, event, from);
                }
                if commit.is_foreign() {
                    // They have seen it without having been asked.
                    let expected = self.presence.connections();
                    asked = Some(Asked::Skipped { expected });
                }
            }
        }
        answer(namespace, &self.common, commit, asked);
    }
}

/// What came of an attempt to fill a gap.
#[derive(Debug)]
pub(in crate::service) enum Filling {
    Done,
    /// There is more.
    Gap(Gap),
    /// Something was given up: who is a member has to be looked up.
    Unsure,
}

/// What may wait in one conversation for something that is stored before it.
const PARKED: usize = 1024;
