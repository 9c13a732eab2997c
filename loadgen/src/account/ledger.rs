//! What a sender has sent, and which of it has come to a receiver, and how.

/// What one receiver has got of one sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// One more than the highest number seen.
    next: u64,
    /// Different messages received.
    received: u64,
    /// Numbers below `next` that have not come, ascending; at most [`MAX_MISSING`].
    missing: Vec<u64>,
    /// How many further messages have not come, of which only the number is known.
    uncounted: u64,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The message came after all that were sent before it and have come.
    InOrder,
    /// The message came after one that was sent later.
    Late,
    /// The message has come before.
    Duplicate,
}

impl Track {
    /// Takes the message of this number.
    pub(crate) fn take(&mut self, number: u64) -> Arrival {
        if number >= self.next {
            for number in self.next..number {
                if self.missing.len() < MAX_MISSING {
                    self.missing.push(number);
                } else {
                    self.uncounted += 1;
                }
            }
            self.next = number.saturating_add(1);
            self.received += 1;
            return Arrival::InOrder;
        }
        if let Ok(at) = self.missing.binary_search(&number) {
            self.missing.remove(at);
        } else if self.uncounted > 0 {
            self.uncounted -= 1;
        } else {
            return Arrival::Duplicate;
        }
        self.received += 1;
        Arrival::Late
    }

    /// How many different messages have come.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// How many have not come although a later one has; those in `excused` (ascending) do not count.
    pub(crate) fn holes(&self, excused: &[u64]) -> u64 {
        let missing = self.missing.iter();
        let lost = missing.filter(|number| excused.binary_search(number).is_err());
        lost.count() as u64 + self.uncounted
    }

    /// How many of `sent` have not come behind the last one that has.
    pub(crate) fn tail(&self, sent: u64, excused: &[u64]) -> u64 {
        let first = excused.partition_point(|&number| number < self.next);
        let last = excused.partition_point(|&number| number < sent);
        let excused = last.saturating_sub(first) as u64;
        sent.saturating_sub(self.next).saturating_sub(excused)
    }
}

/// What a sender has sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Total {
    /// One more than the highest number of the sender.
    pub(crate) sent: u64,
    /// Numbers that nobody can expect: not sent, or refused by the server. Ascending.
    pub(crate) excused: Vec<u64>,
    /// Numbers whose acknowledgement has not come.
    pub(crate) unanswered: Vec<u64>,
    /// Whether its connection ended, so that nobody knows what of its last messages left.
    pub(crate) ended: bool,
}

const MAX_MISSING: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(numbers: &[u64]) -> (Track, Vec<Arrival>) {
        let mut track = Track::default();
        let arrivals = numbers.iter().map(|&number| track.take(number)).collect();
        (track, arrivals)
    }

    #[test]
    fn messages_in_order_leave_nothing_to_tell() {
        let (track, arrivals) = taken(&[0, 1, 2]);
        assert_eq!(arrivals, [Arrival::InOrder; 3]);
        assert_eq!(
            (track.received(), track.holes(&[]), track.tail(3, &[])),
            (3, 0, 0)
        );
    }

    #[test]
    fn a_message_that_never_comes_is_a_hole_or_a_tail() {
        let (track, _) = taken(&[1, 4]);
        assert_eq!(track.holes(&[]), 3);
        assert_eq!(track.tail(7, &[]), 2);
        assert_eq!(Track::default().tail(7, &[]), 7);
    }

    #[test]
    fn a_message_behind_a_later_one_is_late_and_no_loss() {
        let (track, arrivals) = taken(&[0, 2, 1, 3]);
        assert_eq!(arrivals[2], Arrival::Late);
        assert_eq!(
            (track.received(), track.holes(&[]), track.tail(4, &[])),
            (4, 0, 0)
        );
    }

    #[test]
    fn a_message_that_comes_again_is_a_duplicate() {
        let (track, arrivals) = taken(&[0, 1, 1, 0, 3, 2, 2]);
        let doubled = arrivals
            .iter()
            .filter(|&&a| a == Arrival::Duplicate)
            .count();
        assert_eq!((doubled, track.received()), (3, 4));
    }

    #[test]
    fn what_was_never_sent_is_not_lost() {
        let (track, _) = taken(&[0, 3]);
        assert_eq!(track.holes(&[1, 2]), 0);
        assert_eq!(track.holes(&[2]), 1);
        assert_eq!(track.tail(7, &[2, 4, 6, 9]), 1);
    }

    #[test]
    fn more_holes_than_are_remembered_still_count() {
        let sent = MAX_MISSING as u64 + 10;
        let (mut track, _) = taken(&[sent]);
        assert_eq!(track.holes(&[]), sent);
        assert_eq!(track.take(sent - 1), Arrival::Late);
        assert_eq!(track.holes(&[]), sent - 1);
    }
}
