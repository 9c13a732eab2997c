//! Writes queued frames: one batch at a time, by the first task that gets to it.
//!
//! The lock is held while a batch is taken out and while its rest is put back, but not during the
//! system call. Frames that are queued during the call are sent with the next batch, so they need
//! no wake.

use std::io;

use parking_lot::MutexGuard;
use roomcast_protocol::engine::CloseReason;

use super::{
    handle::{Outbox, OutboxInner},
    queue::Queue,
    worker::Flush,
};
use crate::engine::transport::Stream;

/// Number of batches written for one session before other sessions continue.
const MAX_BATCHES: usize = 4;

impl Outbox {
    /// Writes queued frames, in as few calls as the sink allows. At most one caller at a time
    /// writes, including the frames of other callers. Returns the number of bytes sent.
    pub(in crate::engine) fn flush(&self) -> usize {
        let mut queue = self.lock();
        queue.begin_flush();
        if !queue.has_work() {
            return 0;
        }
        if !self.flusher().may_write() {
            return self.leave_to_flusher(queue);
        }
        match queue.stream() {
            Some(stream) => self.write_to(&stream, queue),
            None => self.answer_poll(queue),
        }
    }

    /// Writes queued frames like [`flush`](Self::flush), for the driver, which has the stream of
    /// the session.
    pub(in crate::engine) fn flush_to(&self, stream: &Stream) -> usize {
        let mut queue = self.lock();
        queue.begin_flush();
        if !self.flusher().may_write() {
            return self.leave_to_flusher(queue);
        }
        self.write_to(stream, queue)
    }

    /// Leaves the queued frames to the flusher, which waits while all sessions are held. Returns
    /// the number of bytes sent: none.
    #[cold]
    fn leave_to_flusher(&self, mut queue: MutexGuard<'_, Queue<OutboxInner>>) -> usize {
        if queue.defer() {
            drop(queue);
            self.enqueue();
        }
        0
    }

    fn write_to<'a>(
        &'a self,
        stream: &Stream,
        mut queue: MutexGuard<'a, Queue<OutboxInner>>,
    ) -> usize {
        let mut left = 0;
        for _ in 0..MAX_BATCHES {
            if !queue.has_work() {
                return left;
            }
            let Some(mut batch) = queue.take_batch(self.memory()) else {
                return left;
            };
            // Until the next lock, other tasks may queue frames, end the session or detach the
            // queue. None of them writes, because the batch is being written.
            drop(queue);

            let encoding = stream.encoding(self.flusher().deflate(), self.revision());
            let outcome = batch.write(stream, encoding, self.metrics(), self.memory());
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
        if queue.defer() {
            drop(queue);
            self.enqueue();
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
