use std::cell::{Cell, RefCell};

use flate2::{Compress, Compression, FlushCompress};

use super::{Settings, TAIL, WindowBits};

/// A compressor that keeps its context from one message to the next.
///
/// It takes about 370 KiB with the largest window ([`memory`](Self::memory)). Use it only for a
/// connection that has negotiated context takeover.
#[derive(Debug)]
pub struct Compressor(Compress);

impl Compressor {
    /// Creates a compressor for a peer with this window. Levels are 1 (fast) to 9 (small).
    #[must_use]
    pub fn new(window: WindowBits, level: u8) -> Self {
        Self(raw(window, level))
    }

    /// Appends the compressed payload of the next message. Every message must be sent, because the
    /// next one may refer to it.
    pub(crate) fn compress(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        let mut input = payload;
        loop {
            out.reserve((input.len() / 2).max(64));
            let before = self.0.total_in();
            let status = self.0.compress_vec(input, out, FlushCompress::Sync);
            let consumed = (self.0.total_in() - before) as usize;
            input = input.get(consumed..).unwrap_or_default();
            // The flush is complete if it has left room.
            let has_ended = input.is_empty() && out.len() < out.capacity();
            if has_ended || status.is_err() {
                break;
            }
        }
        remove_tail(out);
    }

    /// Returns about how many bytes of memory a compressor with this window takes.
    #[must_use]
    pub fn memory(window: WindowBits) -> usize {
        // The window and the chains of the hash table, and what does not depend on the window: the
        // heads of the hash table and the pending output (measured, see benches/README.md).
        (4 << window.get()) + (243 << 10)
    }
}

/// Compresses a message on its own, for a peer with this window. The frame needs
/// [`RSV1`](super::RSV1).
///
/// Returns `None` if the message is shorter than the threshold or becomes no smaller.
#[must_use]
pub fn compress(payload: &[u8], window: WindowBits, settings: &Settings) -> Option<Vec<u8>> {
    if payload.len() < settings.threshold {
        return None;
    }
    let mut out = Vec::new();
    let window = window.for_message(payload.len());
    compress_into(payload, window, settings.level, &mut out).then_some(out)
}

/// Appends the payload compressed on its own, if that is smaller. Returns whether it is; otherwise
/// `out` is unchanged.
pub(crate) fn compress_into(
    payload: &[u8],
    window: WindowBits,
    level: u8,
    out: &mut Vec<u8>,
) -> bool {
    let start = out.len();
    // The tail is removed again. One more byte shows that the flush is complete.
    out.reserve(payload.len() + TAIL.len() + 1);
    let is_whole = POOL.with_borrow_mut(|pool| {
        pool.with(window, level, |compressor| {
            compressor.reset();
            let status = compressor.compress_vec(payload, out, FlushCompress::Sync);
            status.is_ok() && compressor.total_in() == payload.len() as u64
        })
    });
    let is_flushed = out.len() < out.capacity();
    remove_tail(out);
    let is_smaller = is_whole && is_flushed && out.len() - start < payload.len();
    if !is_smaller {
        out.truncate(start);
    }
    is_smaller
}

/// Removes the end of the last block, which every flush writes.
fn remove_tail(out: &mut Vec<u8>) {
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
}

/// Calls `f` with an empty buffer that this thread reuses.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    let mut buffer = SCRATCH.take();
    buffer.clear();
    let result = f(&mut buffer);
    if buffer.capacity() <= MAX_REUSED_SCRATCH {
        SCRATCH.set(buffer);
    }
    result
}

fn raw(window: WindowBits, level: u8) -> Compress {
    let level = Compression::new(u32::from(level.clamp(1, 9)));
    Compress::new_with_window_bits(level, false, window.get())
}

/// The compressors of a thread, the most recently used last.
#[derive(Default)]
struct Pool(Vec<(WindowBits, u8, Compress)>);

impl Pool {
    /// Calls `f` with the compressor for this window and level, which may have been used before.
    fn with<T>(&mut self, window: WindowBits, level: u8, f: impl FnOnce(&mut Compress) -> T) -> T {
        let is_same = |(bits, at, _): &(WindowBits, u8, Compress)| (*bits, *at) == (window, level);
        let mut entry = match self.0.iter().position(is_same) {
            Some(index) => self.0.remove(index),
            None => {
                if self.0.len() >= MAX_COMPRESSORS {
                    self.0.remove(0);
                }
                (window, level, raw(window, level))
            }
        };
        let result = f(&mut entry.2);
        self.0.push(entry);
        result
    }
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Maximum number of compressors of a thread: all windows, and one more for a second level.
const MAX_COMPRESSORS: usize = WindowBits::COUNT + 1;

/// The maximum capacity of a reused buffer in bytes; a larger buffer is freed.
const MAX_REUSED_SCRATCH: usize = 64 * 1024;
