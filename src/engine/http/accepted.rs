//! A connection while it is used for HTTP.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use crate::engine::transport::{Duplex, Stream};

/// An accepted connection, with a deadline for clients that do not read their responses, which HTTP
/// libraries lack.
///
/// A client is disconnected if within the timeout it reads neither the whole response nor 16 KiB of
/// it. This deadline does not apply while a response, for example to a poll, is still awaited.
/// While the client is stalled, nothing more is read from it, because responses to further requests
/// would have to wait too.
pub(crate) struct Accepted {
    io: Io,
    /// Bytes that were read before and are read again first.
    front: BytesMut,
    write_timeout: Duration,
    /// Set while the client reads less than it is sent.
    stalled: Option<Box<WriteStall>>,
}

enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

/// Calls a method of a connection of either kind.
macro_rules! call {
    ($io:expr, $method:ident($($argument:expr),*)) => {
        match $io {
            Io::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Io::Other(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

struct WriteStall {
    until: Pin<Box<Sleep>>,
    written: usize,
    /// The task that tried to read while the client was stalled.
    reader: Option<Waker>,
}

/// Number of bytes per timeout that count as progress.
const MIN_PROGRESS: usize = 16 * 1024;
/// Maximum number of bytes read ahead from a client that waits for a response. The rest stays in
/// the kernel, so a client that sends more is not noticed when it disconnects.
const MAX_READ_AHEAD: usize = 16 * 1024;
/// Number of those bytes read in one call.
const READ_PIECE: usize = 4096;

impl Accepted {
    pub(crate) fn tcp(stream: TcpStream, write_timeout: Duration) -> Self {
        Self::new(Io::Tcp(stream), write_timeout)
    }

    /// Wraps a connection that is not plain TCP, such as TLS.
    pub(crate) fn other(stream: Box<dyn Duplex>, write_timeout: Duration) -> Self {
        Self::new(Io::Other(stream), write_timeout)
    }

    fn new(io: Io, write_timeout: Duration) -> Self {
        Self {
            io,
            front: BytesMut::new(),
            write_timeout,
            stalled: None,
        }
    }

    /// Puts back bytes that were read, before the bytes still to be read.
    pub(in crate::engine) fn put_back(&mut self, mut bytes: BytesMut) {
        bytes.unsplit(std::mem::take(&mut self.front));
        self.front = bytes;
    }

    /// Returns whether put-back bytes are left.
    pub(super) fn is_put_back(&self) -> bool {
        !self.front.is_empty()
    }

    /// Returns the stream, for a WebSocket or for closing, and the put-back bytes.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        let stream = match self.io {
            Io::Tcp(stream) => Stream::tcp(stream),
            Io::Other(stream) => Stream::other(stream),
        };
        (stream, self.front.freeze())
    }

    /// Ready when the client closes the connection while it waits for a response. Other input is
    /// put back.
    pub(super) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // While the client is stalled, nothing is read. The task is woken nevertheless, because it
        // also polls the write and its deadline.
        while self.stalled.is_none() && self.front.len() < MAX_READ_AHEAD {
            let mut space = [const { MaybeUninit::uninit() }; READ_PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            let read = ready!(call!(&mut self.io, poll_read(cx, &mut piece)));
            if read.is_err() || piece.filled().is_empty() {
                return Poll::Ready(());
            }
            self.front.extend_from_slice(piece.filled());
            // The task that waits to read was not notified of the bytes taken here.
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Ends the stall when the client reads again. A task that tried to read during the stall is
    /// woken, because it was not registered with the socket.
    fn end_stall(&mut self) {
        let stalled = self.stalled.take();
        if let Some(reader) = stalled.and_then(|stalled| stalled.reader) {
            reader.wake();
        }
    }

    fn pace(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(n)) => {
                if let Some(stalled) = &mut self.stalled {
                    stalled.written += n;
                    if stalled.written >= MIN_PROGRESS {
                        self.end_stall();
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let write_timeout = self.write_timeout;
                let stalled = self.stalled.get_or_insert_with(|| {
                    Box::new(WriteStall {
                        until: Box::pin(tokio::time::sleep(write_timeout)),
                        written: 0,
                        reader: None,
                    })
                });
                // The deadline starts with the first refused write. Writing a few bytes does not
                // move it; only real progress ends it (`end_stall`).
                if stalled.until.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
        }
        written
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(stalled) = &mut this.stalled {
            stalled.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if !this.front.is_empty() {
            let len = this.front.len().min(buffer.remaining());
            buffer.put_slice(&this.front.split_to(len));
            if this.front.is_empty() {
                // An empty buffer would keep its allocation.
                this.front = BytesMut::new();
            }
            return Poll::Ready(Ok(()));
        }
        call!(&mut this.io, poll_read(cx, buffer))
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = call!(&mut this.io, poll_write(cx, bytes));
        this.pace(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = call!(&mut this.io, poll_write_vectored(cx, slices));
        this.pace(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        call!(&self.io, is_write_vectored())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = call!(&mut this.io, poll_flush(cx));
        if flushed.is_ready() {
            // The kernel or TLS has accepted everything.
            this.end_stall();
        }
        this.pace(cx, flushed.map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        call!(&mut self.get_mut().io, poll_shutdown(cx))
    }
}

/// A connection that a library reads and writes while the same task watches for a disconnect. One
/// task does both in turn, so the lock is never contended, and nothing is awaited under it.
pub(super) struct SharedConnection<'a>(pub(super) &'a Mutex<Accepted>);

impl AsyncRead for SharedConnection<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SharedConnection<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }
}

/// Waits for a response while the client stays connected. Returns `None` if the client disconnects
/// first.
pub(super) async fn unless_disconnected<T>(
    mut poll_disconnect: impl FnMut(&mut Context<'_>) -> Poll<()>,
    mut answering: Pin<&mut (impl Future<Output = T> + Send)>,
) -> Option<T> {
    poll_fn(|cx| match answering.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => poll_disconnect(cx).map(|()| None),
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Counts its wakes.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicUsize);

    impl Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn reading_pauses_while_writes_stall_and_then_resumes() {
        let (near, mut far) = tokio::io::duplex(100);
        let mut accepted = Accepted::other(Box::new(near), Duration::from_secs(60));
        far.write_all(b"another request").await.unwrap();
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let answer = [b'x'; 150];
        let mut write =
            |accepted: &mut Accepted, bytes: &[u8]| Pin::new(accepted).poll_write(&mut cx, bytes);
        assert!(matches!(
            write(&mut accepted, &answer),
            Poll::Ready(Ok(100))
        ));
        assert!(write(&mut accepted, &answer[100..]).is_pending());

        let mut cx = Context::from_waker(&waker);
        let mut space = [0; 100];
        let mut buffer = ReadBuf::new(&mut space);
        assert!(
            Pin::new(&mut accepted)
                .poll_read(&mut cx, &mut buffer)
                .is_pending()
        );

        far.read_exact(&mut [0; 100]).await.unwrap();
        let written = Pin::new(&mut accepted).poll_write(&mut cx, &answer[100..]);
        assert!(matches!(written, Poll::Ready(Ok(50))));
        let before = woken.0.load(std::sync::atomic::Ordering::Relaxed);
        assert!(Pin::new(&mut accepted).poll_flush(&mut cx).is_ready());
        assert_eq!(
            woken.0.load(std::sync::atomic::Ordering::Relaxed),
            before + 1
        );
        assert!(
            Pin::new(&mut accepted)
                .poll_read(&mut cx, &mut buffer)
                .is_ready()
        );
        assert_eq!(buffer.filled(), b"another request");
    }
}
