//! How the messages of a WebSocket are compressed (RFC 7692).
//!
//! Without context takeover, a connection only stores its window, in bytes that its stream handle
//! does not otherwise use. Compressors belong to threads and compressed messages to their frames.
//! With context takeover, a connection owns its contexts.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::Revision,
    websocket::{
        Event, FrameError,
        deflate::{self, Agreement, Compressor, Decompressor, Settings, WindowBits},
    },
};

use super::stream::Stream;
use crate::metrics::{Gauge, Metrics};

/// A stream whose messages are compressed with contexts of its own, in one direction or both.
pub(crate) struct Contextual {
    pub(super) stream: Stream,
    sender: Option<Mutex<Sender>>,
    receiver: Option<Mutex<Decompressor>>,
    _memory: ContextMemory,
}

/// Counts the memory of the contexts of a connection.
struct ContextMemory {
    /// About the memory in bytes.
    bytes: i64,
    metrics: Arc<Metrics>,
}

impl ContextMemory {
    fn new(bytes: usize, metrics: &Arc<Metrics>) -> Self {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        metrics.shift(Gauge::DeflateConnections, 1);
        metrics.shift(Gauge::DeflateContextBytes, bytes);
        Self {
            bytes,
            metrics: Arc::clone(metrics),
        }
    }
}

impl Drop for ContextMemory {
    fn drop(&mut self) {
        self.metrics.shift(Gauge::DeflateConnections, -1);
        self.metrics.shift(Gauge::DeflateContextBytes, -self.bytes);
    }
}

/// The send side of a connection with a context.
pub(in crate::engine) struct Sender {
    compressor: Compressor,
    /// The compressed form of the first data frame that waits to be sent. It is already part of the
    /// context, so it must be sent as it is.
    pending: Option<Bytes>,
}

impl Sender {
    /// Returns the bytes to send for the first frame of the queue.
    pub(in crate::engine) fn bytes(&mut self, frame: &Frame, encoding: Encoding<'_>) -> Bytes {
        // A control frame may overtake a data frame of which nothing has been sent.
        if frame.packets() == 0 || encoding.is_special(frame) {
            return frame.websocket_for(encoding.revision).clone();
        }
        let settings = encoding.settings;
        let compressor = &mut self.compressor;
        let pending = &mut self.pending;
        pending
            .get_or_insert_with(|| frame.deflated_by(compressor, settings))
            .clone()
    }

    /// Records that a frame is completely sent.
    pub(in crate::engine) fn finish(&mut self, frame: &Frame) {
        if frame.packets() > 0 {
            self.pending = None;
        }
    }
}

/// The form in which frames are sent to a connection without a context.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Encoding<'a> {
    revision: Revision,
    window: Option<WindowBits>,
    settings: &'a Settings,
}

impl Encoding<'_> {
    /// Returns the bytes of a frame. They are the same in every call.
    #[inline]
    pub(in crate::engine) fn bytes<'f>(&self, frame: &'f Frame) -> &'f Bytes {
        match self.window.filter(|_| !self.is_special(frame)) {
            None => frame.websocket_for(self.revision),
            Some(window) => frame.deflated(window, self.settings),
        }
    }

    /// Returns whether the frame has a form of its own for clients of Engine.IO v3, which is not
    /// compressed.
    fn is_special(&self, frame: &Frame) -> bool {
        !std::ptr::eq(frame.websocket_for(self.revision), frame.websocket())
    }
}

impl Stream {
    /// Returns the stream with the compression that was negotiated for it.
    pub(in crate::engine) fn deflated(
        self,
        agreement: &Agreement,
        settings: &Settings,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let window = agreement.window;
        let stream = match self {
            Self::Tcp(stream, _) => Self::Tcp(stream, window),
            Self::Other(other, _) => Self::Other(other, window),
            contextual @ Self::Contextual(_) => return contextual,
        };
        if !agreement.keeps_context && !agreement.peer_keeps_context {
            return stream;
        }
        let mut memory = 0;
        let sender = window.filter(|_| agreement.keeps_context).map(|window| {
            memory += Compressor::memory(window);
            Mutex::new(Sender {
                compressor: Compressor::new(window, settings.level),
                pending: None,
            })
        });
        let receiver = agreement.peer_keeps_context.then(|| {
            memory += Decompressor::MEMORY;
            Mutex::new(Decompressor::new())
        });
        Self::Contextual(Arc::new(Contextual {
            stream,
            sender,
            receiver,
            _memory: ContextMemory::new(memory, metrics),
        }))
    }

    /// Returns whether compression was negotiated.
    pub(super) fn is_deflated(&self) -> bool {
        self.window().is_some()
    }

    fn window(&self) -> Option<WindowBits> {
        match self {
            Self::Tcp(_, window) | Self::Other(_, window) => *window,
            Self::Contextual(contextual) => contextual.stream.window(),
        }
    }

    /// Returns the form in which frames are sent, unless there is a [`sender`](Self::sender).
    #[inline]
    pub(in crate::engine) fn encoding<'a>(
        &self,
        settings: &'a Settings,
        revision: Revision,
    ) -> Encoding<'a> {
        Encoding {
            revision,
            window: self.window(),
            settings,
        }
    }

    /// Returns the send side, if it has a context.
    #[inline]
    pub(in crate::engine) fn sender(&self) -> Option<&Mutex<Sender>> {
        match self {
            Self::Tcp(..) | Self::Other(..) => None,
            Self::Contextual(contextual) => contextual.sender.as_ref(),
        }
    }

    /// Inflates a compressed message of at most `max` bytes.
    pub(super) fn inflate(&self, event: Event, max: usize) -> Result<Event, FrameError> {
        let receiver = match self {
            Self::Tcp(..) | Self::Other(..) => None,
            Self::Contextual(contextual) => contextual.receiver.as_ref(),
        };
        match receiver {
            Some(receiver) => receiver.lock().inflate(event, max),
            None => deflate::inflate(event, max),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_takes_no_memory_of_an_idle_stream() {
        assert_eq!(size_of::<Stream>(), 2 * size_of::<usize>());
        assert_eq!(size_of::<Option<Stream>>(), 2 * size_of::<usize>());
    }
}
