//! The byte stream under a WebSocket: a TCP connection of our own, or anything else that can be
//! read and written, as TLS or what another server has upgraded.
//!
//! Both kinds are written by the flusher or the driver, and never wait: bytes that are not accepted
//! at once are refused, and the driver is woken when there is room.

use std::{
    fmt, io,
    io::{IoSlice, Read as _},
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
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// What a [`Stream`] can be made of besides a TCP connection.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The bytes that are read from a peer after the last ones were written to it.
pub(in crate::engine) const MAX_DISCARDED: usize = 64 * 1024;

/// A handle to a byte stream. Cloning is a reference count.
#[derive(Clone)]
pub(crate) enum Stream {
    /// A TCP connection, whose own readiness is used.
    Tcp(Arc<TcpStream>),
    /// Anything else, behind a lock.
    Other(Arc<Other>),
}

/// A stream whose readiness can only be learned by trying.
pub(crate) struct Other {
    io: Mutex<Locked>,
    wakes: Arc<Wakes>,
    /// The waker over `wakes`, which every attempt gets, whoever makes it.
    waker: Waker,
}

struct Locked {
    io: Box<dyn Duplex>,
    /// Whether bytes were accepted that may still lie in a buffer of the stream.
    unflushed: bool,
}

/// Passes wakes on to the driver and remembers that there was one.
#[derive(Default)]
struct Wakes {
    driver: AtomicWaker,
    /// Whether something may have changed since the last attempt that had to wait.
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
    /// A TCP connection.
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::Tcp(Arc::new(stream))
    }

    /// Any other stream. It must have its own way to end a peer that does not close, since there
    /// are no deadlines here.
    pub(crate) fn other(io: Box<dyn Duplex>) -> Self {
        let wakes = Arc::new(Wakes::default());
        Self::Other(Arc::new(Other {
            io: Mutex::new(Locked {
                io,
                unflushed: false,
            }),
            waker: Arc::clone(&wakes).into(),
            wakes,
        }))
    }

    /// What the stream is made of, or `None` if there is another handle to it.
    #[cfg(feature = "forwarding")]
    pub(in crate::engine) fn into_duplex(self) -> Option<Box<dyn Duplex>> {
        match self {
            Self::Tcp(stream) => Some(Box::new(Arc::into_inner(stream)?)),
            Self::Other(other) => Some(Arc::into_inner(other)?.io.into_inner().io),
        }
    }

    /// Writes what is accepted at once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] if nothing is; any other one ends the stream.
    pub(in crate::engine) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => match send(stream, bytes) {
                // Tokio takes the socket for writable until an attempt of its own is refused, and
                // only then waits for room.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.try_write(bytes),
                sent => sent,
            },
            Self::Other(other) => other.write(|io, cx| io.poll_write(cx, bytes)),
        }
    }

    /// As [`try_write`](Self::try_write), from several buffers.
    ///
    /// # Errors
    ///
    /// The errors are those of [`try_write`](Self::try_write).
    pub(in crate::engine) fn try_write_vectored(
        &self,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_write_vectored(slices),
            Self::Other(other) => other.write(|io, cx| io.poll_write_vectored(cx, slices)),
        }
    }

    /// Whether dropping the stream ends it well, because it has no end of its own to be written.
    pub(in crate::engine) fn is_plain(&self) -> bool {
        matches!(self, Self::Tcp(_))
    }

    /// Whether everything that was written is on its way. The rest leaves when the driver asks for
    /// room.
    pub(in crate::engine) fn is_flushed(&self) -> bool {
        match self {
            Self::Tcp(_) => true,
            Self::Other(other) => !other.io.lock().unflushed,
        }
    }

    /// Asks for room to write. Only the driver calls this. Ready when an attempt is worth it.
    pub(in crate::engine) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            // An error shows in the next attempt.
            Self::Tcp(stream) => stream.poll_write_ready(cx).map(drop),
            Self::Other(other) => other.poll_write_ready(cx),
        }
    }

    /// Asks for something to read. Only the driver calls this. Ready promises nothing.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Other(_) => Poll::Ready(Ok(())),
        }
    }

    /// Reads what is there.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::WouldBlock`] asks the caller to call
    /// [`poll_read_ready`](Self::poll_read_ready), which then wakes. Any other one ends the stream.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => Poll::Ready(read_available(stream, buffer)),
            Self::Other(other) => other.poll_read(cx, buffer),
        }
    }

    /// Ends the writing side, as far as that can be done at once.
    pub(in crate::engine) fn shutdown(&self) {
        match self {
            Self::Tcp(stream) => {
                let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Write);
            }
            Self::Other(other) => {
                let _ = other.attempt(|locked, cx| Pin::new(&mut locked.io).poll_shutdown(cx));
            }
        }
    }

    /// Reads and forgets what a closing peer still sends, so that unread input does not turn
    /// the last answer into a reset. Returns whether the peer has closed.
    ///
    /// Of a peer that goes on sending `left` bytes are read. The rest stays in the kernel, which
    /// stops the peer, until the deadline of the caller.
    pub(in crate::engine) fn discard(&self, cx: &mut Context<'_>, left: &mut usize) -> bool {
        let mut buffer = [0; 4096];
        if let Self::Other(other) = self {
            other.wakes.driver.register(cx.waker());
            // The end of a stream may take more than one attempt.
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
    /// Tries something, with the waker that finds the driver. A stream that panics has failed:
    /// others must not suffer for it.
    fn attempt<T>(
        &self,
        f: impl FnOnce(&mut Locked, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut cx = Context::from_waker(&self.waker);
        let mut locked = self.io.lock();
        catch_unwind(AssertUnwindSafe(|| f(&mut locked, &mut cx)))
            .unwrap_or_else(|_| Poll::Ready(Err(io::Error::other("a stream has panicked"))))
    }

    /// Writes, then flushes what the stream may have buffered. Until that has left, nothing more is
    /// accepted, because the buffer must not grow with every message.
    fn write(
        &self,
        write: impl FnOnce(Pin<&mut dyn Duplex>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> io::Result<usize> {
        // The flag is cleared before the attempt, so that a wake that comes during it is kept.
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
        // An error shows in the next attempt to write.
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
        // the waker. So a wake at any moment is either seen here or reaches the driver.
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

/// Writes what the kernel takes. Tokio's own way asks first whether it would, in memory that nobody
/// else needs at that time.
fn send(stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    #[cfg(any(target_os = "android", target_os = "linux"))]
    // Without this flag a connection that has broken would raise a signal, which ends a process
    // that does not ignore it.
    const FLAGS: i32 = 0x4000; // MSG_NOSIGNAL
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    const FLAGS: i32 = 0;
    SockRef::from(stream).send_with_flags(bytes, FLAGS)
}

/// Reads what is there. A read that did not fill the buffer has emptied the socket: it
/// clears the readiness as a refused read would, which saves that system call.
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

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Other(_) => "Other",
        })
    }
}
