//! The pings and pongs of an outbox, whether its driver sends them or the wheel.

use std::time::Instant;

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    handle::{Outbox, OutboxInner, Wake},
    queue::Queue,
    states::PingState,
    worker::{Beat, Heartbeats, Rhythm},
};
use crate::metrics::Size;

impl Beat for Outbox {
    fn begin(&self, at: Instant) {
        self.lock().ping_state = PingState::Due(at);
    }

    fn beat(&self, now: Instant, rhythm: &Rhythm) -> Instant {
        let again = now + rhythm.interval;
        let mut queue = self.lock();
        match queue.ping_state {
            // A pong has put the ping off since the wheel planned this look.
            PingState::Due(at) if at > now => at,
            PingState::Due(_) if queue.closed().is_none() => {
                queue.ping_state = PingState::Sent(now);
                let wake = self.append_ping(&mut queue, rhythm.ping.clone());
                drop(queue);
                match wake {
                    // The queue counts the session as listed with its flusher. Writing here does
                    // what the flusher would do, and spares a wake for every ping.
                    Wake::Flusher => {
                        self.flush();
                    }
                    other @ (Wake::Nobody | Wake::FlusherOf(_)) => {
                        self.call(other);
                    }
                }
                again.min(now + rhythm.timeout)
            }
            PingState::Sent(at) if at + rhythm.timeout <= now => {
                drop(queue);
                self.wake();
                again
            }
            PingState::Sent(at) => again.min(at + rhythm.timeout),
            PingState::Due(_) | PingState::ByDriver => again,
        }
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}

impl Outbox {
    /// The task that sends the pings of this session, once the driver has asked for that.
    pub(in crate::engine) fn heartbeats(&self) -> &Heartbeats<Self> {
        self.flusher().heartbeats()
    }

    /// Queues a ping.
    pub(in crate::engine) fn push_ping(&self, frame: Frame) {
        let mut queue = self.lock();
        let wake = self.append_ping(&mut queue, frame);
        drop(queue);
        self.call(wake);
    }

    /// Queues a ping; its pong proves that everything before it was received.
    fn append_ping(&self, queue: &mut Queue<OutboxInner>, frame: Frame) -> Wake {
        if let Some(replay) = &mut queue.replay {
            replay.ping();
        }
        if queue.life.is_open() {
            self.metrics().size(Size::Queued, queue.total_cost());
        }
        self.append_control(queue, frame)
    }

    /// Notes that the pong has come and that the next ping is due at this time. Returns when the
    /// ping was sent, if the wheel has sent it and not the driver.
    pub(in crate::engine) fn confirm(&self, next: Instant) -> Option<Instant> {
        let mut queue = self.lock();
        if let Some(replay) = &mut queue.replay {
            replay.pong();
        }
        match queue.ping_state {
            PingState::Sent(at) => {
                queue.ping_state = PingState::Due(next);
                Some(at)
            }
            PingState::ByDriver | PingState::Due(_) => None,
        }
    }

    /// When the wheel has sent a ping that was not answered yet.
    pub(in crate::engine) fn pinged_at(&self) -> Option<Instant> {
        match self.lock().ping_state {
            PingState::Sent(at) => Some(at),
            PingState::ByDriver | PingState::Due(_) => None,
        }
    }
}
