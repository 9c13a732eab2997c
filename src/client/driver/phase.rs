use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use roomcast_protocol::socket::Packet;
use tokio::time::Sleep;

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

/// A change of the connection.
pub(super) enum Progress {
    /// The delay before the next attempt is over.
    Due,
    Opened(Result<Link, ClientError>),
    Packet(Result<Packet, ClientError>),
    /// The connection can accept more data.
    Room,
}

impl Phase {
    pub(super) async fn next(&mut self, may_read: bool, has_unsent: bool) -> Progress {
        poll_fn(|cx| self.poll(cx, may_read, has_unsent)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, may_read: bool, has_unsent: bool) -> Poll<Progress> {
        match self {
            Self::Closed => Poll::Pending,
            Self::Waiting(sleep) => sleep.as_mut().poll(cx).map(|()| Progress::Due),
            Self::Opening(opening) => opening.as_mut().poll(cx).map(Progress::Opened),
            Self::Open(link) => {
                // Writing continues while reading is paused, because the server may wait for this
                // data.
                if may_read {
                    if let Poll::Ready(packet) = link.poll_packet(cx) {
                        return Poll::Ready(Progress::Packet(packet));
                    }
                } else if let Poll::Ready(Err(error)) = link.poll_write(cx) {
                    return Poll::Ready(Progress::Packet(Err(error)));
                }
                if has_unsent && link.queued() < HIGH_WATER {
                    return Poll::Ready(Progress::Room);
                }
                Poll::Pending
            }
        }
    }
}

/// Maximum bytes to queue in the connection. Above this, events wait unencoded.
pub(super) const HIGH_WATER: usize = 256 * 1024;
