use std::{
    cell::Cell,
    ops::Range,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;

use crate::{
    engine::{Message, Packet, Revision, payload, v3},
    websocket::{
        Fragment, Opcode,
        deflate::{self, Compressor, Encodings, RSV1, Settings, WindowBits},
        encode_frame, encode_header, header_len,
    },
};

/// One or more Engine.IO messages, encoded once and shared by reference count.
///
/// All recipients and transports use the same bytes: a broadcast clones the frame, which copies
/// nothing. A Socket.IO packet and its attachments are one frame, so that no other packet can
/// separate them.
#[derive(Clone, Debug)]
pub struct Frame(Arc<Encoded>);

#[derive(Clone, Debug)]
struct Encoded {
    /// All unmasked WebSocket frames, contiguous.
    websocket: Bytes,
    /// The text message in `websocket` without its header; empty if there is none.
    text: Range<usize>,
    /// The binary messages in `websocket` without their headers.
    binary: Ranges,
    polling: OnceLock<Bytes>,
    deflated: Encodings,
    /// The encodings for Engine.IO v3, if a client ever needed one.
    v3: OnceLock<Box<v3::Encodings>>,
    compress: bool,
    waiting: QueueCount,
    stamp: Option<Stamp>,
    stream: Option<u64>,
}

/// The number of queues in which a frame waits. A copy starts with zero.
#[derive(Debug, Default)]
struct QueueCount(AtomicU32);

impl Clone for QueueCount {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// The identity of a frame that a client may request again: its position in a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The channel that orders the frame.
    pub channel: u64,
    /// The number of the frame, unique in its channel.
    pub number: u64,
}

/// The binary messages of a frame. Most frames have none, and most others have one; neither needs
/// an allocation.
#[derive(Clone, Debug, Default)]
struct Ranges {
    first: Option<Range<usize>>,
    more: Box<[Range<usize>]>,
}

impl Ranges {
    fn iter(&self) -> impl Iterator<Item = &Range<usize>> {
        self.first.iter().chain(&self.more)
    }

    const fn len(&self) -> usize {
        self.first.is_some() as usize + self.more.len()
    }
}

impl FromIterator<Range<usize>> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range<usize>>>(ranges: I) -> Self {
        let mut ranges = ranges.into_iter();
        Self {
            first: ranges.next(),
            more: ranges.collect(),
        }
    }
}

impl Frame {
    /// Creates the frame of one packet.
    #[must_use]
    pub fn packet(packet: &Packet) -> Self {
        match packet {
            Packet::Message(Message::Binary(data)) => Self::binary(data),
            Packet::Open(_)
            | Packet::Close
            | Packet::Ping(_)
            | Packet::Pong(_)
            | Packet::Message(Message::Text(_))
            | Packet::Upgrade
            | Packet::Noop => {
                let mut builder = Builder::new();
                packet.encode(builder.parts().0);
                builder.finish(b"")
            }
        }
    }

    /// Creates the frame of one text message. `text` does not contain the packet type `4`.
    #[must_use]
    pub fn text(text: &[u8]) -> Self {
        let mut builder = Builder::new();
        builder.parts().0.extend_from_slice(text);
        builder.finish(b"4")
    }

    /// Creates the frame of one binary message.
    #[must_use]
    pub fn binary(data: &[u8]) -> Self {
        let mut builder = Builder::new();
        builder.parts().1.push(data);
        builder.finish(b"")
    }

    /// Creates a WebSocket control frame of at most 125 bytes, which polling does not support.
    #[must_use]
    pub fn websocket_control(opcode: Opcode, payload: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(2 + payload.len());
        encode_frame(&mut frame, Fragment::Final, opcode, payload, None);
        Self::new(frame, 0..0, Ranges::default(), false)
    }

    fn new(websocket: Vec<u8>, text: Range<usize>, binary: Ranges, compress: bool) -> Self {
        Self(Arc::new(Encoded {
            websocket: websocket.into(),
            text,
            binary,
            polling: OnceLock::new(),
            deflated: Encodings::default(),
            v3: OnceLock::new(),
            compress,
            waiting: QueueCount::default(),
            stamp: None,
            stream: None,
        }))
    }

    /// Returns the bytes for a WebSocket: every message with its frame header.
    #[must_use]
    pub fn websocket(&self) -> &Bytes {
        &self.0.websocket
    }

    /// Returns the polling payload: the packets joined by the record separator.
    ///
    /// Text without attachments is a slice of [`websocket`](Self::websocket). Base64 is computed at
    /// most once.
    #[must_use]
    pub fn polling(&self) -> Bytes {
        let encoded = &*self.0;
        if encoded.binary.len() == 0 {
            return encoded.websocket.slice(encoded.text.clone());
        }
        encoded.polling.get_or_init(|| encoded.to_polling()).clone()
    }

    /// Returns the size of the frame on a WebSocket in bytes, which is what budgets count.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a frame is never empty")]
    pub fn len(&self) -> usize {
        self.0.websocket.len()
    }

    /// Returns the number of Engine.IO packets in the frame.
    #[must_use]
    pub fn packets(&self) -> usize {
        usize::from(!self.0.text.is_empty()) + self.0.binary.len()
    }

    /// Returns the messages of the frame as WebSocket payloads, for a client, which must mask each
    /// separately.
    ///
    /// A text message begins with its packet type, a binary message does not. Control frames
    /// contain no message.
    pub fn messages(&self) -> impl Iterator<Item = (Opcode, &[u8])> {
        let encoded = &*self.0;
        let slice = |range: &Range<usize>| encoded.websocket.get(range.clone()).unwrap_or_default();
        let text = (!encoded.text.is_empty()).then(|| (Opcode::Text, slice(&encoded.text)));
        let binary = encoded.binary.iter();
        text.into_iter()
            .chain(binary.map(move |range| (Opcode::Binary, slice(range))))
    }

    /// Returns whether a transport may compress the frame; `true` by default.
    #[must_use]
    pub fn is_compressible(&self) -> bool {
        self.0.compress
    }

    /// Makes transports send the frame uncompressed.
    #[must_use]
    pub fn without_compression(mut self) -> Self {
        if self.0.compress {
            Arc::make_mut(&mut self.0).compress = false;
        }
        self
    }
}

/// Compression for WebSockets that have negotiated it.
impl Frame {
    /// Returns the bytes for WebSockets that negotiated permessage-deflate with this window and
    /// without context takeover.
    ///
    /// The bytes are computed at most once for each window in use, and once for all windows if no
    /// message is larger than the smallest of them. All callers must pass the same settings. The
    /// result is [`websocket`](Self::websocket) if the frame must not be compressed, or if that
    /// makes it no smaller.
    #[must_use]
    pub fn deflated(&self, window: WindowBits, settings: &Settings) -> &Bytes {
        let plain = &self.0.websocket;
        if !self.0.compress || plain.len() < settings.threshold {
            return plain;
        }
        let longest = self.messages().map(|(_, data)| data.len()).max();
        let longest = longest.filter(|len| *len >= settings.threshold.max(1));
        let deflated = longest.and_then(|len| {
            self.0
                .deflated
                .get(window, len, |window| self.deflate(window, settings))
        });
        deflated.unwrap_or(plain)
    }

    /// Returns the bytes for the WebSocket to which the compressor belongs. The frame must be sent
    /// next, because later frames may refer to it.
    #[must_use]
    pub fn deflated_by(&self, compressor: &mut Compressor, settings: &Settings) -> Bytes {
        if !self.0.compress || self.packets() == 0 {
            return self.0.websocket.clone();
        }
        let mut out = Vec::new();
        for (opcode, data) in self.messages() {
            if data.len() < settings.threshold {
                encode_frame(&mut out, Fragment::Final, opcode, data, None);
                continue;
            }
            deflate::with_scratch(|scratch| {
                compressor.compress(data, scratch);
                encode_compressed(&mut out, opcode, scratch);
            });
        }
        out.into()
    }

    /// Returns the frame with its messages compressed, or `None` if no message becomes smaller.
    fn deflate(&self, window: WindowBits, settings: &Settings) -> Option<Bytes> {
        let mut is_smaller = false;
        let mut out = Vec::new();
        for (opcode, data) in self.messages() {
            deflate::with_scratch(|scratch| {
                if data.len() >= settings.threshold
                    && deflate::compress_into(data, window, settings.level, scratch)
                {
                    is_smaller = true;
                    encode_compressed(&mut out, opcode, scratch);
                } else {
                    encode_frame(&mut out, Fragment::Final, opcode, data, None);
                }
            });
        }
        is_smaller.then(|| out.into_boxed_slice().into())
    }

    /// Returns the number of compressed forms that exist.
    #[cfg(test)]
    pub(crate) fn deflated_forms(&self) -> usize {
        self.0.deflated.count()
    }
}

/// Writes the frame of a compressed message.
fn encode_compressed(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let start = out.len();
    out.reserve_exact(header_len(payload.len() as u64, None) + payload.len());
    encode_frame(out, Fragment::Final, opcode, payload, None);
    if let Some(first) = out.get_mut(start) {
        *first |= RSV1;
    }
}

/// Engine.IO v3, whose encodings differ where a frame has binary messages, and for polling.
impl Frame {
    /// Returns the bytes for a WebSocket of this revision. A frame without binary messages has the
    /// same bytes for all revisions.
    #[must_use]
    #[inline]
    pub fn websocket_for(&self, revision: Revision) -> &Bytes {
        match revision {
            Revision::V4 => self.websocket(),
            Revision::V3 | Revision::V3Base64 => self.websocket_v3(revision),
        }
    }

    #[cold]
    fn websocket_v3(&self, revision: Revision) -> &Bytes {
        // Control frames of the WebSocket have neither text nor binary messages.
        if self.has_binary() {
            self.v3().websocket(self, revision)
        } else {
            self.websocket()
        }
    }

    pub(crate) fn v3(&self) -> &v3::Encodings {
        self.0.v3.get_or_init(Box::default)
    }

    /// Returns whether the frame has binary messages.
    pub(crate) fn has_binary(&self) -> bool {
        self.0.binary.len() > 0
    }

    /// Returns the text message with its packet type; empty if there is none.
    pub(crate) fn text_part(&self) -> &[u8] {
        let text = self.0.websocket.get(self.0.text.clone());
        text.unwrap_or_default()
    }

    /// Returns the size of the text message with its header.
    pub(crate) fn len_of_text(&self) -> usize {
        self.0.text.end
    }

    /// Returns the binary messages.
    pub(crate) fn binary_parts(&self) -> impl Iterator<Item = &[u8]> {
        let part = |range: &Range<usize>| self.0.websocket.get(range.clone()).unwrap_or_default();
        self.0.binary.iter().map(part)
    }
}

/// Queue accounting, which counts each frame once, however many queues it is in.
impl Frame {
    /// Counts one more queue in which the frame waits. Returns whether it was in no queue before.
    #[must_use]
    pub fn hold(&self) -> bool {
        // `Relaxed` suffices: the count guards no other memory, and exactly one of several callers
        // sees it leave or reach zero.
        self.0.waiting.0.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// Counts one queue less. Call it once for each [`hold`](Self::hold). Returns whether the frame
    /// is no longer in any queue.
    #[must_use]
    pub fn release(&self) -> bool {
        self.0.waiting.0.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

impl Frame {
    /// Returns the identity of the frame, if a client may request it again.
    #[must_use]
    pub fn stamp(&self) -> Option<Stamp> {
        self.0.stamp
    }

    /// Sets the identity of the frame. A frame that is not shared yet is not copied.
    #[must_use]
    pub fn with_stamp(mut self, stamp: Stamp) -> Self {
        Arc::make_mut(&mut self.0).stamp = Some(stamp);
        self
    }

    /// Returns the stream whose newer frames replace the frame while it is queued.
    #[must_use]
    pub fn stream(&self) -> Option<u64> {
        self.0.stream
    }

    /// Lets newer frames of a stream replace the frame while it is queued. A frame that is not
    /// shared yet is not copied.
    #[must_use]
    pub fn with_stream(mut self, stream: u64) -> Self {
        Arc::make_mut(&mut self.0).stream = Some(stream);
        self
    }
}

impl Encoded {
    fn to_polling(&self) -> Bytes {
        let text = self.websocket.get(self.text.clone()).unwrap_or_default();
        let base64 = self
            .binary
            .iter()
            .map(|range| range.len().div_ceil(3) * 4 + 2);
        let mut out = Vec::with_capacity(text.len() + base64.sum::<usize>());
        out.extend_from_slice(text);
        for range in self.binary.iter() {
            if !out.is_empty() {
                out.push(payload::SEPARATOR);
            }
            let data = self.websocket.get(range.clone()).unwrap_or_default();
            payload::encode_binary(data, &mut out);
        }
        out.into()
    }
}

/// Collects the messages of a frame.
///
/// The text is written to a thread-local buffer that is reused. Only the finished frame is
/// allocated, with its exact size.
pub(crate) struct Builder {
    text: Vec<u8>,
    attachments: Attachments,
}

impl Builder {
    pub(crate) fn new() -> Self {
        let mut text = SCRATCH.take();
        text.clear();
        Self {
            text,
            attachments: Attachments::default(),
        }
    }

    /// Returns the buffers for the text message and the binary messages.
    pub(crate) const fn parts(&mut self) -> (&mut Vec<u8>, &mut Attachments) {
        (&mut self.text, &mut self.attachments)
    }

    /// Creates a frame of one binary message from the text buffer.
    #[cfg(feature = "msgpack")]
    pub(crate) fn finish_binary(self) -> Frame {
        let length = self.text.len();
        let header = header_len(length as u64, None);
        let mut websocket = Vec::with_capacity(header + length);
        let data = &self.text;
        encode_frame(&mut websocket, Fragment::Final, Opcode::Binary, data, None);
        keep(self.text);
        let message = Ranges {
            first: Some(header..websocket.len()),
            more: Box::default(),
        };
        Frame::new(websocket, 0..0, message, true)
    }

    /// Creates the frame. `prefix` precedes the text.
    pub(crate) fn finish(self, prefix: &[u8]) -> Frame {
        let Self {
            text: scratch,
            attachments,
        } = self;
        let length = prefix.len() + scratch.len();
        let header = match length {
            0 => 0,
            _ => header_len(length as u64, None),
        };
        let mut websocket = Vec::with_capacity(header + length + attachments.frames.len());
        if length > 0 {
            let len = length as u64;
            encode_header(&mut websocket, Fragment::Final, Opcode::Text, len, None);
        }
        let start = websocket.len();
        websocket.extend_from_slice(prefix);
        websocket.extend_from_slice(&scratch);
        let end = websocket.len();
        websocket.extend_from_slice(&attachments.frames);
        keep(scratch);
        let binary = attachments.ranges.iter();
        let binary = binary.map(|range| range.start + end..range.end + end);
        Frame::new(websocket, start..end, binary.collect(), true)
    }
}

/// The binary messages of an unfinished frame.
#[derive(Default)]
pub(crate) struct Attachments {
    /// The messages with their WebSocket headers, contiguous.
    frames: Vec<u8>,
    /// The position of each message in `frames`, without its header.
    ranges: Vec<Range<usize>>,
}

impl Attachments {
    /// Adds a binary message and returns its number.
    pub(crate) fn push(&mut self, data: &[u8]) -> usize {
        let number = self.ranges.len();
        let length = data.len() as u64;
        let frames = &mut self.frames;
        frames.reserve(header_len(length, None) + data.len());
        encode_header(frames, Fragment::Final, Opcode::Binary, length, None);
        let start = frames.len();
        frames.extend_from_slice(data);
        self.ranges.push(start..frames.len());
        number
    }

    /// Returns the number of messages.
    pub(crate) const fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Returns the messages without their headers.
    pub(crate) fn to_bytes(&self) -> Vec<Bytes> {
        let message = |range: &Range<usize>| self.frames.get(range.clone()).unwrap_or_default();
        let copy = |range| Bytes::copy_from_slice(message(range));
        self.ranges.iter().map(copy).collect()
    }
}

/// Returns the buffer for the next frame.
fn keep(scratch: Vec<u8>) {
    if scratch.capacity() <= MAX_REUSED_SCRATCH {
        SCRATCH.set(scratch);
    }
}

thread_local! {
    /// The buffer is taken while a frame is built. A frame that is built during that time starts
    /// with a new buffer.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// The maximum capacity of a reused buffer in bytes; a larger buffer is freed.
const MAX_REUSED_SCRATCH: usize = 64 * 1024;
