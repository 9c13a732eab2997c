//! Writes what is queued: one batch at a time, by whichever task comes first.
//!
//! The lock is held while a batch is taken out and while its rest is put back, and never in
//! between: the system call is made without it. Frames that others queue meanwhile leave with the
//! next batch, so they wake nobody.

use std::io;

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    handle::Outbox,
    queue::Queue,
    requests::PendingPoll,
    states::{Drain, Sink, Wake, Writer},
    waiting::{MemoryBudget, Outgoing},
    worker::Flush,
};
use crate::{
    engine::{primitives::now, transport::Stream},
    metrics::{Metrics, Timing},
};

/// How many batches are written for one session before others get their turn.
const MAX_BATCHES: usize = 4;

impl Outbox {
    /// Writes what is queued, in as few calls as the sink allows. At most one caller at a time
    /// writes, and takes the frames of the others along. Returns how many bytes of frames have
    /// left.
    pub(in crate::engine) fn flush(&self) -> usize {
        let mut left = 0;
        let mut queue = self.lock();
        if queue.writer == Writer::Listed {
            // This call does what the place in the list stands for. If the driver has come first,
            // the flusher finds nothing to do.
            queue.writer = Writer::Nobody;
        }
        for _ in 0..MAX_BATCHES {
            if !queue.has_work() {
                return left;
            }
            let Sink::WebSocket(stream) = &queue.sink else {
                return self.answer_poll(queue);
            };
            let stream = stream.clone();
            if queue.frames.is_empty() {
                // Frames that were conflated while the client was slow are written when nothing
                // else waits.
                queue.settle_conflated(self.memory());
            }
            let mut batch = queue.take_batch(self.memory());
            // From here to the next lock others may queue frames, end the session or detach the
            // queue. None of them writes, because of `Writer::Writing`.
            drop(queue);

            let outcome = batch.write(&stream, self.metrics(), self.memory());
            left += batch.written;

            queue = self.lock();
            queue.put_back(batch, self.memory());
            match outcome {
                Ok(()) if stream.is_flushed() => {
                    queue.note_drained();
                    queue.note_caught_up(self.metrics());
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    queue.seal(CloseReason::TransportClose);
                    queue.clear(self.memory());
                    queue.wake_driver();
                    return left;
                }
                // The kernel accepts no more, or the stream has buffered something: the driver asks
                // for room, and flushes.
                Ok(()) | Err(_) => {
                    queue.block(self.memory());
                    self.weigh(&mut queue);
                    // Only the driver can ask the runtime for room, and it may be idle.
                    queue.wake_driver();
                    return left;
                }
            }
        }
        // Other tasks push as fast as this one writes, so other sessions should have their turn
        // first.
        if queue.has_work() {
            queue.writer = Writer::Listed;
            drop(queue);
            self.flusher().enqueue(self.clone());
        }
        left
    }

    /// Called when the driver has asked whether the kernel accepts bytes.
    pub(in crate::engine) fn set_writable(&self, writable: bool) {
        let mut queue = self.lock();
        queue.set_blocked(!writable);
        if writable {
            // What the stream had buffered has left, too.
            queue.note_drained();
            queue.note_caught_up(self.metrics());
        }
    }
}

impl Flush for Outbox {
    fn flush(&self) -> usize {
        // The inherent method of the same name.
        Self::flush(self)
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}

impl<H> Queue<H> {
    /// Returns who has to be woken for what was queued.
    pub(super) fn schedule<O>(&mut self) -> Wake<O> {
        // A driver that has its turn writes at the end of it, and a task that writes looks at the
        // queue again.
        if self.is_in_turn() || self.writer != Writer::Nobody || !self.can_flush() {
            return Wake::Nobody;
        }
        self.writer = Writer::Listed;
        Wake::Flusher
    }

    /// Whether there is anywhere to write to, and for a poll anything to write.
    fn can_flush(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => true,
            Sink::Poll(poll) => poll.is_some() && !self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether the driver, to which others have left frames, must write again.
    pub(super) fn must_flush(&self) -> bool {
        self.writer == Writer::Nobody
            && self.has_unsent()
            && self.can_flush()
            && self.life.is_open()
    }

    /// Takes out everything that is to be written next.
    pub(in crate::engine) fn take_batch(&mut self, memory: &MemoryBudget) -> Outgoing {
        // A pong goes first, but never into the middle of another frame.
        if let Some(pong) = self.pong.take_if(|_| self.offset == 0) {
            if self.held {
                memory.hold(&pong);
            }
            self.bytes += pong.len();
            self.frames.push_front(pong);
        }
        self.writer = Writer::Writing;
        Outgoing {
            frames: std::mem::take(&mut self.frames),
            offset: self.offset,
            written: 0,
            held: self.held,
        }
    }

    /// Puts back what was not written, in front of what was queued meanwhile.
    pub(in crate::engine) fn put_back(&mut self, batch: Outgoing, memory: &MemoryBudget) {
        self.writer = Writer::Nobody;
        // `clear` may have set the count to zero while the batch was out.
        self.bytes = self.bytes.saturating_sub(batch.written);
        self.offset = batch.offset;
        // While the batch was out, the rest of the queue may have begun or ceased to count as
        // waiting for a slow client. From here on both count alike.
        if !batch.frames.is_empty() && batch.held != self.held {
            if batch.held {
                self.begin_holding(memory);
                self.held = true;
            } else {
                batch.frames.iter().for_each(|frame| memory.hold(frame));
            }
        }
        self.frames.prepend(batch.frames);
        self.held &= !self.frames.is_empty();
        if !self.life.is_open() {
            // The rest of the queue may have been dropped meanwhile.
            self.bytes = self.frames.iter().map(Frame::len).sum();
        }
        if matches!(self.sink, Sink::Detached) {
            // The driver has gone meanwhile, and nobody else would ever take this out of the
            // account.
            self.clear(memory);
        }
    }

    /// The kernel accepts no more.
    pub(super) fn block(&mut self, memory: &MemoryBudget) {
        self.writer = Writer::Blocked { is_awaited: false };
        self.slow_since.get_or_insert_with(now);
        self.begin_holding(memory);
    }

    /// From here on frames leave on this stream. Returns the polling request that still waits.
    #[must_use]
    pub(in crate::engine) fn switch(
        &mut self,
        stream: Stream,
        memory: &MemoryBudget,
    ) -> Option<PendingPoll> {
        self.settle_conflated(memory);
        if !stream.is_flushed() {
            self.writer = Writer::Blocked { is_awaited: false };
        } else if self.is_blocked() {
            self.writer = Writer::Nobody;
        }
        match std::mem::replace(&mut self.sink, Sink::WebSocket(stream)) {
            Sink::Poll(poll) => poll,
            Sink::WebSocket(_) | Sink::Detached => None,
        }
    }

    /// Called when everything may have left.
    pub(super) fn note_drained(&mut self) {
        if self.drain == Drain::Watched && !self.has_unsent() {
            self.drain = Drain::Due;
            self.wake_driver();
        }
    }

    /// Called when a client that was slow may have taken everything.
    pub(super) fn note_caught_up(&mut self, metrics: &Metrics) {
        if self.slow_since.is_some()
            && !self.has_unsent()
            && let Some(since) = self.slow_since.take()
        {
            self.filed = None;
            if self.life.is_open() {
                metrics.time(Timing::SlowClient, now() - since);
            }
        }
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.is_empty() || self.pong.is_some()
    }

    /// Whether there is something to write that no task writes yet.
    pub(super) fn has_work(&self) -> bool {
        self.writer == Writer::Nobody && self.has_unsent()
    }

    /// Whether something has not left yet.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.has_unsent() || matches!(self.writer, Writer::Writing | Writer::Blocked { .. })
    }

    /// Called when the driver has asked the kernel. A write that is under way will find out for
    /// itself.
    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        match (self.writer, is_blocked) {
            (Writer::Writing, _) | (Writer::Nobody | Writer::Listed, false) => {}
            (Writer::Blocked { .. }, false) => self.writer = Writer::Nobody,
            (Writer::Nobody | Writer::Listed | Writer::Blocked { .. }, true) => {
                self.writer = Writer::Blocked { is_awaited: true };
            }
        }
    }
}
