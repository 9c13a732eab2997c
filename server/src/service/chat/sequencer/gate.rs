//! The sequencer of one conversation: every step is emitted once, in order, and the last one is known.

use crate::store::Revision;

/// How far a conversation has been emitted, so that whoever joins knows where live events begin.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) enum Gate {
    /// Nobody has joined yet, so what was committed meanwhile was not emitted.
    Shut {
        /// The greatest revision that was committed meanwhile.
        passed: Revision,
    },
    /// At least one socket has joined, and those that have got everything up to `emitted`.
    Open {
        /// The last revision that was emitted.
        emitted: Revision,
    },
}

impl Gate {
    pub(in crate::service) fn new() -> Self {
        Self::Shut {
            passed: Revision::default(),
        }
    }

    /// Opens the gate for a user who joins, and returns the last revision that will not be emitted live.
    ///
    /// `stored` is how far the conversation had come when the store was asked whether the user is a
    /// member, at some moment after the gate was made. A shut gate starts from there: what is stored but
    /// has not arrived here yet is part of what the user reads, so it is dropped when it arrives. An open
    /// gate goes on from what was emitted, since those who have joined wait for the rest.
    ///
    /// Returns `None` if a change was committed while the gate was shut and after `stored`: it may have
    /// been the removal of this user, so the store has to be asked again.
    pub(in crate::service) fn open(&mut self, stored: Revision) -> Option<Revision> {
        let emitted = match *self {
            Self::Shut { passed } if passed.changes > stored.changes => return None,
            Self::Shut { passed } => passed.max(stored),
            Self::Open { emitted } => emitted,
        };
        *self = Self::Open { emitted };
        Some(emitted)
    }

    /// Decides about an event of a revision that must be emitted after the revision `before`. Nothing is
    /// emitted by asking. An event that takes no step of its own waits for everything up to its revision.
    pub(in crate::service) fn look(&self, before: Revision, revision: Revision) -> Passage {
        match *self {
            Self::Shut { .. } => Passage::Unseen,
            Self::Open { emitted } if revision <= emitted => Passage::Past,
            Self::Open { emitted } if before <= emitted => Passage::Next,
            Self::Open { emitted } => Passage::Gap(Gap {
                after: emitted,
                through: before,
            }),
        }
    }

    /// Notes that everything up to a revision was emitted, or given up: a client that misses messages
    /// finds the gap in their numbers, and catches up.
    pub(in crate::service) fn advance(&mut self, through: Revision) {
        match self {
            Self::Shut { passed } => *passed = through.max(*passed),
            Self::Open { emitted } => *emitted = through.max(*emitted),
        }
    }

    /// Whether a message was emitted to those who have joined.
    pub(in crate::service) fn has_emitted(&self, seq: u64) -> bool {
        matches!(self, Self::Open { emitted } if seq <= emitted.seq)
    }

    /// Whether those who have joined are still to get a message live.
    pub(in crate::service) fn is_behind(&self, seq: u64) -> bool {
        matches!(self, Self::Open { emitted } if emitted.seq < seq)
    }

    /// Gives up changes that the store does not keep any more. Messages go on where they were.
    pub(in crate::service) fn forget(&mut self, changes: u64) {
        let (Self::Shut { passed: last } | Self::Open { emitted: last }) = self;
        last.changes = changes.max(last.changes);
    }
}

/// What is to become of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Passage {
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
    use super::*;

    /// A message, and how far the conversation has come with it.
    fn pass(gate: &mut Gate, seq: u64, changes: u64) -> Passage {
        step(gate, at(seq.saturating_sub(1), changes), at(seq, changes))
    }

    /// An edit or whatever else is no message.
    fn change(gate: &mut Gate, seq: u64, changes: u64) -> Passage {
        step(gate, at(seq, changes - 1), at(seq, changes))
    }

    fn step(gate: &mut Gate, before: Revision, revision: Revision) -> Passage {
        let passage = gate.look(before, revision);
        if matches!(passage, Passage::Next | Passage::Unseen) {
            gate.advance(revision);
        }
        passage
    }

    fn at(seq: u64, changes: u64) -> Revision {
        Revision { seq, changes }
    }

    fn gap(after: Revision, through: Revision) -> Passage {
        Passage::Gap(Gap { after, through })
    }

    #[test]
    fn an_open_gate_lets_each_step_out_once() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(at(3, 0)), Some(at(3, 0)));
        assert_eq!(pass(&mut gate, 3, 0), Passage::Past);
        assert_eq!(pass(&mut gate, 4, 0), Passage::Next);
        assert_eq!(pass(&mut gate, 4, 0), Passage::Past);
        assert_eq!(change(&mut gate, 4, 1), Passage::Next);
        assert_eq!(change(&mut gate, 4, 1), Passage::Past);
        assert_eq!(pass(&mut gate, 5, 1), Passage::Next);
    }

    #[test]
    fn what_is_stored_but_has_not_come_by_is_read_and_not_seen_live() {
        // 4 and 5 are committed, 5 has not reached the gate when the first one joins.
        let mut gate = Gate::new();
        assert_eq!(pass(&mut gate, 4, 0), Passage::Unseen);
        assert_eq!(gate.open(at(5, 0)), Some(at(5, 0)));
        assert_eq!(pass(&mut gate, 5, 0), Passage::Past);
        assert_eq!(pass(&mut gate, 6, 0), Passage::Next);
    }

    #[test]
    fn what_came_by_after_reading_is_read_again() {
        // 5 was stored when it was asked, and 6 was stored and came by before the gate opened.
        let mut gate = Gate::new();
        assert_eq!(pass(&mut gate, 6, 0), Passage::Unseen);
        assert_eq!(gate.open(at(5, 0)), Some(at(6, 0)));
        assert_eq!(pass(&mut gate, 7, 0), Passage::Next);
    }

    #[test]
    fn who_may_have_been_removed_before_the_gate_opened_is_looked_for_again() {
        let mut gate = Gate::new();
        assert_eq!(change(&mut gate, 5, 3), Passage::Unseen);
        assert_eq!(gate.open(at(5, 2)), None);
        assert_eq!(gate.open(at(5, 3)), Some(at(5, 3)));
        // An open gate tells of what comes, and who is removed by it is here by then.
        assert_eq!(change(&mut gate, 5, 4), Passage::Next);
        assert_eq!(gate.open(at(5, 3)), Some(at(5, 4)));
    }

    #[test]
    fn a_second_one_joins_where_the_first_is_and_takes_nothing_away() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(at(3, 0)), Some(at(3, 0)));
        // 4 is stored, on its way to the first, and not emitted yet.
        assert_eq!(gate.open(at(4, 0)), Some(at(3, 0)));
        assert_eq!(pass(&mut gate, 4, 0), Passage::Next);
    }

    #[test]
    fn one_that_comes_too_early_waits_for_those_before_it() {
        let mut gate = Gate::new();
        gate.open(at(3, 1));
        assert_eq!(pass(&mut gate, 6, 2), gap(at(3, 1), at(5, 2)));
        assert_eq!(pass(&mut gate, 4, 1), Passage::Next);
        assert_eq!(change(&mut gate, 4, 2), Passage::Next);
        assert_eq!(pass(&mut gate, 6, 2), gap(at(4, 2), at(5, 2)));
        assert_eq!(pass(&mut gate, 5, 2), Passage::Next);
        assert_eq!(pass(&mut gate, 6, 2), Passage::Next);
        gate.advance(at(8, 2));
        assert_eq!(pass(&mut gate, 8, 2), Passage::Past);
        assert_eq!(pass(&mut gate, 9, 2), Passage::Next);
    }

    #[test]
    fn what_is_announced_takes_no_step() {
        let mut gate = Gate::new();
        gate.open(at(3, 1));
        assert_eq!(gate.look(at(3, 1), at(3, 1)), Passage::Past);
        assert_eq!(gate.look(at(4, 2), at(4, 2)), gap(at(3, 1), at(4, 2)));
        assert_eq!(pass(&mut gate, 4, 1), Passage::Next);
    }

    #[test]
    fn messages_are_looked_for_where_changes_are_forgotten() {
        let mut gate = Gate::new();
        gate.open(at(3, 1));
        gate.forget(2000);
        assert_eq!(pass(&mut gate, 9, 2000), gap(at(3, 2000), at(8, 2000)));
        assert_eq!(change(&mut gate, 3, 7), Passage::Past);
    }

    /// Steps of a conversation come by lost, doubled and in any order, as those of two servers would; gaps
    /// are read page by page from what is stored.
    #[test]
    fn whatever_comes_by_every_step_is_let_out_once_and_in_order() {
        for seed in 1..200 {
            let mut random = Random(seed);
            // Where the conversation stood after each step, from some earlier beginning on.
            let mut chain = vec![at(random.below(5), random.below(5))];
            for _ in 0..60 {
                let mut next = chain[chain.len() - 1];
                if random.below(3) == 0 {
                    next.changes += 1;
                } else {
                    next.seq += 1;
                }
                chain.push(next);
            }
            let mut gate = Gate::new();
            let start = gate.open(chain[0]).unwrap();
            let mut shown = vec![start];
            let mut arriving = Vec::new();
            for index in 1..chain.len() {
                let times = usize::try_from(random.below(5)).unwrap().min(2);
                arriving.extend(vec![index; times]);
            }
            for index in 0..arriving.len() {
                let other = index + usize::try_from(random.below(4)).unwrap();
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
                while let Passage::Gap(gap) = gate.look(before, revision) {
                    let page = 1 + usize::try_from(random.below(7)).unwrap();
                    let missing = chain
                        .iter()
                        .filter(|step| **step > gap.after && **step <= gap.through);
                    for &step in missing.take(page) {
                        gate.advance(step);
                        shown.push(step);
                    }
                }
                if gate.look(before, revision) == Passage::Next {
                    gate.advance(revision);
                    shown.push(revision);
                }
            }
            assert_eq!(shown, chain, "seed {seed}");
        }
    }

    /// A generator of the linear congruential kind.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % limit
        }
    }
}
