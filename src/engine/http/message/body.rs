//! The body of a request, before it is collected.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use hyper::body::Body;

/// The body of a request from any HTTP implementation. Request handlers take it as a trait object,
/// so that they are compiled once and not for each type of body.
pub(crate) trait Pieces: Send {
    /// Returns the minimum number of bytes that will arrive.
    fn at_least(&self) -> u64;

    /// Returns the next bytes; `Err` if the body is incomplete.
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
            // Trailers are skipped, because Engine.IO does not use them.
            if let Ok(mut data) = frame.into_data() {
                return Poll::Ready(Some(Ok(data.copy_to_bytes(data.remaining()))));
            }
        }
    }
}
