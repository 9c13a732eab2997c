//! How polling requests are answered: by whoever has packets for them, without the driver.

use parking_lot::MutexGuard;
use roomcast_protocol::Frame;
use tokio::sync::oneshot;

use super::{
    handle::{Outbox, OutboxInner},
    queue::Queue,
    requests::{Control, PendingPoll, PollAnswer},
    states::{Sink, Turn},
    waiting::MemoryBudget,
};

/// The outcome of a polling request.
pub(in crate::engine) enum Polled {
    /// The poll is answered with packets that were queued.
    Answered(PollAnswer),
    /// The poll is answered later.
    Waiting(oneshot::Receiver<PollAnswer>),
    /// The session does not exist any more.
    Unknown,
}

impl Outbox {
    /// Takes frames for one polling answer: at most `limit` bytes, at least one frame.
    pub(in crate::engine) fn take_for_poll(&self, limit: usize) -> Vec<Frame> {
        self.lock().take_for_poll(limit, self.memory())
    }

    /// Answers a polling request or lets it wait. Most requests need no turn of the driver.
    pub(in crate::engine) fn poll(&self, id: u64) -> Polled {
        let mut queue = self.lock();
        let may_wait = queue.takes_polls();
        if may_wait && !queue.is_empty() {
            let frames = queue.take_for_poll(self.poll_bytes(), self.memory());
            drop(queue);
            return Polled::Answered(PollAnswer::packets(&frames));
        }
        let (answer, answered) = oneshot::channel();
        let pending = PendingPoll::new(id, answer);
        if may_wait {
            // The poll is kept under the lock under which the queue was found empty, so whoever
            // queues a frame after that finds the poll.
            queue.keep_poll(pending);
        } else {
            drop(queue);
            if !self.control(Control::Poll(pending)) {
                return Polled::Unknown;
            }
        }
        Polled::Waiting(answered)
    }

    /// Answers the polling request with this id with an empty packet, if it is the one that waits. One of a session that is
    /// over, or that waits for a WebSocket, is left to the driver.
    pub(in crate::engine) fn release_poll(&self, id: u64) {
        let mut queue = self.lock();
        if queue.closed().is_some() || !queue.is_empty() {
            return;
        }
        let pending = queue.take_poll_of(id);
        drop(queue);
        if let Some(pending) = pending {
            // Who waits for it is who asks for this. The packet is empty, so that nothing is lost otherwise.
            let _ = pending.answer_noop();
        }
    }

    /// Answers the poll that waits.
    pub(super) fn answer_poll(&self, mut queue: MutexGuard<'_, Queue<OutboxInner>>) -> usize {
        // The poll of a session that is over is left to the driver, which ends the session with it.
        if queue.closed().is_some() || queue.is_empty() {
            return 0;
        }
        let Some(pending) = queue.take_poll() else {
            return 0;
        };
        let frames = queue.take_for_poll(self.poll_bytes(), self.memory());
        drop(queue);
        if !pending.answer(&frames) {
            // The frames are out of the queue and were not received, and nothing may leave behind
            // such a hole: the driver ends the session.
            self.control(Control::PollLost);
        }
        frames.iter().map(Frame::len).sum()
    }
}

impl<H> Queue<H> {
    /// Takes frames out for one polling answer: at most `limit` bytes, at least one frame.
    pub(super) fn take_for_poll(&mut self, limit: usize, memory: &MemoryBudget) -> Vec<Frame> {
        let mut taken = Vec::new();
        let mut size = 0;
        self.settle_conflated(memory);
        while let Some(frame) = self.frames.front() {
            size += frame.polling().len() + 1;
            // A frame that is larger than the limit leaves alone, or it would wait for ever.
            if size > limit && !taken.is_empty() {
                break;
            }
            taken.extend(self.pop(memory));
        }
        self.note_drained();
        taken
    }

    /// Whether a polling request waits.
    pub(in crate::engine) fn has_poll(&self) -> bool {
        matches!(self.sink, Sink::Poll(Some(_)))
    }

    /// Takes out the polling request that waits.
    pub(in crate::engine) fn take_poll(&mut self) -> Option<PendingPoll> {
        match &mut self.sink {
            Sink::Poll(poll) => poll.take(),
            Sink::WebSocket(_) | Sink::Detached => None,
        }
    }

    /// Takes out the polling request with this id, if it is the one that waits.
    pub(in crate::engine) fn forget_poll(&mut self, id: u64) -> bool {
        self.take_poll_of(id).is_some()
    }

    fn take_poll_of(&mut self, id: u64) -> Option<PendingPoll> {
        let Sink::Poll(poll) = &mut self.sink else {
            return None;
        };
        poll.take_if(|pending| pending.id == id)
    }

    /// Lets a polling request wait. Where the session does not poll, the request is dropped, and
    /// answered as one for an unknown session.
    pub(in crate::engine) fn keep_poll(&mut self, pending: PendingPoll) {
        if let Sink::Poll(poll) = &mut self.sink {
            *poll = Some(pending);
        }
    }

    /// Whether a polling request may wait, or be answered, without the driver.
    pub(super) fn takes_polls(&self) -> bool {
        self.turn == Turn::Polling
            && matches!(self.sink, Sink::Poll(None))
            && self.control.is_empty()
            && self.life.is_open()
            && !self.is_attaching()
    }
}
