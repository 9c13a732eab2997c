//! Adds frames to a queue: the modes of frames, the decision, and its effects.
//!
//! All frames of applications pass [`Outbox::append`], and the pong of Engine.IO 3. Other frames of
//! the protocol itself pass `append_control`, which no budget limits.
//!
//! A frame that exceeds the budget of the session or of all sessions is dropped if it may be lost.
//! Otherwise the session ends, because reliable frames must never have gaps.

use std::sync::{Arc, Weak};

use roomcast_protocol::Frame;

use super::{
    handle::{Outbox, OutboxInner},
    queue::{Budget, Queue},
    waiting::{Class, DropPolicy, ReplayBuffer, RetainOutcome, Sheddable},
};
use crate::metrics::Counter;

/// The treatment of a frame that cannot be sent immediately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The frame waits, within the budget of the session.
    Reliable,
    /// The frame is dropped unless it can be sent immediately.
    Volatile,
    /// While the client is slow or no poll waits, the frame is stored where newer frames of its
    /// stream replace older ones.
    Conflated {
        /// Frames of the same stream replace one another.
        stream: u64,
        /// Which frames are replaced.
        policy: DropPolicy,
    },
}

/// The outcome of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Push {
    /// The frame is queued.
    Queued,
    /// The frame was dropped, because it may be lost and the client is too slow.
    Dropped,
    /// The frame exceeded the budget, and the session is being closed.
    Overflow,
    /// The session is closed.
    Closed,
}

/// The origin of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushSource {
    /// The frame comes from the sending task. If another outbox has taken over its channel, the
    /// frame is passed on to that outbox.
    Sender,
    /// The frame comes from an outbox that handed over its channel. It is not passed on further,
    /// because locks could then be taken in a cycle.
    Predecessor,
}

/// The decision about a frame.
enum PushDecision {
    /// The frame is queued. If `is_backed_up`, the queue waits for a slow client and therefore
    /// counts.
    Queue {
        is_backed_up: bool,
    },
    /// The frame is stored where older frames of its stream are replaced.
    Conflate {
        stream: u64,
        policy: DropPolicy,
    },
    /// Replaceable frames are dropped to make room, then the decision is repeated.
    MakeRoom,
    Drop,
    Refuse,
    /// The frame is reliable and does not fit, so the session ends.
    Overflow(Budget),
}

impl Outbox {
    /// Queues a frame for this session only.
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        let mut queue = self.lock();
        let (push, scheduled) = self.append(&mut queue, frame, mode, PushSource::Sender);
        drop(queue);
        if let Some(outbox) = scheduled {
            self.flusher().enqueue(outbox);
        }
        push
    }

    /// Queues a frame of the protocol itself, regardless of budgets and policies.
    pub(in crate::engine) fn push_control(&self, frame: Frame) {
        let mut queue = self.lock();
        let is_scheduled = self.append_control(&mut queue, frame);
        drop(queue);
        if is_scheduled {
            self.enqueue();
        }
    }

    /// Returns whether the caller must add the outbox to the list of a flusher.
    pub(super) fn append_control(&self, queue: &mut Queue<OutboxInner>, frame: Frame) -> bool {
        if !queue.is_open() {
            return false;
        }
        queue.push(frame, self.memory());
        queue.schedule()
    }

    /// Queues a frame of the application; every such frame passes here. The caller holds the lock.
    /// After releasing it, the caller must add the returned outbox to the list of any flusher. That
    /// is this outbox, or the one to which the frame was passed on.
    pub(super) fn append(
        &self,
        queue: &mut Queue<OutboxInner>,
        frame: &Frame,
        mode: Mode,
        source: PushSource,
    ) -> (Push, Option<Self>) {
        // Retention comes before the decision: the client receives retained frames when it
        // reconnects, even if they are dropped below or sent after the session has ended.
        if let Some(replay) = queue.replay() {
            match (replay.retain(frame), source) {
                (RetainOutcome::Unchanged, _)
                | (RetainOutcome::BySuccessor(_), PushSource::Predecessor) => {}
                (RetainOutcome::Grown(bytes), _) => self.refile_replay(replay, bytes),
                (RetainOutcome::BySuccessor(successor), PushSource::Sender) => {
                    let append = |successor| Self::append_for(successor, frame, mode);
                    return (Push::Closed, successor.upgrade().and_then(append));
                }
            }
        }
        if let Some(stream) = frame.stream()
            && queue.is_open()
            && queue.conflates()
        {
            self.remove_replaced(queue, stream);
        }
        loop {
            return match self.admission(queue, frame, mode) {
                PushDecision::Queue { is_backed_up } => {
                    queue.push(frame.clone(), self.memory());
                    if is_backed_up {
                        self.begin_counting(queue);
                    }
                    (Push::Queued, queue.schedule().then(|| self.clone()))
                }
                PushDecision::Conflate { stream, policy } => {
                    self.conflate(queue, frame, stream, policy)
                }
                PushDecision::MakeRoom => {
                    // Nothing replaceable remains after this, so the decision is made at most
                    // twice.
                    let dropped = queue.drop_conflated(self.memory());
                    self.metrics().add(Counter::OldestDropped, dropped);
                    continue;
                }
                PushDecision::Drop => self.drop_volatile(),
                PushDecision::Refuse => (Push::Closed, None),
                PushDecision::Overflow(budget) => {
                    queue.overflow(budget, self.memory());
                    (Push::Overflow, None)
                }
            };
        }
    }

    /// Decides without changing anything, which keeps all cases in one place.
    #[inline]
    fn admission(&self, queue: &Queue<OutboxInner>, frame: &Frame, mode: Mode) -> PushDecision {
        if !queue.is_open() {
            return PushDecision::Refuse;
        }
        match mode {
            Mode::Reliable => {}
            Mode::Volatile if queue.is_writable() => {}
            Mode::Volatile => return PushDecision::Drop,
            Mode::Conflated { stream, policy } if queue.conflates() => {
                return PushDecision::Conflate { stream, policy };
            }
            Mode::Conflated { .. } => {}
        }
        let is_backed_up = queue.is_backed_up();
        let budget = if is_backed_up && self.memory().is_exhausted() {
            Budget::Total
        } else if !queue.has_room(frame.len(), self.budget()) {
            Budget::Connection
        } else {
            return PushDecision::Queue { is_backed_up };
        };
        match mode {
            Mode::Volatile => PushDecision::Drop,
            Mode::Conflated { stream, policy } => PushDecision::Conflate { stream, policy },
            Mode::Reliable if budget == Budget::Connection && queue.has_conflated() => {
                PushDecision::MakeRoom
            }
            Mode::Reliable => PushDecision::Overflow(budget),
        }
    }

    /// Removes the queued frames that a new frame of this stream replaces.
    #[cold]
    fn remove_replaced(&self, queue: &mut Queue<OutboxInner>, stream: u64) {
        let removed = queue.remove_replaced(stream, self.memory());
        self.metrics().add(Counter::FramesConflated, removed);
    }

    /// Starts to count the queued frames as held for a slow client.
    #[cold]
    fn begin_counting(&self, queue: &mut Queue<OutboxInner>) {
        queue.begin_holding(self.memory());
        if queue.is_slow() {
            self.refile(queue);
        }
    }

    #[cold]
    fn drop_volatile(&self) -> (Push, Option<Self>) {
        self.metrics().count(Counter::VolatileDropped);
        (Push::Dropped, None)
    }

    /// Stores a frame that newer frames of its stream can replace.
    #[cold]
    fn conflate(
        &self,
        queue: &mut Queue<OutboxInner>,
        frame: &Frame,
        stream: u64,
        policy: DropPolicy,
    ) -> (Push, Option<Self>) {
        let counter = match policy {
            DropPolicy::Newest => Counter::FramesConflated,
            DropPolicy::Last(_) => Counter::OldestDropped,
        };
        if self.memory().is_exhausted() {
            self.metrics().count(counter);
            return (Push::Dropped, None);
        }
        let (budget, memory) = (self.budget(), self.memory());
        let (dropped, is_stored) = queue.conflate(stream, policy, frame, budget, memory);
        self.metrics().add(counter, dropped);
        self.refile(queue);
        if is_stored {
            (Push::Queued, queue.schedule().then(|| self.clone()))
        } else {
            (Push::Dropped, None)
        }
    }

    /// Files the session by the bytes queued for its slow client.
    #[cold]
    pub(super) fn refile(&self, queue: &mut Queue<OutboxInner>) {
        queue.refile(self.memory(), || self.shed());
    }

    /// Files the session by its retained bytes, and starts load shedding if the total is too large.
    #[cold]
    fn refile_replay(&self, replay: &mut ReplayBuffer<OutboxInner>, bytes: usize) {
        let heaviest = self.memory().replay();
        heaviest.file(&mut replay.filed, bytes, || self.shed());
        if let Some(max) = replay.exceeded() {
            self.memory().recall(max);
        }
    }

    fn shed(&self) -> Weak<dyn Sheddable> {
        let inner: Weak<OutboxInner> = Arc::downgrade(self.inner());
        inner
    }
}

impl Sheddable for OutboxInner {
    fn shed_waiting(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
        let mut queue = outbox.lock();
        // The client may have caught up since it was filed. It is filed again, and disconnected
        // only if it is still in this class.
        outbox.refile(&mut queue);
        if queue.is_filed_in(class) {
            queue.overflow(Budget::Total, outbox.memory());
        }
    }

    fn shed_replay(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
        let mut queue = outbox.lock();
        let Some(replay) = queue.replay() else {
            return;
        };
        let bytes = replay.bytes();
        outbox.refile_replay(replay, bytes);
        if replay
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            replay.clear();
        }
    }
}
