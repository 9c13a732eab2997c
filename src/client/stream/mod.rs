//! A byte stream to a server, encrypted or not.

#[cfg(feature = "client-tls")]
mod tls;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

#[cfg(feature = "client-tls")]
pub use tls::ClientTls;
#[cfg(feature = "client-tls")]
use tls::Encrypted;

/// A connection to a server.
///
/// Without the feature `client-tls`, it has the size of a TCP stream.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "client-tls")]
    Tls(Box<Encrypted>),
}

impl Stream {
    /// Writes the bytes that the kernel accepts immediately.
    pub(super) fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.try_write(bytes),
        }
    }

    /// Returns the approximate number of written bytes that have not reached the kernel.
    pub(super) fn unflushed(&self) -> usize {
        match self {
            Self::Plain(_) => 0,
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.unflushed(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            #[cfg(feature = "client-tls")]
            Self::Tls(stream) => stream.poll_shutdown(cx),
        }
    }
}
