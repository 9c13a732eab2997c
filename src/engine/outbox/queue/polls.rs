//! The polling request that waits for frames, and the frames that it takes.

use roomcast_protocol::{
    Frame,
    engine::{Revision, v3},
};

use super::{Queue, requests::PendingPoll};
use crate::engine::outbox::waiting::MemoryBudget;

impl<H> Queue<H> {
    /// Takes out frames for one polling response: at most `limit` bytes, at least one frame.
    pub(in crate::engine::outbox) fn take_for_poll(
        &mut self,
        limit: usize,
        revision: Revision,
        memory: &MemoryBudget,
    ) -> Vec<Frame> {
        let mut taken = Vec::new();
        let mut size = 0;
        self.settle_conflated(memory);
        while let Some(frame) = self.frames.front() {
            size += match revision {
                Revision::V4 => frame.polling().len() + 1,
                Revision::V3 | Revision::V3Base64 => v3::max_payload_len(frame, revision),
            };
            // A frame above the limit is sent alone, because it would otherwise wait forever.
            if size > limit && !taken.is_empty() {
                break;
            }
            taken.extend(self.pop(memory));
        }
        self.note_drained();
        taken
    }

    /// Returns whether a polling request is waiting.
    pub(in crate::engine) fn has_poll(&self) -> bool {
        self.sink.waiting_poll().is_some()
    }

    /// Takes out the waiting polling request.
    pub(in crate::engine) fn take_poll(&mut self) -> Option<PendingPoll> {
        self.sink.take_poll()
    }

    /// Takes out the polling request with this id, if it is the waiting one.
    pub(in crate::engine) fn take_poll_of(&mut self, id: u64) -> Option<PendingPoll> {
        self.sink.waiting_poll().filter(|poll| poll.id == id)?;
        self.sink.take_poll()
    }

    /// Lets a polling request wait. If the session does not poll, the request is dropped, and
    /// answered like one for an unknown session.
    pub(in crate::engine) fn store_poll(&mut self, pending: PendingPoll) {
        self.sink.store_poll(pending);
    }

    /// Returns whether a polling request may wait or be answered without the driver.
    pub(in crate::engine::outbox) fn takes_polls(&self) -> bool {
        self.driver.takes_polls()
            && self.sink.is_between_polls()
            && self.control.is_empty()
            && self.life.is_open()
            && !self.is_attaching()
    }
}
