//! What waits to be sent to one session, and how it leaves.
//!
//! An [`Outbox`] is the handle of a session that everybody but its driver holds. Its
//! mutex guards the [`Queue`], the sink and the control messages to the driver; it is never
//! held across a system call and nothing called under it may call back.
//!
//! The order of locks: a room, then the outbox of a member, then the outbox that has taken a channel
//! over from it (see `handover`), then the list of those for whom most waits. The list of a flusher is
//! locked when no outbox is, because flushers lock outboxes. Wakers are called under the lock: a waker
//! only puts its task into the list of a runtime.
//!
//! Nothing in here waits, so there is no point at which a future could be cancelled half-way: whoever
//! waits for an answer to a poll, or still brings a post, holds a guard that tells the driver when it is
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
    queue::Queue,
    requests::Control,
    states::{self, Drain, Sink, Turn, Writer},
    waiting::MemoryBudget,
    worker::Flusher,
};
use crate::{engine::transport::Stream, metrics::Metrics};

pub(super) type Wake = states::Wake<Outbox>;

/// The sending side of a session. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<OutboxInner>);

pub(in crate::engine) struct OutboxInner {
    sid: Sid,
    budget: usize,
    flusher: Arc<Flusher<Outbox>>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue<Self>>,
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
            Wake::FlusherOf(successor) => successor.0.flusher.enqueue(successor.clone()),
        }
    }

    /// Whether an event would leave now, which is what a volatile one asks.
    #[cfg(test)]
    pub(in crate::engine) fn is_writable(&self) -> bool {
        self.0.queue.lock().is_writable()
    }

    /// Sends a message to the driver. Returns `false` if the session is gone or flooded.
    pub(in crate::engine) fn control(&self, control: Control) -> bool {
        let mut queue = self.0.queue.lock();
        // A driver that has gone never looks at its messages again, so whoever sends one has to be
        // told.
        if matches!(queue.sink, Sink::Detached) {
            return false;
        }
        match control {
            // Requests may be refused, since their clients are told so. A message that ends
            // something is always taken: if it were lost, the session would stay open.
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

    /// Lets the driver look at its deadlines again.
    pub(crate) fn wake(&self) {
        self.0.queue.lock().wake_driver();
    }

    /// Ends the session: what is queued is flushed first, within `close_timeout`.
    pub(crate) fn close(&self, reason: CloseReason) {
        self.control(Control::Close(reason));
    }

    /// Closes the session when nothing is under way for its client, and at the latest then.
    pub(in crate::engine) fn leave(&self, by: Instant) {
        self.control(Control::Leave(by));
    }

    /// Cuts the session off: nothing more is sent.
    pub(crate) fn abort(&self, reason: CloseReason) {
        self.control(Control::Abort(reason));
    }

    /// Keeps the newest pong for the next write.
    pub(in crate::engine) fn pong(&self, frame: Frame) {
        self.0.queue.lock().pong = Some(frame);
    }

    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, Queue<OutboxInner>> {
        self.0.queue.lock()
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Queue<OutboxInner>>> {
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
    pub(in crate::engine) fn memory(&self) -> &MemoryBudget {
        self.0.flusher.memory()
    }

    pub(in crate::engine) fn inner(&self) -> &Arc<OutboxInner> {
        &self.0
    }

    /// The flusher that writes what is queued in this outbox.
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
                TurnEnd::Idle => return,
            }
        }
    }

    /// The driver goes away.
    pub(in crate::engine) fn detach(&self) {
        let left = self.lock().detach(self.memory());
        // The rest is dropped without the lock: what waited for answers is told that there is none.
        drop(left);
    }

    /// Asks that the application be told when everything queued has left. Returns `false` if
    /// nothing is queued.
    pub(crate) fn watch_drain(&self) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.drain == Drain::Unwatched {
            queue.drain = Drain::Watched;
        }
        queue.is_on_its_way()
    }
}

/// What a driver's turn starts from.
pub(in crate::engine) struct TurnState {
    pub(in crate::engine) blocked: bool,
    pub(in crate::engine) closed: Option<CloseReason>,
    /// Everything that was queued has left, and somebody wants to know.
    pub(in crate::engine) drained: bool,
    /// There are messages to the driver.
    pub(in crate::engine) has_control: bool,
}

/// What a driver still has to do when its turn ends.
#[derive(Debug, Default)]
pub(in crate::engine) struct Rest {
    /// The session is over but for its transport.
    pub(in crate::engine) is_ending: bool,
    /// The driver has polling requests that wait for a WebSocket on its way.
    pub(in crate::engine) has_polls: bool,
    /// The driver has payloads that it may go on reading.
    pub(in crate::engine) has_posts: bool,
    /// The driver has a WebSocket, which it can ask for room.
    pub(in crate::engine) has_wire: bool,
    /// The next polling request may wait without it.
    pub(in crate::engine) takes_polls: bool,
}

/// What becomes of a driver whose turn was to end.
pub(super) enum TurnEnd {
    /// Others have left frames to this turn.
    Flush,
    /// Something has come in meanwhile.
    Again,
    Idle,
}

impl<H> Queue<H> {
    pub(super) fn is_in_turn(&self) -> bool {
        matches!(self.turn, Turn::Running | Turn::Recalled)
    }

    /// Wakes the driver, or lets it have another turn after the one it has. Waking only schedules, so
    /// it may be done under the lock.
    pub(super) fn wake_driver(&mut self) {
        match self.turn {
            Turn::Running | Turn::Recalled => self.turn = Turn::Recalled,
            // Where there is no waker any more, somebody else has woken it already.
            Turn::Idle | Turn::Polling => {
                if let Some(waker) = self.waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// The driver has its turn. Others leave to it from here on what they queue.
    pub(super) fn begin_turn(&mut self) -> TurnState {
        self.turn = Turn::Running;
        let drained = self.drain == Drain::Due;
        if drained {
            self.drain = Drain::Unwatched;
        }
        TurnState {
            blocked: self.is_blocked(),
            closed: self.life.closed(),
            drained,
            has_control: !self.control.is_empty(),
        }
    }

    /// The turn of the driver ends, and its waker is left where others find it. Nothing comes between
    /// that and the look at what others have left to it, so that no wake is lost.
    pub(super) fn end_turn(&mut self, waker: &Waker, rest: &Rest) -> TurnEnd {
        // While the driver had its turn, whoever queued a frame woke nobody. What came after its last
        // flush would lie here for ever.
        if !rest.is_ending && self.must_flush() {
            return TurnEnd::Flush;
        }
        let is_live = !rest.is_ending
            && (!self.life.is_open()
                || (rest.has_polls && !self.is_attaching())
                || rest.has_posts
                || self.drain == Drain::Due
                || (rest.has_wire && self.writer == Writer::Blocked { is_awaited: false }));
        let again = self.turn == Turn::Recalled || !self.control.is_empty() || is_live;
        self.turn = if rest.takes_polls {
            Turn::Polling
        } else {
            Turn::Idle
        };
        // A waker that would wake the same task is kept, which saves two reference counts for each turn.
        match &self.waker {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => self.waker = Some(waker.clone()),
        }
        if again { TurnEnd::Again } else { TurnEnd::Idle }
    }

    /// The driver goes away: nothing leaves any more, and nobody is waited for. What it leaves behind is
    /// to be dropped without the lock.
    pub(in crate::engine) fn detach(&mut self, memory: &MemoryBudget) -> impl Sized + use<H> {
        self.seal(CloseReason::TransportError);
        self.clear(memory);
        let sink = std::mem::replace(&mut self.sink, Sink::Detached);
        (std::mem::take(&mut self.control), sink, self.waker.take())
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

    /// Hands the WebSocket over. Returns `false` if the session is gone.
    pub(in crate::engine) fn attach(self, stream: Stream, unread: Bytes) -> bool {
        // The count of `attaching` falls when `self` is dropped, behind the message: no poll is
        // answered before the WebSocket is seen.
        self.0.control(Control::Attach { stream, unread })
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        let mut queue = self.0.0.queue.lock();
        // The polls that have waited for this WebSocket go on, and nothing else may ever wake the
        // driver for them.
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
