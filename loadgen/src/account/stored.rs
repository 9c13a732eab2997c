//! What a chat has stored, and how that compares with what was sent.

use serde::Serialize;

use super::ledger::{Arrival, Total, Track};
use crate::load::{PayloadCheck, Stamps};

/// The messages that were found in the store of the chat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    /// Messages of this run that are stored.
    pub(crate) found: u64,
    /// Acknowledged and not stored.
    pub(crate) missing: u64,
    /// Stored again.
    pub(crate) doubled: u64,
    /// Stored after one that the same client sent later.
    pub(crate) out_of_order: u64,
    /// Stored although the server said that they were refused.
    pub(crate) refused: u64,
    /// Numbers of a conversation that no message has.
    pub(crate) gaps: u64,
}

impl Stored {
    /// How much is wrong.
    pub(crate) fn faults(&self) -> u64 {
        self.missing + self.doubled + self.out_of_order + self.refused + self.gaps
    }
}

/// What one conversation should have, and has.
pub(crate) struct Book<'a> {
    /// The `seq` of the last message that was entered.
    pub(crate) last_seq: u64,
    room: usize,
    rooms: usize,
    /// What the senders of the whole run have sent.
    totals: &'a [Total],
    /// The messages that were found of each sender of this conversation.
    tracks: Vec<Track>,
}

impl<'a> Book<'a> {
    /// Opens the book of conversation `room` of `rooms`, in which nothing is entered yet.
    pub(crate) fn new(room: usize, rooms: usize, totals: &'a [Total]) -> Self {
        let senders = totals.iter().skip(room).step_by(rooms).count();
        Self {
            last_seq: 0,
            room,
            rooms,
            totals,
            tracks: vec![Track::default(); senders],
        }
    }

    /// Enters a stored message. They must come in the order of `seq`.
    pub(crate) fn enter(&mut self, seq: u64, content: &str, stamps: &Stamps, stored: &mut Stored) {
        stored.gaps += seq.saturating_sub(self.last_seq + 1);
        self.last_seq = seq;
        let PayloadCheck::Intact(stamp) = stamps.look(content) else {
            // This is the trial before the run, or a corrupt message, which counts as missing.
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
            Arrival::Late => {
                stored.found += 1;
                stored.out_of_order += 1;
            }
            Arrival::Duplicate => stored.doubled += 1,
        }
        if total.excused.binary_search(&stamp.number).is_ok() {
            stored.refused += 1;
        }
    }

    /// Closes the book when all messages have been entered.
    pub(crate) fn close(self, stored: &mut Stored) {
        let senders = self.totals.iter().skip(self.room).step_by(self.rooms);
        for (track, total) in self.tracks.iter().zip(senders) {
            // Nobody can say whether a message without an answer was stored.
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

    fn total(sent: u64, excused: &[u64], unanswered: &[u64]) -> Total {
        Total {
            sent,
            excused: excused.to_vec(),
            unanswered: unanswered.to_vec(),
            ended: false,
        }
    }

    /// The `seq` of a message, its sender, and its number.
    type StoredRow = (u64, usize, u64);

    /// The findings in a conversation that has these messages, of senders 0 and 2 of three.
    fn found(totals: &[Total], rows: &[StoredRow]) -> Stored {
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
    fn what_was_acknowledged_is_there_once_and_in_order() {
        let totals = [total(2, &[], &[]), total(9, &[], &[]), total(3, &[1], &[2])];
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (3, 0));
        let stored = found(&totals, &[(1, 0, 0), (2, 2, 0), (3, 2, 2), (4, 0, 1)]);
        assert_eq!((stored.found, stored.faults()), (4, 0), "it may be there");
    }

    #[test]
    fn everything_else_is_a_fault() {
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
