//! The pings and pongs of an outbox, whether its driver sends them or the wheel.

use std::time::Instant;

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    handle::{Inner, Outbox, Wake},
    queue::Queue,
    states::Pulse,
    worker::{Beat, Heartbeats, Rhythm},
};
use crate::metrics::Size;

impl Beat for Outbox {
    fn begin(&self, at: Instant) {
        self.lock().pulse = Pulse::Due(at);
    }

    fn beat(&self, now: Instant, rhythm: &Rhythm) -> Instant {
        let again = now + rhythm.interval;
        let mut queue = self.lock();
        match queue.pulse {
            Pulse::Due(at) if at > now => at,
            Pulse::Due(_) if queue.closed().is_none() => {
                queue.pulse = Pulse::Sent(now);
                let wake = self.append_ping(&mut queue, rhythm.ping.clone());
                drop(queue);
                match wake {
                    // As it is at hand, that is done here.
                    Wake::Flusher => {
                        self.flush();
                    }
                    other @ (Wake::Nobody | Wake::FlusherOf(_)) => {
                        self.call(other);
                    }
                }
                again.min(now + rhythm.timeout)
            }
            Pulse::Sent(at) if at + rhythm.timeout <= now => {
                drop(queue);
                self.wake();
                again
            }
            Pulse::Sent(at) => again.min(at + rhythm.timeout),
            Pulse::Due(_) | Pulse::Own => again,
        }
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
    }
}

impl Outbox {
    /// Who sends the pings of this session, once it was asked to.
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
    fn append_ping(&self, queue: &mut Queue<Inner>, frame: Frame) -> Wake {
        if let Some(replay) = &mut queue.replay {
            replay.ping();
        }
        if queue.life.is_open() {
            self.metrics().size(Size::Queued, queue.total_cost());
        }
        self.append_control(queue, frame)
    }

    /// The pong has come, and the next ping is due at this time. When the wheel has sent the ping, if
    /// it was it.
    pub(in crate::engine) fn confirm(&self, next: Instant) -> Option<Instant> {
        let mut queue = self.lock();
        if let Some(replay) = &mut queue.replay {
            replay.pong();
        }
        match queue.pulse {
            Pulse::Sent(at) => {
                queue.pulse = Pulse::Due(next);
                Some(at)
            }
            Pulse::Own | Pulse::Due(_) => None,
        }
    }

    /// When the wheel has sent a ping that was not answered yet.
    pub(in crate::engine) fn pinged_at(&self) -> Option<Instant> {
        match self.lock().pulse {
            Pulse::Sent(at) => Some(at),
            Pulse::Own | Pulse::Due(_) => None,
        }
    }
}
