//! The WebSocket transport.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Packet},
    websocket::{
        CloseCode, Decoder, Event, Fragment, FrameError, Limits, Opcode, Role,
        deflate::{self, Offer, RSV1, Settings, WindowBits},
        encode_close, encode_frame,
        handshake::{self, AnswerError},
    },
};
use tokio::{
    io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf},
    sync::oneshot,
    time::{Sleep, sleep},
};

use super::{ClientError, answer, options::Target, stream::Stream};

/// A WebSocket after its handshake.
#[derive(Debug)]
pub(super) struct WebSocket {
    stream: Stream,
    decoder: Decoder,
    /// How messages are compressed, if the server has agreed.
    compression: Option<(WindowBits, Settings)>,
    /// Masked frames. The first `written` bytes are sent.
    out: Vec<u8>,
    written: usize,
    /// Bytes that arrived together with the handshake response.
    unread: Bytes,
    /// Frames that wait for a separate frame. Allocated only while such frames exist.
    barriers: Option<Box<Barriers>>,
}

impl WebSocket {
    /// Opens a WebSocket, for an existing session if `sid` is given.
    pub(super) async fn open(target: &Target, sid: Option<&str>) -> Result<Self, ClientError> {
        let mut stream = target.connect().await?;
        let key = handshake::key(random()?);
        let path = target.request("websocket", sid);
        let options = &target.options;
        let offer = options.compression_threshold.map(|_| Offer::default());
        let mut headers: Vec<_> = options
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        headers.extend(offer.map(|offer| ("Sec-WebSocket-Extensions", offer.header())));
        let request = handshake::Request {
            target: &path,
            host: &target.authority,
            key: &key,
            headers: &headers,
        };
        let request = request.encode();
        let request = request.ok_or_else(|| ClientError::Options("the URL is malformed".into()))?;
        let written = stream.write_all(request.as_bytes()).await;
        written.map_err(ClientError::Io)?;
        stream.flush().await.map_err(ClientError::Io)?;

        let mut received = Vec::with_capacity(512);
        loop {
            let read = stream.read_buf(&mut received).await;
            let is_end = match read {
                Ok(read) => read == 0,
                Err(error) if received.is_empty() => return Err(ClientError::Io(error)),
                Err(_) => true,
            };
            // A server of another protocol might never end a line, so its first bytes decide.
            let known = received.get(..HTTP.len()).unwrap_or(&received);
            if !HTTP.starts_with(known) {
                return Err(answer::unexpected_response(&received));
            }
            match handshake::read_answer_to(offer, &received, &key) {
                Ok(Some(answer)) => {
                    let limits = Limits {
                        max_message: options.max_message,
                        ..Limits::default()
                    };
                    let rsv = answer.deflate.map_or(0, |_| RSV1);
                    let window = answer.deflate.and_then(|agreement| agreement.window);
                    let threshold = options.compression_threshold.unwrap_or_default();
                    let settings = Settings {
                        threshold,
                        ..Settings::default()
                    };
                    return Ok(Self {
                        stream,
                        decoder: Decoder::new(Role::Client, limits).with_rsv(rsv),
                        compression: window.map(|window| (window, settings)),
                        out: Vec::new(),
                        written: 0,
                        unread: Bytes::from(received).slice(answer.len..),
                        barriers: None,
                    });
                }
                Ok(None) if is_end => return Err(answer::unexpected_response(&received)),
                Ok(None) => {}
                Err(AnswerError::Status(status)) => match body(&received) {
                    Some(body) => return Err(answer::refusal(status, body)),
                    None if is_end => return Err(answer::refusal(status, b"")),
                    None => {}
                },
                Err(error) => return Err(ClientError::NotSocketIo(error.to_string())),
            }
        }
    }

    /// Returns the first text message, which is the session's handshake.
    pub(super) async fn first(&mut self) -> Result<Bytes, ClientError> {
        loop {
            let mut input = &self.unread[..];
            let event = decode(&mut self.decoder, &mut input)?;
            let left = input.len();
            self.unread.advance(self.unread.len() - left);
            match event {
                Some(Event::Text(text)) => return Ok(text),
                Some(_) => return Err(answer::missing_handshake()),
                None => {}
            }
            let mut received = Vec::with_capacity(512);
            let read = self.stream.read_buf(&mut received).await;
            if read.map_err(ClientError::Io)? == 0 {
                return Err(answer::missing_handshake());
            }
            self.unread = received.into();
        }
    }

    /// Reads available data. Completes when `inbox` contains at least one packet.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        inbox: &mut VecDeque<Packet>,
    ) -> Poll<Result<(), ClientError>> {
        let unread = std::mem::take(&mut self.unread);
        self.feed(&unread, inbox)?;
        while inbox.is_empty() {
            // No application code runs in this closure, so the buffer is never borrowed twice.
            let read = BUFFER.with_borrow_mut(|buffer| {
                let mut buffer = ReadBuf::new(buffer);
                let result = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer));
                Poll::Ready(match result {
                    Ok(()) if buffer.filled().is_empty() => {
                        Err(ClientError::Closed(CloseReason::TransportClose))
                    }
                    Ok(()) => self.feed(buffer.filled(), inbox),
                    Err(error) => Err(ClientError::Io(error)),
                })
            });
            ready!(read)?;
        }
        Poll::Ready(Ok(()))
    }

    fn feed(&mut self, mut input: &[u8], inbox: &mut VecDeque<Packet>) -> Result<(), ClientError> {
        while let Some(event) = decode(&mut self.decoder, &mut input)? {
            match event {
                Event::Text(text) => inbox.push_back(Packet::decode_text(text)?),
                Event::Binary(data) => inbox.push_back(Packet::decode_binary(data)),
                Event::Ping(data) => {
                    // A pong does not wait for separate frames.
                    self.write_control(Opcode::Pong, &data)?;
                }
                Event::Pong(content) => {
                    if let Some(barriers) = &mut self.barriers {
                        let released = barriers.answered(&content);
                        self.write(&released)?;
                    }
                }
                // Packets before the close frame are still delivered.
                Event::Close(_) => inbox.push_back(Packet::Close),
            }
        }
        Ok(())
    }

    /// Queues the messages of a frame.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), ClientError> {
        let compression = self.compression.filter(|_| frame.is_compressible());
        for (opcode, payload) in frame.messages() {
            encode_message(self.last(), opcode, payload, compression)?;
        }
        Ok(())
    }

    /// Queues a separate frame. It is sent after the server has handled all earlier frames. Later
    /// frames are sent after the server has handled this frame; then `waiter` is notified.
    pub(super) fn push_separate(
        &mut self,
        frame: &Frame,
        waiter: Option<oneshot::Sender<()>>,
    ) -> Result<(), ClientError> {
        let mut encoded = Vec::new();
        let compression = self.compression.filter(|_| frame.is_compressible());
        for (opcode, payload) in frame.messages() {
            encode_message(&mut encoded, opcode, payload, compression)?;
        }
        let barriers = self.barriers.get_or_insert_default();
        let released = barriers.add(&encoded, waiter);
        self.write(&released)
    }

    fn write(&mut self, released: &Released) -> Result<(), ClientError> {
        self.out.extend_from_slice(&released.frames);
        if let Some(content) = released.ping {
            self.write_control(Opcode::Ping, &content)?;
        }
        Ok(())
    }

    fn write_control(&mut self, opcode: Opcode, content: &[u8]) -> Result<(), ClientError> {
        let mask = Some(mask()?);
        encode_frame(&mut self.out, Fragment::Final, opcode, content, mask);
        Ok(())
    }

    /// Returns the buffer for further frames.
    fn last(&mut self) -> &mut Vec<u8> {
        let barriers = self.barriers.as_mut();
        barriers
            .and_then(|barriers| barriers.last())
            .unwrap_or(&mut self.out)
    }

    /// Queues a close frame with code 1000.
    pub(super) fn push_close(&mut self) -> Result<(), ClientError> {
        let mask = mask()?;
        encode_close(self.last(), CloseCode::NORMAL, "", Some(mask));
        Ok(())
    }

    /// Returns the number of bytes that wait to be written.
    pub(super) fn queued(&self) -> usize {
        let waiting = self.barriers.as_ref();
        let waiting = waiting.map_or(0, |barriers| barriers.queued());
        self.out.len() - self.written + self.stream.unflushed() + waiting
    }

    /// Returns whether data is unwritten or a separate frame is unconfirmed.
    pub(super) fn is_busy(&self) -> bool {
        let barriers = self.barriers.as_ref();
        self.queued() > 0 || barriers.is_some_and(|barriers| barriers.is_active())
    }

    /// Writes the bytes that the kernel accepts immediately.
    pub(super) fn try_write(&mut self) -> Result<(), ClientError> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.stream.try_write(rest) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(ClientError::Io(error)),
            }
        }
        self.clear();
        Ok(())
    }

    /// Completes when all data is written and separate frames are handled.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        loop {
            while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
                match ready!(Pin::new(&mut self.stream).poll_write(cx, rest)) {
                    Ok(written) => self.written += written,
                    Err(error) => return Poll::Ready(Err(ClientError::Io(error))),
                }
            }
            self.clear();
            let flushed = Pin::new(&mut self.stream).poll_flush(cx);
            ready!(flushed).map_err(ClientError::Io)?;
            match &mut self.barriers {
                Some(barriers) if barriers.is_active() => {
                    let frames = ready!(barriers.poll_ignored(cx));
                    self.out.extend_from_slice(&frames);
                }
                Some(_) | None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Clears the written data, and frees the memory of a burst.
    fn clear(&mut self) {
        self.out.clear();
        self.out.shrink_to(RETAINED_CAPACITY);
        self.written = 0;
    }
}

/// Decodes the next event, and inflates a compressed message.
fn decode(decoder: &mut Decoder, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
    match decoder.decode(input)? {
        Some(event) if decoder.rsv() != 0 => {
            deflate::inflate(event, decoder.max_message()).map(Some)
        }
        event => Ok(event),
    }
}

/// Writes a masked message, compressed if that makes it smaller.
fn encode_message(
    out: &mut Vec<u8>,
    opcode: Opcode,
    payload: &[u8],
    compression: Option<(WindowBits, Settings)>,
) -> Result<(), ClientError> {
    let mask = mask()?;
    let compressed =
        compression.and_then(|(window, settings)| deflate::compress(payload, window, &settings));
    let start = out.len();
    let content = compressed.as_deref().unwrap_or(payload);
    encode_frame(out, Fragment::Final, opcode, content, Some(mask));
    if compressed.is_some()
        && let Some(first) = out.get_mut(start)
    {
        *first |= RSV1;
    }
    Ok(())
}

/// The parts of the unsent data that wait for the answer to a ping.
///
/// A server may read several frames in one step and handle them out of order. Node's server drops
/// an event if it was read together with a `DISCONNECT`. It ends the session if a `CONNECT` was
/// read together with a `DISCONNECT` of the same namespace.
///
/// A separate frame therefore waits until the server has answered a ping (RFC 6455, 5.5.2) that
/// follows all earlier frames. Later frames wait for the answer to a second ping.
///
/// The last part always accepts further frames. Parts with separate frames are never last.
#[derive(Debug, Default)]
struct Barriers {
    parts: VecDeque<Part>,
    /// The number in the ping that releases the first part.
    ping: u64,
    /// When the first part stops waiting. Starts when its ping is written.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Whether the server left a ping unanswered.
    is_ignored: bool,
}

#[derive(Debug, Default)]
struct Part {
    frames: Vec<u8>,
    is_separate: bool,
    /// Are notified when the server has handled all frames before this part.
    waiters: Vec<oneshot::Sender<()>>,
}

/// The data to write after a part is added or released.
#[derive(Debug, Default)]
struct Released {
    /// Frames to send now.
    frames: Vec<u8>,
    /// Content of a ping to send after them.
    ping: Option<[u8; 8]>,
}

impl Barriers {
    /// Returns whether frames or callers wait.
    fn is_active(&self) -> bool {
        !self.parts.is_empty()
    }

    /// Returns the number of waiting bytes.
    fn queued(&self) -> usize {
        self.parts.iter().map(|part| part.frames.len()).sum()
    }

    /// Returns the buffer for further frames, if they must wait.
    fn last(&mut self) -> Option<&mut Vec<u8>> {
        self.parts.back_mut().map(|part| &mut part.frames)
    }

    /// Adds a separate frame. `waiter` is notified when the server has handled it.
    fn add(&mut self, frame: &[u8], waiter: Option<oneshot::Sender<()>>) -> Released {
        if self.is_ignored {
            // The waiter is dropped, which ends its wait.
            return Released {
                frames: frame.to_vec(),
                ping: None,
            };
        }
        let is_first = self.parts.is_empty();
        let count = self.parts.len();
        let ends_empty = self.parts.back().is_some_and(|last| last.frames.is_empty());
        let before = count.checked_sub(2).and_then(|at| self.parts.get_mut(at));
        match before.filter(|part| part.is_separate && ends_empty) {
            Some(part) => part.frames.extend_from_slice(frame),
            None => {
                let mut part = match ends_empty {
                    true => self.parts.pop_back().unwrap_or_default(),
                    false => Part::default(),
                };
                part.is_separate = true;
                part.frames.extend_from_slice(frame);
                self.parts.push_back(part);
                self.parts.push_back(Part::default());
            }
        }
        if let Some(last) = self.parts.back_mut() {
            last.waiters.extend(waiter);
        }
        Released {
            frames: Vec::new(),
            ping: is_first.then(|| self.next_ping()),
        }
    }

    /// Handles the answer to a ping.
    fn answered(&mut self, content: &[u8]) -> Released {
        if !self.is_active() || content != self.ping.to_be_bytes() {
            return Released::default();
        }
        let frames = self.release();
        Released {
            frames,
            ping: self.is_active().then(|| self.next_ping()),
        }
    }

    /// Completes with all frames when the server does not answer the ping in time. Must be called
    /// after all frames before the first part are written.
    fn poll_ignored(&mut self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
        if deadline.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.is_ignored = true;
        let mut frames = Vec::new();
        while self.is_active() {
            frames.append(&mut self.release());
        }
        Poll::Ready(frames)
    }

    fn next_ping(&mut self) -> [u8; 8] {
        self.ping += 1;
        self.ping.to_be_bytes()
    }

    fn release(&mut self) -> Vec<u8> {
        self.deadline = None;
        let part = self.parts.pop_front().unwrap_or_default();
        for waiter in part.waiters {
            // The caller may have stopped waiting.
            let _ = waiter.send(());
        }
        part.frames
    }
}

/// Returns the body of an HTTP response when it is complete or long enough for an error.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let (head, body) = answer.split_at_checked(end)?;
    let length = str::from_utf8(head).ok()?.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_length = name.eq_ignore_ascii_case("content-length");
        is_length.then(|| value.trim().parse::<usize>().ok())?
    });
    let length = length.unwrap_or_default().min(MAX_BODY);
    (body.len() >= length).then_some(body)
}

/// Returns random bytes of the operating system.
fn random<const N: usize>() -> Result<[u8; N], ClientError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| ClientError::Io(io::Error::other(error)))?;
    Ok(bytes)
}

/// Returns a new masking key, which must be unpredictable (RFC 6455, 5.3). Keys are generated 64 at
/// a time, because a system call per key would cost more than the frame.
fn mask() -> Result<[u8; 4], ClientError> {
    MASKS.with_borrow_mut(|keys| {
        if keys.is_empty() {
            keys.extend_from_slice(random::<256>()?.as_chunks().0);
        }
        keys.pop()
            .ok_or_else(|| ClientError::Io(io::Error::other("no random bytes")))
    })
}

thread_local! {
    /// Read buffer shared by all connections of a thread, so that idle connections need none.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into());
    /// Unused masking keys.
    static MASKS: RefCell<Vec<[u8; 4]>> = const { RefCell::new(Vec::new()) };
}

const HTTP: &[u8] = b"HTTP/1.1 ";
/// Maximum bytes of an error response's body to wait for.
const MAX_BODY: usize = 4096;
/// Capacity above which a buffer is shrunk.
const RETAINED_CAPACITY: usize = 16 * 1024;
/// Timeout of a ping's answer. Two of them fit into the timeout of `disconnect`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(barriers: &mut Barriers) -> (Vec<u8>, bool) {
        let ping = barriers.ping.to_be_bytes();
        let released = barriers.answered(&ping);
        (released.frames, released.ping.is_some())
    }

    #[test]
    fn separate_frame_waits_for_the_ping_before_it_and_delays_what_follows() {
        let mut barriers = Barriers::default();
        assert!(barriers.last().is_none());
        let (sender, mut handled) = oneshot::channel();
        let added = barriers.add(b"D", Some(sender));
        assert!(added.frames.is_empty() && added.ping.is_some());
        barriers.last().unwrap().extend_from_slice(b"next");
        assert_eq!(barriers.queued(), 5);
        assert_eq!(answer(&mut barriers), (b"D".to_vec(), true));
        assert!(handled.try_recv().is_err());
        assert_eq!(answer(&mut barriers), (b"next".to_vec(), false));
        assert!(handled.try_recv().is_ok());
        assert!(!barriers.is_active());
    }

    #[test]
    fn consecutive_separate_frames_leave_together() {
        let mut barriers = Barriers::default();
        barriers.add(b"A", None);
        assert!(barriers.add(b"B", None).ping.is_none());
        assert_eq!(answer(&mut barriers), (b"AB".to_vec(), true));
        // The previous frame is sent, but its ping is not answered yet.
        barriers.add(b"C", None);
        assert_eq!(answer(&mut barriers), (b"C".to_vec(), true));
        assert_eq!(answer(&mut barriers), (Vec::new(), false));
    }

    #[test]
    fn pong_without_its_ping_releases_nothing() {
        let mut barriers = Barriers::default();
        barriers.add(b"D", None);
        assert!(barriers.answered(b"other").frames.is_empty());
        assert!(barriers.is_active());
    }

    #[tokio::test(start_paused = true)]
    async fn server_that_ignores_pings_gets_all_frames_in_order() {
        let mut barriers = Barriers::default();
        barriers.add(b"D", None);
        barriers.last().unwrap().extend_from_slice(b"next");
        let frames = std::future::poll_fn(|cx| barriers.poll_ignored(cx)).await;
        assert_eq!(frames, b"Dnext");
        let added = barriers.add(b"E", None);
        assert_eq!((added.frames, added.ping), (b"E".to_vec(), None));
    }
}
