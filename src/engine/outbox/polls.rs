//! Answers polling requests from the task that queues packets, without the driver.

use parking_lot::MutexGuard;
use roomcast_protocol::Frame;
use tokio::sync::oneshot;

use super::{
    handle::{Outbox, OutboxInner},
    queue::{
        Queue,
        requests::{Control, PendingPoll, PollAnswer},
    },
};

/// The outcome of a polling request.
pub(in crate::engine) enum PollOutcome {
    /// The poll is answered with queued packets.
    Answered(PollAnswer),
    /// The poll will be answered later.
    Waiting(oneshot::Receiver<PollAnswer>),
    /// The session no longer exists.
    Unknown,
}

impl Outbox {
    /// Takes out frames for one polling response: at most `limit` bytes, at least one frame.
    pub(in crate::engine) fn take_for_poll(&self, limit: usize) -> Vec<Frame> {
        self.lock()
            .take_for_poll(limit, self.revision(), self.memory())
    }

    /// Answers a polling request or lets it wait. Most requests need no iteration of the driver.
    pub(in crate::engine) fn poll(&self, id: u64) -> PollOutcome {
        let mut queue = self.lock();
        // While all sessions are held, the poll is left to the driver, which waits.
        let may_wait = queue.takes_polls() && self.flusher().may_write();
        if may_wait && !queue.is_empty() {
            let frames = queue.take_for_poll(self.poll_bytes(), self.revision(), self.memory());
            drop(queue);
            return PollOutcome::Answered(PollAnswer::packets(&frames, self.revision()));
        }
        let (answer, answered) = oneshot::channel();
        let revision = self.revision();
        let pending = PendingPoll {
            id,
            revision,
            answer,
        };
        if may_wait {
            // The poll is stored under the lock under which the queue was found empty, so a task
            // that queues a frame later finds the poll.
            queue.store_poll(pending);
        } else {
            drop(queue);
            if !self.control(Control::Poll(pending)) {
                return PollOutcome::Unknown;
            }
        }
        PollOutcome::Waiting(answered)
    }

    /// Answers the polling request with this id with an empty packet, if it is the waiting one. If
    /// the session has ended or waits for a WebSocket, the poll is left to the driver.
    pub(in crate::engine) fn release_poll(&self, id: u64) {
        let mut queue = self.lock();
        if queue.closed().is_some() || !queue.is_empty() {
            return;
        }
        let pending = queue.take_poll_of(id);
        drop(queue);
        if let Some(pending) = pending {
            // The caller waits for this poll itself. The packet is empty, so nothing can be lost.
            let _ = pending.answer_noop();
        }
    }

    /// Answers the waiting poll.
    pub(super) fn answer_poll(&self, mut queue: MutexGuard<'_, Queue<OutboxInner>>) -> usize {
        // The poll of an ended session is left to the driver, which ends the session with it.
        if queue.closed().is_some() || queue.is_empty() {
            return 0;
        }
        let Some(pending) = queue.take_poll() else {
            return 0;
        };
        let frames = queue.take_for_poll(self.poll_bytes(), self.revision(), self.memory());
        drop(queue);
        if !pending.answer(&frames) {
            // The frames were taken out of the queue but not received. No later frame may be sent
            // after such a gap, so the driver ends the session.
            self.control(Control::PollLost);
        }
        frames.iter().map(Frame::len).sum()
    }
}
