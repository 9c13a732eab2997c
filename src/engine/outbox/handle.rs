//! What waits to be sent to one session, and how it leaves.
//!
//! An [`Outbox`] is the handle of a session that everybody but its driver holds. Its
//! mutex guards the [`Queue`], the sink and the control messages to the driver; it is never
//! held across a system call and nothing called under it may call back.
//!
//! What does not fit into the budget of the session, or of all sessions together, is dropped if it
//! may be lost. Else the session ends: a hole in what must arrive is never passed over.

use std::{
    fmt, io,
    sync::{Arc, Weak},
    task::Waker,
};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Transport},
};

use super::{
    control::Control,
    queue::{Budget, Drain, Queue, Sink},
    waiting::{Class, Kept, Pressure, Recent, Shed, Yielding},
    worker::{Flush, Flusher},
};
use crate::{
    engine::transport::Stream,
    metrics::{Counter, Metrics},
};

/// The sending side of a session. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Inner>);

pub(in crate::engine) struct Inner {
    sid: Sid,
    budget: usize,
    flusher: Arc<Flusher<Outbox>>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
}

/// What may happen to a frame that cannot leave at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It waits, within the budget of the session.
    Reliable,
    /// It is dropped unless it can leave at once.
    Volatile,
    /// For a slow client, or until a poll comes, it waits where an older one of its stream gives
    /// way to it.
    Lossy {
        /// Which frames give way to one another.
        stream: u64,
        /// In which way.
        yielding: Yielding,
    },
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Push {
    /// It waits to be written.
    Queued,
    /// It may be lost and the client was too slow.
    Dropped,
    /// It did not fit into the budget; the session is being closed.
    Overflow,
    /// The session is closed.
    Closed,
}

/// Batches written for one session before others get their turn.
const MAX_BATCHES: usize = 4;
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
            Sink::Poll | Sink::Detached => Transport::Polling,
        }
    }

    /// Queues a frame for this session alone.
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        let mut queue = self.0.queue.lock();
        let (push, wake) = self.append(&mut queue, frame, mode);
        drop(queue);
        self.call(wake);
        push
    }

    /// Fetches the memory that a push needs. The value means nothing.
    #[inline]
    pub(crate) fn touch(&self) -> usize {
        Arc::strong_count(&self.0)
            ^ usize::from(self.0.queue.is_locked())
            ^ self.0.budget
            ^ Arc::as_ptr(&self.0.flusher).addr()
    }

    /// Queues a frame of the protocol itself, which no budget and no policy holds back.
    pub(in crate::engine) fn push_control(&self, frame: Frame) {
        let mut queue = self.0.queue.lock();
        if queue.closed.is_none() {
            queue.push(frame, self.pressure());
            let wake = queue.schedule();
            drop(queue);
            self.call(wake);
        }
    }

    /// Wakes whoever writes, without any lock held.
    pub(super) fn call(&self, wake: Wake) {
        match wake {
            Wake::Nobody => {}
            Wake::Flusher => self.0.flusher.enqueue(self.clone()),
            Wake::FlusherOf(heir) => heir.0.flusher.enqueue(heir.clone()),
            Wake::Driver(waker) => waker.wake(),
        }
    }

    pub(super) fn append(&self, queue: &mut Queue, frame: &Frame, mode: Mode) -> (Push, Wake) {
        if let Some(recent) = &mut queue.recent {
            match recent.keep(frame) {
                Kept::Here => {}
                Kept::Grown(bytes) => self.weigh_recent(recent, bytes),
                Kept::Elsewhere(heir) => {
                    let append = |heir| Self::append_for(heir, frame, mode);
                    return (Push::Closed, heir.upgrade().map_or(Wake::Nobody, append));
                }
            }
        }
        self.append_kept(queue, frame, mode)
    }

    /// Queues a frame that another outbox has passed on, which is not passed on any further.
    pub(super) fn append_own(&self, queue: &mut Queue, frame: &Frame, mode: Mode) -> (Push, Wake) {
        if let Some(recent) = &mut queue.recent
            && let Kept::Grown(bytes) = recent.keep(frame)
        {
            self.weigh_recent(recent, bytes);
        }
        self.append_kept(queue, frame, mode)
    }

    fn append_kept(&self, queue: &mut Queue, frame: &Frame, mode: Mode) -> (Push, Wake) {
        if queue.closed.is_some() {
            return (Push::Closed, Wake::Nobody);
        }
        match mode {
            Mode::Reliable => {}
            Mode::Volatile => {
                if !queue.is_writable() {
                    return self.drop_volatile();
                }
            }
            Mode::Lossy { stream, yielding } => {
                if queue.holds_lossy() {
                    return self.keep_lossy(queue, frame, stream, yielding);
                }
            }
        }
        let is_backed_up = queue.is_backed_up();
        if is_backed_up && self.pressure().is_exhausted() {
            return self.overfill(queue, frame, mode, Budget::Total);
        }
        if queue.bytes > 0 && queue.total_cost() + frame.len() > self.0.budget {
            return self.overfill(queue, frame, mode, Budget::Connection);
        }
        queue.push(frame.clone(), self.pressure());
        if is_backed_up {
            queue.begin_holding(self.pressure());
            if queue.is_slow() {
                self.weigh(queue);
            }
        }
        (Push::Queued, queue.schedule())
    }

    #[cold]
    fn drop_volatile(&self) -> (Push, Wake) {
        self.0.metrics.count(Counter::VolatileDropped);
        (Push::Dropped, Wake::Nobody)
    }

    /// Lets a frame wait where it can give way, or others give way to it.
    #[cold]
    fn keep_lossy(
        &self,
        queue: &mut Queue,
        frame: &Frame,
        stream: u64,
        yielding: Yielding,
    ) -> (Push, Wake) {
        let counter = match yielding {
            Yielding::Newest => Counter::FramesConflated,
            Yielding::Last(_) => Counter::OldestDropped,
        };
        if self.pressure().is_exhausted() {
            self.0.metrics.count(counter);
            return (Push::Dropped, Wake::Nobody);
        }
        let (budget, pressure) = (self.0.budget, self.pressure());
        let (gone, kept) = queue.keep_lossy(stream, yielding, frame, budget, pressure);
        self.0.metrics.add(counter, gone);
        self.weigh(queue);
        if kept {
            (Push::Queued, queue.schedule())
        } else {
            (Push::Dropped, Wake::Nobody)
        }
    }

    /// A frame does not fit. What may be lost is; else the session is over.
    #[cold]
    fn overfill(
        &self,
        queue: &mut Queue,
        frame: &Frame,
        mode: Mode,
        budget: Budget,
    ) -> (Push, Wake) {
        match mode {
            Mode::Volatile => return self.drop_volatile(),
            Mode::Lossy { stream, yielding } => {
                return self.keep_lossy(queue, frame, stream, yielding);
            }
            Mode::Reliable => {}
        }
        if budget == Budget::Connection && queue.lossy.is_some() {
            let gone = queue.drop_lossy(self.pressure());
            self.0.metrics.add(Counter::OldestDropped, gone);
            return self.append_kept(queue, frame, mode);
        }
        (Push::Overflow, queue.cut(budget, self.pressure()))
    }

    /// Files what waits for a client that does not keep up.
    #[cold]
    fn weigh(&self, queue: &mut Queue) {
        let waiting = queue.backlog();
        let heaviest = self.pressure().waiting();
        heaviest.file(&mut queue.filed, waiting, || self.weak());
    }

    /// Files what is kept for a client, and calls for whoever keeps most if that is too much.
    #[cold]
    fn weigh_recent(&self, recent: &mut Recent<Inner>, bytes: usize) {
        let heaviest = self.pressure().recent();
        heaviest.file(&mut recent.filed, bytes, || self.weak());
        if let Some(max) = recent.exceeded() {
            self.pressure().recall(max);
        }
    }

    fn weak(&self) -> Weak<dyn Shed> {
        let inner: Weak<Inner> = Arc::downgrade(&self.0);
        inner
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
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Lets the driver look at its deadlines again.
    pub(crate) fn wake(&self) {
        let mut queue = self.0.queue.lock();
        // For a driver that is in its turn and has left no waker yet.
        queue.woken = true;
        let waker = queue.waker.take();
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
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

    pub(in crate::engine) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock()
    }

    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Queue>> {
        self.0.queue.try_lock()
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

    pub(in crate::engine) fn begin_turn(&self) -> TurnState {
        let mut queue = self.0.queue.lock();
        queue.in_turn = true;
        queue.takes_polls = false;
        let drained = queue.is_drain_due();
        if drained {
            queue.drain = Drain::Unwatched;
        }
        TurnState {
            blocked: queue.blocked,
            closed: queue.closed,
            drained,
            has_control: !queue.control.is_empty(),
        }
    }

    /// Writes what is queued, in as few calls as the sink allows. At most one caller at
    /// a time writes; another's frames are taken along by it. Returns how many bytes of frames have
    /// left.
    pub(in crate::engine) fn flush(&self) -> usize {
        let mut left = 0;
        let mut queue = self.0.queue.lock();
        queue.listed = false;
        for _ in 0..MAX_BATCHES {
            if !queue.blocked && !queue.flushing && queue.frames.is_empty() {
                // What came while the client was slow.
                queue.settle_lossy(self.pressure());
            }
            if queue.flushing || queue.blocked || !queue.has_unsent() {
                return left;
            }
            let Sink::WebSocket(stream) = &queue.sink else {
                return self.answer_poll(queue);
            };
            let stream = stream.clone();
            let mut batch = queue.take_batch(self.pressure());
            drop(queue);

            let outcome = batch.write(&stream, &self.0.metrics, self.pressure());
            left += batch.written;

            queue = self.0.queue.lock();
            queue.put_back(batch, self.pressure());
            match outcome {
                Ok(()) if stream.is_flushed() => {
                    queue.note_drained();
                    queue.note_caught_up(&self.0.metrics);
                }
                // Taken, but not on its way: the driver pushes.
                Ok(()) => {
                    queue.block(self.pressure());
                    self.weigh(&mut queue);
                    Wake::driver(queue.waker.take()).call();
                    return left;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.block(self.pressure());
                    self.weigh(&mut queue);
                    Wake::driver(queue.waker.take()).call();
                    return left;
                }
                Err(_) => {
                    queue.closed.get_or_insert(CloseReason::TransportClose);
                    queue.clear(self.pressure());
                    Wake::driver(queue.waker.take()).call();
                    return left;
                }
            }
        }
        // Somebody pushes as fast as this writes: others should have their turn first.
        if queue.has_unsent() && !queue.listed {
            queue.listed = true;
            drop(queue);
            self.0.flusher.enqueue(self.clone());
        }
        left
    }

    /// What the driver learned by asking whether the kernel takes bytes.
    pub(in crate::engine) fn set_writable(&self, writable: bool) {
        let mut queue = self.0.queue.lock();
        queue.blocked = !writable;
        queue.awaited = !writable;
        if writable {
            // What a stream had buffered is on its way, too.
            queue.note_drained();
            queue.note_caught_up(&self.0.metrics);
        }
    }

    /// The application is told when everything queued has left for the next time. `false`: it has
    /// left already.
    pub(crate) fn watch_drain(&self) -> bool {
        let mut queue = self.0.queue.lock();
        if queue.drain == Drain::Unwatched {
            queue.drain = Drain::Watched;
        }
        queue.has_unsent() || queue.flushing || queue.blocked
    }
}

impl Shed for Inner {
    fn shed_waiting(self: Arc<Self>, class: Class) {
        let outbox = Outbox(self);
        let mut queue = outbox.lock();
        outbox.weigh(&mut queue);
        if queue
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            let wake = queue.cut(Budget::Total, outbox.pressure());
            drop(queue);
            outbox.call(wake);
        }
    }

    fn shed_recent(self: Arc<Self>, class: Class) {
        let outbox = Outbox(self);
        let mut queue = outbox.lock();
        let Some(recent) = &mut queue.recent else {
            return;
        };
        let bytes = recent.bytes();
        outbox.weigh_recent(recent, bytes);
        if recent
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            recent.clear();
        }
    }
}

impl Flush for Outbox {
    fn flush(&self) -> usize {
        // The method of the same name.
        Self::flush(self)
    }

    fn give_up(&self) {
        self.abort(CloseReason::TransportError);
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
        Wake::driver(queue.waker.take()).call();
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

pub(super) enum Wake {
    Nobody,
    Flusher,
    /// The flusher of another outbox, to which the frame was passed on.
    FlusherOf(Outbox),
    Driver(Waker),
}

impl Wake {
    pub(super) fn driver(waker: Option<Waker>) -> Self {
        waker.map_or(Self::Nobody, Self::Driver)
    }

    /// Both of two wakes for one outbox are as good as either.
    pub(super) fn or(self, other: Self) -> Self {
        match self {
            Self::Nobody => other,
            wake @ (Self::Flusher | Self::FlusherOf(_) | Self::Driver(_)) => wake,
        }
    }

    /// Wakes a driver. Waking only schedules, so it may be done under the lock.
    pub(super) fn call(self) {
        if let Self::Driver(waker) = self {
            waker.wake();
        }
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
