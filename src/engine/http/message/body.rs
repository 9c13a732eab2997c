//! The body of a request, before it is collected.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use hyper::body::Body;

/// The body of a request, whoever reads it from the network. What answers requests takes it as a
/// trait object, so that it is compiled once and not for each kind of body.
pub(crate) trait Pieces: Send {
    /// The bytes that will come at least.
    fn at_least(&self) -> u64;

    /// The next bytes; `Err` if the body ends before its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>>;
}

impl<B: Body + Send + Unpin> Pieces for B {
    fn at_least(&self) -> u64 {
        self.size_hint().lower()
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        loop {
            let frame = match ready!(Pin::new(&mut *self).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(()))),
                Some(Ok(frame)) => frame,
            };
            // Trailers are skipped, because Engine.IO gives them no meaning.
            if let Ok(mut data) = frame.into_data() {
                return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
            }
        }
    }
}
