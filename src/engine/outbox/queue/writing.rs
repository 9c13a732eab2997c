//! Writing to the stream of a session: batches, and whether there is room for them.

use roomcast_protocol::{Frame, engine::Transport};

use super::{
    Queue,
    requests::PendingPoll,
    states::{DrainEvent, WriterEvent},
};
use crate::{
    engine::{
        outbox::waiting::{MemoryBudget, Outgoing},
        primitives::now,
        transport::Stream,
    },
    metrics::{Metrics, Timing},
};

impl<H> Queue<H> {
    /// Returns whether the caller must add the outbox to the list of a flusher, which then writes
    /// what was queued.
    #[inline]
    #[must_use]
    pub(in crate::engine::outbox) fn schedule(&mut self) -> bool {
        // A running driver writes at the end of its iteration, and a writing task checks the queue
        // again.
        !self.driver.is_running() && self.can_flush() && self.writer.apply(WriterEvent::Enqueue)
    }

    /// Returns whether there is a stream or a waiting poll, and for a poll also whether there is
    /// something to write.
    #[inline]
    fn can_flush(&self) -> bool {
        match self.transport() {
            Transport::WebSocket => true,
            Transport::Polling => self.has_poll() && !self.is_empty(),
        }
    }

    /// Begins a flush, which does the work for which the session is in the flusher's list.
    #[inline]
    pub(in crate::engine::outbox) fn begin_flush(&mut self) {
        self.writer.apply(WriterEvent::BeginFlush);
    }

    /// Leaves the queued frames to the flusher, so that it writes for other sessions first. Returns
    /// `false` if no frames are queued, or a task will check them.
    pub(in crate::engine::outbox) fn defer(&mut self) -> bool {
        self.has_unsent() && self.writer.apply(WriterEvent::Enqueue)
    }

    /// Returns whether the driver must write frames that were queued during its iteration.
    pub(in crate::engine::outbox) fn must_flush(&self) -> bool {
        self.has_work() && self.can_flush() && self.life.is_open()
    }

    /// Takes out everything that is to be written next. Returns `None` if another task writes, or
    /// there is no room.
    #[inline]
    pub(in crate::engine) fn take_batch(&mut self, memory: &MemoryBudget) -> Option<Outgoing> {
        if !self.writer.apply(WriterEvent::TakeBatch) {
            return None;
        }
        if self.frames.is_empty() {
            // Frames that were conflated while the client was slow are written when nothing else
            // is queued.
            self.settle_conflated(memory);
        }
        // A pong is sent first, but never in the middle of another frame.
        if let Some(pong) = self.pong.take_if(|_| self.offset == 0) {
            if self.held {
                memory.hold(&pong);
            }
            self.bytes += pong.len();
            self.frames.push_front(pong);
        }
        Some(Outgoing {
            frames: std::mem::take(&mut self.frames),
            offset: self.offset,
            written: 0,
            held: self.held,
        })
    }

    /// Puts back what was not written, before anything queued since.
    #[inline]
    pub(in crate::engine) fn put_back(&mut self, batch: Outgoing, memory: &MemoryBudget) {
        self.writer.apply(WriterEvent::PutBack);
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
        if self.sink.is_detached() {
            // The driver has ended in the meantime, and nothing else would release this memory.
            self.clear(memory);
        }
    }

    /// Records that the kernel accepts no more bytes.
    pub(in crate::engine::outbox) fn block(&mut self, memory: &MemoryBudget) {
        self.writer.apply(WriterEvent::Block);
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
        self.writer.apply(match stream.is_flushed() {
            true => WriterEvent::FindRoom,
            false => WriterEvent::Upgrade,
        });
        self.sink.upgrade(stream)
    }

    /// Notifies the driver if a drain is watched and everything has been sent.
    #[inline]
    pub(in crate::engine::outbox) fn note_drained(&mut self) {
        if self.drain.is_watched() && !self.has_unsent() && self.drain.apply(DrainEvent::Complete) {
            self.wake_driver();
        }
    }

    /// Records that a slow client has caught up, if everything has been sent.
    #[inline]
    pub(in crate::engine::outbox) fn note_caught_up(&mut self, metrics: &Metrics) {
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

    #[inline]
    pub(in crate::engine::outbox) fn has_unsent(&self) -> bool {
        !self.is_empty() || self.pong.is_some()
    }

    /// Returns whether there is something to write that no task is writing.
    #[inline]
    pub(in crate::engine::outbox) fn has_work(&self) -> bool {
        self.writer.is_idle() && self.has_unsent()
    }

    /// Returns whether something has not been sent yet.
    pub(in crate::engine::outbox) fn is_on_its_way(&self) -> bool {
        self.has_unsent() || self.writer.is_writing() || self.writer.is_blocked()
    }

    /// Records whether the kernel accepts bytes, as checked by the driver. A write in progress
    /// determines that itself.
    pub(in crate::engine::outbox) fn set_blocked(&mut self, is_blocked: bool) {
        self.writer.apply(match is_blocked {
            true => WriterEvent::AwaitRoom,
            false => WriterEvent::FindRoom,
        });
    }
}
