use std::cell::RefCell;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status};

use super::TAIL;
use crate::websocket::{Event, FrameError, utf8};

/// A decompressor that keeps its context from one message to the next.
///
/// It takes about 48 KiB. Use it only for a connection that has negotiated context takeover.
#[derive(Debug)]
pub struct Decompressor(Decompress);

impl Decompressor {
    /// About the memory of a decompressor in bytes: its window and its tables.
    pub const MEMORY: usize = 48 << 10;

    /// Creates a decompressor for any window.
    #[must_use]
    pub fn new() -> Self {
        Self(Decompress::new_with_window_bits(false, 15))
    }

    /// Inflates a message that the decoder has marked with [`RSV1`](super::RSV1), like [`inflate`].
    ///
    /// # Errors
    ///
    /// As for [`inflate`]. The connection cannot continue, because the context is lost.
    pub fn inflate(&mut self, event: Event, max: usize) -> Result<Event, FrameError> {
        convert(event, |payload| {
            let mut output = Output::new(max);
            let mut blocks = MAX_FINAL_BLOCKS;
            if !self.run(payload, &mut output, &mut blocks)? {
                self.run_end(&BOUNDARY, &mut output, &mut blocks)?;
            }
            Ok(output.finish())
        })
    }

    /// Inflates a payload that does not refer to earlier messages, and checks that it is complete.
    fn inflate_alone(&mut self, payload: &[u8], max: usize) -> Result<Bytes, FrameError> {
        if payload.is_empty() {
            // No compressor writes this, but peers take it for an empty message.
            return Ok(Bytes::new());
        }
        self.0.reset(false);
        let mut output = Output::new(max);
        let mut blocks = MAX_FINAL_BLOCKS;
        if self.run(payload, &mut output, &mut blocks)? {
            return Ok(output.finish());
        }
        if self.run_end(&END, &mut output, &mut blocks)? {
            Ok(output.finish())
        } else {
            Err(FrameError::InvalidDeflate)
        }
    }

    /// Inflates what follows the payload of every message. It has no data, unless an incomplete
    /// payload takes it for its own.
    fn run_end(
        &mut self,
        end: &[u8],
        output: &mut Output,
        blocks: &mut u32,
    ) -> Result<bool, FrameError> {
        let len = output.bytes.len();
        let has_ended = self.run(end, output, blocks)?;
        if output.bytes.len() > len {
            return Err(FrameError::InvalidDeflate);
        }
        Ok(has_ended)
    }

    /// Inflates a part of a message. Returns whether its last byte has ended a final block.
    fn run(
        &mut self,
        mut input: &[u8],
        output: &mut Output,
        blocks: &mut u32,
    ) -> Result<bool, FrameError> {
        loop {
            output.reserve()?;
            let before = self.0.total_in();
            let status = self
                .0
                .decompress_vec(input, &mut output.bytes, FlushDecompress::Sync)
                .map_err(|_| FrameError::InvalidDeflate)?;
            let consumed = (self.0.total_in() - before) as usize;
            input = input.get(consumed..).unwrap_or_default();
            output.check()?;
            match status {
                Status::StreamEnd => {
                    // A sender may end a message with a final block (section 7.2.3.4). The next
                    // block begins a new stream for zlib.
                    *blocks = blocks.checked_sub(1).ok_or(FrameError::InvalidDeflate)?;
                    self.0.reset(false);
                    if input.is_empty() {
                        return Ok(true);
                    }
                }
                // With room left, everything that the input contains has been written.
                Status::Ok | Status::BufError if output.has_room() => {
                    return if input.is_empty() {
                        Ok(false)
                    } else {
                        Err(FrameError::InvalidDeflate)
                    };
                }
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

/// Inflates a message that the decoder has marked with [`RSV1`](super::RSV1), without a context.
///
/// `max` is the maximum size of the message in bytes. The decompressor belongs to the thread.
///
/// # Errors
///
/// - [`FrameError::InvalidDeflate`] if the payload is not a complete sequence of DEFLATE blocks;
/// - [`FrameError::MessageTooBig`] as soon as the message exceeds `max`;
/// - [`FrameError::InvalidUtf8`] if it is a text message and not UTF-8.
pub fn inflate(event: Event, max: usize) -> Result<Event, FrameError> {
    convert(event, |payload| {
        DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.inflate_alone(payload, max))
    })
}

/// Replaces the payload of a data message; other events are unchanged.
fn convert(
    event: Event,
    inflate: impl FnOnce(&[u8]) -> Result<Bytes, FrameError>,
) -> Result<Event, FrameError> {
    Ok(match event {
        Event::Text(payload) => {
            let text = inflate(&payload)?;
            if utf8::check(&text, 0)? < text.len() {
                return Err(FrameError::InvalidUtf8);
            }
            Event::Text(text)
        }
        Event::Binary(payload) => Event::Binary(inflate(&payload)?),
        Event::Ping(_) | Event::Pong(_) | Event::Close(_) => event,
    })
}

/// The inflated part of a message.
struct Output {
    bytes: Vec<u8>,
    max: usize,
}

impl Output {
    fn new(max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            max,
        }
    }

    /// Makes room for at least one byte. The buffer doubles with the output.
    fn reserve(&mut self) -> Result<(), FrameError> {
        if self.has_room() {
            return Ok(());
        }
        let len = self.bytes.len();
        // One byte more than allowed shows that a message is too large.
        let left = self.max.saturating_add(1).saturating_sub(len);
        self.bytes
            .try_reserve_exact(len.max(FIRST_OUTPUT).min(left).max(1))
            .map_err(|_| FrameError::MessageTooBig)
    }

    fn has_room(&self) -> bool {
        self.bytes.len() < self.bytes.capacity()
    }

    /// Returns the whole message, with at most an eighth more memory than it needs.
    fn finish(mut self) -> Bytes {
        if self.bytes.capacity() - self.bytes.len() > self.bytes.len() / 8 {
            self.bytes.shrink_to_fit();
        }
        self.bytes.into()
    }

    fn check(&self) -> Result<(), FrameError> {
        if self.bytes.len() > self.max {
            return Err(FrameError::MessageTooBig);
        }
        Ok(())
    }
}

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// The first capacity of the output in bytes.
const FIRST_OUTPUT: usize = 512;

/// Maximum number of final blocks in one message, after each of which zlib starts again. A sender
/// needs one.
const MAX_FINAL_BLOCKS: u32 = 16;

/// The end of a block that the sender has removed, and a block without content.
const BOUNDARY: [u8; 9] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 0, 0, 0, 0xff, 0xff];

/// The end of a block that the sender has removed, and a final block without content.
const END: [u8; 6] = [TAIL[0], TAIL[1], TAIL[2], TAIL[3], 3, 0];
