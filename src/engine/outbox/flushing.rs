//! Writes queued frames: one batch at a time, by the first task that gets to it.
//!
//! The lock is held while a batch is taken out and while its rest is put back, but not during the
//! system call. Frames that are queued during the call are sent with the next batch, so they need
//! no wake.

use std::io;

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    handle::Outbox,
    queue::{
        Queue,
        requests::PendingPoll,
        states::{Drain, Sink, Wake, Writer},
    },
    waiting::{MemoryBudget, Outgoing},
    worker::Flush,
};
use crate::{
    engine::{primitives::now, transport::Stream},
    metrics::{Metrics, Timing},
};

/// Number of batches written for one session before other sessions continue.
const MAX_BATCHES: usize = 4;

impl Outbox {
    /// Writes queued frames, in as few calls as the sink allows. At most one caller at a time
    /// writes, including the frames of other callers. Returns the number of bytes sent.
    pub(in crate::engine) fn flush(&self) -> usize {
        let mut left = 0;
        let mut queue = self.lock();
        if queue.writer == Writer::Enqueued {
            // This call does the work for which the session is in the flusher's list. If the driver
            // gets here first, the flusher finds nothing to do.
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
                // else is queued.
                queue.settle_conflated(self.memory());
            }
            let mut batch = queue.take_batch(self.memory());
            // Until the next lock, other tasks may queue frames, end the session or detach the
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
                // The kernel accepts no more, or the stream has buffered data: the driver waits for
                // writability and flushes.
                Ok(()) | Err(_) => {
                    queue.block(self.memory());
                    self.refile(&mut queue);
                    // Only the driver can wait for writability, and it may be idle.
                    queue.wake_driver();
                    return left;
                }
            }
        }
        // Other tasks push as fast as this one writes, so other sessions continue first.
        if queue.has_work() {
            queue.writer = Writer::Enqueued;
            drop(queue);
            self.flusher().enqueue(self.clone());
        }
        left
    }

    /// Updates the state after the driver has checked whether the kernel accepts bytes.
    pub(in crate::engine) fn set_writable(&self, writable: bool) {
        let mut queue = self.lock();
        queue.set_blocked(!writable);
        if writable {
            // The data buffered by the stream has been written as well.
            queue.note_drained();
            queue.note_caught_up(self.metrics());
        }
    }
}

impl Flush for Outbox {
    fn flush(&self) -> usize {
        // This calls the inherent method of the same name.
        Self::flush(self)
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}

impl<H> Queue<H> {
    /// Returns which task must be woken to write what was queued.
    pub(super) fn schedule<O>(&mut self) -> Wake<O> {
        // A running driver writes at the end of its iteration, and a writing task checks the queue
        // again.
        if self.is_running() || self.writer != Writer::Nobody || !self.can_flush() {
            return Wake::Nobody;
        }
        self.writer = Writer::Enqueued;
        Wake::Flusher
    }

    /// Returns whether there is a sink, and for a poll also whether there is something to write.
    fn can_flush(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => true,
            Sink::Poll(poll) => poll.is_some() && !self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Returns whether the driver must write frames that were queued during its iteration.
    pub(super) fn must_flush(&self) -> bool {
        self.writer == Writer::Nobody
            && self.has_unsent()
            && self.can_flush()
            && self.life.is_open()
    }

    /// Takes out everything that is to be written next.
    pub(in crate::engine) fn take_batch(&mut self, memory: &MemoryBudget) -> Outgoing {
        // A pong is sent first, but never in the middle of another frame.
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

    /// Puts back what was not written, before anything queued since.
    pub(in crate::engine) fn put_back(&mut self, batch: Outgoing, memory: &MemoryBudget) {
        self.writer = Writer::Nobody;
        // `clear` may have set the count to zero while the batch was taken out.
        self.bytes = self.bytes.saturating_sub(batch.written);
        self.offset = batch.offset;
        // While the batch was taken out, the rest of the queue may have changed whether it counts
        // as held for a slow client. From here on both parts count alike.
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
            // The rest of the queue may have been dropped in the meantime.
            self.bytes = self.frames.iter().map(Frame::len).sum();
        }
        if matches!(self.sink, Sink::Detached) {
            // The driver has ended in the meantime, and nothing else would release this memory.
            self.clear(memory);
        }
    }

    /// Records that the kernel accepts no more bytes.
    pub(super) fn block(&mut self, memory: &MemoryBudget) {
        self.writer = Writer::Blocked { is_awaited: false };
        self.slow_since.get_or_insert_with(now);
        self.begin_holding(memory);
    }

    /// Sends all further frames on this stream. Returns the polling request that is still waiting.
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

    /// Notifies the driver if a drain is watched and everything has been sent.
    pub(super) fn note_drained(&mut self) {
        if self.drain == Drain::Watched && !self.has_unsent() {
            self.drain = Drain::Due;
            self.wake_driver();
        }
    }

    /// Records that a slow client has caught up, if everything has been sent.
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

    /// Returns whether there is something to write that no task is writing.
    pub(super) fn has_work(&self) -> bool {
        self.writer == Writer::Nobody && self.has_unsent()
    }

    /// Returns whether something has not been sent yet.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.has_unsent() || matches!(self.writer, Writer::Writing | Writer::Blocked { .. })
    }

    /// Records whether the kernel accepts bytes, as checked by the driver. A write in progress
    /// determines that itself.
    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        match (self.writer, is_blocked) {
            (Writer::Writing, _) | (Writer::Nobody | Writer::Enqueued, false) => {}
            (Writer::Blocked { .. }, false) => self.writer = Writer::Nobody,
            (Writer::Nobody | Writer::Enqueued | Writer::Blocked { .. }, true) => {
                self.writer = Writer::Blocked { is_awaited: true };
            }
        }
    }
}
