//! What was lately queued for one session and may be asked for again.
//!
//! An outbox that keeps it goes on doing so when its session is over: what is queued for a client
//! that is away lies in here until it comes back. The order is that of the queue, so that what is
//! sent again follows what was sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use roomcast_protocol::{Frame, Stamp};

use crate::metrics::{Gauge, Metrics};

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Frames of one session.
    pub(crate) messages: usize,
    /// Bytes of one session.
    pub(crate) bytes: usize,
    /// Bytes of all sessions together.
    pub(crate) total: usize,
}

/// The frames, oldest first. Only frames with the stamp of a channel that is kept are in here.
pub(super) struct Recent<T> {
    limits: Limits,
    frames: VecDeque<Frame>,
    /// Of all frames; part of the gauge.
    bytes: usize,
    /// How many frames have left at the front since the beginning.
    left: u64,
    /// How many frames had ever been kept when the last ping was queued.
    pinged: Option<u64>,
    channels: Vec<Channel<T>>,
    metrics: Arc<Metrics>,
}

struct Channel<T> {
    id: u64,
    /// The last frame that is not in here any more: what follows it is.
    floor: Option<u64>,
    /// Who gets its frames now, after somebody else has taken it over.
    heir: Option<Weak<T>>,
}

impl<T> Recent<T> {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            bytes: 0,
            left: 0,
            pinged: None,
            channels: Vec::new(),
            metrics,
        }
    }

    /// Keeps the frames of a channel from here on; `floor` is the last one that the client has.
    pub(super) fn open(&mut self, channel: u64, floor: Option<u64>) {
        self.close(channel);
        self.channels.push(Channel {
            id: channel,
            floor,
            heir: None,
        });
    }

    /// Forgets a channel. `true`: it was the last one.
    pub(super) fn close(&mut self, channel: u64) -> bool {
        self.forget_frames(channel);
        self.channels.retain(|known| known.id != channel);
        self.channels.shrink_to_fit();
        self.channels.is_empty()
    }

    /// Hands a channel over: its frames are forgotten, and who still brings one is told whose it
    /// is.
    pub(super) fn hand_over(&mut self, channel: u64, heir: Weak<T>) {
        self.forget_frames(channel);
        if let Some(known) = self.channel(channel) {
            known.heir = Some(heir);
        }
    }

    fn forget_frames(&mut self, channel: u64) {
        let is_others = |frame: &Frame| frame.stamp().is_none_or(|stamp| stamp.channel != channel);
        let before = self.frames.len();
        self.frames.retain(is_others);
        if self.frames.len() != before {
            // Positions have changed, so the next pong proves less than it could.
            self.pinged = None;
            self.frames.shrink_to_fit();
            let bytes = self.frames.iter().map(Frame::len).sum();
            self.count(self.bytes, bytes);
            self.bytes = bytes;
        }
    }

    /// Keeps a frame if it is of a channel that is kept. `Some`: it belongs to that one.
    pub(super) fn keep(&mut self, frame: &Frame) -> Option<Weak<T>> {
        let stamp = frame.stamp()?;
        let channel = self.channel(stamp.channel)?;
        if let Some(heir) = &channel.heir {
            return Some(Weak::clone(heir));
        }
        let before = self.bytes;
        self.frames.push_back(frame.clone());
        self.bytes += frame.len();
        while self.frames.len() > self.limits.messages || self.bytes > self.limits.bytes {
            self.drop_oldest();
        }
        self.count(before, self.bytes);
        let total = self.metrics.gauge(Gauge::RecoveryBytes);
        if self.bytes > before && usize::try_from(total).is_ok_and(|n| n > self.limits.total) {
            self.clear();
        }
        None
    }

    /// A ping is being queued: its pong will prove that all before it was received.
    pub(super) fn ping(&mut self) {
        self.pinged = Some(self.left + self.frames.len() as u64);
    }

    /// The pong has come.
    pub(super) fn pong(&mut self) {
        let Some(pinged) = self.pinged.take() else {
            return;
        };
        let before = self.bytes;
        while self.left < pinged && !self.frames.is_empty() {
            self.drop_oldest();
        }
        if self.frames.len() < self.frames.capacity() / 4 {
            self.frames.shrink_to(self.frames.len() * 2);
        }
        self.count(before, self.bytes);
    }

    /// What follows a frame in its channel. `None`: that cannot be said, or not all of it is here.
    pub(super) fn after(&self, known: Stamp) -> Option<impl Iterator<Item = &Frame>> {
        let channel = self.channels.iter().find(|own| own.id == known.channel)?;
        if channel.heir.is_some() {
            return None;
        }
        let found = self
            .frames
            .iter()
            .rposition(|frame| frame.stamp() == Some(known));
        let first = match found {
            Some(position) => position + 1,
            None if channel.floor == Some(known.number) => 0,
            None => return None,
        };
        let is_own = move |frame: &&Frame| {
            frame
                .stamp()
                .is_some_and(|stamp| stamp.channel == known.channel)
        };
        Some(self.frames.iter().skip(first).filter(is_own))
    }

    fn channel(&mut self, id: u64) -> Option<&mut Channel<T>> {
        self.channels.iter_mut().find(|channel| channel.id == id)
    }

    fn drop_oldest(&mut self) {
        let Some(frame) = self.frames.pop_front() else {
            return;
        };
        self.left += 1;
        self.bytes -= frame.len();
        if let Some(stamp) = frame.stamp()
            && let Some(channel) = self.channel(stamp.channel)
        {
            channel.floor = Some(stamp.number);
        }
    }

    fn clear(&mut self) {
        let before = self.bytes;
        while !self.frames.is_empty() {
            self.drop_oldest();
        }
        self.frames = VecDeque::new();
        self.count(before, self.bytes);
    }

    /// Moves the gauge; most often as much comes as goes.
    fn count(&self, before: usize, after: usize) {
        if before != after {
            let delta = after as i64 - before as i64;
            self.metrics.shift(Gauge::RecoveryBytes, delta);
        }
    }
}

impl<T> Drop for Recent<T> {
    fn drop(&mut self) {
        self.count(self.bytes, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        messages: 4,
        bytes: 1000,
        total: 100_000,
    };

    fn recent(limits: Limits) -> (Recent<()>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let mut recent = Recent::new(limits, Arc::clone(&metrics));
        recent.open(1, None);
        (recent, metrics)
    }

    fn stamp(channel: u64, number: u64) -> Stamp {
        Stamp { channel, number }
    }

    fn frame(channel: u64, number: u64) -> Frame {
        Frame::text(b"2[]").with_stamp(stamp(channel, number))
    }

    fn keep(recent: &mut Recent<()>, channel: u64, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            assert!(recent.keep(&frame(channel, number)).is_none());
        }
    }

    fn after(recent: &Recent<()>, channel: u64, number: u64) -> Option<Vec<u64>> {
        let number_of = |frame: &Frame| frame.stamp().unwrap().number;
        let frames = recent.after(stamp(channel, number))?;
        Some(frames.map(number_of).collect())
    }

    #[test]
    fn what_follows_a_frame_is_in_the_order_in_which_it_was_queued() {
        let (mut recent, _) = recent(LIMITS);
        keep(&mut recent, 1, [7, 9, 8]);
        assert_eq!(after(&recent, 1, 7), Some(vec![9, 8]));
        assert_eq!(after(&recent, 1, 8), Some(vec![]));
        assert_eq!(after(&recent, 1, 6), None);
        assert_eq!(after(&recent, 2, 7), None);
    }

    #[test]
    fn channels_do_not_see_one_another() {
        let (mut recent, metrics) = recent(LIMITS);
        recent.open(2, None);
        keep(&mut recent, 1, [1]);
        keep(&mut recent, 2, [1]);
        keep(&mut recent, 3, [1]);
        keep(&mut recent, 1, [2]);
        assert_eq!(after(&recent, 1, 1), Some(vec![2]));
        assert_eq!(after(&recent, 2, 1), Some(vec![]));
        assert!(!recent.close(1));
        assert_eq!(after(&recent, 1, 1), None);
        let one = frame(2, 1).len() as i64;
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), one);
        assert!(recent.close(2));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn the_oldest_leave_and_only_a_gap_prevents_an_answer() {
        let (mut recent, _) = recent(LIMITS);
        keep(&mut recent, 1, 1..=6);
        assert_eq!(after(&recent, 1, 1), None);
        assert_eq!(after(&recent, 1, 2), Some(vec![3, 4, 5, 6]));
    }

    #[test]
    fn bytes_are_limited_even_if_one_frame_has_too_many() {
        let one = frame(1, 1).len();
        let (mut recent, metrics) = recent(Limits {
            bytes: one * 2,
            ..LIMITS
        });
        keep(&mut recent, 1, 1..=3);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), one as i64 * 2);
        let large = Frame::text(&[b' '; 1000]).with_stamp(stamp(1, 4));
        assert!(recent.keep(&large).is_none());
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
        assert_eq!(after(&recent, 1, 3), None);
        assert_eq!(after(&recent, 1, 4), Some(vec![]));
    }

    #[test]
    fn all_sessions_together_have_a_limit() {
        let one = frame(1, 1).len();
        let limits = Limits {
            total: one * 5,
            ..LIMITS
        };
        let (mut first, metrics) = recent(limits);
        let mut second = Recent::<()>::new(limits, Arc::clone(&metrics));
        second.open(1, None);
        keep(&mut first, 1, 1..=3);
        keep(&mut second, 1, 1..=2);
        keep(&mut first, 1, [4]);
        assert_eq!(after(&first, 1, 1), None);
        assert_eq!(after(&first, 1, 4), Some(vec![]));
        assert_eq!(after(&second, 1, 1), Some(vec![2]));
        drop((first, second));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn a_pong_proves_receipt_of_what_was_queued_before_its_ping() {
        let (mut recent, metrics) = recent(LIMITS);
        keep(&mut recent, 1, 1..=2);
        recent.ping();
        keep(&mut recent, 1, [3]);
        recent.pong();
        assert_eq!(
            metrics.gauge(Gauge::RecoveryBytes),
            frame(1, 3).len() as i64
        );
        assert_eq!(after(&recent, 1, 1), None);
        assert_eq!(after(&recent, 1, 2), Some(vec![3]));
        recent.pong();
        assert_eq!(after(&recent, 1, 2), Some(vec![3]));
    }

    #[test]
    fn a_pong_after_frames_have_left_takes_no_later_ones_along() {
        let (mut recent, _) = recent(LIMITS);
        keep(&mut recent, 1, 1..=2);
        recent.ping();
        keep(&mut recent, 1, 3..=7);
        recent.pong();
        assert_eq!(after(&recent, 1, 3), Some(vec![4, 5, 6, 7]));
    }

    #[test]
    fn frames_of_a_channel_that_was_handed_over_go_to_the_heir() {
        let (mut recent, metrics) = recent(LIMITS);
        keep(&mut recent, 1, 1..=2);
        let heir = Arc::new(());
        recent.hand_over(1, Arc::downgrade(&heir));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
        let told = recent.keep(&frame(1, 3)).and_then(|heir| heir.upgrade());
        assert!(Arc::ptr_eq(&told.unwrap(), &heir));
        assert_eq!(after(&recent, 1, 1), None);
    }
}
