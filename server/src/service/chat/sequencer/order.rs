//! The order of the steps of one conversation. Each step is emitted once, and missing steps are
//! reported as a gap.

use crate::store::Revision;

#[cfg(test)]
#[path = "../../../../../tests/support/random.rs"]
mod random;

/// The position up to which a conversation is emitted. It determines where a joining socket's live
/// events begin.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) enum Sequencer {
    /// No socket has joined, so commits are not emitted.
    Idle {
        /// The greatest revision committed so far.
        committed: Revision,
    },
    /// At least one socket has joined, and all of them have received everything up to `emitted`.
    Running {
        /// The last revision that was emitted.
        emitted: Revision,
    },
}

impl Sequencer {
    pub(in crate::service) fn new() -> Self {
        Self::Idle {
            committed: Revision::default(),
        }
    }

    /// Starts the sequencer for a joining user.
    ///
    /// Returns the last revision that is not emitted live. `stored` is the revision of the
    /// conversation when the user's membership was read, at some time after the sequencer was
    /// created.
    ///
    /// An idle sequencer starts from `stored`: stored steps that have not arrived yet are part of
    /// what the user reads, so they are dropped when they arrive. A running sequencer continues
    /// from what it has emitted, since joined sockets still need the rest.
    ///
    /// Returns `None` if a change after `stored` was committed while the sequencer was idle. The
    /// change may have removed this user, so the store must be queried again.
    pub(in crate::service) fn start(&mut self, stored: Revision) -> Option<Revision> {
        let emitted = match *self {
            // Only changes matter here. A new message is read from the store, but a removal would
            // be overlooked.
            Self::Idle { committed } if committed.changes > stored.changes => return None,
            // Steps up to this revision are no longer emitted live, even if they have not yet
            // arrived from the write worker.
            Self::Idle { committed } => committed.max(stored),
            Self::Running { emitted } => emitted,
        };
        *self = Self::Running { emitted };
        Some(emitted)
    }

    /// Decides what to do with an event of `revision` that must be emitted after `before`.
    ///
    /// This does not advance the sequencer. An event without a step of its own waits for everything
    /// up to its revision.
    pub(in crate::service) fn decide(&self, before: Revision, revision: Revision) -> EmitDecision {
        match *self {
            Self::Idle { .. } => EmitDecision::Unseen,
            Self::Running { emitted } if revision <= emitted => EmitDecision::Past,
            // The preceding step is emitted. Only this step lies between `before` and `revision`.
            Self::Running { emitted } if before <= emitted => EmitDecision::Next,
            Self::Running { emitted } => EmitDecision::Gap(Gap {
                after: emitted,
                through: before,
            }),
        }
    }

    /// Records that everything up to a revision was emitted or given up.
    ///
    /// A client that misses messages finds the gap in their numbers and requests them.
    pub(in crate::service) fn advance(&mut self, through: Revision) {
        let last = self.last();
        // The position never moves back: a late announcement has an earlier revision.
        *last = through.max(*last);
    }

    /// Returns the last revision that was emitted, or `None` if no socket has joined.
    pub(in crate::service) fn emitted(&self) -> Option<Revision> {
        match *self {
            Self::Idle { .. } => None,
            Self::Running { emitted } => Some(emitted),
        }
    }

    /// Returns whether a message was emitted to the joined sockets.
    pub(in crate::service) fn has_emitted(&self, seq: u64) -> bool {
        matches!(self, Self::Running { emitted } if seq <= emitted.seq)
    }

    /// Returns whether the joined sockets have yet to receive a message live.
    pub(in crate::service) fn is_lagging(&self, seq: u64) -> bool {
        matches!(self, Self::Running { emitted } if emitted.seq < seq)
    }

    /// Skips changes that the store no longer retains. The position of messages stays.
    pub(in crate::service) fn forget(&mut self, changes: u64) {
        let last = self.last();
        last.changes = changes.max(last.changes);
    }

    fn last(&mut self) -> &mut Revision {
        let (Self::Idle { committed: last } | Self::Running { emitted: last }) = self;
        last
    }
}

/// The decision about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum EmitDecision {
    /// The event is the next one to emit.
    Next,
    /// The event was emitted before. It is dropped.
    Past,
    /// No socket has joined, so the event has no receivers.
    Unseen,
    /// Earlier stored steps have not arrived. They are read from the store first.
    Gap(Gap),
}

/// Stored steps that have not arrived: after one revision, up to and including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Gap {
    pub(in crate::service) after: Revision,
    pub(in crate::service) through: Revision,
}

#[cfg(test)]
mod tests {
    use super::random::Random;
    use super::*;

    /// Processes a message that leaves the conversation at this revision.
    fn message(sequencer: &mut Sequencer, seq: u64, changes: u64) -> EmitDecision {
        step(
            sequencer,
            at(seq.saturating_sub(1), changes),
            at(seq, changes),
        )
    }

    /// Processes a change that is not a new message, such as an edit.
    fn change(sequencer: &mut Sequencer, seq: u64, changes: u64) -> EmitDecision {
        step(sequencer, at(seq, changes - 1), at(seq, changes))
    }

    fn step(sequencer: &mut Sequencer, before: Revision, revision: Revision) -> EmitDecision {
        let decision = sequencer.decide(before, revision);
        if matches!(decision, EmitDecision::Next | EmitDecision::Unseen) {
            sequencer.advance(revision);
        }
        decision
    }

    fn at(seq: u64, changes: u64) -> Revision {
        Revision { seq, changes }
    }

    fn gap(after: Revision, through: Revision) -> EmitDecision {
        EmitDecision::Gap(Gap { after, through })
    }

    #[test]
    fn each_step_is_emitted_once() {
        let mut sequencer = Sequencer::new();
        assert_eq!(sequencer.start(at(3, 0)), Some(at(3, 0)));
        assert_eq!(message(&mut sequencer, 3, 0), EmitDecision::Past);
        assert_eq!(message(&mut sequencer, 4, 0), EmitDecision::Next);
        assert_eq!(message(&mut sequencer, 4, 0), EmitDecision::Past);
        assert_eq!(change(&mut sequencer, 4, 1), EmitDecision::Next);
        assert_eq!(change(&mut sequencer, 4, 1), EmitDecision::Past);
        assert_eq!(message(&mut sequencer, 5, 1), EmitDecision::Next);
    }

    #[test]
    fn stored_step_before_the_start_is_read_and_not_emitted_live() {
        // 4 and 5 are committed, but 5 has not reached the sequencer when the first socket joins.
        let mut sequencer = Sequencer::new();
        assert_eq!(message(&mut sequencer, 4, 0), EmitDecision::Unseen);
        assert_eq!(sequencer.start(at(5, 0)), Some(at(5, 0)));
        assert_eq!(message(&mut sequencer, 5, 0), EmitDecision::Past);
        assert_eq!(message(&mut sequencer, 6, 0), EmitDecision::Next);
    }

    #[test]
    fn step_that_arrived_after_the_query_is_not_emitted_live() {
        // 5 was stored at the time of the query. 6 was committed and arrived before the sequencer
        // started.
        let mut sequencer = Sequencer::new();
        assert_eq!(message(&mut sequencer, 6, 0), EmitDecision::Unseen);
        assert_eq!(sequencer.start(at(5, 0)), Some(at(6, 0)));
        assert_eq!(message(&mut sequencer, 7, 0), EmitDecision::Next);
    }

    #[test]
    fn membership_is_read_again_after_a_change_while_idle() {
        let mut sequencer = Sequencer::new();
        assert_eq!(change(&mut sequencer, 5, 3), EmitDecision::Unseen);
        assert_eq!(sequencer.start(at(5, 2)), None);
        assert_eq!(sequencer.start(at(5, 3)), Some(at(5, 3)));
        // A running sequencer emits removals, and the removed user has joined by then.
        assert_eq!(change(&mut sequencer, 5, 4), EmitDecision::Next);
        assert_eq!(sequencer.start(at(5, 3)), Some(at(5, 4)));
    }

    #[test]
    fn second_join_continues_from_the_emitted_position() {
        let mut sequencer = Sequencer::new();
        assert_eq!(sequencer.start(at(3, 0)), Some(at(3, 0)));
        // 4 is stored and in flight to the first socket, but not emitted yet.
        assert_eq!(sequencer.start(at(4, 0)), Some(at(3, 0)));
        assert_eq!(message(&mut sequencer, 4, 0), EmitDecision::Next);
    }

    #[test]
    fn early_step_waits_for_missing_steps() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        assert_eq!(message(&mut sequencer, 6, 2), gap(at(3, 1), at(5, 2)));
        assert_eq!(message(&mut sequencer, 4, 1), EmitDecision::Next);
        assert_eq!(change(&mut sequencer, 4, 2), EmitDecision::Next);
        assert_eq!(message(&mut sequencer, 6, 2), gap(at(4, 2), at(5, 2)));
        assert_eq!(message(&mut sequencer, 5, 2), EmitDecision::Next);
        assert_eq!(message(&mut sequencer, 6, 2), EmitDecision::Next);
        sequencer.advance(at(8, 2));
        assert_eq!(message(&mut sequencer, 8, 2), EmitDecision::Past);
        assert_eq!(message(&mut sequencer, 9, 2), EmitDecision::Next);
    }

    #[test]
    fn announcement_takes_no_step() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        assert_eq!(sequencer.decide(at(3, 1), at(3, 1)), EmitDecision::Past);
        assert_eq!(
            sequencer.decide(at(4, 2), at(4, 2)),
            gap(at(3, 1), at(4, 2))
        );
        assert_eq!(message(&mut sequencer, 4, 1), EmitDecision::Next);
    }

    #[test]
    fn messages_are_read_when_changes_are_no_longer_retained() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        sequencer.forget(2000);
        assert_eq!(
            message(&mut sequencer, 9, 2000),
            gap(at(3, 2000), at(8, 2000))
        );
        assert_eq!(change(&mut sequencer, 3, 7), EmitDecision::Past);
    }

    /// Steps arrive lost, duplicated and in any order, as from two servers. Gaps are read page by
    /// page.
    #[test]
    fn lost_and_duplicate_steps_are_emitted_once_in_order() {
        for seed in 1..200 {
            let mut random = Random::new(seed);
            // The revision of the conversation after each step, from some earlier start.
            let mut chain = vec![at(random.below(5) as u64, random.below(5) as u64)];
            for _ in 0..60 {
                let mut next = chain[chain.len() - 1];
                if random.below(3) == 0 {
                    next.changes += 1;
                } else {
                    next.seq += 1;
                }
                chain.push(next);
            }
            let mut sequencer = Sequencer::new();
            let start = sequencer.start(chain[0]).unwrap();
            let mut shown = vec![start];
            let mut arriving = Vec::new();
            for index in 1..chain.len() {
                let times = random.below(5).min(2);
                arriving.extend(vec![index; times]);
            }
            for index in 0..arriving.len() {
                let other = index + random.below(4);
                let other = other.min(arriving.len() - 1);
                arriving.swap(index, other);
            }
            arriving.push(chain.len() - 1);
            for index in arriving {
                let (before, revision) = if random.below(4) == 0 {
                    (chain[index], chain[index])
                } else {
                    (chain[index - 1], chain[index])
                };
                while let EmitDecision::Gap(gap) = sequencer.decide(before, revision) {
                    let page = 1 + random.below(7);
                    let missing = chain
                        .iter()
                        .filter(|step| **step > gap.after && **step <= gap.through);
                    for &step in missing.take(page) {
                        sequencer.advance(step);
                        shown.push(step);
                    }
                }
                if sequencer.decide(before, revision) == EmitDecision::Next {
                    sequencer.advance(revision);
                    shown.push(revision);
                }
            }
            assert_eq!(shown, chain, "seed {seed}");
        }
    }
}
