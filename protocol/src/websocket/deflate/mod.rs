//! Compression of messages: permessage-deflate (RFC 7692), both directions, without I/O.
//!
//! [`negotiate`] answers the offers of a client; [`Offer`] writes an offer and checks its answer.
//! [`Frame::deflated`](crate::Frame::deflated) is the compressed form of a frame, which all
//! connections with the same window share. [`inflate`] reverses it for received messages.
//!
//! # State
//!
//! A compressor with a window of 15 bits takes about 370 KiB and a decompressor 48 KiB. Without
//! context takeover, every message is compressed on its own. So each thread has one compressor per
//! window in use and one decompressor, and a connection has none. With context takeover, a
//! connection owns a [`Compressor`] and a [`Decompressor`].
//!
//! # Limits
//!
//! A message that becomes too large fails while it is inflated. The output reserves memory as it
//! grows, and never more than the limit and one byte.

mod compressor;
mod decompressor;
mod encodings;
mod offers;
mod parameters;
mod window;

#[cfg(test)]
mod tests;

pub use compressor::{Compressor, compress};
pub(crate) use compressor::{compress_into, with_scratch};
pub use decompressor::{Decompressor, inflate};
pub(crate) use encodings::Encodings;
pub use offers::{Agreement, AnswerFault, Offer, Terms, negotiate};
pub use parameters::MalformedExtensions;
pub use window::WindowBits;

/// The name of the extension.
pub const NAME: &str = "permessage-deflate";

/// The reserved bit that marks a compressed message (section 6).
pub const RSV1: u8 = 0x40;

/// Which messages are compressed, and how much work that may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Settings {
    /// The minimum size of a compressed message in bytes; default 1,024.
    ///
    /// Smaller messages are sent uncompressed. So is a message that compression makes no smaller,
    /// unless the compressor keeps its context.
    pub threshold: usize,
    /// The compression level, 1 (fast) to 9 (small); default 6.
    pub level: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            threshold: 1024,
            level: 6,
        }
    }
}

/// The end of a block that a sender removes and a receiver adds (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
