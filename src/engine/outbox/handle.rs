//! What waits to be sent to one session, and how it leaves.
//!
//! An [`Outbox`] is the handle of a session that everybody but its driver holds. Its
//! mutex guards the [`Queue`], the sink and the control messages to the driver; it is never
//! held across a system call and nothing called under it may call back.

use std::{fmt, sync::Arc, task::Context};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Transport},
};

use super::{
    queue::{Queue, Rest, TurnEnd, TurnState},
    requests::Control,
    states::{self, Drain, Sink},
    waiting::Pressure,
    worker::Flusher,
};
use crate::{engine::transport::Stream, metrics::Metrics};

pub(super) type Wake = states::Wake<Outbox>;

/// The sending side of a session. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Inner>);

pub(in crate::engine) struct Inner {
    sid: Sid,
    budget: usize,
    flusher: Arc<Flusher<Outbox>>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue<Inner>>,
}

/// Control messages that may wait for a driver; each is a request in flight.
const MAX_CONTROL: usize = 64;

impl Outbox {
    pub(in crate::engine) fn new(
        sid: Sid,
        budget: usize,
        sink: Sink,
        flusher: Arc<Flusher<Self>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
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

    /// The transport that carries the session now.
    pub(crate) fn transport(&self) -> Transport {
        match self.0.queue.lock().sink {
            Sink::WebSocket(_) => Transport::WebSocket,
            Sink::Poll(_) | Sink::Detached => Transport::Polling,
        }
    }

    /// Fetches the memory that a push needs. The value means nothing.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        Arc::strong_count(&self.0)
            ^ usize::from(self.0.queue.is_locked())
            ^ self.0.budget
            ^ Arc::as_ptr(&self.0.flusher).addr()
    }

    /// Wakes whoever writes, without any lock held.
    pub(super) fn call(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Flusher => self.0.flusher.enqueue(self.clone()),
            Wake::FlusherOf(heir) => heir.0.flusher.enqueue(heir.clone()),
        }
    }

    /// Whether an event would leave now, which is what a volatile one asks.
    #[cfg(test)]
    pub(in crate::engine) fn is_writable(&self) -> bool {
        self.0.queue.lock().is_writable()
    }

    /// Sends a message to the driver. `false`: the session is gone or flooded.
    pub(in crate::engine) fn control(&self, control: Control) -> bool {
        let mut queue = self.0.queue.lock();
        if matches!(queue.sink, Sink::Detached) {
            return false;
        }
        match control {
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
            | Control::Abort(_) => {}
        }
        queue.control.push_back(control);
        queue.wake_driver();
        true
    }

    /// Lets the driver look at its deadlines again.
    pub(crate) fn wake(&self) {
        self.0.queue.lock().wake_driver();
    }

    /// Ends the session: what is queued is flushed first, within `close_timeout`.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.control(Control::Close(reason));
    }

    /// Cuts the session off: nothing more is sent.
    pub(crate) fn abort(&self, reason: CloseReason) {
        self.control(Control::Abort(reason));
    }

    /// Keeps the newest pong for the next write.
    pub(in crate::engine) fn pong(&self, frame: Frame) {
        self.0.queue.lock().pong = Some(frame);
    }

    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, Queue<Inner>> {
        self.0.queue.lock()
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Queue<Inner>>> {
        self.0.queue.try_lock()
    }

    /// How many bytes may wait for this client.
    pub(super) fn budget(&self) -> usize {
        self.0.budget
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// How many bytes the answer to one poll may have.
    pub(super) fn poll_bytes(&self) -> usize {
        self.0.flusher.poll_bytes()
    }

    /// What waits for slow clients, of whom this may be one.
    pub(in crate::engine) fn pressure(&self) -> &Pressure {
        self.0.flusher.pressure()
    }

    pub(in crate::engine) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Who writes what is queued here.
    pub(super) fn flusher(&self) -> &Arc<Flusher<Self>> {
        &self.0.flusher
    }

    /// The driver has its turn, and writes at the end of it what others queue meanwhile.
    pub(in crate::engine) fn begin_turn(&self) -> TurnState {
        self.lock().begin_turn()
    }

    /// The turn of the driver ends, when everything has been written that others have left to it.
    pub(in crate::engine) fn end_turn(&self, cx: &Context<'_>, rest: &Rest) {
        loop {
            let end = self.lock().end_turn(cx.waker(), rest);
            match end {
                TurnEnd::Flush => {
                    self.flush();
                }
                TurnEnd::Again => return cx.waker().wake_by_ref(),
                TurnEnd::Parked => return,
            }
        }
    }

    /// The driver goes away.
    pub(in crate::engine) fn detach(&self) {
        let left = self.lock().detach(self.pressure());
        // Without the lock: what waited for answers is told that there is none.
        drop(left);
    }

    /// The application is told when everything queued has left for the next time. `false`: it has
    /// left already.
    pub(crate) fn watch_drain(&self) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.drain == Drain::Unwatched {
            queue.drain = Drain::Watched;
        }
        queue.is_on_its_way()
    }
}

/// A WebSocket is on its way: its `101` may be with the client already. Polls that come in
/// meanwhile wait, because they were sent after it.
#[derive(Debug)]
pub(in crate::engine) struct Attaching(Outbox);

impl Attaching {
    pub(in crate::engine) fn new(outbox: Outbox) -> Self {
        outbox.0.queue.lock().attaching += 1;
        Self(outbox)
    }

    /// Hands the WebSocket over. `false`: the session is gone.
    pub(in crate::engine) fn attach(self, stream: Stream, unread: Bytes) -> bool {
        self.0.control(Control::Attach { stream, unread })
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        let mut queue = self.0.0.queue.lock();
        queue.attaching -= 1;
        queue.wake_driver();
    }
}

impl From<Arc<Inner>> for Outbox {
    fn from(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

impl fmt::Debug for Outbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.0.sid).finish()
    }
}
