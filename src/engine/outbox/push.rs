//! How frames come into a queue: what they ask, what is decided, and what is kept of them.
//!
//! Everything that is sent by applications comes in by [`Outbox::append`]; what the protocol says
//! itself, by `append_control`, which no budget holds back.
//!
//! What does not fit into the budget of the session, or of all sessions together, is dropped if it
//! may be lost. Else the session ends: a hole in what must arrive is never passed over.

use std::sync::{Arc, Weak};

use roomcast_protocol::Frame;

use super::{
    handle::{Outbox, OutboxInner, Wake},
    queue::Queue,
    states::Budget,
    waiting::{Class, DropPolicy, KeepResult, ReplayBuffer, Shed},
};
use crate::metrics::Counter;

/// What may happen to a frame that cannot leave at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The frame waits, within the budget of the session.
    Reliable,
    /// The frame is dropped unless it can leave at once.
    Volatile,
    /// For a slow client, or until a poll comes, it waits where an older one of its stream gives
    /// way to it.
    Conflated {
        /// Which frames give way to one another.
        stream: u64,
        /// In which way.
        policy: DropPolicy,
    },
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Push {
    /// The frame waits to be written.
    Queued,
    /// The frame may be lost, and the client was too slow.
    Dropped,
    /// The frame did not fit into the budget, and the session is being closed.
    Overflow,
    /// The session is closed.
    Closed,
}

/// From where a frame comes to an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PushSource {
    /// The frame comes from the task that sends it. If another outbox has taken its channel over,
    /// the frame goes there.
    Sender,
    /// The frame comes from an outbox that handed its channel over. It is not passed on any
    /// further, or locks could be taken in a circle.
    Predecessor,
}

/// What is decided about a frame.
enum Admission {
    /// The frame is queued. With `is_backed_up`, what is queued waits for a slow client, and so
    /// counts.
    Queue {
        is_backed_up: bool,
    },
    /// The frame waits where older frames of its stream give way to it.
    Conflate {
        stream: u64,
        policy: DropPolicy,
    },
    /// What may be lost is to give way to the frame, and then the frame is looked at again.
    MakeRoom,
    Drop,
    Refuse,
    /// The frame must arrive and does not fit, so the session ends.
    Cut(Budget),
}

impl Outbox {
    /// Queues a frame for this session alone.
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        let mut queue = self.lock();
        let (push, wake) = self.append(&mut queue, frame, mode, PushSource::Sender);
        drop(queue);
        self.call(wake);
        push
    }

    /// Queues a frame of the protocol itself, which no budget and no policy holds back.
    pub(in crate::engine) fn push_control(&self, frame: Frame) {
        let mut queue = self.lock();
        let wake = self.append_control(&mut queue, frame);
        drop(queue);
        self.call(wake);
    }

    pub(super) fn append_control(&self, queue: &mut Queue<OutboxInner>, frame: Frame) -> Wake {
        if !queue.life.is_open() {
            return Wake::Nobody;
        }
        queue.push(frame, self.memory());
        queue.schedule()
    }

    /// The one way in for what applications send. Whoever calls this holds the lock, and calls the wake
    /// that is returned when it has let go of it.
    pub(super) fn append(
        &self,
        queue: &mut Queue<OutboxInner>,
        frame: &Frame,
        mode: Mode,
        source: PushSource,
    ) -> (Push, Wake) {
        // Keeping comes before the decision: a frame that is dropped below, or comes when the session
        // is over, is among those that the client gets when it comes back.
        if let Some(replay) = &mut queue.replay {
            match (replay.keep(frame), source) {
                (KeepResult::Here, _) | (KeepResult::BySuccessor(_), PushSource::Predecessor) => {}
                (KeepResult::Grown(bytes), _) => self.weigh_replay(replay, bytes),
                (KeepResult::BySuccessor(successor), PushSource::Sender) => {
                    let append = |successor| Self::append_for(successor, frame, mode);
                    return (
                        Push::Closed,
                        successor.upgrade().map_or(Wake::Nobody, append),
                    );
                }
            }
        }
        loop {
            return match self.admission(queue, frame, mode) {
                Admission::Queue { is_backed_up } => {
                    queue.push(frame.clone(), self.memory());
                    if is_backed_up {
                        self.begin_counting(queue);
                    }
                    (Push::Queued, queue.schedule())
                }
                Admission::Conflate { stream, policy } => {
                    self.conflate(queue, frame, stream, policy)
                }
                Admission::MakeRoom => {
                    // Nothing is left that could give way a second time, so this is looked at twice
                    // at most.
                    let gone = queue.drop_conflated(self.memory());
                    self.metrics().add(Counter::OldestDropped, gone);
                    continue;
                }
                Admission::Drop => self.drop_volatile(),
                Admission::Refuse => (Push::Closed, Wake::Nobody),
                Admission::Cut(budget) => {
                    queue.cut(budget, self.memory());
                    (Push::Overflow, Wake::Nobody)
                }
            };
        }
    }

    /// Decides without changing anything, so that what was decided can be read in one place.
    #[inline]
    fn admission(&self, queue: &Queue<OutboxInner>, frame: &Frame, mode: Mode) -> Admission {
        if !queue.life.is_open() {
            return Admission::Refuse;
        }
        match mode {
            Mode::Reliable => {}
            Mode::Volatile if queue.is_writable() => {}
            Mode::Volatile => return Admission::Drop,
            Mode::Conflated { stream, policy } if queue.conflates() => {
                return Admission::Conflate { stream, policy };
            }
            Mode::Conflated { .. } => {}
        }
        let is_backed_up = queue.is_backed_up();
        // An empty queue takes one frame of any size, or an event above the budget could never be
        // sent.
        let budget = if is_backed_up && self.memory().is_exhausted() {
            Budget::Total
        } else if queue.bytes > 0 && queue.total_cost() + frame.len() > self.budget() {
            Budget::Connection
        } else {
            return Admission::Queue { is_backed_up };
        };
        match mode {
            Mode::Volatile => Admission::Drop,
            Mode::Conflated { stream, policy } => Admission::Conflate { stream, policy },
            Mode::Reliable if budget == Budget::Connection && queue.conflated.is_some() => {
                Admission::MakeRoom
            }
            Mode::Reliable => Admission::Cut(budget),
        }
    }

    /// What is queued waits for a slow client.
    #[cold]
    fn begin_counting(&self, queue: &mut Queue<OutboxInner>) {
        queue.begin_holding(self.memory());
        if queue.is_slow() {
            self.weigh(queue);
        }
    }

    #[cold]
    fn drop_volatile(&self) -> (Push, Wake) {
        self.metrics().count(Counter::VolatileDropped);
        (Push::Dropped, Wake::Nobody)
    }

    /// Lets a frame wait where it can give way, or others give way to it.
    #[cold]
    fn conflate(
        &self,
        queue: &mut Queue<OutboxInner>,
        frame: &Frame,
        stream: u64,
        policy: DropPolicy,
    ) -> (Push, Wake) {
        let counter = match policy {
            DropPolicy::Newest => Counter::FramesConflated,
            DropPolicy::Last(_) => Counter::OldestDropped,
        };
        if self.memory().is_exhausted() {
            self.metrics().count(counter);
            return (Push::Dropped, Wake::Nobody);
        }
        let (budget, memory) = (self.budget(), self.memory());
        let (gone, kept) = queue.conflate(stream, policy, frame, budget, memory);
        self.metrics().add(counter, gone);
        self.weigh(queue);
        if kept {
            (Push::Queued, queue.schedule())
        } else {
            (Push::Dropped, Wake::Nobody)
        }
    }

    /// Files what waits for a client that does not keep up.
    #[cold]
    pub(super) fn weigh(&self, queue: &mut Queue<OutboxInner>) {
        let waiting = queue.backlog();
        let heaviest = self.memory().waiting();
        heaviest.file(&mut queue.filed, waiting, || self.shed());
    }

    /// Files what is kept for a client, and calls for whoever keeps most if that is too much.
    #[cold]
    fn weigh_replay(&self, replay: &mut ReplayBuffer<OutboxInner>, bytes: usize) {
        let heaviest = self.memory().replay();
        heaviest.file(&mut replay.filed, bytes, || self.shed());
        if let Some(max) = replay.exceeded() {
            self.memory().recall(max);
        }
    }

    fn shed(&self) -> Weak<dyn Shed> {
        let inner: Weak<OutboxInner> = Arc::downgrade(self.inner());
        inner
    }
}

impl Shed for OutboxInner {
    fn shed_waiting(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
        let mut queue = outbox.lock();
        // The client may have caught up since it was filed. It is filed anew, and cut only if it
        // still belongs where it was found.
        outbox.weigh(&mut queue);
        if queue
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            queue.cut(Budget::Total, outbox.memory());
        }
    }

    fn shed_replay(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
        let mut queue = outbox.lock();
        let Some(replay) = &mut queue.replay else {
            return;
        };
        let bytes = replay.bytes();
        outbox.weigh_replay(replay, bytes);
        if replay
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            replay.clear();
        }
    }
}
