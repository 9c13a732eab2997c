use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use roomcast_protocol::socket::Packet;
use tokio::time::Sleep;

use crate::client::{ClientError, link::Link};

/// Where a client is with its connection.
pub(super) enum Phase {
    /// There is no connection, and none is tried.
    Closed,
    /// The next attempt is made at this time.
    Waiting(Pin<Box<Sleep>>),
    Opening(Pin<Box<dyn Future<Output = Result<Link, ClientError>> + Send>>),
    Open(Box<Link>),
}

/// What happened to the connection.
pub(super) enum Progress {
    /// It is time for the next attempt.
    Due,
    Opened(Result<Link, ClientError>),
    Packet(Result<Packet, ClientError>),
    /// More can be written.
    Room,
}

impl Phase {
    pub(super) async fn next(&mut self, may_read: bool, wants_room: bool) -> Progress {
        poll_fn(|cx| self.poll(cx, may_read, wants_room)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>, may_read: bool, wants_room: bool) -> Poll<Progress> {
        match self {
            Self::Closed => Poll::Pending,
            Self::Waiting(sleep) => sleep.as_mut().poll(cx).map(|()| Progress::Due),
            Self::Opening(opening) => opening.as_mut().poll(cx).map(Progress::Opened),
            Self::Open(link) => {
                // Writing goes on while reading does not, because the server may wait for just
                // that.
                if may_read {
                    if let Poll::Ready(packet) = link.poll_packet(cx) {
                        return Poll::Ready(Progress::Packet(packet));
                    }
                } else if let Poll::Ready(Err(error)) = link.poll_write(cx) {
                    return Poll::Ready(Progress::Packet(Err(error)));
                }
                if wants_room && link.queued() < HIGH_WATER {
                    return Poll::Ready(Progress::Room);
                }
                Poll::Pending
            }
        }
    }
}

/// With more bytes than this to be written, events wait before they are encoded.
pub(super) const HIGH_WATER: usize = 256 * 1024;
