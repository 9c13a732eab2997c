//! Recently queued frames of one session, retained for replay.
//!
//! An outbox retains frames even after its session has ended. So frames for a disconnected client
//! are stored here until the client reconnects. The order is that of the queue, so that replayed
//! frames follow the frames that were sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use roomcast_protocol::{Frame, Stamp};

use super::heaviest::HeaviestEntry;
use crate::metrics::{Gauge, Metrics};

/// The limits on retained frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Maximum number of frames of one session.
    pub(crate) messages: usize,
    /// Maximum number of bytes of one session.
    pub(crate) bytes: usize,
    /// Maximum number of bytes of all sessions.
    pub(crate) total: usize,
}

/// Retained frames, oldest first. All have a stamp of a retained channel.
pub(in crate::engine::outbox) struct ReplayBuffer<T> {
    limits: Limits,
    frames: VecDeque<Frame>,
    /// The bytes of all frames.
    bytes: usize,
    /// The bytes that the gauge contains: a multiple of [`STEP`].
    gauged: usize,
    /// The number of frames that have ever been removed from the front.
    left: u64,
    /// The number of frames ever retained when the last ping was queued.
    pinged: Option<u64>,
    /// The first retained channel. Most sessions have only one, so it needs no allocation.
    first: Option<Channel<T>>,
    /// Further channels; empty if there is no first one.
    more: Vec<Channel<T>>,
    metrics: Arc<Metrics>,
    /// The session's entry among the largest replay buffers.
    pub(in crate::engine::outbox) filed: Option<Box<HeaviestEntry>>,
}

/// The outcome of retaining a frame.
#[must_use]
pub(in crate::engine::outbox) enum RetainOutcome<T> {
    /// The frame is retained, or does not belong to a retained channel.
    Unchanged,
    /// The frame is retained, and the buffer has grown to this many bytes.
    Grown(usize),
    /// The frame belongs to the outbox that has taken over the channel.
    BySuccessor(Weak<T>),
}

struct Channel<T> {
    id: u64,
    /// The last frame that is no longer retained. All later frames of the channel are retained.
    floor: Option<u64>,
    /// The outbox that has taken over the channel and receives its frames.
    successor: Option<Weak<T>>,
}

/// The granularity of the gauge, in bytes. The gauge is one word shared by all cores, so a
/// broadcast to thousands must not write it for each recipient.
const STEP: usize = 1024;

impl<T> ReplayBuffer<T> {
    pub(in crate::engine::outbox) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            limits,
            frames: VecDeque::new(),
            bytes: 0,
            gauged: 0,
            left: 0,
            pinged: None,
            first: None,
            more: Vec::new(),
            metrics,
            filed: None,
        }
    }

    /// Retains the frames of a channel from here on; `floor` is the last frame that the client has.
    pub(in crate::engine::outbox) fn open(&mut self, channel: u64, floor: Option<u64>) {
        self.close(channel);
        let channel = Channel {
            id: channel,
            floor,
            successor: None,
        };
        if self.first.is_none() {
            self.first = Some(channel);
        } else {
            self.more.push(channel);
        }
    }

    /// Removes a channel. Returns whether it was the last one.
    pub(in crate::engine::outbox) fn close(&mut self, channel: u64) -> bool {
        self.forget_frames(channel);
        self.more.retain(|known| known.id != channel);
        if self.first.take_if(|known| known.id == channel).is_some() {
            self.first = self.more.pop();
        }
        self.more.shrink_to_fit();
        self.first.is_none()
    }

    /// Hands a channel over: its frames are dropped, and further frames are directed to the
    /// successor.
    pub(in crate::engine::outbox) fn hand_over(&mut self, channel: u64, successor: Weak<T>) {
        self.forget_frames(channel);
        if let Some(known) = self.channel(channel) {
            known.successor = Some(successor);
        }
    }

    fn forget_frames(&mut self, channel: u64) {
        let is_of_other_channel =
            |frame: &Frame| frame.stamp().is_none_or(|stamp| stamp.channel != channel);
        let before = self.frames.len();
        self.frames.retain(is_of_other_channel);
        if self.frames.len() != before {
            // Positions have changed, so the next pong removes fewer frames than it could.
            self.pinged = None;
            self.frames.shrink_to_fit();
            self.bytes = self.frames.iter().map(Frame::len).sum();
            self.update_gauge();
        }
    }

    /// Retains a frame if it belongs to a retained channel.
    pub(in crate::engine::outbox) fn retain(&mut self, frame: &Frame) -> RetainOutcome<T> {
        let Some(stamp) = frame.stamp() else {
            return RetainOutcome::Unchanged;
        };
        let Some(channel) = self.channel(stamp.channel) else {
            return RetainOutcome::Unchanged;
        };
        if let Some(successor) = &channel.successor {
            return RetainOutcome::BySuccessor(Weak::clone(successor));
        }
        self.frames.push_back(frame.clone());
        self.bytes += frame.len();
        while self.frames.len() > self.limits.messages || self.bytes > self.limits.bytes {
            self.drop_oldest();
        }
        if !self.update_gauge() {
            return RetainOutcome::Unchanged;
        }
        if self.total() > self.limits.total.saturating_add(self.limits.total / 8) {
            // Shedding of the largest buffers is too slow.
            self.clear();
            return RetainOutcome::Unchanged;
        }
        RetainOutcome::Grown(self.bytes)
    }

    /// Returns the limit for all sessions if it is exceeded.
    pub(in crate::engine::outbox) fn exceeded(&self) -> Option<usize> {
        (self.total() > self.limits.total).then_some(self.limits.total)
    }

    /// Returns the bytes that all sessions retain together.
    fn total(&self) -> usize {
        usize::try_from(self.metrics.gauge(Gauge::RecoveryBytes)).unwrap_or_default()
    }

    /// Returns the bytes that this session retains.
    pub(in crate::engine::outbox) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records that a ping is being queued. Its pong confirms that everything before it was
    /// received.
    pub(in crate::engine::outbox) fn ping(&mut self) {
        self.pinged = Some(self.left + self.frames.len() as u64);
    }

    /// Drops the frames that the pong of that ping confirms.
    pub(in crate::engine::outbox) fn pong(&mut self) {
        let Some(pinged) = self.pinged.take() else {
            return;
        };
        while self.left < pinged && !self.frames.is_empty() {
            self.drop_oldest();
        }
        if self.frames.len() < self.frames.capacity() / 4 {
            self.frames.shrink_to(self.frames.len() * 2);
        }
        self.update_gauge();
    }

    /// Returns the frames after `known` in its channel, or `None` if `known` is unknown or some
    /// later frames are no longer retained.
    pub(in crate::engine::outbox) fn after(
        &self,
        known: Stamp,
    ) -> Option<impl DoubleEndedIterator<Item = &Frame>> {
        let mut channels = self.first.iter().chain(&self.more);
        let channel = channels.find(|own| own.id == known.channel)?;
        if channel.successor.is_some() {
            return None;
        }
        // The search starts at the end, because most clients reconnect soon and miss few frames.
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
        let mut channels = self.first.iter_mut().chain(&mut self.more);
        channels.find(|channel| channel.id == id)
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

    /// Drops all frames.
    pub(in crate::engine::outbox) fn clear(&mut self) {
        self.filed = None;
        while !self.frames.is_empty() {
            self.drop_oldest();
        }
        self.frames = VecDeque::new();
        self.update_gauge();
    }

    /// Updates the gauge if the size has changed by a step. Returns whether it has grown.
    #[inline]
    fn update_gauge(&mut self) -> bool {
        let is_more = self.bytes > self.gauged;
        // The gauge decreases later than it increases, so that a size that oscillates around a step
        // does not update it each time.
        let is_less = self.bytes + 2 * STEP <= self.gauged || self.bytes == 0 && self.gauged > 0;
        if is_more || is_less {
            let gauged = self.bytes.next_multiple_of(STEP);
            let delta = gauged as i64 - self.gauged as i64;
            self.metrics.shift(Gauge::RecoveryBytes, delta);
            self.gauged = gauged;
        }
        is_more
    }
}

impl<T> Drop for ReplayBuffer<T> {
    fn drop(&mut self) {
        let gauged = -(self.gauged as i64);
        self.metrics.shift(Gauge::RecoveryBytes, gauged);
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

    fn replay(limits: Limits) -> (ReplayBuffer<()>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        let mut replay = ReplayBuffer::new(limits, Arc::clone(&metrics));
        replay.open(1, None);
        (replay, metrics)
    }

    fn stamp(channel: u64, number: u64) -> Stamp {
        Stamp { channel, number }
    }

    fn frame(channel: u64, number: u64) -> Frame {
        Frame::text(b"2[]").with_stamp(stamp(channel, number))
    }

    fn keep_one(replay: &mut ReplayBuffer<()>, frame: &Frame) {
        assert!(!matches!(
            replay.retain(frame),
            RetainOutcome::BySuccessor(_)
        ));
    }

    fn retain(replay: &mut ReplayBuffer<()>, channel: u64, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            keep_one(replay, &frame(channel, number));
        }
    }

    fn after(replay: &ReplayBuffer<()>, channel: u64, number: u64) -> Option<Vec<u64>> {
        let number_of = |frame: &Frame| frame.stamp().unwrap().number;
        let frames = replay.after(stamp(channel, number))?;
        Some(frames.map(number_of).collect())
    }

    #[test]
    fn frames_after_a_stamp_keep_queue_order() {
        let (mut replay, _) = replay(LIMITS);
        retain(&mut replay, 1, [7, 9, 8]);
        assert_eq!(after(&replay, 1, 7), Some(vec![9, 8]));
        assert_eq!(after(&replay, 1, 8), Some(vec![]));
        assert_eq!(after(&replay, 1, 6), None);
        assert_eq!(after(&replay, 2, 7), None);
    }

    #[test]
    fn channels_do_not_see_frames_of_other_channels() {
        let (mut replay, metrics) = replay(LIMITS);
        replay.open(2, None);
        retain(&mut replay, 1, [1]);
        retain(&mut replay, 2, [1]);
        retain(&mut replay, 3, [1]);
        retain(&mut replay, 1, [2]);
        assert_eq!(after(&replay, 1, 1), Some(vec![2]));
        assert_eq!(after(&replay, 2, 1), Some(vec![]));
        assert!(!replay.close(1));
        assert_eq!(after(&replay, 1, 1), None);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), STEP as i64);
        assert!(replay.close(2));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn oldest_frames_are_dropped_and_only_a_gap_prevents_recovery() {
        let (mut replay, _) = replay(LIMITS);
        retain(&mut replay, 1, 1..=6);
        assert_eq!(after(&replay, 1, 1), None);
        assert_eq!(after(&replay, 1, 2), Some(vec![3, 4, 5, 6]));
    }

    #[test]
    fn bytes_are_limited_even_if_one_frame_has_too_many() {
        let one = frame(1, 1).len();
        let (mut replay, metrics) = replay(Limits {
            bytes: one * 2,
            ..LIMITS
        });
        retain(&mut replay, 1, 1..=3);
        assert_eq!(replay.bytes, one * 2);
        let large = Frame::text(&[b' '; 1000]).with_stamp(stamp(1, 4));
        keep_one(&mut replay, &large);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
        assert_eq!(after(&replay, 1, 3), None);
        assert_eq!(after(&replay, 1, 4), Some(vec![]));
    }

    #[test]
    fn all_sessions_together_have_a_limit() {
        // As text frames, two of them slightly exceed a step.
        let limits = Limits {
            total: 4 * STEP,
            bytes: 10 * STEP,
            ..LIMITS
        };
        let retain = |replay: &mut ReplayBuffer<()>,
                      channel,
                      numbers: std::ops::RangeInclusive<u64>| {
            for number in numbers {
                let frame = Frame::text(&[b' '; STEP / 2 + 1]).with_stamp(stamp(channel, number));
                keep_one(replay, &frame);
            }
        };
        let (mut first, metrics) = replay(limits);
        let mut second = ReplayBuffer::<()>::new(limits, Arc::clone(&metrics));
        second.open(1, None);
        retain(&mut first, 1, 1..=3);
        retain(&mut second, 1, 1..=2);
        retain(&mut first, 1, 4..=4);
        assert_eq!(after(&first, 1, 1), None);
        assert_eq!(after(&first, 1, 4), Some(vec![]));
        assert_eq!(after(&second, 1, 1), Some(vec![2]));
        drop((first, second));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn gauge_is_between_retained_bytes_and_two_steps_more() {
        let (mut replay, metrics) = replay(Limits {
            messages: 1000,
            bytes: 100_000,
            total: 1_000_000,
        });
        let check = |replay: &ReplayBuffer<()>| {
            let gauge = usize::try_from(metrics.gauge(Gauge::RecoveryBytes)).unwrap();
            assert!(gauge >= replay.bytes && gauge < replay.bytes + 2 * STEP);
        };
        for number in 1..=900 {
            keep_one(&mut replay, &frame(1, number));
            check(&replay);
            if number % 300 == 0 {
                replay.ping();
            }
            if number % 350 == 0 {
                replay.pong();
                check(&replay);
            }
        }
        drop(replay);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn pong_confirms_frames_queued_before_its_ping() {
        let (mut replay, _) = replay(LIMITS);
        retain(&mut replay, 1, 1..=2);
        replay.ping();
        retain(&mut replay, 1, [3]);
        replay.pong();
        assert_eq!(replay.bytes, frame(1, 3).len());
        assert_eq!(after(&replay, 1, 1), None);
        assert_eq!(after(&replay, 1, 2), Some(vec![3]));
        replay.pong();
        assert_eq!(after(&replay, 1, 2), Some(vec![3]));
    }

    #[test]
    fn pong_after_dropped_frames_confirms_no_later_frames() {
        let (mut replay, _) = replay(LIMITS);
        retain(&mut replay, 1, 1..=2);
        replay.ping();
        retain(&mut replay, 1, 3..=7);
        replay.pong();
        assert_eq!(after(&replay, 1, 3), Some(vec![4, 5, 6, 7]));
    }

    #[test]
    fn frames_of_handed_over_channel_go_to_successor() {
        let (mut replay, metrics) = replay(LIMITS);
        retain(&mut replay, 1, 1..=2);
        let successor = Arc::new(());
        replay.hand_over(1, Arc::downgrade(&successor));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
        let RetainOutcome::BySuccessor(found) = replay.retain(&frame(1, 3)) else {
            panic!("it was handed over");
        };
        assert!(Arc::ptr_eq(&found.upgrade().unwrap(), &successor));
        assert_eq!(after(&replay, 1, 1), None);
    }
}
