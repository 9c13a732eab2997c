//! Messages from requests to the driver of a session, and the responses to the requests.

use std::time::Instant;

use bytes::Bytes;
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Packet, Revision, payload, v3},
};
use tokio::sync::oneshot;

use crate::engine::transport::{OpenConnection, Stream};

/// A message to the driver of a session.
pub(in crate::engine) enum Control {
    /// A polling request waits for packets.
    Poll(PendingPoll),
    /// The client aborted the polling request with this id.
    PollAborted { id: u64 },
    /// A polling request was answered after its client had aborted it.
    PollLost,
    /// A request has posted a payload.
    Post {
        body: Bytes,
        /// Whether the body is a binary payload of revision 3.
        is_binary: bool,
        answer: oneshot::Sender<PostAnswer>,
    },
    /// A WebSocket requests the upgrade of the session.
    Attach {
        stream: Stream,
        /// Bytes that the client sent directly after its request.
        unread: Bytes,
        /// Counts the connection, because its task ends.
        open: OpenConnection,
    },
    /// Ends the session after its queue is flushed.
    Close(CloseReason),
    /// Ends the session as soon as nothing is in flight for its client, at the latest at this time.
    Leave(Instant),
    /// Ends the session immediately.
    Abort(CloseReason),
}

impl Control {
    pub(in crate::engine::outbox) fn is_close(&self) -> bool {
        matches!(self, Self::Close(_))
    }
}

/// The response to a request that posted packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum PostAnswer {
    /// `200` and `ok`.
    Accepted,
    /// `400`: the payload ended the session.
    Refused,
}

/// A polling request that waits for packets.
#[derive(Debug)]
pub(in crate::engine) struct PendingPoll {
    pub(in crate::engine) id: u64,
    pub(in crate::engine::outbox) revision: Revision,
    pub(in crate::engine::outbox) answer: oneshot::Sender<PollAnswer>,
}

impl PendingPoll {
    /// Answers with packets. Returns `false` if the client has aborted the request.
    #[must_use]
    pub(in crate::engine) fn answer(self, frames: &[Frame]) -> bool {
        let answer = PollAnswer::packets(frames, self.revision);
        self.answer.send(answer).is_ok()
    }

    /// Answers that the request overlaps with another request.
    pub(in crate::engine) fn refuse(self) {
        let _ = self.answer.send(PollAnswer::Refused);
    }

    /// Answers with an empty packet (`noop`).
    #[must_use]
    pub(in crate::engine) fn answer_noop(self) -> bool {
        self.answer(&[Frame::packet(&Packet::Noop)])
    }
}

/// The response to a polling request.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum PollAnswer {
    /// `200` with these packets.
    Payload {
        packets: Bytes,
        may_compress: bool,
        /// Whether this is a binary payload of revision 3.
        is_binary: bool,
    },
    /// `400`: it overlapped with another request.
    Refused,
}

impl PollAnswer {
    pub(in crate::engine::outbox) fn packets(frames: &[Frame], revision: Revision) -> Self {
        let (packets, is_binary) = encode_payload(frames, revision);
        Self::Payload {
            packets,
            may_compress: frames.iter().any(Frame::is_compressible),
            is_binary,
        }
    }
}

/// Encodes frames as one payload. Returns also whether it is a binary payload of revision 3.
pub(in crate::engine) fn encode_payload(frames: &[Frame], revision: Revision) -> (Bytes, bool) {
    match revision {
        Revision::V4 => (join(frames), false),
        Revision::V3 | Revision::V3Base64 => match v3::encode(frames, revision) {
            v3::Payload::Text(packets) => (packets, false),
            v3::Payload::Binary(packets) => (packets, true),
        },
    }
}

/// Joins the packets of a polling response into one payload.
fn join(frames: &[Frame]) -> Bytes {
    if let [frame] = frames {
        return frame.polling();
    }
    let mut payload = Vec::with_capacity(frames.iter().map(|frame| frame.len() + 1).sum());
    for frame in frames {
        if !payload.is_empty() {
            payload.push(payload::SEPARATOR);
        }
        payload.extend_from_slice(&frame.polling());
    }
    payload.into()
}
