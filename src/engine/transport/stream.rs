//! The byte stream of a WebSocket: a TCP connection of this server, or any other stream, such as
//! TLS or a connection that another server has upgraded.
//!
//! The flusher and the driver write to both kinds without waiting: bytes that are not accepted
//! immediately are refused, and the driver is woken when there is room.
//!
//! A stream other than TCP has a lock, because both tasks write to it, and a waker that always
//! reaches the driver. Until it has flushed what it accepted, nothing more is written to it.

use std::{
    io::{self, IoSlice, Read as _},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use roomcast_protocol::websocket::deflate::WindowBits;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::deflate::Contextual;

/// A stream other than a TCP connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Maximum number of bytes read from a peer after the last write to it.
pub(in crate::engine) const MAX_DISCARDED: usize = 64 * 1024;

/// A handle to a byte stream. Cloning only increments a reference count.
#[derive(Clone)]
pub(crate) enum Stream {
    /// A TCP connection, whose own readiness is used, and the window of its compressed messages.
    Tcp(Arc<TcpStream>, Option<WindowBits>),
    /// Any other stream, guarded by a lock, and the window of its compressed messages.
    Other(Arc<Other>, Option<WindowBits>),
    /// A stream whose messages are compressed with contexts of its own.
    Contextual(Arc<Contextual>),
}

/// A stream whose readiness is only known by trying.
pub(crate) struct Other {
    io: Mutex<Locked>,
    wakes: Arc<Wakes>,
    /// The waker based on `wakes`, used for all attempts by any task.
    waker: Waker,
}

struct Locked {
    io: Box<dyn Duplex>,
    /// Whether accepted bytes may still be in a buffer of the stream.
    unflushed: bool,
}

/// Forwards wakes to the driver and records that there was one.
#[derive(Default)]
struct Wakes {
    driver: AtomicWaker,
    /// Whether something may have changed since the last pending attempt.
    woken: AtomicBool,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.driver.wake();
    }
}

impl Stream {
    /// Wraps a TCP connection.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::Tcp(Arc::new(stream), None)
    }

    /// Wraps any other stream. It must disconnect peers that do not close, because there are no
    /// deadlines here.
    pub(crate) fn other(io: Box<dyn Duplex>) -> Self {
        let wakes = Arc::new(Wakes::default());
        let other = Other {
            io: Mutex::new(Locked {
                io,
                unflushed: false,
            }),
            waker: Arc::clone(&wakes).into(),
            wakes,
        };
        Self::Other(Arc::new(other), None)
    }

    /// Returns the underlying stream, or `None` if there is another handle to it.
    #[cfg(feature = "forwarding")]
    pub(in crate::engine) fn into_duplex(self) -> Option<Box<dyn Duplex>> {
        match self {
            Self::Tcp(stream, _) => Some(Box::new(Arc::into_inner(stream)?)),
            Self::Other(other, _) => Some(Arc::into_inner(other)?.io.into_inner().io),
            Self::Contextual(contextual) => Arc::into_inner(contextual)?.stream.into_duplex(),
        }
    }

    /// Writes the bytes that are accepted immediately.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if no bytes are accepted; any other error ends the stream.
    pub(in crate::engine) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => match send(stream, bytes) {
                // Tokio considers the socket writable until its own attempt is refused, and only
                // then waits for room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.try_write(bytes),
                sent => sent,
            },
            Self::Other(other, _) => other.write(|io, cx| io.poll_write(cx, bytes)),
            Self::Contextual(contextual) => contextual.stream.try_write(bytes),
        }
    }

    /// Writes from several buffers, like [`try_write`](Self::try_write).
    ///
    /// # Errors
    ///
    /// The same as for [`try_write`](Self::try_write).
    pub(in crate::engine) fn try_write_vectored(
        &self,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self {
            Self::Tcp(stream, _) => stream.try_write_vectored(slices),
            Self::Other(other, _) => other.write(|io, cx| io.poll_write_vectored(cx, slices)),
            Self::Contextual(contextual) => contextual.stream.try_write_vectored(slices),
        }
    }

    /// Returns whether dropping the stream closes it properly, because it has no closing message of
    /// its own.
    pub(in crate::engine) fn is_plain(&self) -> bool {
        match self {
            Self::Tcp(..) => true,
            Self::Other(..) => false,
            Self::Contextual(contextual) => contextual.stream.is_plain(),
        }
    }

    /// Returns whether everything written has left the stream's buffer. The rest is written when
    /// the driver waits for room.
    pub(in crate::engine) fn is_flushed(&self) -> bool {
        match self {
            Self::Tcp(..) => true,
            Self::Other(other, _) => !other.io.lock().unflushed,
            Self::Contextual(contextual) => contextual.stream.is_flushed(),
        }
    }

    /// Waits for room to write. Only the driver calls this. Ready when an attempt may succeed.
    pub(in crate::engine) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // The next attempt returns the error.
            Self::Tcp(stream, _) => stream.poll_write_ready(cx).map(drop),
            Self::Other(other, _) => other.poll_write_ready(cx),
            Self::Contextual(contextual) => contextual.stream.poll_write_ready(cx),
        }
    }

    /// Waits for input. Only the driver calls this. An attempt may still find nothing.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream, _) => stream.poll_read_ready(cx),
            Self::Other(..) => Poll::Ready(Ok(())),
            Self::Contextual(contextual) => contextual.stream.poll_read_ready(cx),
        }
    }

    /// Reads the available bytes.
    ///
    /// # Errors
    ///
    /// After [`io::ErrorKind::WouldBlock`], the caller must call
    /// [`poll_read_ready`](Self::poll_read_ready), which registers the waker. Any other error ends
    /// the stream.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream, _) => Poll::Ready(read_available(stream, buffer)),
            Self::Other(other, _) => other.poll_read(cx, buffer),
            Self::Contextual(contextual) => contextual.stream.poll_read(cx, buffer),
        }
    }

    /// Shuts down the write side, as far as that is possible immediately.
    pub(in crate::engine) fn shutdown(&self) {
        match self {
            Self::Tcp(stream, _) => {
                let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
            }
            Self::Other(other, _) => {
                let _ = other.attempt(|locked, cx| Pin::new(&mut locked.io).poll_shutdown(cx));
            }
            Self::Contextual(contextual) => contextual.stream.shutdown(),
        }
    }

    /// Reads and discards what a closing peer still sends, so that unread input does not turn the
    /// last response into a reset. Returns whether the peer has closed.
    ///
    /// At most `left` bytes are read. The rest stays in the kernel, which stops the peer, until the
    /// deadline of the caller.
    pub(in crate::engine) fn discard(&self, cx: &mut Context<'_>, left: &mut usize) -> bool {
        if let Self::Contextual(contextual) = self {
            return contextual.stream.discard(cx, left);
        }
        let mut buffer = [0; 4096];
        if let Self::Other(other, _) = self {
            other.wakes.driver.register(cx.waker());
            // Shutting down a stream may take several attempts.
            self.shutdown();
        }
        while *left > 0 {
            let most = buffer.len().min(*left);
            match self.poll_read_ready(cx) {
                Poll::Pending => return false,
                Poll::Ready(Err(_)) => return true,
                Poll::Ready(Ok(())) => {}
            }
            match self.poll_read(cx, buffer.get_mut(..most).unwrap_or_default()) {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => return true,
                Poll::Ready(Ok(n)) => *left -= n,
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Poll::Ready(Err(_)) => return true,
            }
        }
        false
    }
}

impl Other {
    /// Attempts an operation with the waker that wakes the driver. A panic of a stream becomes an
    /// error, so that it does not affect other sessions.
    fn attempt<T>(
        &self,
        f: impl FnOnce(&mut Locked, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut cx = Context::from_waker(&self.waker);
        let mut locked = self.io.lock();
        catch_unwind(AssertUnwindSafe(|| f(&mut locked, &mut cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(io::Error::other("a stream has panicked"))))
    }

    /// Writes, then flushes what the stream may have buffered. Until that is flushed, no further
    /// bytes are accepted, because the buffer must not grow with every message.
    fn write(
        &self,
        write: impl FnOnce(Pin<&mut dyn Duplex>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> io::Result<usize> {
        // The flag is cleared before the attempt, so that a wake during it is not lost.
        self.wakes.woken.store(false, Ordering::Release);
        let written = self.attempt(|locked, cx| {
            if locked.unflushed {
                std::task::ready!(locked.poll_flush(cx))?;
            }
            let n = std::task::ready!(write(Pin::new(&mut *locked.io), cx))?;
            locked.unflushed = true;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            match locked.poll_flush(cx) {
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(n)),
            }
        });
        match written {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.wakes.driver.register(cx.waker());
        if !self.wakes.woken.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        // The next write returns the error.
        self.attempt(|locked, cx| {
            if locked.unflushed {
                locked.poll_flush(cx)
            } else {
                Poll::Ready(Ok(()))
            }
        })
        .map(drop)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        // The waker is registered before the flag is read, and a wake sets the flag before it calls
        // the waker. So every wake is either seen here or reaches the driver.
        self.wakes.driver.register(cx.waker());
        self.attempt(|locked, cx| {
            let mut buffer = ReadBuf::new(buffer);
            Pin::new(&mut locked.io)
                .poll_read(cx, &mut buffer)
                .map_ok(|()| buffer.filled().len())
        })
    }
}

impl Locked {
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        std::task::ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }
}

/// Writes what the kernel accepts. Tokio's method would first check the readiness, in memory that
/// is otherwise not needed at that time.
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    // Without this flag, writing to a broken connection raises a signal, which terminates a process
    // that does not ignore it.
    const FLAGS: i32 = 0x4000; // MSG_NOSIGNAL
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    const FLAGS: i32 = 0;
    SockRef::from(stream).send_with_flags(bytes, FLAGS)
}

/// Reads the available bytes. A read that does not fill the buffer has emptied the socket. It then
/// clears the readiness like a refused read, which saves that system call.
fn read_available(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut partial = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let n = (&*SockRef::from(stream)).read(buffer)?;
        if 0 < n && n < buffer.len() {
            partial = Some(n);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(n)
    });
    match partial {
        Some(n) => Ok(n),
        None => outcome,
    }
}
