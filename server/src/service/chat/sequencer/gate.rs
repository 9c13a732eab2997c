//! The gate of one conversation: it lets each message out once, and knows which was the last.

/// What has been let out, so that whoever joins knows where live messages begin.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) enum Gate {
    /// Nobody has joined yet. What came by meanwhile was shown to nobody.
    Shut {
        /// The greatest `seq` that came by.
        passed: u64,
    },
    /// Somebody is here, and has everything up to `emitted`.
    Open {
        /// The last `seq` that was emitted.
        emitted: u64,
    },
}

impl Gate {
    pub(in crate::service) fn new() -> Self {
        Self::Shut { passed: 0 }
    }

    /// Opens for somebody who joins, and says the last `seq` that will not come by live any more.
    ///
    /// `stored` is the greatest `seq` that was stored at some moment after the gate was made. A shut
    /// gate starts from there: what is stored but has not come by yet is part of what the first to
    /// join reads, so it is held back when it comes. An open gate goes on from what was emitted,
    /// since those who are here wait for the rest.
    pub(in crate::service) fn open(&mut self, stored: u64) -> u64 {
        let emitted = match *self {
            Self::Shut { passed } => passed.max(stored),
            Self::Open { emitted } => emitted,
        };
        *self = Self::Open { emitted };
        emitted
    }

    /// What to do with a message that comes by. Each `seq` is let out once, in order.
    pub(in crate::service) fn pass(&mut self, seq: u64) -> Passage {
        match self {
            Self::Shut { passed } => {
                *passed = seq.max(*passed);
                Passage::Unseen
            }
            Self::Open { emitted } if seq <= *emitted => Passage::Past,
            Self::Open { emitted } if seq == *emitted + 1 => {
                *emitted = seq;
                Passage::Next
            }
            Self::Open { emitted } => Passage::Gap(Gap {
                after: *emitted,
                through: seq - 1,
            }),
        }
    }

    /// What to do with the news that a message has changed.
    pub(in crate::service) fn look(&self, seq: u64) -> Passage {
        match *self {
            Self::Shut { .. } => Passage::Unseen,
            Self::Open { emitted } if seq <= emitted => Passage::Next,
            Self::Open { emitted } => Passage::Gap(Gap {
                after: emitted,
                through: seq,
            }),
        }
    }

    /// Gives up what is missing up to a `seq`: those who are here find the gap in the numbers, and
    /// catch up.
    pub(in crate::service) fn skip(&mut self, through: u64) {
        match self {
            Self::Shut { passed } => *passed = through.max(*passed),
            Self::Open { emitted } => *emitted = through.max(*emitted),
        }
    }
}

/// What the gate says to one that comes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum Passage {
    /// It is its turn.
    Next,
    /// It was let out before.
    Past,
    /// Nobody is here to see it.
    Unseen,
    /// Others are stored before it that have not come by.
    Gap(Gap),
}

/// Messages that are stored and have not come by: after one `seq`, up to and with another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) struct Gap {
    pub(in crate::service) after: u64,
    pub(in crate::service) through: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_gate_lets_each_message_out_once() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(3), 3);
        assert_eq!(gate.pass(3), Passage::Past);
        assert_eq!(gate.pass(4), Passage::Next);
        assert_eq!(gate.pass(4), Passage::Past);
        assert_eq!(gate.pass(5), Passage::Next);
    }

    #[test]
    fn what_is_stored_but_has_not_come_by_is_read_and_not_seen_live() {
        // 4 and 5 are committed, 5 has not reached the gate when the first one joins.
        let mut gate = Gate::new();
        assert_eq!(gate.pass(4), Passage::Unseen);
        assert_eq!(gate.open(5), 5);
        assert_eq!(gate.pass(5), Passage::Past);
        assert_eq!(gate.pass(6), Passage::Next);
    }

    #[test]
    fn what_came_by_after_reading_is_read_again() {
        // 5 was stored when it was asked, and 6 was stored and came by before the gate opened.
        let mut gate = Gate::new();
        assert_eq!(gate.pass(6), Passage::Unseen);
        assert_eq!(gate.open(5), 6);
        assert_eq!(gate.pass(7), Passage::Next);
    }

    #[test]
    fn a_second_one_joins_where_the_first_is_and_takes_nothing_away() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(3), 3);
        // 4 is stored, on its way to the first, and not emitted yet.
        assert_eq!(gate.open(4), 3);
        assert_eq!(gate.pass(4), Passage::Next);
    }

    #[test]
    fn one_that_comes_too_early_waits_for_those_before_it() {
        let mut gate = Gate::new();
        gate.open(3);
        let gap = Gap {
            after: 3,
            through: 5,
        };
        assert_eq!(gate.pass(6), Passage::Gap(gap));
        assert_eq!(gate.pass(4), Passage::Next);
        assert_eq!(gate.pass(5), Passage::Next);
        assert_eq!(gate.pass(6), Passage::Next);
        gate.skip(8);
        assert_eq!(gate.pass(8), Passage::Past);
        assert_eq!(gate.pass(9), Passage::Next);
    }

    #[test]
    fn a_change_is_told_to_those_who_have_seen_the_message() {
        let mut gate = Gate::new();
        assert_eq!(gate.look(1), Passage::Unseen);
        gate.open(3);
        assert_eq!(gate.look(3), Passage::Next);
        let gap = Gap {
            after: 3,
            through: 4,
        };
        assert_eq!(gate.look(4), Passage::Gap(gap));
        assert_eq!(gate.pass(4), Passage::Next);
        assert_eq!(gate.look(4), Passage::Next);
    }
}
