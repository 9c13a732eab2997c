//! Recovery: the outbox of an old session hands a channel over to the outbox of a new one.
//!
//! Two outboxes may be locked at the same time. A task that passes a frame on locks them in the
//! order in which their sessions ended. That order has no cycle: an outbox hands over only after it
//! is sealed, and only to one that is not. A task that hands over does not know that order in
//! advance, so it never waits for one outbox while it holds the other.
//!
//! Recovery has two steps, so that no broadcast waits for a client that recovers. First the old
//! outbox hands over its channel under both locks. After that, the rooms learn of the new outbox
//! one by one, and the old outbox passes on what they still send to it.

use std::{collections::HashSet, sync::Arc};

use parking_lot::MutexGuard;

use roomcast_protocol::{Frame, Stamp};

use super::{
    handle::{Outbox, OutboxInner},
    push::{Mode, PushSource},
    queue::Queue,
    waiting::Limits,
};

impl Outbox {
    /// Retains the frames of a channel for replay from here on; `floor` is the last frame that the
    /// client has, if any.
    pub(crate) fn retain_for_replay(&self, channel: u64, floor: Option<u64>, limits: Limits) {
        self.lock()
            .retain_for_replay(channel, floor, limits, self.metrics());
    }

    /// Returns all frames after `known`, or `None` if some of them are not retained.
    pub(crate) fn all_after(&self, known: Stamp) -> Option<Vec<Frame>> {
        let mut queue = self.lock();
        let frames = queue.replay()?.after(known)?;
        Some(frames.cloned().collect())
    }

    /// Returns the stamp of the first frame after `known`, if any. Returns `None` if frames after
    /// `known` are not retained.
    pub(crate) fn first_after(&self, known: Stamp) -> Option<Option<Stamp>> {
        let mut queue = self.lock();
        let mut frames = queue.replay()?.after(known)?;
        Some(frames.next().and_then(Frame::stamp))
    }

    /// Returns whether all frames after `known` are retained.
    pub(crate) fn has_all_after(&self, known: Stamp) -> bool {
        let mut queue = self.lock();
        let replay = queue.replay();
        replay.is_some_and(|replay| replay.after(known).is_some())
    }

    /// Discards the retained frames of a channel.
    pub(crate) fn discard_replay(&self, channel: u64) {
        self.lock().discard_replay(channel);
    }

    /// Ends the session as if its transport had just broken, because its client has a new one.
    /// Queued frames are still sent, within a moment: if two clients share one identity, both may
    /// be connected and wait for a response.
    pub(crate) fn supersede(&self) {
        let mut queue = self.lock();
        queue.supersede();
        queue.wake_driver();
    }

    /// Hands a channel over to `to`, which receives the frames after `known`, then `hello`, then
    /// everything that is still sent to this outbox. Returns the number of frames sent again, or
    /// `None` if the handover is impossible.
    pub(crate) fn hand_over(
        &self,
        known: Stamp,
        to: &Self,
        limits: Limits,
        hello: &Frame,
    ) -> Option<usize> {
        if Arc::ptr_eq(self.inner(), to.inner()) {
            return None;
        }
        let (mut queue, mut successor) = lock_both(self, to);
        // Only a sealed outbox hands over, and only to one that is not sealed: the lock order
        // depends on it.
        queue.closed()?;
        if successor.closed().is_some() {
            return None;
        }
        let replay = queue.replay()?;
        let missed = newest(replay.after(known)?);
        let floor = Some(known.number);
        successor.retain_for_replay(known.channel, floor, limits, to.metrics());
        let mut scheduled = None;
        for frame in missed.iter().chain([hello]) {
            let (_, next) = to.append(&mut successor, frame, Mode::Reliable, PushSource::Sender);
            scheduled = scheduled.or(next);
        }
        replay.hand_over(known.channel, Arc::downgrade(to.inner()));
        // A flusher's list is never locked while an outbox is locked.
        drop((successor, queue));
        if let Some(outbox) = scheduled {
            to.flusher().enqueue(outbox);
        }
        Some(missed.len())
    }

    /// Queues a frame that was sent to an outbox whose channel was handed over. The caller holds
    /// the lock of that outbox. Returns the same as [`append`](Self::append).
    pub(super) fn append_for(inner: Arc<OutboxInner>, frame: &Frame, mode: Mode) -> Option<Self> {
        let outbox = Self::from(inner);
        let mut queue = outbox.lock();
        let (_, scheduled) = outbox.append(&mut queue, frame, mode, PushSource::Predecessor);
        drop(queue);
        scheduled
    }
}

/// Returns frames without those that later ones of their stream replace.
fn newest<'a>(frames: impl DoubleEndedIterator<Item = &'a Frame>) -> Vec<Frame> {
    let mut streams = HashSet::new();
    let mut is_newest = |frame: &&Frame| frame.stream().is_none_or(|one| streams.insert(one));
    let mut newest: Vec<Frame> = frames.rev().filter(&mut is_newest).cloned().collect();
    newest.reverse();
    newest
}

/// Locks two outboxes that other tasks may lock in any order. If the second is locked, the first is
/// released, and the next attempt starts with the second.
fn lock_both<'a>(
    one: &'a Outbox,
    other: &'a Outbox,
) -> (
    MutexGuard<'a, Queue<OutboxInner>>,
    MutexGuard<'a, Queue<OutboxInner>>,
) {
    loop {
        let first = one.lock();
        if let Some(second) = other.try_lock() {
            return (first, second);
        }
        drop(first);
        let second = other.lock();
        if let Some(first) = one.try_lock() {
            return (first, second);
        }
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::Sid;

    use super::*;
    use crate::{
        engine::TestOutboxes,
        metrics::{Gauge, Metrics},
    };

    const LIMITS: Limits = Limits {
        messages: 100,
        bytes: 10_000,
        total: 100_000,
    };

    fn stamp(number: u64) -> Stamp {
        Stamp { channel: 1, number }
    }

    fn frame(number: u64) -> Frame {
        Frame::text(format!("2[{number}]").as_bytes()).with_stamp(stamp(number))
    }

    fn texts(outbox: &Outbox) -> Vec<String> {
        let text = |frame: &Frame| String::from_utf8(frame.polling().to_vec()).unwrap();
        TestOutboxes::take(outbox).iter().map(text).collect()
    }

    fn outboxes() -> (TestOutboxes, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new());
        (TestOutboxes::polling(Arc::clone(&metrics)), metrics)
    }

    fn outbox(outboxes: &TestOutboxes) -> Outbox {
        outboxes.outbox(Sid::from_random([7; 15]), 100_000)
    }

    fn push(outbox: &Outbox, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            let _ = outbox.push(&frame(number), Mode::Reliable);
        }
    }

    #[test]
    fn new_session_receives_missed_and_later_frames() {
        let (outboxes, metrics) = outboxes();
        let (old, new) = (outbox(&outboxes), outbox(&outboxes));
        old.retain_for_replay(1, None, LIMITS);
        push(&old, [1, 2, 3]);
        let _ = old.push(&Frame::text(b"2[\"volatile\"]"), Mode::Volatile);
        old.supersede();
        push(&old, [4]);
        let hello = Frame::text(b"0{}");
        assert_eq!(old.hand_over(stamp(2), &new, LIMITS, &hello), Some(2));
        push(&old, [5]);
        push(&new, [6]);
        assert_eq!(texts(&new), ["42[3]", "42[4]", "40{}", "42[5]", "42[6]"]);
        // No other session gets the channel, and the new session can be recovered as well.
        let third = outbox(&outboxes);
        assert_eq!(old.hand_over(stamp(2), &third, LIMITS, &hello), None);
        new.supersede();
        assert_eq!(new.hand_over(stamp(2), &third, LIMITS, &hello), Some(4));
        new.discard_replay(1);
        third.discard_replay(1);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }

    #[test]
    fn new_session_receives_only_newest_missed_frame_of_a_stream() {
        let (outboxes, _) = outboxes();
        let (old, new) = (outbox(&outboxes), outbox(&outboxes));
        old.retain_for_replay(1, None, LIMITS);
        push(&old, [1]);
        old.supersede();
        for number in [2, 4, 6] {
            let replaced = frame(number).with_stream(7);
            let _ = old.push(&replaced, Mode::Reliable);
            push(&old, [number + 1]);
        }
        let hello = Frame::text(b"0{}");
        assert_eq!(old.hand_over(stamp(1), &new, LIMITS, &hello), Some(4));
        assert_eq!(texts(&new), ["42[3]", "42[5]", "42[6]", "42[7]", "40{}"]);
    }

    #[test]
    fn handover_releases_first_outbox_while_second_is_locked() {
        let (outboxes, _) = outboxes();
        let (old, new) = (outbox(&outboxes), outbox(&outboxes));
        old.retain_for_replay(1, None, LIMITS);
        push(&old, [1, 2]);
        old.supersede();
        let hello = Frame::text(b"0{}");
        let started = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let locked = new.lock();
            let handing_over = scope.spawn(|| {
                started.wait();
                old.hand_over(stamp(1), &new, LIMITS, &hello)
            });
            started.wait();
            // A task that holds the second outbox may wait for the first.
            for number in 3..=90 {
                std::thread::yield_now();
                push(&old, [number]);
            }
            assert!(!handing_over.is_finished());
            drop(locked);
            assert!(handing_over.join().unwrap().is_some());
        });
    }

    #[test]
    fn a_session_is_not_handed_over_to_itself() {
        let (outboxes, _) = outboxes();
        let old = outbox(&outboxes);
        old.retain_for_replay(1, None, LIMITS);
        push(&old, [1]);
        old.supersede();
        assert_eq!(
            old.hand_over(stamp(1), &old, LIMITS, &Frame::text(b"0{}")),
            None
        );
    }

    #[test]
    fn session_is_handed_over_only_after_its_end_and_to_an_open_one() {
        let (outboxes, _) = outboxes();
        let (old, new) = (outbox(&outboxes), outbox(&outboxes));
        old.retain_for_replay(1, None, LIMITS);
        push(&old, [1]);
        let hello = Frame::text(b"0{}");
        assert_eq!(old.hand_over(stamp(1), &new, LIMITS, &hello), None);
        old.supersede();
        new.supersede();
        assert_eq!(old.hand_over(stamp(1), &new, LIMITS, &hello), None);
        assert!(old.has_all_after(stamp(1)));
        assert!(!old.has_all_after(stamp(2)));
        assert_eq!(old.first_after(stamp(1)), Some(None));
    }

    #[test]
    fn overflow_discards_replay_frames() {
        let (outboxes, metrics) = outboxes();
        let old = outboxes.outbox(Sid::from_random([7; 15]), 20);
        old.retain_for_replay(1, None, LIMITS);
        push(&old, 1..=10);
        assert!(!old.has_all_after(stamp(1)));
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }
}
