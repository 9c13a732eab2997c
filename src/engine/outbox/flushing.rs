//! How frames leave: one batch at a time, written by whoever comes first.
//!
//! The lock is held while a batch is taken out and while its rest is put back, and never in between: the
//! system call is made without it. What others queue meanwhile is taken along by the next batch, so they
//! wake nobody.

use std::io;

use roomcast_protocol::engine::CloseReason;

use super::{
    handle::Outbox,
    states::{Sink, Writer},
    worker::Flush,
};

/// Batches written for one session before others get their turn.
const MAX_BATCHES: usize = 4;

impl Outbox {
    /// Writes what is queued, in as few calls as the sink allows. At most one caller at
    /// a time writes; another's frames are taken along by it. Returns how many bytes of frames have
    /// left.
    pub(in crate::engine) fn flush(&self) -> usize {
        let mut left = 0;
        let mut queue = self.lock();
        if queue.writer == Writer::Listed {
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
                // What came while the client was slow.
                queue.settle_lossy(self.pressure());
            }
            let mut batch = queue.take_batch(self.pressure());
            drop(queue);

            let outcome = batch.write(&stream, self.metrics(), self.pressure());
            left += batch.written;

            queue = self.lock();
            queue.put_back(batch, self.pressure());
            match outcome {
                Ok(()) if stream.is_flushed() => {
                    queue.note_drained();
                    queue.note_caught_up(self.metrics());
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                    queue.seal(CloseReason::TransportClose);
                    queue.clear(self.pressure());
                    queue.wake_driver();
                    return left;
                }
                // Nothing more is taken, or what was is not on its way: the driver asks for room, and
                // pushes.
                Ok(()) | Err(_) => {
                    queue.block(self.pressure());
                    self.weigh(&mut queue);
                    queue.wake_driver();
                    return left;
                }
            }
        }
        // Somebody pushes as fast as this writes: others should have their turn first.
        if queue.has_work() {
            queue.writer = Writer::Listed;
            drop(queue);
            self.flusher().enqueue(self.clone());
        }
        left
    }

    /// What the driver learned by asking whether the kernel takes bytes.
    pub(in crate::engine) fn set_writable(&self, writable: bool) {
        let mut queue = self.lock();
        queue.set_blocked(!writable);
        if writable {
            // What a stream had buffered is on its way, too.
            queue.note_drained();
            queue.note_caught_up(self.metrics());
        }
    }
}

impl Flush for Outbox {
    fn flush(&self) -> usize {
        // The method of the same name.
        Self::flush(self)
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}
