//! Pings and pongs of an outbox, sent by the timer wheel or by the driver.

use std::time::Instant;

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    handle::{Outbox, OutboxInner},
    queue::{PingEvent, Queue},
    worker::{Heartbeats, PingTarget, PingTiming},
};
use crate::metrics::Size;

impl PingTarget for Outbox {
    fn begin(&self, at: Instant) {
        self.lock().pings().apply(PingEvent::Register(at));
    }

    fn beat(&self, now: Instant, rhythm: &PingTiming) -> Instant {
        let again = now + rhythm.interval;
        let mut queue = self.lock();
        if let Some(at) = queue.pings().sent_at() {
            if at + rhythm.timeout > now {
                return again.min(at + rhythm.timeout);
            }
            queue.wake_driver();
            return again;
        }
        match queue.pings().due_at() {
            // A pong has postponed the ping since the wheel scheduled this check.
            Some(at) if at > now => return at,
            Some(_) if queue.is_open() => {}
            Some(_) | None => return again,
        }
        queue.pings().apply(PingEvent::Send(now));
        let is_scheduled = self.append_ping(&mut queue, rhythm.ping.clone());
        drop(queue);
        if is_scheduled {
            // The session counts as listed with its flusher. Writing here does the flusher's work
            // and saves a wake for each ping.
            self.flush();
        }
        again.min(now + rhythm.timeout)
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}

impl Outbox {
    /// Returns the timer wheel that sends the pings of this session after the driver has registered
    /// it.
    pub(in crate::engine) fn heartbeats(&self) -> &Heartbeats<Self> {
        self.flusher().heartbeats()
    }

    /// Queues a ping.
    pub(in crate::engine) fn push_ping(&self, frame: Frame) {
        let mut queue = self.lock();
        let is_scheduled = self.append_ping(&mut queue, frame);
        drop(queue);
        if is_scheduled {
            self.enqueue();
        }
    }

    /// Queues a ping; its pong confirms that everything before it was received. Returns whether the
    /// caller must add the outbox to the list of a flusher.
    fn append_ping(&self, queue: &mut Queue<OutboxInner>, frame: Frame) -> bool {
        if let Some(replay) = queue.replay() {
            replay.ping();
        }
        if queue.is_open() {
            self.metrics().size(Size::Queued, queue.total_cost());
        }
        self.append_control(queue, frame)
    }

    /// Records a pong, and that the next ping is due at `next`. Returns when the ping was sent if
    /// the wheel sent it, `None` if the driver did.
    pub(in crate::engine) fn confirm(&self, next: Instant) -> Option<Instant> {
        let mut queue = self.lock();
        if let Some(replay) = queue.replay() {
            replay.pong();
        }
        let sent = queue.pings().sent_at();
        queue.pings().apply(PingEvent::Confirm(next));
        sent
    }

    /// Returns when the wheel sent a ping that is still unanswered.
    pub(in crate::engine) fn pinged_at(&self) -> Option<Instant> {
        self.lock().pings().sent_at()
    }
}
