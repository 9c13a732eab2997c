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
    handle::{Inner, Outbox, Wake},
    queue::Queue,
    states::Budget,
    waiting::{Class, Kept, Recent, Shed, Yielding},
};
use crate::metrics::Counter;

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

/// Who brings a frame to an outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bearer {
    /// Whoever sends it. If another outbox has taken its channel over, the frame goes there.
    Sender,
    /// An outbox that handed its channel over. The frame is not passed on any further, or locks could
    /// be taken in a circle.
    Predecessor,
}

/// What is decided about a frame.
enum Admission {
    /// It is queued. `is_backed_up`: what is queued waits for a slow client, and so counts.
    Queue {
        is_backed_up: bool,
    },
    /// It waits where older frames of its stream give way to it.
    Conflate {
        stream: u64,
        yielding: Yielding,
    },
    /// What may be lost is to give way to it, and then it is looked at again.
    MakeRoom,
    Drop,
    Refuse,
    /// It must arrive and does not fit: the session is over.
    Cut(Budget),
}

impl Outbox {
    /// Queues a frame for this session alone.
    pub(crate) fn push(&self, frame: &Frame, mode: Mode) -> Push {
        let mut queue = self.lock();
        let (push, wake) = self.append(&mut queue, frame, mode, Bearer::Sender);
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

    pub(super) fn append_control(&self, queue: &mut Queue<Inner>, frame: Frame) -> Wake {
        if !queue.life.is_open() {
            return Wake::Nobody;
        }
        queue.push(frame, self.pressure());
        queue.schedule()
    }

    /// The one way in for what applications send. Whoever calls this holds the lock, and calls the wake
    /// that is returned when it has let go of it.
    pub(super) fn append(
        &self,
        queue: &mut Queue<Inner>,
        frame: &Frame,
        mode: Mode,
        bearer: Bearer,
    ) -> (Push, Wake) {
        if let Some(recent) = &mut queue.recent {
            match (recent.keep(frame), bearer) {
                (Kept::Here, _) | (Kept::Elsewhere(_), Bearer::Predecessor) => {}
                (Kept::Grown(bytes), _) => self.weigh_recent(recent, bytes),
                (Kept::Elsewhere(heir), Bearer::Sender) => {
                    let append = |heir| Self::append_for(heir, frame, mode);
                    return (Push::Closed, heir.upgrade().map_or(Wake::Nobody, append));
                }
            }
        }
        loop {
            return match self.admission(queue, frame, mode) {
                Admission::Queue { is_backed_up } => {
                    queue.push(frame.clone(), self.pressure());
                    if is_backed_up {
                        self.begin_counting(queue);
                    }
                    (Push::Queued, queue.schedule())
                }
                Admission::Conflate { stream, yielding } => {
                    self.keep_lossy(queue, frame, stream, yielding)
                }
                Admission::MakeRoom => {
                    let gone = queue.drop_lossy(self.pressure());
                    self.metrics().add(Counter::OldestDropped, gone);
                    continue;
                }
                Admission::Drop => self.drop_volatile(),
                Admission::Refuse => (Push::Closed, Wake::Nobody),
                Admission::Cut(budget) => {
                    queue.cut(budget, self.pressure());
                    (Push::Overflow, Wake::Nobody)
                }
            };
        }
    }

    #[inline]
    fn admission(&self, queue: &Queue<Inner>, frame: &Frame, mode: Mode) -> Admission {
        if !queue.life.is_open() {
            return Admission::Refuse;
        }
        match mode {
            Mode::Reliable => {}
            Mode::Volatile if queue.is_writable() => {}
            Mode::Volatile => return Admission::Drop,
            Mode::Lossy { stream, yielding } if queue.holds_lossy() => {
                return Admission::Conflate { stream, yielding };
            }
            Mode::Lossy { .. } => {}
        }
        let is_backed_up = queue.is_backed_up();
        let budget = if is_backed_up && self.pressure().is_exhausted() {
            Budget::Total
        } else if queue.bytes > 0 && queue.total_cost() + frame.len() > self.budget() {
            Budget::Connection
        } else {
            return Admission::Queue { is_backed_up };
        };
        match mode {
            Mode::Volatile => Admission::Drop,
            Mode::Lossy { stream, yielding } => Admission::Conflate { stream, yielding },
            Mode::Reliable if budget == Budget::Connection && queue.lossy.is_some() => {
                Admission::MakeRoom
            }
            Mode::Reliable => Admission::Cut(budget),
        }
    }

    /// What is queued waits for a slow client.
    #[cold]
    fn begin_counting(&self, queue: &mut Queue<Inner>) {
        queue.begin_holding(self.pressure());
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
    fn keep_lossy(
        &self,
        queue: &mut Queue<Inner>,
        frame: &Frame,
        stream: u64,
        yielding: Yielding,
    ) -> (Push, Wake) {
        let counter = match yielding {
            Yielding::Newest => Counter::FramesConflated,
            Yielding::Last(_) => Counter::OldestDropped,
        };
        if self.pressure().is_exhausted() {
            self.metrics().count(counter);
            return (Push::Dropped, Wake::Nobody);
        }
        let (budget, pressure) = (self.budget(), self.pressure());
        let (gone, kept) = queue.keep_lossy(stream, yielding, frame, budget, pressure);
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
    pub(super) fn weigh(&self, queue: &mut Queue<Inner>) {
        let waiting = queue.backlog();
        let heaviest = self.pressure().waiting();
        heaviest.file(&mut queue.filed, waiting, || self.shed());
    }

    /// Files what is kept for a client, and calls for whoever keeps most if that is too much.
    #[cold]
    fn weigh_recent(&self, recent: &mut Recent<Inner>, bytes: usize) {
        let heaviest = self.pressure().recent();
        heaviest.file(&mut recent.filed, bytes, || self.shed());
        if let Some(max) = recent.exceeded() {
            self.pressure().recall(max);
        }
    }

    fn shed(&self) -> Weak<dyn Shed> {
        let inner: Weak<Inner> = Arc::downgrade(self.inner());
        inner
    }
}

impl Shed for Inner {
    fn shed_waiting(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
        let mut queue = outbox.lock();
        outbox.weigh(&mut queue);
        if queue
            .filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
        {
            queue.cut(Budget::Total, outbox.pressure());
        }
    }

    fn shed_recent(self: Arc<Self>, class: Class) {
        let outbox = Outbox::from(self);
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
