//! The body of a request that is forwarded to another server.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of a forwarded request, piece by piece as it arrives.
#[derive(Debug)]
pub(in crate::engine) struct Outgoing(Option<mpsc::Receiver<Option<Bytes>>>);

/// The sender of the pieces, and then of the end (`None`). If it is dropped before the end is sent,
/// the body is aborted, so that the other server does not treat it as complete.
pub(in crate::engine) type Pieces = mpsc::Sender<Option<Bytes>>;

impl Outgoing {
    pub(in crate::engine) const fn empty() -> Self {
        Self(None)
    }

    pub(in crate::engine) fn new() -> (Pieces, Self) {
        // At most one piece is buffered, so that a client sends no faster than the other server
        // reads.
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self(Some(receiver)))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(pieces) = &mut self.0 else {
            return Poll::Ready(None);
        };
        pieces.poll_recv(cx).map(|piece| match piece {
            Some(Some(piece)) => Some(Ok(Frame::data(piece))),
            Some(None) => None,
            // The sender was dropped before it sent the end. The error makes hyper abort the
            // request.
            None => Some(Err(io::ErrorKind::ConnectionAborted.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.0 {
            None => SizeHint::with_exact(0),
            Some(_) => SizeHint::default(),
        }
    }
}
