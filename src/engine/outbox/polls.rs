//! How polling requests are answered: by whoever has packets for them, without the driver.

use parking_lot::MutexGuard;
use roomcast_protocol::Frame;
use tokio::sync::oneshot;

use super::{
    handle::{Inner, Outbox},
    queue::Queue,
    requests::{Control, Parked, PollAnswer},
};

/// What becomes of a polling request.
pub(in crate::engine) enum Polled {
    /// There were packets.
    Answered(PollAnswer),
    /// It is answered later.
    Waiting(oneshot::Receiver<PollAnswer>),
    /// There is no such session any more.
    Unknown,
}

impl Outbox {
    /// Takes frames for one polling answer: at most `limit` bytes, at least one frame.
    pub(in crate::engine) fn take_for_poll(&self, limit: usize) -> Vec<Frame> {
        self.lock().take_for_poll(limit, self.pressure())
    }

    /// A polling request has come. Most of them need no look of the driver.
    pub(in crate::engine) fn poll(&self, id: u64) -> Polled {
        let mut queue = self.lock();
        let may_wait = queue.takes_polls();
        if may_wait && !queue.is_empty() {
            let frames = queue.take_for_poll(self.poll_bytes(), self.pressure());
            drop(queue);
            return Polled::Answered(PollAnswer::packets(&frames));
        }
        let (answer, answered) = oneshot::channel();
        let parked = Parked::new(id, answer);
        if may_wait {
            queue.park_poll(parked);
        } else {
            drop(queue);
            if !self.control(Control::Poll(parked)) {
                return Polled::Unknown;
            }
        }
        Polled::Waiting(answered)
    }

    /// Answers the poll that waits.
    pub(super) fn answer_poll(&self, mut queue: MutexGuard<'_, Queue<Inner>>) -> usize {
        if queue.closed().is_some() || queue.is_empty() {
            return 0;
        }
        let Some(parked) = queue.take_poll() else {
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
