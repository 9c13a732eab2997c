//! What others ask of a session's driver.

use bytes::Bytes;
use roomcast_protocol::engine::CloseReason;
use tokio::sync::oneshot;

use super::parked::Parked;
use crate::engine::transport::Stream;

/// A message to the driver of a session.
#[derive(Debug)]
pub(in crate::engine) enum Control {
    /// A polling request waits for packets.
    Poll(Parked),
    /// The polling request with this id was given up by its client.
    PollAborted { id: u64 },
    /// A polling request was answered when its client had given it up.
    PollLost,
    /// A payload has come in.
    Post {
        body: Bytes,
        answer: oneshot::Sender<PostAnswer>,
    },
    /// A WebSocket wants to take the session over.
    Attach {
        stream: Stream,
        /// Bytes the client sent right behind its request.
        unread: Bytes,
    },
    /// End the session; flush first.
    Close(CloseReason),
    /// End the session at once.
    Abort(CloseReason),
}

impl Control {
    pub(super) fn is_close(&self) -> bool {
        matches!(self, Self::Close(_))
    }
}

/// What a request that brought packets is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum PostAnswer {
    /// `200` and `ok`.
    Accepted,
    /// `400`: what it brought ended the session.
    Refused,
}
