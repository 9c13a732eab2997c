//! The handle of an outbox: the frames to be sent to one session, and how they are sent.
//!
//! All code except the driver accesses a session through its [`Outbox`]. Its mutex guards the
//! [`Queue`], the sink and the control messages to the driver. It is never held across a system
//! call, and functions called under it must not call back.
//!
//! Lock order:
//!
//! 1. a room,
//! 2. the outbox of a member,
//! 3. the outbox that has taken over a channel from it (see `handover`),
//! 4. the list of the heaviest sessions.
//!
//! The list of a flusher is only locked when no outbox is locked, because flushers lock outboxes.
//! Wakers are called under the lock: a waker only schedules its task.
//!
//! No function here awaits, so none can be cancelled halfway. A request that waits for its poll to
//! be answered, or is still sending a post, holds a guard. The guard notifies the driver when it is
//! dropped.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Waker},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Transport},
};

use super::{
    queue::{
        Queue,
        requests::Control,
        states::{self, Drain, DriverState, Sink, Writer},
    },
    waiting::MemoryBudget,
    worker::Flusher,
};
use crate::{engine::transport::Stream, metrics::Metrics};

pub(super) type Wake = states::Wake<Outbox>;

/// The sending side of a session. Cloning only increments a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<OutboxInner>);

pub(in crate::engine) struct OutboxInner {
    sid: Sid,
    budget: usize,
    flusher: Arc<Flusher<Outbox>>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue<Self>>,
}

/// Maximum number of pending control messages to a driver; each is a request in flight.
const MAX_CONTROL: usize = 64;

impl Outbox {
    pub(in crate::engine) fn new(
        sid: Sid,
        budget: usize,
        sink: Sink,
        flusher: Arc<Flusher<Self>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(OutboxInner {
            sid,
            budget,
            flusher,
            metrics,
            queue: Mutex::new(Queue::new(sink)),
        }))
    }

    pub(crate) fn sid(&self) -> Sid {
        self.0.sid
    }

    /// Returns the current transport of the session.
    pub(crate) fn transport(&self) -> Transport {
        match self.0.queue.lock().sink {
            Sink::WebSocket(_) => Transport::WebSocket,
            Sink::Poll(_) | Sink::Detached => Transport::Polling,
        }
    }

    /// Prefetches the memory that a push needs. The returned value is meaningless.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        Arc::strong_count(&self.0)
            ^ usize::from(self.0.queue.is_locked())
            ^ self.0.budget
            ^ Arc::as_ptr(&self.0.flusher).addr()
    }

    /// Wakes the writer. The caller must hold no lock.
    pub(super) fn call(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Flusher => self.0.flusher.enqueue(self.clone()),
            Wake::FlusherOf(successor) => successor.0.flusher.enqueue(successor.clone()),
        }
    }

    /// Returns whether a volatile event would be sent now.
    #[cfg(test)]
    pub(in crate::engine) fn is_writable(&self) -> bool {
        self.0.queue.lock().is_writable()
    }

    /// Sends a message to the driver. Returns `false` if the session has ended or too many messages
    /// are pending.
    pub(in crate::engine) fn control(&self, control: Control) -> bool {
        let mut queue = self.0.queue.lock();
        // A driver that has ended never reads its messages, so the sender must be notified.
        if matches!(queue.sink, Sink::Detached) {
            return false;
        }
        match control {
            // Requests may be refused, because their clients receive a response. A message that
            // ends something is always accepted: if it were lost, the session would stay open.
            Control::Poll(_) | Control::Post { .. } | Control::Attach { .. }
                if queue.control.len() >= MAX_CONTROL =>
            {
                return false;
            }
            Control::Close(_) if queue.control.iter().any(Control::is_close) => return true,
            Control::Poll(_)
            | Control::PollAborted { .. }
            | Control::PollLost
            | Control::Post { .. }
            | Control::Attach { .. }
            | Control::Close(_)
            | Control::Leave(_)
            | Control::Abort(_) => {}
        }
        queue.control.push_back(control);
        queue.wake_driver();
        true
    }

    /// Makes the driver check its deadlines again.
    pub(crate) fn wake(&self) {
        self.0.queue.lock().wake_driver();
    }

    /// Ends the session after its queue is flushed, within `close_timeout`.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.control(Control::Close(reason));
    }

    /// Closes the session as soon as nothing is in flight for its client, at the latest at `by`.
    pub(in crate::engine) fn leave(&self, by: Instant) {
        self.control(Control::Leave(by));
    }

    /// Ends the session immediately, without sending anything.
    pub(crate) fn abort(&self, reason: CloseReason) {
        self.control(Control::Abort(reason));
    }

    /// Stores the newest pong for the next write.
    pub(in crate::engine) fn pong(&self, frame: Frame) {
        self.0.queue.lock().pong = Some(frame);
    }

    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, Queue<OutboxInner>> {
        self.0.queue.lock()
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Queue<OutboxInner>>> {
        self.0.queue.try_lock()
    }

    /// Returns how many bytes may be queued for this client.
    pub(super) fn budget(&self) -> usize {
        self.0.budget
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// Returns the maximum size of the response to one poll, in bytes.
    pub(super) fn poll_bytes(&self) -> usize {
        self.0.flusher.poll_bytes()
    }

    /// Returns the memory account of slow clients, one of which this may be.
    pub(in crate::engine) fn memory(&self) -> &MemoryBudget {
        self.0.flusher.memory()
    }

    pub(in crate::engine) fn inner(&self) -> &Arc<OutboxInner> {
        &self.0
    }

    /// Returns the flusher that writes this outbox.
    pub(super) fn flusher(&self) -> &Arc<Flusher<Self>> {
        &self.0.flusher
    }

    /// Begins an iteration of the driver. Frames queued during it are written at its end.
    pub(in crate::engine) fn begin_iteration(&self) -> IterationStart {
        self.lock().begin_iteration()
    }

    /// Ends the iteration of the driver, after writing the frames queued during it.
    pub(in crate::engine) fn end_iteration(&self, cx: &Context<'_>, rest: &IterationRemains) {
        loop {
            let end = self.lock().end_iteration(cx.waker(), rest);
            match end {
                IterationEnd::Flush => {
                    self.flush();
                }
                IterationEnd::Again => return cx.waker().wake_by_ref(),
                IterationEnd::Idle => return,
            }
        }
    }

    /// Detaches the driver.
    pub(in crate::engine) fn detach(&self) {
        let left = self.lock().detach(self.memory());
        // The rest is dropped without the lock; requests waiting for a response are then notified.
        drop(left);
    }

    /// Requests a notification of the application when everything queued has been sent. Returns
    /// `false` if nothing is queued.
    pub(crate) fn watch_drain(&self) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.drain == Drain::Unwatched {
            queue.drain = Drain::Watched;
        }
        queue.is_on_its_way()
    }
}

/// The state at the start of a driver's iteration.
pub(in crate::engine) struct IterationStart {
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
    /// The driver has a WebSocket whose writability it can await.
    pub(in crate::engine) has_wire: bool,
    /// The next polling request may wait without the driver.
    pub(in crate::engine) takes_polls: bool,
}

/// What a driver does at the end of its iteration.
pub(super) enum IterationEnd {
    /// Write frames that were queued during this iteration.
    Flush,
    /// Run another iteration, because something has arrived.
    Again,
    Idle,
}

impl<H> Queue<H> {
    pub(super) fn is_running(&self) -> bool {
        matches!(self.turn, DriverState::Running | DriverState::RunAgain)
    }

    /// Wakes the driver, or schedules another iteration after the current one. Waking only
    /// schedules the task, so it is allowed under the lock.
    pub(super) fn wake_driver(&mut self) {
        match self.turn {
            DriverState::Running | DriverState::RunAgain => self.turn = DriverState::RunAgain,
            // If there is no waker, the driver has already been woken.
            DriverState::Idle | DriverState::Polling => {
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Begins an iteration of the driver. From here on, other tasks leave queued frames to it.
    pub(super) fn begin_iteration(&mut self) -> IterationStart {
        self.turn = DriverState::Running;
        let drained = self.drain == Drain::Due;
        if drained {
            self.drain = Drain::Unwatched;
        }
        IterationStart {
            blocked: self.is_blocked(),
            closed: self.life.closed(),
            drained,
            has_control: !self.control.is_empty(),
        }
    }

    /// Ends the iteration of the driver and stores its waker. The check for queued frames and the
    /// store happen under one lock, so that no wake is lost.
    pub(super) fn end_iteration(&mut self, waker: &Waker, rest: &IterationRemains) -> IterationEnd {
        // Frames queued during the iteration woke no task. Frames queued after its last flush would
        // never be written.
        if !rest.is_ending && self.must_flush() {
            return IterationEnd::Flush;
        }
        let is_live = !rest.is_ending
            && (!self.life.is_open()
                || (rest.has_polls && !self.is_attaching())
                || rest.has_posts
                || self.drain == Drain::Due
                || (rest.has_wire && self.writer == Writer::Blocked { is_awaited: false }));
        let again = self.turn == DriverState::RunAgain || !self.control.is_empty() || is_live;
        self.turn = if rest.takes_polls {
            DriverState::Polling
        } else {
            DriverState::Idle
        };
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

    /// Detaches the driver: nothing more is sent. The returned rest must be dropped without the
    /// lock.
    pub(in crate::engine) fn detach(&mut self, memory: &MemoryBudget) -> impl Sized + use<H> {
        self.seal(CloseReason::TransportError);
        self.clear(memory);
        let sink = std::mem::replace(&mut self.sink, Sink::Detached);
        (std::mem::take(&mut self.control), sink, self.waker.take())
    }
}

/// A WebSocket that is being attached; the client may already have received its `101`. Polls that
/// arrive now wait, because the client sent them after the upgrade request.
#[derive(Debug)]
pub(in crate::engine) struct Attaching(Outbox);

impl Attaching {
    pub(in crate::engine) fn new(outbox: Outbox) -> Self {
        outbox.0.queue.lock().attaching += 1;
        Self(outbox)
    }

    /// Passes the WebSocket to the driver. Returns `false` if the session has ended.
    pub(in crate::engine) fn attach(self, stream: Stream, unread: Bytes) -> bool {
        // `attaching` is decremented when `self` is dropped, after the message is sent, so no poll
        // is answered before the WebSocket is seen.
        self.0.control(Control::Attach { stream, unread })
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        let mut queue = self.0.0.queue.lock();
        // Polls that waited for this WebSocket continue, and nothing else may ever wake the driver
        // for them.
        queue.attaching -= 1;
        queue.wake_driver();
    }
}

impl From<Arc<OutboxInner>> for Outbox {
    fn from(inner: Arc<OutboxInner>) -> Self {
        Self(inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.0.sid).finish()
    }
}
