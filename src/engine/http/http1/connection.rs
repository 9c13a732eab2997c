//! The stream of a connection while it serves plain requests: reading, unread bytes, writing.
//!
//! A connection holds no buffer: every thread has one for input and one for output. Only bytes that
//! were read too early, or could not be written immediately, are copied out of them.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use super::{
    parser::{self, Head, MAX_HEADER_BYTES, Parsed, Paths, SessionRequest},
    writer,
};
use crate::engine::http::{accepted::Accepted, message::reply};

/// Maximum number of bytes read in one call.
const READ_BUFFER: usize = 32 * 1024;
/// Bodies up to this size are copied after their heads; for larger ones, two buffers are cheaper.
const CORKED: usize = 8 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The stream of a connection, for one request at a time.
pub(super) struct Connection {
    stream: Accepted,
    /// Bytes that were read but not used yet.
    unread: BytesMut,
    /// The number of bytes of `unread` that were searched for the end of a head.
    seen: usize,
    /// The number of remaining bytes of the current request's body.
    body: u64,
}

/// The next input of a connection.
#[derive(Debug)]
pub(super) enum Next {
    /// A plain request. Boxed, so that moving the heads of session requests does not copy its size.
    Request(Box<Head>),
    /// A plain request within a session.
    SessionRequest(SessionRequest),
    /// A request that hyper must parse.
    Unsupported,
    /// The client closed the connection.
    Closed,
    /// No request arrived in time.
    TimedOut,
    /// The server stops, and no request has arrived.
    Stopped,
}

impl Connection {
    pub(super) fn new(stream: Accepted) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
            seen: 0,
            body: 0,
        }
    }

    /// Returns the connection, with the unread bytes put back.
    pub(super) fn into_accepted(mut self) -> Accepted {
        self.stream.put_back(self.unread);
        self.stream
    }

    /// Returns whether no part of a request has arrived.
    pub(super) fn is_idle(&self) -> bool {
        self.unread.is_empty()
    }

    /// Reads the next head.
    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>, paths: &impl Paths) -> Poll<Next> {
        loop {
            if let Some(next) = self.look(paths) {
                return Poll::Ready(next);
            }
            if self.unread.len() >= MAX_HEADER_BYTES {
                // hyper parses the head and responds that it is too large.
                return Poll::Ready(Next::Unsupported);
            }
            let Self {
                stream,
                unread,
                seen,
                ..
            } = self;
            let read = poll_read(stream, cx, |bytes| {
                if bytes.is_empty() {
                    return Some(Next::Closed);
                }
                if !unread.is_empty() {
                    unread.extend_from_slice(bytes);
                    return None;
                }
                // Most heads arrive in one piece, so that no input needs to be stored.
                let (next, used) = next(parser::parse(bytes, paths));
                unread.extend_from_slice(bytes.get(used..).unwrap_or_default());
                if next.is_none() {
                    *seen = bytes.len();
                }
                next
            });
            match ready!(read) {
                Ok(None) => {}
                Ok(Some(next)) => return Poll::Ready(next),
                Err(_) => return Poll::Ready(Next::Closed),
            }
        }
    }

    /// Searches the unread bytes for a complete head.
    fn look(&mut self, paths: &impl Paths) -> Option<Next> {
        let len = self.unread.len();
        let is_worth_it = self.seen == 0 || parser::may_end(&self.unread, self.seen);
        let seen = std::mem::replace(&mut self.seen, len);
        if len == seen || !is_worth_it {
            return None;
        }
        let (next, used) = next(parser::parse(&self.unread, paths));
        if next.is_some() {
            self.use_up(used);
            self.seen = 0;
        }
        next
    }

    /// Starts a request with a body of this many bytes.
    pub(super) fn begin(&mut self, body: u64) {
        self.body = body;
    }

    /// Drops the rest of the body if it has already arrived. Returns whether it had; if not, no
    /// further request can be read.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.body > 0 && self.unread.is_empty() {
            let _ = self.fill(cx);
        }
        let used = self.within_body();
        self.use_up(used);
        self.body -= used as u64;
        self.body == 0
    }

    /// Ready when the client closes the connection while it waits for a response. Other input is
    /// stored for later.
    pub(super) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body > 0 {
            // The reader of the body notices a disconnect and is woken for it.
            return Poll::Pending;
        }
        self.stream.poll_disconnect(cx)
    }

    /// Reads the next piece of the body.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.body == 0 {
            return Poll::Ready(None);
        }
        if self.unread.is_empty() && ready!(self.fill(cx))? == 0 {
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        let len = self.within_body();
        self.body -= len as u64;
        let piece = self.unread.split_to(len).freeze();
        self.use_up(0);
        Poll::Ready(Some(Ok(piece)))
    }

    /// Returns how many of the unread bytes belong to the body.
    fn within_body(&self) -> usize {
        let body = usize::try_from(self.body).unwrap_or(usize::MAX);
        body.min(self.unread.len())
    }

    /// Reads more bytes; 0 means that the client sends no more.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, unread, .. } = self;
        poll_read(stream, cx, |bytes| {
            unread.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// Drops the first unread bytes, and the buffer if it is then empty.
    fn use_up(&mut self, len: usize) {
        self.unread.advance(len);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
    }
}

/// Returns the next input and the number of bytes it uses, or `None` if the head is incomplete.
fn next(parsed: Parsed) -> (Option<Next>, usize) {
    match parsed {
        Parsed::Partial => (None, 0),
        Parsed::Unsupported => (Some(Next::Unsupported), 0),
        Parsed::Plain(head) => {
            let len = head.len;
            (Some(Next::Request(head)), len)
        }
        Parsed::SessionRequest(session_request) => (
            Some(Next::SessionRequest(session_request)),
            session_request.len,
        ),
    }
}

/// Reads available bytes into the buffer of the thread and passes them to a function.
fn poll_read<T>(
    stream: &mut Accepted,
    cx: &mut Context<'_>,
    show: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    // The buffer is taken out of its cell, so that the function may itself read. It is zeroed once
    // per thread; later `resize` calls find it long enough.
    let mut buffer = INPUT.take();
    buffer.resize(READ_BUFFER, 0);
    let mut space = ReadBuf::new(&mut buffer);
    let read = Pin::new(stream).poll_read(cx, &mut space);
    let shown = read.map_ok(|()| show(space.filled()));
    INPUT.set(buffer);
    shown
}

/// The body of the current request.
pub(super) struct RequestBody<'a>(pub(super) &'a Mutex<Connection>);

impl Body for RequestBody<'_> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let piece = self.0.lock().poll_body(cx);
        piece.map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.lock().body)
    }
}

/// Writes one response.
#[derive(Debug)]
pub(super) struct ResponseWriter {
    /// The rest of the head after the first attempt.
    head: Bytes,
    body: Bytes,
    /// The head before the first attempt.
    unwritten: Option<reply::Head>,
    close: bool,
}

impl ResponseWriter {
    /// Creates a writer. `close` means that no other response follows on the connection.
    pub(in crate::engine::http) fn new(head: reply::Head, body: Bytes, close: bool) -> Self {
        Self {
            head: Bytes::new(),
            body,
            unwritten: Some(head),
            close,
        }
    }

    /// Writes until the whole response is sent.
    pub(super) fn poll_send(
        &mut self,
        connection: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut connection.stream;
        if let Some(head) = self.unwritten.take() {
            ready!(self.attempt(stream, cx, &head))?;
        }
        while !(self.head.is_empty() && self.body.is_empty()) {
            let n = ready!(poll_write(stream, cx, &self.head, &self.body))?;
            let of_head = n.min(self.head.len());
            self.head.advance(of_head);
            self.body.advance(n - of_head);
        }
        Pin::new(stream).poll_flush(cx)
    }

    /// Writes from the buffer of the thread, and stores what the kernel does not accept.
    fn attempt(
        &mut self,
        stream: &mut Accepted,
        cx: &mut Context<'_>,
        head: &reply::Head,
    ) -> Poll<io::Result<()>> {
        let mut output = OUTPUT.take();
        output.clear();
        writer::encode(&mut output, head, self.body.len(), self.close);
        if self.body.len() <= CORKED {
            output.extend_from_slice(&self.body);
            self.body = Bytes::new();
        }
        let written = poll_write(stream, cx, &output, &self.body);
        let n = match written {
            Poll::Ready(Ok(n)) => n,
            Poll::Ready(Err(_)) | Poll::Pending => 0,
        };
        let of_head = n.min(output.len());
        self.head = Bytes::copy_from_slice(output.get(of_head..).unwrap_or_default());
        self.body.advance(n - of_head);
        OUTPUT.set(output);
        written.map_ok(drop)
    }
}

fn poll_write(
    stream: &mut Accepted,
    cx: &mut Context<'_>,
    head: &[u8],
    body: &[u8],
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    let written = if body.is_empty() {
        stream.poll_write(cx, head)
    } else {
        stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)])
    };
    match written {
        // A write of zero bytes would be retried forever.
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(_) | Poll::Pending => written,
    }
}
