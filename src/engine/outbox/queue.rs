//! What is guarded by the mutex of an outbox: the frames of one session, what they cost, and its state.
//!
//! What is done to a queue lies beside who does it: writing in `flushing`, answering polls in `polls`,
//! the turns of the driver in `handle`, admission in `push`.

use std::{collections::VecDeque, task::Waker, time::Instant};

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    requests::Control,
    states::{Budget, Drain, Life, PingState, Sink, Turn, Writer},
    waiting::{Conflation, DropPolicy, FRAME_OVERHEAD, Filed, Frames, MemoryBudget, ReplayBuffer},
};

/// The frames of one session, where they go, and what its driver is asked.
///
/// Whatever takes frames out or puts them in keeps `held` true to its word. `H` is what takes over
/// what is kept for recovery.
pub(in crate::engine) struct Queue<H> {
    pub(in crate::engine) frames: Frames,
    /// Bytes of the first frame that have been written: `offset < frames[0].len()`.
    pub(super) offset: usize,
    /// Bytes of all frames, the first one whole.
    pub(in crate::engine) bytes: usize,
    /// The newest WebSocket pong, ready to send. Pings before the last one need no answer of their own
    /// (RFC 6455, 5.5.3).
    pub(super) pong: Option<Frame>,
    /// What waits for a poll or for a slow client and may give way. Never empty.
    pub(super) conflated: Option<Box<Conflation>>,
    /// Where the session is filed among those for whom much waits; `None` if little does.
    pub(super) filed: Option<Box<Filed>>,
    /// Whether all frames count as waiting for a slow client. Those in `conflated` always do.
    pub(super) held: bool,
    /// Which task writes what is queued, or is bound to look at it.
    pub(super) writer: Writer,
    /// Whether the driver has its turn.
    pub(super) turn: Turn,
    /// The waker of the driver; `None` if it has been called already, or the driver has not had its
    /// first turn.
    pub(super) waker: Option<Waker>,
    /// When the kernel first took no more, as long as something of what was queued has not left.
    pub(super) slow_since: Option<Instant>,
    pub(super) ping_state: PingState,
    /// Whether the session takes frames.
    pub(super) life: Life,
    pub(super) drain: Drain,
    /// Whether a request brings packets. A second one at the same time ends the session.
    posting: bool,
    /// WebSockets on their way to take the session over; see
    /// [`Attaching`](super::handle::Attaching).
    pub(super) attaching: u32,
    /// The frames that are kept for replay; `None` if this session cannot be recovered.
    pub(super) replay: Option<Box<ReplayBuffer<H>>>,
    pub(in crate::engine) sink: Sink,
    pub(in crate::engine) control: VecDeque<Control>,
}

/// Above this many queued bytes a client is slow.
const HIGH_WATER: usize = 64 * 1024;
/// Up to this many queued bytes are on their way and not worth counting, unless the kernel refuses.
const UNCOUNTED: usize = 16 * 1024;

impl<H> Queue<H> {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            frames: Frames::default(),
            offset: 0,
            bytes: 0,
            pong: None,
            conflated: None,
            filed: None,
            held: false,
            writer: Writer::Nobody,
            turn: Turn::Idle,
            waker: None,
            slow_since: None,
            ping_state: PingState::ByDriver,
            life: Life::Open,
            drain: Drain::Unwatched,
            posting: false,
            attaching: 0,
            replay: None,
            sink,
            control: VecDeque::new(),
        }
    }

    /// Whether an event could leave at once, which is the condition for volatile ones. As in the
    /// official server, neither frames that have not left may be in the way nor, while polling, a
    /// missing poll.
    pub(super) fn is_writable(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => {
                matches!(self.writer, Writer::Nobody | Writer::Listed) && self.is_empty()
            }
            Sink::Poll(poll) => poll.is_some() && self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether an event that may be conflated has to wait among those that give way.
    pub(super) fn conflates(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => {
                // An event behind one that waits has to wait as well, or it would overtake that
                // one.
                self.is_blocked() || self.bytes > HIGH_WATER || self.conflated.is_some()
            }
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// Whether what is queued now waits for a slow client, and so counts.
    pub(super) fn is_backed_up(&self) -> bool {
        self.held || self.bytes > UNCOUNTED || self.is_blocked()
    }

    /// Whether the client is slow, as far as can be seen.
    pub(super) fn is_slow(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => self.slow_since.is_some() || self.bytes > HIGH_WATER,
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// The bytes that wait for a client that is slow.
    pub(super) fn backlog(&self) -> usize {
        let counts = (self.held || self.conflated.is_some()) && self.life.is_open();
        if counts { self.total_cost() } else { 0 }
    }

    /// The cost of the queued frames without those that may be conflated.
    fn cost(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_OVERHEAD
    }

    /// The cost of everything that waits.
    pub(in crate::engine) fn total_cost(&self) -> usize {
        self.cost()
            + self
                .conflated
                .as_ref()
                .map_or(0, |conflated| conflated.cost())
    }

    /// The frames that count as waiting for a slow client.
    #[cfg(test)]
    pub(in crate::engine) fn counted(&self) -> Vec<Frame> {
        let bytes: usize = self.frames.iter().map(Frame::len).sum();
        assert_eq!(self.bytes, bytes);
        let held = self.frames.iter().filter(|_| self.held);
        let conflated = self
            .conflated
            .iter()
            .flat_map(|conflated| conflated.frames());
        held.chain(conflated).cloned().collect()
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.conflated.is_none()
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, frame: Frame, memory: &MemoryBudget) {
        if self.held {
            memory.hold(&frame);
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// Begins to count the frames as waiting for a slow client, until none is left.
    #[cold]
    pub(super) fn begin_holding(&mut self, memory: &MemoryBudget) {
        if !self.held && !self.frames.is_empty() {
            self.frames.iter().for_each(|frame| memory.hold(frame));
            self.held = true;
        }
    }

    /// Keeps a frame that may be conflated. Returns how many were dropped, and whether this one is
    /// kept.
    pub(super) fn conflate(
        &mut self,
        stream: u64,
        policy: DropPolicy,
        frame: &Frame,
        budget: usize,
        memory: &MemoryBudget,
    ) -> (u64, bool) {
        let room = if self.bytes == 0 {
            // One event is accepted whatever its size.
            budget.max(frame.len() + FRAME_OVERHEAD)
        } else {
            budget.saturating_sub(self.cost())
        };
        memory.hold(frame);
        let mut gone = 0;
        let conflated = self.conflated.get_or_insert_default();
        let kept = conflated.keep(stream, policy, frame.clone(), room, |frame| {
            memory.release(&frame);
            gone += 1;
        });
        if conflated.len() == 0 {
            self.conflated = None;
        }
        (gone, kept)
    }

    /// Drops the frames that give way. Returns how many these were.
    pub(super) fn drop_conflated(&mut self, memory: &MemoryBudget) -> u64 {
        let frames = self
            .conflated
            .take()
            .into_iter()
            .flat_map(|l| l.into_frames());
        frames.map(|frame| memory.release(&frame)).count() as u64
    }

    /// Queues the frames that gave way until now: nothing replaces them any more.
    pub(super) fn settle_conflated(&mut self, memory: &MemoryBudget) {
        let Some(conflated) = self.conflated.take() else {
            return;
        };
        // Conflated frames have counted all along, so from here on the others have to as well.
        self.begin_holding(memory);
        self.held = true;
        for frame in conflated.into_frames() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Takes the first frame out.
    pub(super) fn pop(&mut self, memory: &MemoryBudget) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        if self.held {
            memory.release(&frame);
            self.held = !self.frames.is_empty();
        }
        Some(frame)
    }

    pub(in crate::engine) fn is_drained(&self) -> bool {
        self.frames.is_empty() && self.writer != Writer::Writing
    }

    pub(in crate::engine) fn is_blocked(&self) -> bool {
        matches!(self.writer, Writer::Blocked { .. })
    }

    pub(in crate::engine) fn is_between_frames(&self) -> bool {
        self.offset == 0 && self.writer != Writer::Writing
    }

    pub(in crate::engine) fn closed(&self) -> Option<CloseReason> {
        self.life.closed()
    }

    /// The budget for which the session was cut, if it was.
    pub(in crate::engine) fn exceeded(&self) -> Option<Budget> {
        match self.life {
            Life::Cut(budget) => Some(budget),
            Life::Open | Life::Sealed(_) | Life::Superseded => None,
        }
    }

    /// Whether polls must wait for a WebSocket that is about to be attached.
    pub(in crate::engine) fn is_attaching(&self) -> bool {
        self.attaching > 0
    }

    /// Returns `false` if another request is bringing packets.
    pub(in crate::engine) fn begin_post(&mut self) -> bool {
        !std::mem::replace(&mut self.posting, true)
    }

    pub(in crate::engine) fn end_post(&mut self) {
        self.posting = false;
    }

    /// Takes no more frames from here on.
    pub(in crate::engine) fn seal(&mut self, reason: CloseReason) {
        if self.life.is_open() {
            self.life = Life::Sealed(reason);
        }
    }

    /// Takes no more frames from here on, because the client has a new session.
    pub(super) fn supersede(&mut self) {
        if self.life.is_open() {
            self.life = Life::Superseded;
        }
    }

    /// Whether the client had a new session before this one ended.
    pub(in crate::engine) fn is_superseded(&self) -> bool {
        self.life == Life::Superseded
    }

    /// Cuts the session off because the client does not keep up: no more frames are taken. If
    /// others need the memory, what waits is dropped at once; otherwise the driver tries a last
    /// time to write some of it. Nothing that was queued later than what is dropped will leave.
    #[cold]
    pub(super) fn cut(&mut self, budget: Budget, memory: &MemoryBudget) {
        self.life = Life::Cut(budget);
        // Dropping the buffer also takes the session out of those that keep most.
        self.replay = None;
        self.filed = None;
        match budget {
            Budget::Connection => {}
            Budget::Total => self.forget_unsent(memory),
        }
        self.wake_driver();
    }

    /// Drops what is queued, but for the rest of a frame that has left in part. The frames of a
    /// batch that is being written are not in the queue.
    pub(in crate::engine) fn forget_unsent(&mut self, memory: &MemoryBudget) {
        self.forget(self.offset > 0 && self.writer != Writer::Writing, memory);
        self.pong = None;
    }

    /// Drops what is queued.
    pub(in crate::engine) fn clear(&mut self, memory: &MemoryBudget) {
        self.forget(false, memory);
        self.offset = 0;
        self.pong = None;
    }

    fn forget(&mut self, but_first: bool, memory: &MemoryBudget) {
        self.filed = None;
        self.drop_conflated(memory);
        if self.held {
            let forgotten = self.frames.iter().skip(usize::from(but_first));
            forgotten.for_each(|frame| memory.release(frame));
        }
        self.frames.clear(but_first);
        self.held &= !self.frames.is_empty();
        self.bytes = self.frames.iter().map(Frame::len).sum();
    }
}
