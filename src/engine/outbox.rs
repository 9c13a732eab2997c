//! What waits to be sent to one session, and how it leaves.
//!
//! An [`Outbox`] is the handle of a session that everybody but its driver holds. Its
//! mutex guards the queue, the sink and the control messages to the driver; it is never
//! held across a system call and nothing called under it may call back.

use std::{collections::VecDeque, fmt, io, sync::Arc, task::Waker, time::Duration};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Transport},
};

use super::{
    control::Control,
    flusher::{Batch, Flusher},
    frames::Frames,
    outgoing::Outgoing,
    recent::Recent,
    stream::Stream,
};
use crate::metrics::{Counter, Metrics};

/// The sending side of a session. Cloning is a reference count.
#[derive(Clone)]
pub(crate) struct Outbox(Arc<Inner>);

pub(super) struct Inner {
    sid: Sid,
    budget: usize,
    flusher: Arc<Flusher>,
    metrics: Arc<Metrics>,
    queue: Mutex<Queue>,
}

/// What is guarded by the mutex of an [`Outbox`].
pub(super) struct Queue {
    frames: Frames,
    /// Bytes of the first frame that have been written: `offset < frames[0].len()`.
    offset: usize,
    /// Bytes of all frames, the first one whole.
    bytes: usize,
    /// The newest WebSocket pong, ready to send. Older ones need no answer (RFC 6455, 5.5.3).
    pong: Option<Frame>,
    /// What waits for a poll or for a slow client and may be replaced, by key.
    latest: Vec<(u64, Frame)>,
    /// Waits in a flusher's list, or (polling) the driver was woken.
    listed: bool,
    /// A batch is out of the queue and being written.
    flushing: bool,
    /// The driver runs and will flush at the end of its turn.
    in_turn: bool,
    /// The kernel took no more.
    blocked: bool,
    /// The driver has asked to be woken when there is room again.
    awaited: bool,
    closed: Option<CloseReason>,
    drain: Drain,
    /// A request brings packets.
    posting: bool,
    /// WebSockets on their way to take the session over; see [`Attaching`].
    attaching: u32,
    /// What may be asked for again; `None` if nothing may.
    pub(super) recent: Option<Box<Recent<Inner>>>,
    pub(super) sink: Sink,
    pub(super) control: VecDeque<Control>,
    pub(super) waker: Option<Waker>,
    /// Somebody wants the driver to have another turn.
    pub(super) woken: bool,
}

/// Whether the application wants to know when everything has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    Unwatched,
    Watched,
    /// It has, and the driver is to tell.
    Due,
}

/// Where frames go.
#[derive(Clone)]
pub(super) enum Sink {
    /// A WebSocket that anyone may flush.
    WebSocket(Stream),
    /// The driver hands frames to a polling request when one waits.
    Poll {
        /// Whether a request waits.
        parked: bool,
    },
    /// Nowhere; frames wait.
    Detached,
}

/// What may happen to a frame that cannot leave at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It waits, within the budget of the session.
    Reliable,
    /// It is dropped when the sink is blocked or much is queued.
    Volatile,
    /// As volatile, but for a slow client, or until a poll comes, the newest with this key waits.
    Latest(u64),
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Push {
    /// It waits to be written.
    Queued,
    /// It was volatile and the client too slow.
    Dropped,
    /// It did not fit into the budget; the session is being closed.
    Overflow,
    /// The session is closed.
    Closed,
}

/// Above this many queued bytes a volatile frame is dropped.
const HIGH_WATER: usize = 64 * 1024;
/// Batches written for one session before others get their turn.
const MAX_BATCHES: usize = 4;
/// Control messages that may wait for a driver; each is a request in flight.
const MAX_CONTROL: usize = 64;
/// Frames that may wait to be replaced by newer ones.
const MAX_LATEST: usize = 256;

impl Outbox {
    pub(super) fn new(
        sid: Sid,
        budget: usize,
        sink: Sink,
        flusher: Arc<Flusher>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Inner {
            sid,
            budget,
            flusher,
            metrics,
            queue: Mutex::new(Queue {
                frames: Frames::default(),
                offset: 0,
                bytes: 0,
                pong: None,
                latest: Vec::new(),
                listed: false,
                flushing: false,
                in_turn: false,
                blocked: false,
                awaited: false,
                closed: None,
                drain: Drain::Unwatched,
                posting: false,
                attaching: 0,
                recent: None,
                sink,
                control: VecDeque::new(),
                waker: None,
                woken: false,
            }),
        }))
    }

    pub(crate) fn sid(&self) -> Sid {
        self.0.sid
    }

    /// The transport that carries the session now.
    pub(crate) fn transport(&self) -> Transport {
        match self.0.queue.lock().sink {
            Sink::WebSocket(_) => Transport::WebSocket,
            Sink::Poll { .. } | Sink::Detached => Transport::Polling,
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

    /// Queues a frame that goes to many; the batch wakes each flusher once.
    pub(crate) fn push_batched(&self, frame: &Frame, mode: Mode, batch: &mut Batch) -> Push {
        let mut queue = self.0.queue.lock();
        let (push, wake) = self.append(&mut queue, frame, mode);
        drop(queue);
        match wake {
            Wake::Nobody => {}
            Wake::Flusher => batch.add(&self.0.flusher, self.clone()),
            Wake::FlusherOf(heir) => batch.add(&heir.0.flusher, heir.clone()),
            Wake::Driver(waker) => waker.wake(),
        }
        push
    }

    /// Queues a frame of the protocol itself, which no budget and no policy holds back.
    pub(super) fn push_control(&self, frame: Frame) {
        let mut queue = self.0.queue.lock();
        if queue.closed.is_none() {
            queue.bytes += frame.len();
            queue.frames.push_back(frame);
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
        if let Some(recent) = &mut queue.recent
            && let Some(heir) = recent.keep(frame)
        {
            let append = |heir| Self::append_for(heir, frame, mode);
            return (Push::Closed, heir.upgrade().map_or(Wake::Nobody, append));
        }
        self.append_kept(queue, frame, mode)
    }

    /// Queues a frame that another outbox has passed on, which is not passed on any further.
    pub(super) fn append_own(&self, queue: &mut Queue, frame: &Frame, mode: Mode) -> (Push, Wake) {
        if let Some(recent) = &mut queue.recent {
            let _ = recent.keep(frame);
        }
        self.append_kept(queue, frame, mode)
    }

    fn append_kept(&self, queue: &mut Queue, frame: &Frame, mode: Mode) -> (Push, Wake) {
        if queue.closed.is_some() {
            return (Push::Closed, Wake::Nobody);
        }
        let may_drop = match mode {
            Mode::Reliable => false,
            Mode::Volatile | Mode::Latest(_) => true,
        };
        let is_slow = queue.blocked || queue.bytes > HIGH_WATER;
        if let Mode::Latest(key) = mode
            && (is_slow || matches!(queue.sink, Sink::Poll { .. }))
        {
            return if queue.replace(key, frame, self.0.budget) {
                (Push::Queued, queue.schedule())
            } else {
                self.0.metrics.count(Counter::VolatileDropped);
                (Push::Dropped, Wake::Nobody)
            };
        }
        if may_drop && is_slow {
            self.0.metrics.count(Counter::VolatileDropped);
            return (Push::Dropped, Wake::Nobody);
        }
        let len = frame.len();
        if queue.bytes > 0 && queue.bytes + len > self.0.budget {
            queue.closed = Some(CloseReason::Overflow);
            // A client that does not keep up has lost its place.
            queue.recent = None;
            return (Push::Overflow, Wake::driver(queue.waker.take()));
        }
        queue.bytes += len;
        queue.frames.push_back(frame.clone());
        (Push::Queued, queue.schedule())
    }

    /// Sends a message to the driver. `false`: the session is gone or flooded.
    pub(super) fn control(&self, control: Control) -> bool {
        let mut queue = self.0.queue.lock();
        if matches!(queue.sink, Sink::Detached) {
            return false;
        }
        match control {
            Control::Poll { .. } | Control::Post { .. } | Control::Attach { .. }
                if queue.control.len() >= MAX_CONTROL =>
            {
                return false;
            }
            Control::Close(_) if queue.control.iter().any(Control::is_close) => return true,
            Control::Poll { .. }
            | Control::PollAborted { .. }
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
    pub(super) fn pong(&self, frame: Frame) {
        self.0.queue.lock().pong = Some(frame);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock()
    }

    pub(super) fn try_lock_for(&self, patience: Duration) -> Option<MutexGuard<'_, Queue>> {
        self.0.queue.try_lock_for(patience)
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.0
    }

    /// Queues a ping; its pong proves that everything before it was received.
    pub(super) fn push_ping(&self, frame: Frame) {
        if let Some(recent) = &mut self.0.queue.lock().recent {
            recent.ping();
        }
        self.push_control(frame);
    }

    /// The pong has come.
    pub(super) fn confirm(&self) {
        if let Some(recent) = &mut self.0.queue.lock().recent {
            recent.pong();
        }
    }

    pub(super) fn begin_turn(&self) -> TurnState {
        let mut queue = self.0.queue.lock();
        queue.in_turn = true;
        let drained = queue.is_drain_due();
        if drained {
            queue.drain = Drain::Watched;
        }
        TurnState {
            blocked: queue.blocked,
            closed: queue.closed,
            drained,
        }
    }

    /// Writes what is queued, in as few calls as the sink allows. At most one caller at
    /// a time writes; another's frames are taken along by it.
    pub(super) fn flush(&self) {
        let mut queue = self.0.queue.lock();
        queue.listed = false;
        for _ in 0..MAX_BATCHES {
            if !queue.blocked && !queue.flushing && queue.frames.is_empty() {
                // What came while the client was slow.
                queue.settle_latest();
            }
            if queue.flushing || queue.blocked || !queue.has_unsent() {
                return;
            }
            let Sink::WebSocket(stream) = &queue.sink else {
                return;
            };
            let stream = stream.clone();
            queue.insert_pong();
            let mut batch = Outgoing {
                frames: std::mem::take(&mut queue.frames),
                offset: queue.offset,
                written: 0,
            };
            queue.flushing = true;
            drop(queue);

            let outcome = batch.write(&stream, &self.0.metrics);

            queue = self.0.queue.lock();
            queue.flushing = false;
            queue.put_back(batch);
            match outcome {
                Ok(()) if stream.is_flushed() => queue.note_drained(),
                // Taken, but not on its way: the driver pushes.
                Ok(()) => {
                    queue.blocked = true;
                    queue.awaited = false;
                    Wake::driver(queue.waker.take()).call();
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    queue.blocked = true;
                    queue.awaited = false;
                    Wake::driver(queue.waker.take()).call();
                    return;
                }
                Err(_) => {
                    queue.closed.get_or_insert(CloseReason::TransportClose);
                    queue.frames.clear(false);
                    queue.bytes = 0;
                    queue.offset = 0;
                    Wake::driver(queue.waker.take()).call();
                    return;
                }
            }
        }
        // Somebody pushes as fast as this writes: others should have their turn first.
        if queue.has_unsent() && !queue.listed {
            queue.listed = true;
            drop(queue);
            self.0.flusher.enqueue(self.clone());
        }
    }

    /// What the driver learned by asking whether the kernel takes bytes.
    pub(super) fn set_writable(&self, writable: bool) {
        let mut queue = self.0.queue.lock();
        queue.blocked = !writable;
        queue.awaited = !writable;
        if writable {
            // What a stream had buffered is on its way, too.
            queue.note_drained();
        }
    }

    /// Ends a driver's turn. `true`: frames came in since its last flush, which others left
    /// to it.
    pub(super) fn end_turn(&self) -> bool {
        let mut queue = self.0.queue.lock();
        let can_flush = matches!(queue.sink, Sink::WebSocket(_));
        if !can_flush {
            queue.listed = false;
        }
        queue.in_turn = can_flush
            && queue.has_unsent()
            && !queue.listed
            && !queue.blocked
            && !queue.flushing
            && queue.closed.is_none();
        queue.in_turn
    }

    /// Takes frames for one polling answer: at most `limit` bytes, at least one frame.
    pub(super) fn take_for_poll(&self, limit: usize) -> Vec<Frame> {
        let mut queue = self.0.queue.lock();
        queue.listed = false;
        let mut taken = Vec::new();
        let mut size = 0;
        queue.settle_latest();
        while let Some(frame) = queue.frames.front() {
            size += frame.polling().len() + 1;
            if size > limit && !taken.is_empty() {
                break;
            }
            queue.bytes -= frame.len();
            if let Some(frame) = queue.frames.pop_front() {
                taken.push(frame);
            }
        }
        queue.note_drained();
        taken
    }

    /// From now on the application is told whenever everything queued has left.
    pub(crate) fn watch_drain(&self) {
        let mut queue = self.0.queue.lock();
        if queue.drain == Drain::Unwatched {
            queue.drain = Drain::Watched;
        }
    }
}

/// A WebSocket is on its way: its `101` may be with the client already. Polls that come in
/// meanwhile wait, because they were sent after it.
#[derive(Debug)]
pub(super) struct Attaching(Outbox);

impl Attaching {
    pub(super) fn new(outbox: Outbox) -> Self {
        outbox.0.queue.lock().attaching += 1;
        Self(outbox)
    }

    /// Hands the WebSocket over. `false`: the session is gone.
    pub(super) fn attach(self, stream: Stream, unread: Bytes) -> bool {
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
pub(super) struct TurnState {
    pub(super) blocked: bool,
    pub(super) closed: Option<CloseReason>,
    /// Everything that was queued has left, and somebody wants to know.
    pub(super) drained: bool,
}

pub(super) enum Wake {
    Nobody,
    Flusher,
    /// The flusher of another outbox, to which the frame was passed on.
    FlusherOf(Outbox),
    Driver(Waker),
}

impl Wake {
    fn driver(waker: Option<Waker>) -> Self {
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
    fn call(self) {
        if let Self::Driver(waker) = self {
            waker.wake();
        }
    }
}

impl Queue {
    fn schedule(&mut self) -> Wake {
        if self.in_turn || self.listed || self.flushing || self.blocked {
            return Wake::Nobody;
        }
        match self.sink {
            Sink::WebSocket(_) => {
                self.listed = true;
                Wake::Flusher
            }
            Sink::Poll { parked: true } => {
                self.listed = true;
                Wake::driver(self.waker.take())
            }
            Sink::Poll { parked: false } | Sink::Detached => Wake::Nobody,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.latest.is_empty()
    }

    /// Keeps the newest frame of this key. `false`: too much of this kind waits.
    fn replace(&mut self, key: u64, frame: &Frame, budget: usize) -> bool {
        let others = self.latest.iter().filter(|(known, _)| *known != key);
        let bytes: usize = others.map(|(_, frame)| frame.len()).sum();
        if bytes > 0 && bytes + frame.len() > budget {
            return false;
        }
        if let Some((_, kept)) = self.latest.iter_mut().find(|(known, _)| *known == key) {
            *kept = frame.clone();
            return true;
        }
        if self.latest.len() >= MAX_LATEST {
            return false;
        }
        self.latest.push((key, frame.clone()));
        true
    }

    /// What could be replaced until now is on its way.
    fn settle_latest(&mut self) {
        for (_, frame) in std::mem::take(&mut self.latest) {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// From here on frames leave on this stream.
    pub(super) fn switch(&mut self, stream: Stream) {
        self.settle_latest();
        self.blocked = !stream.is_flushed();
        self.awaited = false;
        self.sink = Sink::WebSocket(stream);
    }

    /// Everything may have left.
    fn note_drained(&mut self) {
        if self.drain == Drain::Watched && !self.has_unsent() {
            self.drain = Drain::Due;
            Wake::driver(self.waker.take()).call();
        }
    }

    pub(super) fn is_drain_due(&self) -> bool {
        self.drain == Drain::Due
    }

    fn has_unsent(&self) -> bool {
        !self.is_empty() || self.pong.is_some()
    }

    pub(super) fn is_drained(&self) -> bool {
        self.frames.is_empty() && !self.flushing
    }

    /// Whether the driver must ask the kernel for room.
    pub(super) fn needs_driver(&self) -> bool {
        self.blocked && !self.awaited
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(super) fn is_between_frames(&self) -> bool {
        self.offset == 0 && !self.flushing
    }

    pub(super) fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Whether polls must wait for a WebSocket that is about to be attached.
    pub(super) fn is_attaching(&self) -> bool {
        self.attaching > 0
    }

    /// `false`: another request is at it.
    pub(super) fn begin_post(&mut self) -> bool {
        !std::mem::replace(&mut self.posting, true)
    }

    pub(super) fn end_post(&mut self) {
        self.posting = false;
    }

    /// No more frames are taken from here on.
    pub(super) fn seal(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
    }

    /// Forgets what is queued, but for the rest of a frame that has left in part.
    pub(super) fn clear_unsent(&mut self) {
        self.frames.clear(self.offset > 0);
        self.bytes = self.frames.iter().map(Frame::len).sum();
        self.pong = None;
    }

    /// Forgets what is queued.
    pub(super) fn clear(&mut self) {
        self.frames.clear(false);
        self.latest = Vec::new();
        self.bytes = 0;
        self.offset = 0;
        self.pong = None;
    }

    /// A pong goes first, but never into the middle of another frame.
    fn insert_pong(&mut self) {
        if let Some(pong) = self.pong.take_if(|_| self.offset == 0) {
            self.bytes += pong.len();
            self.frames.push_front(pong);
        }
    }

    fn put_back(&mut self, batch: Outgoing) {
        self.bytes = self.bytes.saturating_sub(batch.written);
        self.offset = batch.offset;
        self.frames.prepend(batch.frames);
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
