//! The memory held for slow clients in all outboxes together, and its limit.
//!
//! A frame in several queues counts once, because it is in memory once. Only queues that are not
//! sent immediately are counted, so that a healthy broadcast pays no overhead.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use roomcast_protocol::Frame;
use tokio::sync::Notify;

use super::heaviest::Heaviest;
use crate::metrics::{Gauge, Metrics};

/// The bytes held for slow clients of one server, and their limit.
pub(in crate::engine) struct MemoryBudget {
    limit: usize,
    held: AtomicUsize,
    /// The sessions by queued bytes.
    waiting: Arc<Heaviest>,
    /// The sessions by bytes retained for replay.
    replay: Arc<Heaviest>,
    /// The limit of bytes retained for replay, set once it is exceeded.
    max_replay: AtomicUsize,
    /// Notified when sessions must free memory.
    high: Notify,
    stopped: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The cost of a frame in addition to its bytes, in bytes: allocations and a slot in a queue.
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

    /// Counts a frame for one more queue.
    pub(in crate::engine::outbox) fn hold(&self, frame: &Frame) {
        if !frame.hold() {
            return;
        }
        let cost = frame.len() + FRAME_OVERHEAD;
        // `Relaxed` is sufficient here and below: the count guards no other memory, and concurrent
        // additions may exceed the limit briefly.
        let before = self.held.fetch_add(cost, Ordering::Relaxed);
        self.metrics.shift(Gauge::OutboxBytes, cost as i64);
        if before + cost > self.high_mark() {
            // If the load shedding task is busy, the permit is stored until it waits again.
            self.high.notify_one();
        }
    }

    /// Counts a frame for one queue less.
    pub(in crate::engine) fn release(&self, frame: &Frame) {
        if frame.release() {
            let cost = frame.len() + FRAME_OVERHEAD;
            self.held.fetch_sub(cost, Ordering::Relaxed);
            self.metrics.shift(Gauge::OutboxBytes, -(cost as i64));
        }
    }

    /// Returns whether nothing more may be queued for slow clients.
    pub(in crate::engine) fn is_exhausted(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.limit
    }

    /// Returns whether the slowest clients should be disconnected before the limit is reached.
    pub(in crate::engine) fn is_high(&self) -> bool {
        self.held.load(Ordering::Relaxed) > self.high_mark()
    }

    /// Returns whether enough memory has been freed.
    pub(in crate::engine) fn is_relieved(&self) -> bool {
        self.held.load(Ordering::Relaxed) <= self.limit / 4 * 3
    }

    /// Records that more than `max` bytes are retained for replay.
    #[cold]
    pub(in crate::engine::outbox) fn recall(&self, max: usize) {
        self.max_replay.store(max, Ordering::Relaxed);
        self.high.notify_one();
    }

    /// Returns whether too much is retained for replay.
    pub(in crate::engine) fn retains_too_much(&self) -> bool {
        let retained = usize::try_from(self.metrics.gauge(Gauge::RecoveryBytes));
        retained.is_ok_and(|retained| retained > self.max_replay.load(Ordering::Relaxed))
    }

    /// Returns the sessions by bytes queued for slow clients.
    pub(in crate::engine) fn waiting(&self) -> &Arc<Heaviest> {
        &self.waiting
    }

    /// Returns the sessions by bytes retained for replay.
    pub(in crate::engine) fn replay(&self) -> &Arc<Heaviest> {
        &self.replay
    }

    /// Waits until memory may be high or too much may be retained for replay.
    pub(in crate::engine) async fn wait_until_high(&self) {
        self.high.notified().await;
    }

    /// Stops load shedding.
    pub(in crate::engine) fn stop(&self) {
        // The flag is set first, so that the woken task sees it.
        self.stopped.store(true, Ordering::Release);
        self.high.notify_one();
    }

    pub(in crate::engine) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(in crate::engine::outbox) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Returns the number of bytes above which load shedding starts. It ends well below, so that
    /// not every frame restarts it.
    fn high_mark(&self) -> usize {
        // The limit may be `usize::MAX`, so it is divided first.
        self.limit / 8 * 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_in_many_queues_counts_once() {
        let metrics = Arc::new(Metrics::new());
        let memory = MemoryBudget::new(10_000, Arc::clone(&metrics));
        let frame = Frame::text(&[b'x'; 1000]);
        let cost = (frame.len() + FRAME_OVERHEAD) as i64;
        for _ in 0..3 {
            memory.hold(&frame);
            assert_eq!(metrics.gauge(Gauge::OutboxBytes), cost);
        }
        let copy = frame.clone().without_compression();
        memory.hold(&copy);
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 2 * cost);
        for _ in 0..3 {
            memory.release(&frame);
        }
        memory.release(&copy);
        assert_eq!(metrics.gauge(Gauge::OutboxBytes), 0);
    }

    #[test]
    fn budget_is_high_before_it_is_exhausted() {
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
        // 1,160 bytes each; the marks are at 6,000, 7,000 and 8,000.
        assert_eq!(marks[4], (true, false, false));
        assert_eq!(marks[5], (false, false, false));
        assert_eq!(marks[6], (false, true, true));
    }
}
