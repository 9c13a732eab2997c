//! The polling request that waits at an outbox, and how it is answered: by whoever has packets for it,
//! without the driver.

use bytes::Bytes;
use parking_lot::MutexGuard;
use roomcast_protocol::{
    Frame,
    engine::{Packet, payload},
};
use tokio::sync::oneshot;

use super::{
    control::{Control, PollAnswer},
    outbox::Outbox,
    queue::Queue,
};

/// A polling request that waits for packets.
#[derive(Debug)]
pub(super) struct Parked {
    pub(super) id: u64,
    answer: oneshot::Sender<PollAnswer>,
}

impl Parked {
    pub(super) fn new(id: u64, answer: oneshot::Sender<PollAnswer>) -> Self {
        Self { id, answer }
    }

    /// Answers with packets. `false`: the client had given up.
    #[must_use]
    pub(super) fn answer(self, frames: &[Frame]) -> bool {
        self.answer.send(PollAnswer::packets(frames)).is_ok()
    }

    /// Answers that it overlaps with another one.
    pub(super) fn refuse(self) {
        let _ = self.answer.send(PollAnswer::Refused);
    }

    /// Answers with nothing.
    #[must_use]
    pub(super) fn answer_noop(self) -> bool {
        self.answer(&[Frame::packet(&Packet::Noop)])
    }
}

impl PollAnswer {
    pub(super) fn packets(frames: &[Frame]) -> Self {
        let may_compress = frames.iter().any(Frame::is_compressible);
        Self::Payload(join(frames), may_compress)
    }
}

/// What becomes of a polling request.
pub(super) enum Polled {
    /// There were packets.
    Answered(PollAnswer),
    /// It is answered later.
    Waiting(oneshot::Receiver<PollAnswer>),
    /// There is no such session any more.
    Unknown,
}

impl Outbox {
    /// Takes frames for one polling answer: at most `limit` bytes, at least one frame.
    pub(super) fn take_for_poll(&self, limit: usize) -> Vec<Frame> {
        self.lock().take_for_poll(limit, self.pressure())
    }

    /// A polling request has come. Most of them need no look of the driver.
    pub(super) fn poll(&self, id: u64) -> Polled {
        let mut queue = self.lock();
        let may_wait = queue.takes_polls
            && queue.poll.is_none()
            && queue.control.is_empty()
            && queue.closed.is_none()
            && !queue.is_attaching();
        if may_wait && !queue.is_empty() {
            let frames = queue.take_for_poll(self.poll_bytes(), self.pressure());
            drop(queue);
            return Polled::Answered(PollAnswer::packets(&frames));
        }
        let (answer, answered) = oneshot::channel();
        let parked = Parked::new(id, answer);
        if may_wait {
            queue.poll = Some(parked);
        } else {
            drop(queue);
            if !self.control(Control::Poll(parked)) {
                return Polled::Unknown;
            }
        }
        Polled::Waiting(answered)
    }

    /// Answers the poll that waits.
    pub(super) fn answer_poll(&self, mut queue: MutexGuard<'_, Queue>) -> usize {
        if queue.closed.is_some() || queue.is_empty() {
            return 0;
        }
        let Some(parked) = queue.poll.take() else {
            return 0;
        };
        let frames = queue.take_for_poll(self.poll_bytes(), self.pressure());
        drop(queue);
        if !parked.answer(&frames) {
            self.control(Control::PollLost);
        }
        frames.iter().map(Frame::len).sum()
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
