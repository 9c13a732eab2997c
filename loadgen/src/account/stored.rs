//! Compares the messages that a chat has stored with those that were sent.

use serde::Serialize;

use super::ledger::{Arrival, SenderTotal, Track};
use crate::load::{PayloadCheck, Stamps};

/// The result of the check of stored messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    /// Messages of this run that are stored.
    pub(crate) found: u64,
    /// Messages that were acknowledged but not stored.
    pub(crate) missing: u64,
    /// Messages that were stored more than once.
    pub(crate) doubled: u64,
    /// Messages that were stored after a message that the same client sent later.
    pub(crate) out_of_order: u64,
    /// Messages that were stored although the server refused them.
    pub(crate) refused: u64,
    /// Numbers in conversations that no message has.
    pub(crate) gaps: u64,
}

impl Stored {
    /// Returns the number of errors.
    pub(crate) fn faults(&self) -> u64 {
        self.missing + self.doubled + self.out_of_order + self.refused + self.gaps
    }
}

/// The expected and the stored messages of one conversation.
pub(crate) struct Book<'a> {
    /// The `seq` of the last message that was entered.
    pub(crate) last_seq: u64,
    room: usize,
    rooms: usize,
    /// The messages that the senders of the whole run have sent.
    totals: &'a [SenderTotal],
    /// The stored messages of each sender of this conversation.
    tracks: Vec<Track>,
}

impl<'a> Book<'a> {
    /// Creates the book of conversation `room` of `rooms`, without entries.
    pub(crate) fn new(room: usize, rooms: usize, totals: &'a [SenderTotal]) -> Self {
        let senders = totals.iter().skip(room).step_by(rooms).count();
        Self {
            last_seq: 0,
            room,
            rooms,
            totals,
            tracks: vec![Track::default(); senders],
        }
    }

    /// Enters a stored message. Messages must be entered in the order of `seq`.
    pub(crate) fn enter(&mut self, seq: u64, content: &str, stamps: &Stamps, stored: &mut Stored) {
        stored.gaps += seq.saturating_sub(self.last_seq + 1);
        self.last_seq = seq;
        let PayloadCheck::Intact(stamp) = stamps.look(content) else {
            // This is the preflight message, or a corrupt message, which counts as missing.
            return;
        };
        let is_of_room = stamp.sender % self.rooms == self.room;
        let track = self.tracks.get_mut(stamp.sender / self.rooms);
        let Some((track, total)) = track
            .zip(self.totals.get(stamp.sender))
            .filter(|_| is_of_room)
        else {
            stored.doubled += 1;
            return;
        };
        match track.take(stamp.number) {
            Arrival::InOrder => stored.found += 1,
            Arrival::OutOfOrder => {
                stored.found += 1;
                stored.out_of_order += 1;
            }
            Arrival::Duplicate => stored.doubled += 1,
        }
        if total.excused.binary_search(&stamp.number).is_ok() {
            stored.refused += 1;
        }
    }

    /// Closes the book after all messages have been entered.
    pub(crate) fn close(self, stored: &mut Stored) {
        let senders = self.totals.iter().skip(self.room).step_by(self.rooms);
        for (track, total) in self.tracks.iter().zip(senders) {
            // A message without an acknowledgement may or may not have been stored.
            let mut unsure = [&total.excused[..], &total.unanswered].concat();
            unsure.sort_unstable();
            stored.missing += track.holes(&unsure) + track.tail(total.sent, &unsure);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Stamp;

    fn total(sent: u64, excused: &[u64], unanswered: &[u64]) -> SenderTotal {
        SenderTotal {
            sent,
            excused: excused.to_vec(),
            unanswered: unanswered.to_vec(),
            ended: false,
        }
    }

    /// The `seq` of a message, its sender, and its number.
    type StoredRow = (u64, usize, u64);

    /// Returns the result for a conversation with these messages, of senders 0 and 2 of three.
    fn found(totals: &[SenderTotal], rows: &[StoredRow]) -> Stored {
        let stamps = Stamps::new(7, 40);
        let mut stored = Stored::default();
        let mut book = Book::new(0, 2, totals);
        for &(seq, sender, number) in rows {
            let content = stamps.write(Stamp { sender, number });
            book.enter(seq, &content, &stamps, &mut stored);
        }
        book.close(&mut stored);
        stored
    }

    #[test]
    fn acknowledged_messages_are_stored_once_and_in_order() {
        let totals = [total(2, &[], &[]), total(9, &[], &[]), total(3, &[1], &[2])];
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (3, 0));
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 2, 2), (4, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (4, 0), "it may be there");
    }

    #[test]
    fn every_other_history_is_a_fault() {
        let totals = [total(3, &[], &[]), total(0, &[], &[]), total(2, &[1], &[])];
        let all = [(1, 0, 0), (2, 0, 1), (3, 0, 2), (4, 2, 0)];
        let with = |change: fn(&mut Vec<StoredRow>)| {
            let mut rows = all.to_vec();
            change(&mut rows);
            found(&totals, &rows)
        };
        assert_eq!(with(|_| ()).faults(), 0);
        assert_eq!(with(|rows| rows.truncate(3)).missing, 1);
        assert_eq!(with(|rows| rows.push((5, 0, 2))).doubled, 1);
        assert_eq!(with(|rows| rows.push((5, 2, 1))).refused, 1);
        assert_eq!(with(|rows| rows[3].0 = 6).gaps, 2);
        assert_eq!(
            with(|rows| rows.push((5, 1, 0))).doubled,
            1,
            "of another one"
        );
        let swapped = with(|rows| (rows[0].2, rows[1].2) = (1, 0));
        assert_eq!((swapped.out_of_order, swapped.missing), (1, 0));
    }
}
