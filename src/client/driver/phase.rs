use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::Sleep;

use super::Step;
use crate::client::{ClientError, link::Link};

/// The state of a client's connection.
pub(super) enum Phase {
    /// No connection is open or scheduled.
    Closed,
    /// The next attempt starts when the timer fires.
    Waiting(Pin<Box<Sleep>>),
    Opening(Pin<Box<dyn Future<Output = Result<Link, ClientError>> + Send>>),
    Open(Box<Link>),
}

impl Phase {
    pub(super) async fn next(&mut self, may_read: bool, has_unsent: bool) -> Step {
        poll_fn(|cx| self.poll(cx, may_read, has_unsent)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, may_read: bool, has_unsent: bool) -> Poll<Step> {
        match self {
            Self::Closed => Poll::Pending,
            Self::Waiting(sleep) => sleep.as_mut().poll(cx).map(|()| Step::Due),
            Self::Opening(opening) => opening.as_mut().poll(cx).map(Step::Opened),
            Self::Open(link) => {
                // Writing continues while reading is paused, because the server may wait for this
                // data.
                if may_read {
                    if let Poll::Ready(packet) = link.poll_packet(cx) {
                        return Poll::Ready(Step::Packet(packet));
                    }
                } else if let Poll::Ready(Err(error)) = link.poll_write(cx) {
                    return Poll::Ready(Step::Packet(Err(error)));
                }
                if has_unsent && link.queued() < HIGH_WATER {
                    return Poll::Ready(Step::Room);
                }
                Poll::Pending
            }
        }
    }
}

/// Maximum bytes to queue in the connection. Above this, events wait unencoded.
pub(super) const HIGH_WATER: usize = 256 * 1024;
