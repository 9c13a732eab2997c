//! Compares the messages that a sender has sent with those that a receiver has received.

/// The messages that one receiver has received from one sender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Track {
    /// One more than the highest number seen.
    next: u64,
    /// The number of different messages received.
    received: u64,
    /// The numbers below `next` that are missing, ascending; at most [`MAX_MISSING`].
    missing: Vec<u64>,
    /// The count of further missing messages, whose numbers are not stored.
    uncounted: u64,
}

/// The order in which a message arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The message arrived after all received messages that were sent before it.
    InOrder,
    /// The message arrived after a message that was sent later.
    OutOfOrder,
    /// The message has arrived before.
    Duplicate,
}

impl Track {
    /// Records the message of this number.
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
        Arrival::OutOfOrder
    }

    /// Returns the number of different messages received.
    pub(crate) const fn received(&self) -> u64 {
        self.received
    }

    /// Returns how many messages are missing although a later message arrived, not counting
    /// `excused` (ascending).
    pub(crate) fn holes(&self, excused: &[u64]) -> u64 {
        let missing = self.missing.iter();
        let lost = missing.filter(|number| excused.binary_search(number).is_err());
        lost.count() as u64 + self.uncounted
    }

    /// Returns how many of `sent` messages are missing after the last received message.
    pub(crate) fn tail(&self, sent: u64, excused: &[u64]) -> u64 {
        let first = excused.partition_point(|&number| number < self.next);
        let last = excused.partition_point(|&number| number < sent);
        let excused = last.saturating_sub(first) as u64;
        sent.saturating_sub(self.next).saturating_sub(excused)
    }
}

/// The messages that a sender has sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct SenderTotal {
    /// One more than the highest number of the sender.
    pub(crate) sent: u64,
    /// Numbers of messages that are not expected: not sent, or refused by the server. Ascending.
    pub(crate) excused: Vec<u64>,
    /// Numbers of messages without an acknowledgement.
    pub(crate) unanswered: Vec<u64>,
    /// Whether its connection ended, so that it is unknown which of its last messages were sent.
    pub(crate) ended: bool,
}

impl SenderTotal {
    /// Returns how many messages are expected at each receiver.
    pub(crate) fn expected(&self) -> u64 {
        self.sent.saturating_sub(self.excused.len() as u64)
    }
}

const MAX_MISSING: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals_of(numbers: &[u64]) -> (Track, Vec<Arrival>) {
        let mut track = Track::default();
        let arrivals = numbers.iter().map(|&number| track.take(number)).collect();
        (track, arrivals)
    }

    #[test]
    fn messages_in_order_have_no_faults() {
        let (track, arrivals) = arrivals_of(&[0, 1, 2]);
        assert_eq!(arrivals, [Arrival::InOrder; 3]);
        assert_eq!(
            (track.received(), track.holes(&[]), track.tail(3, &[])),
            (3, 0, 0)
        );
    }

    #[test]
    fn missing_message_counts_as_hole_or_tail() {
        let (track, _) = arrivals_of(&[1, 4]);
        assert_eq!(track.holes(&[]), 3);
        assert_eq!(track.tail(7, &[]), 2);
        assert_eq!(Track::default().tail(7, &[]), 7);
    }

    #[test]
    fn message_after_a_later_one_is_out_of_order_not_lost() {
        let (track, arrivals) = arrivals_of(&[0, 2, 1, 3]);
        assert_eq!(arrivals[2], Arrival::OutOfOrder);
        assert_eq!(
            (track.received(), track.holes(&[]), track.tail(4, &[])),
            (4, 0, 0)
        );
    }

    #[test]
    fn repeated_message_is_a_duplicate() {
        let (track, arrivals) = arrivals_of(&[0, 1, 1, 0, 3, 2, 2]);
        let doubled = arrivals
            .iter()
            .filter(|&&a| a == Arrival::Duplicate)
            .count();
        assert_eq!((doubled, track.received()), (3, 4));
    }

    #[test]
    fn unsent_messages_do_not_count_as_lost() {
        let (track, _) = arrivals_of(&[0, 3]);
        assert_eq!(track.holes(&[1, 2]), 0);
        assert_eq!(track.holes(&[2]), 1);
        assert_eq!(track.tail(7, &[2, 4, 6, 9]), 1);
    }

    #[test]
    fn holes_beyond_the_limit_still_count() {
        let sent = MAX_MISSING as u64 + 10;
        let (mut track, _) = arrivals_of(&[sent]);
        assert_eq!(track.holes(&[]), sent);
        assert_eq!(track.take(sent - 1), Arrival::OutOfOrder);
        assert_eq!(track.holes(&[]), sent - 1);
    }
}
