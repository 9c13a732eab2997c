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

use std::{fmt, sync::Arc, task::Context, time::Instant};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::{
    Sid,
    engine::{CloseReason, Revision, Transport},
    websocket::CloseCode,
};

use super::{
    queue::{IterationEnd, IterationRemains, IterationStart, Queue, Sink, requests::Control},
    waiting::MemoryBudget,
    worker::Flusher,
};
use crate::{
    engine::transport::{OpenConnection, Stream, close_unused},
    metrics::Metrics,
};

/// The sending side of a session. Cloning only increments a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<OutboxInner>);

pub(in crate::engine) struct OutboxInner {
    sid: Sid,
    revision: Revision,
    budget: usize,
    flusher: Arc<Flusher<Outbox>>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue<Self>>,
}

impl Outbox {
    pub(in crate::engine) fn new(
        sid: Sid,
        revision: Revision,
        budget: usize,
        sink: Sink,
        flusher: Arc<Flusher<Self>>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(OutboxInner {
            sid,
            revision,
            budget,
            flusher,
            metrics,
            queue: Mutex::new(Queue::new(sink)),
        }))
    }

    pub(crate) fn sid(&self) -> Sid {
        self.0.sid
    }

    /// Returns the revision of Engine.IO that the client uses.
    pub(crate) fn revision(&self) -> Revision {
        self.0.revision
    }

    /// Returns the current transport of the session.
    pub(crate) fn transport(&self) -> Transport {
        self.lock().transport()
    }

    /// Returns the bytes that wait to be sent, as they count towards the limit of a client.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().total_cost()
    }

    /// Returns a handle to the stream of the session, if it has a WebSocket.
    pub(in crate::engine) fn stream(&self) -> Option<Stream> {
        self.lock().stream()
    }

    /// Prefetches the memory that a push needs. The returned value is meaningless.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        Arc::strong_count(&self.0)
            ^ usize::from(self.0.queue.is_locked())
            ^ self.0.budget
            ^ Arc::as_ptr(&self.0.flusher).addr()
    }

    /// Adds this outbox to the list of its flusher. The caller must hold no lock.
    pub(super) fn enqueue(&self) {
        self.0.flusher.enqueue(self.clone());
    }

    /// Returns whether a volatile event would be sent now.
    #[cfg(test)]
    pub(in crate::engine) fn is_writable(&self) -> bool {
        self.0.queue.lock().is_writable()
    }

    /// Sends a message to the driver. Returns `false` if the session has ended or too many messages
    /// are pending.
    pub(in crate::engine) fn control(&self, control: Control) -> bool {
        self.lock().push_control(control)
    }

    /// Makes the driver check its deadlines again.
    pub(crate) fn wake(&self) {
        self.lock().wake_driver();
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

    /// Returns whether all sessions are held after a stall of the process.
    pub(crate) fn is_held(&self) -> bool {
        !self.0.flusher.may_write()
    }

    /// Drops all queued frames.
    pub(crate) fn drop_queued(&self) {
        self.lock().drop_unsent(self.memory());
    }

    /// Detaches the driver. Returns the stream of the session, if it has a WebSocket; it is closed
    /// when it is dropped.
    pub(in crate::engine) fn detach(&self) -> Option<Stream> {
        let (stream, left) = self.lock().detach(self.memory());
        // The rest is dropped without the lock; requests waiting for a response are then notified.
        drop(left);
        stream
    }

    /// Requests a notification of the application when everything queued has been sent. Returns
    /// `false` if nothing is queued.
    pub(crate) fn watch_drain(&self) -> bool {
        self.lock().watch_drain()
    }
}

/// A WebSocket that is being attached; the client may already have received its `101`. Polls that
/// arrive now wait, because the client sent them after the upgrade request.
///
/// It is registered before its `101` leaves. The official client may send its probe, its upgrade
/// and a poll on two connections without waiting for responses.
#[derive(Debug)]
pub(in crate::engine) struct Attaching(Outbox);

impl Attaching {
    pub(in crate::engine) fn new(outbox: Outbox) -> Self {
        outbox.lock().begin_attach();
        Self(outbox)
    }

    /// Passes the WebSocket to the driver. Closes it if the session has ended, or its driver has
    /// too many messages to read.
    pub(in crate::engine) fn attach(self, stream: &Stream, unread: Bytes, open: OpenConnection) {
        // `attaching` is decremented when `self` is dropped, after the message is sent, so no poll
        // is answered before the WebSocket is seen.
        let attach = Control::Attach {
            stream: stream.clone(),
            unread,
            open,
        };
        if !self.0.control(attach) {
            close_unused(stream, CloseCode::NORMAL);
        }
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        // Polls that waited for this WebSocket continue, and nothing else may ever wake the driver
        // for them.
        queue.end_attach();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revision_takes_no_memory_of_a_connection() {
        /// The fields of an outbox without the revision.
        #[expect(dead_code, reason = "only its size matters")]
        struct WithoutRevision {
            sid: Sid,
            budget: usize,
            flusher: Arc<Flusher<Outbox>>,
            metrics: Arc<Metrics>,
            queue: Mutex<Queue<OutboxInner>>,
        }
        assert_eq!(size_of::<OutboxInner>(), size_of::<WithoutRevision>());
    }
}
