//! A connection between and within plain requests: what is read from it, what of that is left over,
//! and what is written.
//!
//! It keeps no buffer: every thread has one for input and one for output, and only what was read
//! too early or could not be written at once is copied out of them.

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
    head::{self, Brief, Head, MAX_HEADER_BYTES, Parsed, Paths},
    response,
};
use crate::engine::http::{accepted::Accepted, message::reply};

/// Bytes read in one call.
const READ_BUFFER: usize = 32 * 1024;
/// Bodies up to this are copied behind their heads; from there on two buffers are cheaper.
const CORKED: usize = 8 * 1024;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static OUTPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The connection, for one request at a time.
#[derive(Debug)]
pub(super) struct Line {
    stream: Accepted,
    /// Read and not used yet.
    unread: BytesMut,
    /// Bytes of `unread` in which the end of a head has been looked for.
    seen: usize,
    /// Bytes of the body of the current request that have not been taken.
    body: u64,
}

/// What comes next on a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub(super) enum Next {
    /// A plain request.
    Request(Head),
    /// One within a session.
    Brief(Brief),
    /// Something for hyper.
    Odd,
    /// Nothing: the client has closed it.
    Gone,
    /// Nothing within the time for it.
    Late,
    /// Nothing: the server stops.
    Stopped,
}

impl Line {
    pub(super) fn new(stream: Accepted) -> Self {
        Self {
            stream,
            unread: BytesMut::new(),
            seen: 0,
            body: 0,
        }
    }

    /// The connection, with what was read of it and not used in front of what comes.
    pub(super) fn into_accepted(mut self) -> Accepted {
        self.stream.put_back(self.unread);
        self.stream
    }

    /// Whether nothing of a request has come.
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
                // hyper says so.
                return Poll::Ready(Next::Odd);
            }
            let Self {
                stream,
                unread,
                seen,
                ..
            } = self;
            let read = poll_read(stream, cx, |bytes| {
                if bytes.is_empty() {
                    return Some(Next::Gone);
                }
                if !unread.is_empty() {
                    unread.extend_from_slice(bytes);
                    return None;
                }
                // Most heads come in one piece, of which nothing is kept.
                let (next, used) = next(head::parse(bytes, paths));
                unread.extend_from_slice(bytes.get(used..).unwrap_or_default());
                if next.is_none() {
                    *seen = bytes.len();
                }
                next
            });
            match ready!(read) {
                Ok(None) => {}
                Ok(Some(next)) => return Poll::Ready(next),
                Err(_) => return Poll::Ready(Next::Gone),
            }
        }
    }

    /// Looks for a head in what has been read.
    fn look(&mut self, paths: &impl Paths) -> Option<Next> {
        let len = self.unread.len();
        let is_worth_it = self.seen == 0 || head::may_end(&self.unread, self.seen);
        let seen = std::mem::replace(&mut self.seen, len);
        if len == seen || !is_worth_it {
            return None;
        }
        let (next, used) = next(head::parse(&self.unread, paths));
        if next.is_some() {
            self.use_up(used);
            self.seen = 0;
        }
        next
    }

    /// Begins to answer a request with a body of so many bytes.
    pub(super) fn begin(&mut self, body: u64) {
        self.body = body;
    }

    /// Forgets what is left of the body if it is there at once. `false`: it is not, and nothing
    /// behind it can be read.
    pub(super) fn drain(&mut self, cx: &mut Context<'_>) -> bool {
        if self.body > 0 && self.unread.is_empty() {
            let _ = self.fill(cx);
        }
        let used = self.within_body();
        self.use_up(used);
        self.body -= used as u64;
        self.body == 0
    }

    /// Ready when the client has closed the connection while it waits for an answer. What it sends
    /// meanwhile is for later.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.body > 0 {
            return Poll::Pending;
        }
        self.stream.poll_gone(cx)
    }

    /// The next piece of the body.
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

    /// How much of what has been read belongs to the body.
    fn within_body(&self) -> usize {
        let body = usize::try_from(self.body).unwrap_or(usize::MAX);
        body.min(self.unread.len())
    }

    /// Reads on; 0 is the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Self { stream, unread, .. } = self;
        poll_read(stream, cx, |bytes| {
            unread.extend_from_slice(bytes);
            bytes.len()
        })
    }

    /// Forgets the first bytes of what has been read, and a buffer that holds nothing.
    fn use_up(&mut self, len: usize) {
        self.unread.advance(len);
        if self.unread.is_empty() {
            self.unread = BytesMut::new();
        }
    }
}

/// What a head comes to, and how many bytes of it are used up by that. `None`: more is needed.
fn next(parsed: Parsed) -> (Option<Next>, usize) {
    match parsed {
        Parsed::Partial => (None, 0),
        Parsed::Odd => (Some(Next::Odd), 0),
        Parsed::Plain(head) => {
            let len = head.len;
            (Some(Next::Request(head)), len)
        }
        Parsed::Brief(brief) => (Some(Next::Brief(brief)), brief.len),
    }
}

/// Reads what is there into the thread's buffer and shows it.
fn poll_read<T>(
    stream: &mut Accepted,
    cx: &mut Context<'_>,
    show: impl FnOnce(&[u8]) -> T,
) -> Poll<io::Result<T>> {
    let mut buffer = INPUT.take();
    buffer.resize(READ_BUFFER, 0);
    let mut space = ReadBuf::new(&mut buffer);
    let read = Pin::new(stream).poll_read(cx, &mut space);
    let shown = read.map_ok(|()| show(space.filled()));
    INPUT.set(buffer);
    shown
}

/// The body of the current request.
#[derive(Debug)]
pub(super) struct Inbound<'a>(pub(super) &'a Mutex<Line>);

impl Body for Inbound<'_> {
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

/// An answer that leaves.
#[derive(Debug)]
pub(super) struct Outbound {
    /// What the first attempt has not taken.
    head: Bytes,
    body: Bytes,
    /// Before the first attempt.
    unwritten: Option<reply::Head>,
    close: bool,
}

impl Outbound {
    /// `close`: it is the last one.
    pub(in crate::engine::http) fn new(head: reply::Head, body: Bytes, close: bool) -> Self {
        Self {
            head: Bytes::new(),
            body,
            unwritten: Some(head),
            close,
        }
    }

    /// Writes until all of it is on its way.
    pub(super) fn poll_send(
        &mut self,
        line: &mut Line,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = &mut line.stream;
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

    /// Writes from the thread's buffer, and keeps what is not taken.
    fn attempt(
        &mut self,
        stream: &mut Accepted,
        cx: &mut Context<'_>,
        head: &reply::Head,
    ) -> Poll<io::Result<()>> {
        let mut output = OUTPUT.take();
        output.clear();
        response::encode(&mut output, head, self.body.len(), self.close);
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
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(_) | Poll::Pending => written,
    }
}
