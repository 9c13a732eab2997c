//! The polling request that waits at an outbox, and what it is answered.

use bytes::Bytes;
use roomcast_protocol::{
    Frame,
    engine::{Packet, payload},
};
use tokio::sync::oneshot;

/// A polling request that waits for packets.
#[derive(Debug)]
pub(in crate::engine) struct Parked {
    pub(in crate::engine) id: u64,
    answer: oneshot::Sender<PollAnswer>,
}

impl Parked {
    pub(super) fn new(id: u64, answer: oneshot::Sender<PollAnswer>) -> Self {
        Self { id, answer }
    }

    /// Answers with packets. `false`: the client had given up.
    #[must_use]
    pub(in crate::engine) fn answer(self, frames: &[Frame]) -> bool {
        self.answer.send(PollAnswer::packets(frames)).is_ok()
    }

    /// Answers that it overlaps with another one.
    pub(in crate::engine) fn refuse(self) {
        let _ = self.answer.send(PollAnswer::Refused);
    }

    /// Answers with nothing.
    #[must_use]
    pub(in crate::engine) fn answer_noop(self) -> bool {
        self.answer(&[Frame::packet(&Packet::Noop)])
    }
}

/// What a polling request is answered.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::engine) enum PollAnswer {
    /// `200` with these packets, and whether they may be compressed.
    Payload(Bytes, bool),
    /// `400`: it overlapped with another one.
    Refused,
}

impl PollAnswer {
    pub(super) fn packets(frames: &[Frame]) -> Self {
        let may_compress = frames.iter().any(Frame::is_compressible);
        Self::Payload(join(frames), may_compress)
    }
}

/// The packets of a polling answer in one payload.
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
