//! The receive side of a WebSocket: reads bytes and decodes frames.

use std::{
    cell::RefCell,
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role, deflate::RSV1};

use super::{open_connection::OpenConnection, stream::Stream};
use crate::{Config, limit::Throttle};

/// Maximum number of bytes read in one call.
const READ_BUFFER: usize = 64 * 1024;
/// Maximum number of messages handled in one iteration of a session.
pub(in crate::engine) const MESSAGES_PER_ITERATION: usize = 32;
/// Number of WebSocket pings that a client may send per second. Browsers send none, libraries few.
const PINGS_PER_SECOND: u32 = 100;

thread_local! {
    /// Shared by all sessions of a worker; only an incomplete frame is copied.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The receive side of a WebSocket. It does not hold the stream, which its owner passes to each
/// read.
pub(in crate::engine) struct Wire {
    decoder: Decoder,
    /// Bytes that were read but not decoded yet.
    unread: Bytes,
    /// Whether the last read emptied the socket.
    is_emptied: bool,
    /// When the first byte of an unfinished message arrived.
    started: Option<Instant>,
    message_timeout: Duration,
    pings: u32,
    pings_since: Instant,
    /// Counts the connection, unless its task does.
    _open: Option<Box<OpenConnection>>,
}

/// The outcome of a read.
#[derive(Debug)]
pub(in crate::engine) enum ReadOutcome {
    /// Nothing more is available; the task will be woken.
    Pending,
    /// More is available, but the task should yield.
    Yield,
    /// More may be available, but the peer has exceeded its rate.
    Delayed,
    /// The peer has disconnected.
    Disconnected,
    /// The peer violated RFC 6455.
    Broken(FrameError),
}

/// Whether to continue decoding.
pub(in crate::engine) enum Flow {
    Continue,
    Stop,
}

impl Wire {
    /// Creates the receive side of `stream`, from which `unread` has already been read.
    pub(in crate::engine) fn new(
        stream: &Stream,
        unread: Bytes,
        config: &Config,
        now: Instant,
    ) -> Self {
        let limits = Limits {
            max_message: config.session.max_payload,
            max_fragments: config.session.max_fragments,
        };
        let rsv = if stream.is_deflated() { RSV1 } else { 0 };
        Self {
            decoder: Decoder::new(Role::Server, limits).with_rsv(rsv),
            unread,
            is_emptied: false,
            started: None,
            message_timeout: config.session.message_timeout,
            pings: 0,
            pings_since: now,
            _open: None,
        }
    }

    /// Keeps the count of a connection whose task ends.
    pub(in crate::engine) fn counted(mut self, open: OpenConnection) -> Self {
        self._open = Some(Box::new(open));
        self
    }

    /// Returns whether the last read consumed everything that the peer had sent.
    pub(in crate::engine) fn is_emptied(&self) -> bool {
        self.is_emptied && self.unread.is_empty()
    }

    /// Returns when the message in progress must be complete.
    pub(in crate::engine) fn poll_timeout(&self) -> Option<Instant> {
        self.started.map(|started| started + self.message_timeout)
    }

    /// Counts a ping, and returns whether it is within the limit.
    pub(in crate::engine) fn allow_ping(&mut self, now: Instant) -> bool {
        if now.saturating_duration_since(self.pings_since) >= Duration::from_secs(1) {
            self.pings_since = now;
            self.pings = 0;
        }
        self.pings += 1;
        self.pings <= PINGS_PER_SECOND
    }

    /// Reads available bytes and passes complete events to `handle`.
    pub(in crate::engine) fn read(
        &mut self,
        stream: &Stream,
        cx: &mut Context<'_>,
        now: Instant,
        mut throttle: Option<&mut Throttle>,
        mut handle: impl FnMut(&mut Self, Event) -> Flow,
    ) -> ReadOutcome {
        let mut left = MESSAGES_PER_ITERATION;
        if is_delayed(&mut throttle, now) {
            return ReadOutcome::Delayed;
        }
        if !self.unread.is_empty() {
            let unread = std::mem::take(&mut self.unread);
            let mut input = &unread[..];
            let outcome = self.decode(
                stream,
                &mut input,
                now,
                &mut left,
                &mut throttle,
                &mut handle,
            );
            self.unread = unread.slice(unread.len() - input.len()..);
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        // Most iterations have input, so reading is tried before checking the readiness.
        let mut is_drained = false;
        loop {
            if is_delayed(&mut throttle, now) {
                return ReadOutcome::Delayed;
            }
            if is_drained {
                // The last read cleared the readiness of the socket. This registers the waker, or
                // finds newly arrived input.
                match stream.poll_read_ready(cx) {
                    Poll::Pending => {
                        if let Some(throttle) = throttle {
                            throttle.drained(now);
                        }
                        return ReadOutcome::Pending;
                    }
                    Poll::Ready(Err(_)) => return ReadOutcome::Disconnected,
                    Poll::Ready(Ok(())) => {}
                }
            }
            // The buffer is taken out while handlers run, because application code may read another
            // session on this thread.
            let mut buffer = BUFFER.take();
            buffer.resize(READ_BUFFER, 0);
            let outcome = match stream.poll_read(cx, &mut buffer) {
                Poll::Pending => {
                    if let Some(throttle) = &mut throttle {
                        throttle.drained(now);
                    }
                    Some(ReadOutcome::Pending)
                }
                Poll::Ready(Ok(0)) => Some(ReadOutcome::Disconnected),
                Poll::Ready(Ok(n)) => {
                    if let Some(throttle) = &mut throttle {
                        throttle.charge_bytes(n, now);
                    }
                    let mut input = buffer.get(..n).unwrap_or_default();
                    let outcome = self.decode(
                        stream,
                        &mut input,
                        now,
                        &mut left,
                        &mut throttle,
                        &mut handle,
                    );
                    if !input.is_empty() {
                        // The rest is copied into an allocation of its size, because the buffer is
                        // shared by all sessions.
                        self.unread = Bytes::copy_from_slice(input);
                    }
                    is_drained = n < READ_BUFFER;
                    self.is_emptied = is_drained;
                    outcome
                }
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    is_drained = true;
                    None
                }
                Poll::Ready(Err(_)) => Some(ReadOutcome::Disconnected),
            };
            BUFFER.set(buffer);
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
    }

    /// Decodes from the front of `input`. Returns `None` if it was consumed completely.
    fn decode(
        &mut self,
        stream: &Stream,
        input: &mut &[u8],
        now: Instant,
        left: &mut usize,
        throttle: &mut Option<&mut Throttle>,
        handle: &mut impl FnMut(&mut Self, Event) -> Flow,
    ) -> Option<ReadOutcome> {
        loop {
            match self.decoder.decode(input) {
                Ok(Some(mut event)) => {
                    if self.decoder.rsv() != 0 {
                        let received = payload_len(&event);
                        event = match stream.inflate(event, self.decoder.max_message()) {
                            Ok(event) => event,
                            Err(error) => return Some(ReadOutcome::Broken(error)),
                        };
                        if let Some(throttle) = throttle {
                            // A small message may become a large one, which costs as much as if it
                            // had been sent uncompressed.
                            let more = payload_len(&event).saturating_sub(received);
                            throttle.charge_bytes(more, now);
                        }
                    }
                    if !matches!(event, Event::Ping(_) | Event::Pong(_)) {
                        // Control frames may be interleaved and do not complete a message.
                        self.started = None;
                    }
                    match handle(self, event) {
                        Flow::Continue => {}
                        Flow::Stop => return Some(ReadOutcome::Pending),
                    }
                    if let Some(throttle) = throttle {
                        throttle.charge_packet(now);
                    }
                    if is_delayed(throttle, now) {
                        return Some(ReadOutcome::Delayed);
                    }
                    *left -= 1;
                    if *left == 0 {
                        return Some(ReadOutcome::Yield);
                    }
                }
                Ok(None) => {
                    if self.decoder.is_idle() {
                        self.started = None;
                    } else {
                        self.started.get_or_insert(now);
                    }
                    return None;
                }
                Err(error) => return Some(ReadOutcome::Broken(error)),
            }
        }
    }
}

/// Returns the size of a data message in bytes, 0 for other events.
fn payload_len(event: &Event) -> usize {
    match event {
        Event::Text(payload) | Event::Binary(payload) => payload.len(),
        Event::Ping(_) | Event::Pong(_) | Event::Close(_) => 0,
    }
}

fn is_delayed(throttle: &mut Option<&mut Throttle>, now: Instant) -> bool {
    throttle
        .as_mut()
        .is_some_and(|throttle| throttle.delay(now).is_some())
}
