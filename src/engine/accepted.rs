//! A connection while it speaks HTTP.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};

use super::stream::{Duplex, Stream};

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Whether nobody between can read along.
    pub(crate) secure: bool,
}

/// A connection as a listener has accepted it, with what HTTP libraries lack: a deadline for
/// clients that do not read their answers.
///
/// A client that takes neither everything nor 16 KiB of it within the patience of the server is
/// cut off; an answer that waits for the server, as a poll does, has no deadline here.
pub(crate) struct Accepted {
    io: Io,
    patience: Duration,
    /// Set while the client takes less than it is given.
    stalled: Option<Box<Stalled>>,
}

enum Io {
    Tcp(TcpStream),
    Other(Box<dyn Duplex>),
}

struct Stalled {
    until: Pin<Box<Sleep>>,
    written: usize,
}

/// Bytes within one patience that count as reading.
const PROGRESS: usize = 16 * 1024;

impl Accepted {
    pub(crate) fn tcp(stream: TcpStream, patience: Duration) -> Self {
        Self {
            io: Io::Tcp(stream),
            patience,
            stalled: None,
        }
    }

    /// A connection that is not plain TCP, as TLS.
    pub(crate) fn other(stream: Box<dyn Duplex>, patience: Duration) -> Self {
        Self {
            io: Io::Other(stream),
            patience,
            stalled: None,
        }
    }

    /// What carries a WebSocket, or is closed.
    pub(super) fn into_stream(self) -> Stream {
        match self.io {
            Io::Tcp(stream) => Stream::tcp(stream),
            Io::Other(stream) => Stream::other(stream),
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
                    if stalled.written >= PROGRESS {
                        self.stalled = None;
                    }
                }
            }
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                let patience = self.patience;
                let stalled = self.stalled.get_or_insert_with(|| {
                    Box::new(Stalled {
                        until: Box::pin(tokio::time::sleep(patience)),
                        written: 0,
                    })
                });
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
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Io::Other(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Io::Other(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        this.pace(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Io::Other(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        };
        this.pace(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.io {
            Io::Tcp(stream) => stream.is_write_vectored(),
            Io::Other(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = match &mut this.io {
            Io::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Io::Other(stream) => Pin::new(stream).poll_flush(cx),
        };
        if flushed.is_ready() {
            // Everything has been taken.
            this.stalled = None;
        }
        this.pace(cx, flushed.map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().io {
            Io::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Io::Other(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl std::fmt::Debug for Accepted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Accepted").finish_non_exhaustive()
    }
}
