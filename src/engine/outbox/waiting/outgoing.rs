//! Writes frames into the kernel.
//!
//! Small frames are copied into one buffer and written in one call. Large frames are written in
//! place, several in one call. Messages are compressed here, when they are first written to a
//! connection that has negotiated that: a frame keeps the result for all further connections.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
};

use parking_lot::Mutex;

use super::{frames::Frames, memory_budget::MemoryBudget};
use crate::{
    engine::transport::{Encoding, Sender, Stream},
    metrics::{Counter, Metrics},
};

/// Frames taken out of a queue to be written.
pub(in crate::engine) struct Outgoing {
    pub(in crate::engine) frames: Frames,
    pub(in crate::engine::outbox) offset: usize,
    /// The bytes of completely written frames.
    pub(in crate::engine) written: usize,
    /// Whether the frames count as held for a slow client.
    pub(in crate::engine) held: bool,
}

impl Outgoing {
    /// Writes as much as the kernel accepts.
    pub(in crate::engine::outbox) fn write(
        &mut self,
        stream: &Stream,
        encoding: Encoding<'_>,
        metrics: &Metrics,
        memory: &MemoryBudget,
    ) -> io::Result<()> {
        if let Some(sender) = stream.sender() {
            return self.write_contextual(stream, sender, encoding, metrics, memory);
        }
        while let Some(first) = self.frames.front() {
            // A single frame needs no copy. Of several, only the first few are checked for a large
            // frame; a later large frame is handled by a later call.
            let n = if self.frames.len() == 1 {
                let rest = encoding.bytes(first).get(self.offset..);
                stream.try_write(rest.unwrap_or_default())?
            } else if self
                .frames
                .iter()
                .take(CORK / LARGE)
                .any(|frame| encoding.bytes(frame).len() >= LARGE)
            {
                self.write_vectored(stream, encoding)?
            } else {
                self.write_corked(stream, encoding)?
            };
            metrics.count(Counter::Writes);
            metrics.add(Counter::BytesSent, n as u64);
            self.advance(n, encoding, metrics, memory);
        }
        Ok(())
    }

    /// Writes one frame at a time, compressed with the context of the connection.
    #[cold]
    fn write_contextual(
        &mut self,
        stream: &Stream,
        sender: &Mutex<Sender>,
        encoding: Encoding<'_>,
        metrics: &Metrics,
        memory: &MemoryBudget,
    ) -> io::Result<()> {
        // Only one task at a time writes to a connection, so the lock is never contended.
        let mut sender = sender.lock();
        while let Some(first) = self.frames.front() {
            let bytes = sender.bytes(first, encoding);
            let rest = bytes.get(self.offset..).unwrap_or_default();
            let n = stream.try_write(rest)?;
            metrics.count(Counter::Writes);
            metrics.add(Counter::BytesSent, n as u64);
            if n < rest.len() {
                self.offset += n;
            } else {
                sender.finish(first);
                self.finish_first(metrics, memory);
            }
        }
        Ok(())
    }

    fn write_corked(&self, stream: &Stream, encoding: Encoding<'_>) -> io::Result<usize> {
        CORK_BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let mut offset = self.offset;
            for frame in self.frames.iter() {
                let bytes = encoding.bytes(frame).get(offset..).unwrap_or_default();
                if buffer.len() + bytes.len() > CORK && !buffer.is_empty() {
                    break;
                }
                buffer.extend_from_slice(bytes);
                offset = 0;
            }
            stream.try_write(buffer)
        })
    }

    fn write_vectored(&self, stream: &Stream, encoding: Encoding<'_>) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 32];
        let mut offset = self.offset;
        for (slice, frame) in slices.iter_mut().zip(self.frames.iter()) {
            *slice = IoSlice::new(encoding.bytes(frame).get(offset..).unwrap_or_default());
            offset = 0;
        }
        stream.try_write_vectored(&slices)
    }

    fn advance(
        &mut self,
        mut n: usize,
        encoding: Encoding<'_>,
        metrics: &Metrics,
        memory: &MemoryBudget,
    ) {
        while let Some(first) = self.frames.front() {
            let left = encoding.bytes(first).len() - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.finish_first(metrics, memory);
        }
    }

    /// Removes the first frame, which is completely written. It counts with its uncompressed size
    /// for revision 4, as in the queue.
    fn finish_first(&mut self, metrics: &Metrics, memory: &MemoryBudget) {
        self.offset = 0;
        if let Some(first) = self.frames.pop_front() {
            self.written += first.len();
            if self.held {
                memory.release(&first);
            }
            metrics.count(Counter::FramesSent);
        }
    }
}

/// Frames of at least this size are written in place instead of being copied.
const LARGE: usize = 16 * 1024;
/// Maximum number of copied bytes per call.
const CORK: usize = 64 * 1024;

thread_local! {
    static CORK_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
