//! The order of the steps of one conversation: each is emitted once, and a step before which others are
//! missing is told as a gap.

use crate::store::Revision;

#[cfg(test)]
#[path = "../../../../../tests/support/random.rs"]
mod random;

/// How far a conversation has been emitted, so that whoever joins knows where live events begin.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) enum Sequencer {
    /// Nobody has joined yet, so what was committed meanwhile was not emitted.
    Idle {
        /// The greatest revision that was committed meanwhile.
        committed: Revision,
    },
    /// At least one socket has joined, and all sockets that have joined got everything up to `emitted`.
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

    /// Starts for a user who joins, and returns the last revision that will not be emitted live.
    ///
    /// `stored` is how far the conversation had come when the store was asked whether the user is a
    /// member, at some moment after the sequencer was made. An idle sequencer starts from there: what is
    /// stored but has not arrived here yet is part of what the user reads, so it is dropped when it
    /// arrives. A running one goes on from what was emitted, since those who have joined wait for the rest.
    ///
    /// Returns `None` if a change was committed while the sequencer was idle and after `stored`: the change
    /// may have been the removal of this user, so the store has to be asked again.
    pub(in crate::service) fn start(&mut self, stored: Revision) -> Option<Revision> {
        let emitted = match *self {
            // Only changes matter here: a message that was committed meanwhile is read from the
            // store, while a removal would be overlooked.
            Self::Idle { committed } if committed.changes > stored.changes => return None,
            // Nothing up to there is emitted live any more, whether it has come out of the lane yet
            // or not.
            Self::Idle { committed } => committed.max(stored),
            Self::Running { emitted } => emitted,
        };
        *self = Self::Running { emitted };
        Some(emitted)
    }

    /// Decides about an event of a revision that must be emitted after the revision `before`. Nothing is
    /// emitted by asking. An event that takes no step of its own waits for everything up to its revision.
    pub(in crate::service) fn look(&self, before: Revision, revision: Revision) -> Verdict {
        match *self {
            Self::Idle { .. } => Verdict::Unseen,
            Self::Running { emitted } if revision <= emitted => Verdict::Past,
            // The step before it is emitted; what lies between `before` and `revision` is this step
            // alone.
            Self::Running { emitted } if before <= emitted => Verdict::Next,
            Self::Running { emitted } => Verdict::Gap(Gap {
                after: emitted,
                through: before,
            }),
        }
    }

    /// Notes that everything up to a revision was emitted, or given up: a client that misses messages
    /// finds the gap in their numbers, and catches up.
    pub(in crate::service) fn advance(&mut self, through: Revision) {
        let last = self.last();
        // The place never goes back: a late announcement names an earlier one.
        *last = through.max(*last);
    }

    /// The last revision that was emitted to those who have joined; `None` if nobody has.
    pub(in crate::service) fn emitted(&self) -> Option<Revision> {
        match *self {
            Self::Idle { .. } => None,
            Self::Running { emitted } => Some(emitted),
        }
    }

    /// Whether a message was emitted to those who have joined.
    pub(in crate::service) fn has_emitted(&self, seq: u64) -> bool {
        matches!(self, Self::Running { emitted } if seq <= emitted.seq)
    }

    /// Whether those who have joined are still to get a message live.
    pub(in crate::service) fn is_behind(&self, seq: u64) -> bool {
        matches!(self, Self::Running { emitted } if emitted.seq < seq)
    }

    /// Gives up changes that the store does not keep any more. Messages go on where they were.
    pub(in crate::service) fn forget(&mut self, changes: u64) {
        let last = self.last();
        last.changes = changes.max(last.changes);
    }

    fn last(&mut self) -> &mut Revision {
        let (Self::Idle { committed: last } | Self::Running { emitted: last }) = self;
        last
    }
}

/// What is to become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Verdict {
    /// The event is the next one to be emitted.
    Next,
    /// The event was emitted before, and is dropped.
    Past,
    /// Nobody has joined, so the event is emitted to nobody.
    Unseen,
    /// Earlier steps are stored that have not arrived here; they are read from the store first.
    Gap(Gap),
}

/// The stored steps that have not arrived: after one revision, up to and including another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Gap {
    pub(in crate::service) after: Revision,
    pub(in crate::service) through: Revision,
}

#[cfg(test)]
mod tests {
    use super::random::Random;
    use super::*;

    /// A message, and how far the conversation has come with it.
    fn message(sequencer: &mut Sequencer, seq: u64, changes: u64) -> Verdict {
        step(
            sequencer,
            at(seq.saturating_sub(1), changes),
            at(seq, changes),
        )
    }

    /// An edit or whatever else is no message.
    fn change(sequencer: &mut Sequencer, seq: u64, changes: u64) -> Verdict {
        step(sequencer, at(seq, changes - 1), at(seq, changes))
    }

    fn step(sequencer: &mut Sequencer, before: Revision, revision: Revision) -> Verdict {
        let verdict = sequencer.look(before, revision);
        if matches!(verdict, Verdict::Next | Verdict::Unseen) {
            sequencer.advance(revision);
        }
        verdict
    }

    fn at(seq: u64, changes: u64) -> Revision {
        Revision { seq, changes }
    }

    fn gap(after: Revision, through: Revision) -> Verdict {
        Verdict::Gap(Gap { after, through })
    }

    #[test]
    fn an_open_gate_lets_each_step_out_once() {
        let mut sequencer = Sequencer::new();
        assert_eq!(sequencer.start(at(3, 0)), Some(at(3, 0)));
        assert_eq!(message(&mut sequencer, 3, 0), Verdict::Past);
        assert_eq!(message(&mut sequencer, 4, 0), Verdict::Next);
        assert_eq!(message(&mut sequencer, 4, 0), Verdict::Past);
        assert_eq!(change(&mut sequencer, 4, 1), Verdict::Next);
        assert_eq!(change(&mut sequencer, 4, 1), Verdict::Past);
        assert_eq!(message(&mut sequencer, 5, 1), Verdict::Next);
    }

    #[test]
    fn what_is_stored_but_has_not_come_by_is_read_and_not_seen_live() {
        // 4 and 5 are committed, 5 has not reached the sequencer when the first one joins.
        let mut sequencer = Sequencer::new();
        assert_eq!(message(&mut sequencer, 4, 0), Verdict::Unseen);
        assert_eq!(sequencer.start(at(5, 0)), Some(at(5, 0)));
        assert_eq!(message(&mut sequencer, 5, 0), Verdict::Past);
        assert_eq!(message(&mut sequencer, 6, 0), Verdict::Next);
    }

    #[test]
    fn what_came_by_after_reading_is_read_again() {
        // 5 was stored when it was asked, and 6 was stored and came by before the sequencer opened.
        let mut sequencer = Sequencer::new();
        assert_eq!(message(&mut sequencer, 6, 0), Verdict::Unseen);
        assert_eq!(sequencer.start(at(5, 0)), Some(at(6, 0)));
        assert_eq!(message(&mut sequencer, 7, 0), Verdict::Next);
    }

    #[test]
    fn who_may_have_been_removed_before_the_gate_opened_is_looked_for_again() {
        let mut sequencer = Sequencer::new();
        assert_eq!(change(&mut sequencer, 5, 3), Verdict::Unseen);
        assert_eq!(sequencer.start(at(5, 2)), None);
        assert_eq!(sequencer.start(at(5, 3)), Some(at(5, 3)));
        // An open sequencer tells of what comes, and who is removed by it is here by then.
        assert_eq!(change(&mut sequencer, 5, 4), Verdict::Next);
        assert_eq!(sequencer.start(at(5, 3)), Some(at(5, 4)));
    }

    #[test]
    fn a_second_one_joins_where_the_first_is_and_takes_nothing_away() {
        let mut sequencer = Sequencer::new();
        assert_eq!(sequencer.start(at(3, 0)), Some(at(3, 0)));
        // 4 is stored, on its way to the first, and not emitted yet.
        assert_eq!(sequencer.start(at(4, 0)), Some(at(3, 0)));
        assert_eq!(message(&mut sequencer, 4, 0), Verdict::Next);
    }

    #[test]
    fn one_that_comes_too_early_waits_for_those_before_it() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        assert_eq!(message(&mut sequencer, 6, 2), gap(at(3, 1), at(5, 2)));
        assert_eq!(message(&mut sequencer, 4, 1), Verdict::Next);
        assert_eq!(change(&mut sequencer, 4, 2), Verdict::Next);
        assert_eq!(message(&mut sequencer, 6, 2), gap(at(4, 2), at(5, 2)));
        assert_eq!(message(&mut sequencer, 5, 2), Verdict::Next);
        assert_eq!(message(&mut sequencer, 6, 2), Verdict::Next);
        sequencer.advance(at(8, 2));
        assert_eq!(message(&mut sequencer, 8, 2), Verdict::Past);
        assert_eq!(message(&mut sequencer, 9, 2), Verdict::Next);
    }

    #[test]
    fn what_is_announced_takes_no_step() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        assert_eq!(sequencer.look(at(3, 1), at(3, 1)), Verdict::Past);
        assert_eq!(sequencer.look(at(4, 2), at(4, 2)), gap(at(3, 1), at(4, 2)));
        assert_eq!(message(&mut sequencer, 4, 1), Verdict::Next);
    }

    #[test]
    fn messages_are_looked_for_where_changes_are_forgotten() {
        let mut sequencer = Sequencer::new();
        sequencer.start(at(3, 1));
        sequencer.forget(2000);
        assert_eq!(
            message(&mut sequencer, 9, 2000),
            gap(at(3, 2000), at(8, 2000))
        );
        assert_eq!(change(&mut sequencer, 3, 7), Verdict::Past);
    }

    /// Steps of a conversation come by lost, doubled and in any order, as those of two servers would; gaps
    /// are read page by page from what is stored.
    #[test]
    fn whatever_comes_by_every_step_is_let_out_once_and_in_order() {
        for seed in 1..200 {
            let mut random = Random::new(seed);
            // Where the conversation stood after each step, from some earlier beginning on.
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
                while let Verdict::Gap(gap) = sequencer.look(before, revision) {
                    let page = 1 + random.below(7);
                    let missing = chain
                        .iter()
                        .filter(|step| **step > gap.after && **step <= gap.through);
                    for &step in missing.take(page) {
                        sequencer.advance(step);
                        shown.push(step);
                    }
                }
                if sequencer.look(before, revision) == Verdict::Next {
                    sequencer.advance(revision);
                    shown.push(revision);
                }
            }
            assert_eq!(shown, chain, "seed {seed}");
        }
    }
}
