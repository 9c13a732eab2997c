//! The gate of one conversation: it lets each message out once, and knows which was the last.

/// What has been let out, so that whoever joins knows where live messages begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gate {
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
    pub(super) fn new() -> Self {
        Self::Shut { passed: 0 }
    }

    /// Opens for somebody who joins, and says the last `seq` that will not come by live any more.
    ///
    /// `stored` is the greatest `seq` that was stored at some moment after the gate was made. A shut
    /// gate starts from there: what is stored but has not come by yet is part of what the first to
    /// join reads, so it is held back when it comes. An open gate goes on from what was emitted,
    /// since those who are here wait for the rest.
    pub(super) fn open(&mut self, stored: u64) -> u64 {
        let emitted = match *self {
            Self::Shut { passed } => passed.max(stored),
            Self::Open { emitted } => emitted,
        };
        *self = Self::Open { emitted };
        emitted
    }

    /// Whether a message that comes by is to be emitted. Each `seq` is let out once, in order.
    pub(super) fn lets_out(&mut self, seq: u64) -> bool {
        match self {
            Self::Shut { passed } => {
                *passed = seq.max(*passed);
                false
            }
            Self::Open { emitted } => {
                let next = seq > *emitted;
                if next {
                    *emitted = seq;
                }
                next
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_gate_lets_each_message_out_once() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(3), 3);
        assert!(!gate.lets_out(3));
        assert!(gate.lets_out(4));
        assert!(!gate.lets_out(4));
        assert!(gate.lets_out(5));
    }

    #[test]
    fn what_is_stored_but_has_not_come_by_is_read_and_not_seen_live() {
        // 4 and 5 are committed, 5 has not reached the gate when the first one joins.
        let mut gate = Gate::new();
        assert!(!gate.lets_out(4));
        assert_eq!(gate.open(5), 5);
        assert!(!gate.lets_out(5));
        assert!(gate.lets_out(6));
    }

    #[test]
    fn what_came_by_after_reading_is_read_again() {
        // 5 was stored when it was asked, and 6 was stored and came by before the gate opened.
        let mut gate = Gate::new();
        assert!(!gate.lets_out(6));
        assert_eq!(gate.open(5), 6);
        assert!(gate.lets_out(7));
    }

    #[test]
    fn a_second_one_joins_where_the_first_is_and_takes_nothing_away() {
        let mut gate = Gate::new();
        assert_eq!(gate.open(3), 3);
        // 4 is stored, on its way to the first, and not emitted yet.
        assert_eq!(gate.open(4), 3);
        assert!(gate.lets_out(4));
    }
}
