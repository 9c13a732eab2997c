//! The memory that waits for slow clients in all outboxes together, and its limit.
//!
//! A frame counts once, in however many queues it waits, because it is in memory once. Only queues
//! that do not leave at once are counted, so that a healthy broadcast pays nothing for it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use roomcast_protocol::Frame;
use tokio::sync::Notify;

use super::heaviest::Heaviest;
use crate::metrics::{Gauge, Metrics};

/// The bytes that wait for slow clients of one server.
pub(in crate::engine) struct MemoryBudget {
    limit: usize,
    held: AtomicUsize,
    /// The sessions for which frames wait.
    waiting: Arc<Heaviest>,
    /// The sessions for which frames are kept for replay.
    replay: Arc<Heaviest>,
    /// The bytes that may be kept for replay, once that limit was exceeded.
    max_replay: AtomicUsize,
    /// Notified when sessions have to give memory up.
    high: Notify,
    stopped: AtomicBool,
    metrics: Arc<Metrics>,
}

/// What a frame costs beside its bytes: the allocations around them and a place in a queue.
pub(in crate::engine::outbox) const FRAME_OVERHEAD: usize = 256;

impl MemoryBudget {
    pub(in crate::engine) fn new(limit: usize, metrics: Arc<Metrics>) -> Self {
        Self {
            limit,
            held: AtomicUsize::new(0),
            waiting: Arc::default(),
            replay: Arc::default(),
            max_replay: AtomicUsize::new(usize::MAX),
            high: Notify::new(),
            stopped: AtomicBool::new(false),
            metrics,
        }
    }

    /// A frame waits in one more queue.
    pub(in crate::engine::outbox) fn hold(&self, frame: &Frame) {
        if !frame.hold() {
            return;
        }
        let cost = frame.len() + FRAME_OVERHEAD;
        // `Relaxed` is enough here and below: the count guards no other memory, and a limit may be
        // passed by what other tasks add at the same moment.
        let before = self.held.fetch_add(cost, Ordering::Relaxed);
        self.metrics.shift(Gauge::OutboxBytes, cost as i64);
        if before + cost > self.high_mark() {
            // If the task that sheds is at work, this is stored for when it waits again.
            self.high.notify_one();
        }
    }

    /// A frame waits in one queue less.
    pub(in crate::engine) fn release(&self, frame: &Frame) {
        if frame.release() {
            let cost = frame.len() + FRAME_OVERHEAD;
            self.held.fetch_sub(cost, Ordering::Relaxed);
            self.metrics.shift(Gauge::OutboxBytes, -(cost as i64));
        }
    }

    /// Whether nothing more may wait for a slow client.
    pub(in crate::engine) fn is_exhausted(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit
    }

    /// Whether the heaviest sessions should be cut before the limit is reached.
    pub(in crate::engine) fn is_high(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.high_mark()
    }

    /// Whether enough sessions have been cut.
    pub(in crate::engine) fn is_relieved(&self) -> bool {
        self.held.load(Ordering::Relaxed) <= self.limit / 4 * 3
    }

    /// Notes that more than `max` is kept for replay.
    #[cold]
    pub(in crate::engine::outbox) fn recall(&self, max: usize) {
        self.max_replay.store(max, Ordering::Relaxed);
        self.high.notify_one();
    }

    /// Whether too much is kept for replay.
    pub(in crate::engine) fn keeps_too_much(&self) -> bool {
        let kept = usize::try_from(self.metrics.gauge(Gauge::RecoveryBytes));
        kept.is_ok_and(|kept| kept > self.max_replay.load(Ordering::Relaxed))
    }

    /// The sessions for which frames wait because the clients do not keep up.
    pub(in crate::engine) fn waiting(&self) -> &Arc<Heaviest> {
        &self.waiting
    }

    /// The sessions for which frames are kept for replay.
    pub(in crate::engine) fn replay(&self) -> &Arc<Heaviest> {
        &self.replay
    }

    /// Waits until the memory may be high, or too much is kept for replay.
    pub(in crate::engine) async fn rises(&self) {
        self.high.notified().await;
    }

    /// Stops cutting sessions off.
    pub(in crate::engine) fn stop(&self) {
        // The flag is set first, so that the task finds it when it is woken.
        self.stopped.store(true, Ordering::Release);
        self.high.notify_one();
    }

    pub(in crate::engine) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(in crate::engine::outbox) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// From this many bytes on sessions are cut. Cutting ends well below, so that not every frame
    /// begins it again.
    fn high_mark(&self) -> usize {
        // The limit may be the largest number there is, so it is divided first.
        self.limit / 8 * 7
    }
}

impl std::fmt::Debug for MemoryBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBudget")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_counts_once_in_however_many_queues_it_waits() {
        let metrics = Arc::new(Metrics::new());
        let memory = MemoryBudget::new(10_000, Arc::clone(&metrics));
        let frame = Frame::text(&[b'x'; 1000]);
        let cost = (frame.len() + FRAME_OVERHEAD) as i64;
        for _ in 0..3 {
            memory.hold(&frame);
            assert_eq!(metrics.gauge(Gauge::OutboxBytes), cost);
        }
        let copy = frame.clone().with_compress(false);
        memory.hold(&copy);
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 2 * cost);
        for _ in 0..3 {
            memory.release(&frame);
        }
        memory.release(&copy);
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    }

    #[test]
    fn it_is_high_before_it_is_exhausted() {
        let memory = MemoryBudget::new(8000, Arc::default());
        let frames: Vec<Frame> = (0..8).map(|_| Frame::text(&[b'x'; 900])).collect();
        let marks: Vec<(bool, bool, bool)> = frames
            .iter()
            .map(|frame| {
                memory.hold(frame);
                (
                    memory.is_relieved(),
                    memory.is_high(),
                    memory.is_exhausted(),
                )
            })
            .collect();
        // 1,160 bytes each: marks at 6,000, 7,000 and 8,000.
        assert_eq!(marks[4], (true, false, false));
        assert_eq!(marks[5], (false, false, false));
        assert_eq!(marks[6], (false, true, true));
    }
}
