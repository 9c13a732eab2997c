//! Iterations of the driver, and the messages to it.

use std::{collections::VecDeque, task::Waker};

use roomcast_protocol::engine::{CloseReason, Transport};

use super::{
    Queue,
    requests::Control,
    states::{DrainEvent, DriverEvent},
};
use crate::engine::{outbox::waiting::MemoryBudget, transport::Stream};

/// Maximum number of pending control messages to a driver; each is a request in flight.
const MAX_CONTROL: usize = 64;

/// The state at the start of a driver's iteration.
pub(in crate::engine) struct IterationStart {
    /// The stream of the session, if it has a WebSocket.
    pub(in crate::engine) stream: Option<Stream>,
    pub(in crate::engine) blocked: bool,
    pub(in crate::engine) closed: Option<CloseReason>,
    /// Everything queued has been sent, and this is being watched.
    pub(in crate::engine) drained: bool,
    /// There are control messages.
    pub(in crate::engine) has_control: bool,
}

/// The driver's state at the end of its iteration.
#[derive(Debug, Default)]
pub(in crate::engine) struct IterationRemains {
    /// The session has ended, but its transport is still open.
    pub(in crate::engine) is_ending: bool,
    /// The driver has polling requests that wait for a WebSocket being attached.
    pub(in crate::engine) has_polls: bool,
    /// The driver has payloads that it may continue to read.
    pub(in crate::engine) has_posts: bool,
    /// The next polling request may wait without the driver, if the session polls.
    pub(in crate::engine) takes_polls: bool,
}

/// What a driver does at the end of its iteration.
pub(in crate::engine::outbox) enum IterationEnd {
    /// Write frames that were queued during this iteration.
    Flush,
    /// Run another iteration, because something has arrived.
    Again,
    Idle,
}

impl<H> Queue<H> {
    /// Returns the messages to the driver.
    #[cfg(test)]
    pub(in crate::engine) fn control(&self) -> &VecDeque<Control> {
        &self.control
    }

    /// Takes out the messages to the driver.
    pub(in crate::engine) fn take_control(&mut self) -> VecDeque<Control> {
        std::mem::take(&mut self.control)
    }

    /// Queues a message to the driver and wakes it. Returns `false` if no driver would read the
    /// message, or too many messages are pending.
    pub(in crate::engine::outbox) fn push_control(&mut self, control: Control) -> bool {
        // A driver that has ended never reads its messages, so the sender must be notified.
        if self.sink.is_detached() {
            return false;
        }
        match control {
            // Requests may be refused, because their clients receive a response. A message that
            // ends something is always accepted: if it were lost, the session would stay open.
            Control::Poll(_) | Control::Post { .. } | Control::Attach { .. }
                if self.control.len() >= MAX_CONTROL =>
            {
                return false;
            }
            Control::Close(_) if self.control.iter().any(Control::is_close) => return true,
            Control::Poll(_)
            | Control::PollAborted { .. }
            | Control::PollLost
            | Control::Post { .. }
            | Control::Attach { .. }
            | Control::Close(_)
            | Control::Leave(_)
            | Control::Abort(_) => {}
        }
        self.control.push_back(control);
        self.wake_driver();
        true
    }

    /// Wakes the driver, or schedules another iteration after the current one. Waking only
    /// schedules the task, so it is allowed under the lock.
    pub(in crate::engine::outbox) fn wake_driver(&mut self) {
        self.driver.apply(DriverEvent::Wake);
        // If there is no waker, the driver has already been woken.
        if !self.driver.is_running()
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }

    /// Begins an iteration of the driver. From here on, other tasks leave queued frames to it.
    pub(in crate::engine::outbox) fn begin_iteration(&mut self) -> IterationStart {
        self.driver.apply(DriverEvent::Begin);
        IterationStart {
            stream: self.stream(),
            blocked: self.is_blocked(),
            closed: self.life.closed(),
            drained: self.drain.apply(DrainEvent::Notify),
            has_control: !self.control.is_empty(),
        }
    }

    /// Ends the iteration of the driver and stores its waker. The check for queued frames and the
    /// store happen under one lock, so that no wake is lost.
    pub(in crate::engine::outbox) fn end_iteration(
        &mut self,
        waker: &Waker,
        rest: &IterationRemains,
    ) -> IterationEnd {
        // Frames queued during the iteration woke no task. Frames queued after its last flush would
        // never be written.
        if !rest.is_ending && self.must_flush() {
            return IterationEnd::Flush;
        }
        let is_live = !rest.is_ending
            && (!self.life.is_open()
                || (rest.has_polls && !self.is_attaching())
                || rest.has_posts
                || self.drain.is_due()
                || (self.writer.is_unattended() && self.transport() == Transport::WebSocket));
        let takes_polls = rest.takes_polls && self.transport() == Transport::Polling;
        let again = self.driver.runs_again() || !self.control.is_empty() || is_live;
        self.driver.apply(DriverEvent::End { takes_polls });
        // A waker for the same task is kept, which saves two reference count updates per iteration.
        match &self.waker {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => self.waker = Some(waker.clone()),
        }
        if again {
            IterationEnd::Again
        } else {
            IterationEnd::Idle
        }
    }

    /// Requests a notification of the application when everything queued has been sent. Returns
    /// `false` if nothing is queued.
    pub(in crate::engine::outbox) fn watch_drain(&mut self) -> bool {
        self.drain.apply(DrainEvent::Watch);
        self.is_on_its_way()
    }

    /// Detaches the driver: nothing more is sent. Returns the stream, and a rest that must be
    /// dropped without the lock.
    pub(in crate::engine::outbox) fn detach(
        &mut self,
        memory: &MemoryBudget,
    ) -> (Option<Stream>, impl Sized + use<H>) {
        self.seal(CloseReason::TransportError);
        self.clear(memory);
        let (stream, poll) = self.sink.end();
        (stream, (self.take_control(), poll, self.waker.take()))
    }
}
