//! Writes frames into the kernel.
//!
//! Small frames are copied into one buffer and written in one call. Large frames are written in
//! place, several in one call.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
};

use super::{frames::Frames, memory_budget::MemoryBudget};
use crate::{
    engine::transport::Stream,
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
        metrics: &Metrics,
        memory: &MemoryBudget,
    ) -> io::Result<()> {
        while let Some(first) = self.frames.front() {
            let rest = first.websocket().get(self.offset..).unwrap_or_default();
            // A single frame needs no copy. Of several, only the first few are checked for a large
            // frame; a later large frame is handled by a later call.
            let n = if self.frames.len() == 1 {
                stream.try_write(rest)?
            } else if self
                .frames
                .iter()
                .take(CORK / LARGE)
                .any(|f| f.len() >= LARGE)
            {
                self.write_vectored(stream)?
            } else {
                self.write_corked(stream)?
            };
            metrics.count(Counter::Writes);
            metrics.add(Counter::BytesSent, n as u64);
            self.advance(n, metrics, memory);
        }
        Ok(())
    }

    fn write_corked(&self, stream: &Stream) -> io::Result<usize> {
        CORK_BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let mut offset = self.offset;
            for frame in self.frames.iter() {
                let bytes = frame.websocket().get(offset..).unwrap_or_default();
                if buffer.len() + bytes.len() > CORK && !buffer.is_empty() {
                    break;
                }
                buffer.extend_from_slice(bytes);
                offset = 0;
            }
            stream.try_write(buffer)
        })
    }

    fn write_vectored(&self, stream: &Stream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); 32];
        let mut offset = self.offset;
        for (slice, frame) in slices.iter_mut().zip(self.frames.iter()) {
            *slice = IoSlice::new(frame.websocket().get(offset..).unwrap_or_default());
            offset = 0;
        }
        stream.try_write_vectored(&slices)
    }

    fn advance(&mut self, mut n: usize, metrics: &Metrics, memory: &MemoryBudget) {
        while let Some(first) = self.frames.front() {
            let left = first.len() - self.offset;
            if n < left {
                self.offset += n;
                return;
            }
            n -= left;
            self.offset = 0;
            self.written += first.len();
            if self.held {
                memory.release(first);
            }
            self.frames.pop_front();
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
