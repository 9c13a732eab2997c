//! The queue of an outbox, guarded by its mutex: the frames of one session, their cost, and the
//! session's state.
//!
//! Further methods are next to their users: writing in `flushing`, answering polls in `polls`,
//! iterations of the driver in `handle`, admission in `push`.

pub(super) mod requests;
pub(super) mod states;

use std::{collections::VecDeque, task::Waker, time::Instant};

use roomcast_protocol::{Frame, engine::CloseReason};

use self::{
    requests::Control,
    states::{Budget, Drain, DriverState, PingState, QueueState, Sink, Writer},
};
use super::waiting::{
    Conflation, DropPolicy, FRAME_OVERHEAD, Frames, HeaviestEntry, MemoryBudget, ReplayBuffer,
};

/// The frames of one session, their sink, and the control messages to its driver.
///
/// All code that adds or removes frames must keep `held` correct. `H` is the owner that takes over
/// retained frames on recovery.
pub(in crate::engine) struct Queue<H> {
    pub(in crate::engine) frames: Frames,
    /// Bytes of the first frame that have been written: `offset < frames[0].len()`.
    pub(super) offset: usize,
    /// Bytes of all frames, including the whole first one.
    pub(in crate::engine) bytes: usize,
    /// The newest WebSocket pong, ready to send. Earlier pings need no answer of their own (RFC
    /// 6455, 5.5.3).
    pub(super) pong: Option<Frame>,
    /// Replaceable frames that wait for a poll or a slow client. Never empty.
    pub(super) conflated: Option<Box<Conflation>>,
    /// The session's entry among the heaviest sessions; `None` if little is queued.
    pub(super) filed: Option<Box<HeaviestEntry>>,
    /// Whether all queued frames count as held for a slow client. Frames in `conflated` always do.
    pub(super) held: bool,
    /// The task that writes the queue, or will check it.
    pub(super) writer: Writer,
    /// Whether the driver's iteration is running.
    pub(super) turn: DriverState,
    /// The waker of the driver; `None` if it has already been called, or before the driver's first
    /// iteration.
    pub(super) waker: Option<Waker>,
    /// When the kernel first refused bytes; `None` once everything queued has been sent.
    pub(super) slow_since: Option<Instant>,
    pub(super) ping_state: PingState,
    /// Whether the session accepts frames.
    pub(super) life: QueueState,
    pub(super) drain: Drain,
    /// Whether a request is posting packets. A second concurrent post ends the session.
    posting: bool,
    /// Number of WebSockets that are being attached; see [`Attaching`](super::handle::Attaching).
    pub(super) attaching: u32,
    /// The frames retained for replay; `None` if this session cannot be recovered.
    pub(super) replay: Option<Box<ReplayBuffer<H>>>,
    pub(in crate::engine) sink: Sink,
    pub(in crate::engine) control: VecDeque<Control>,
}

/// Number of queued bytes above which a client is slow.
const HIGH_WATER: usize = 64 * 1024;
/// Queued bytes up to this number are not counted, because they are usually sent at once, unless
/// the kernel refuses them.
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
            turn: DriverState::Idle,
            waker: None,
            slow_since: None,
            ping_state: PingState::ByDriver,
            life: QueueState::Open,
            drain: Drain::Unwatched,
            posting: false,
            attaching: 0,
            replay: None,
            sink,
            control: VecDeque::new(),
        }
    }

    /// Returns whether a volatile event could be sent immediately. As in the official server, no
    /// frame may be queued before it, and while polling a poll must be waiting.
    pub(super) fn is_writable(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => {
                matches!(self.writer, Writer::Nobody | Writer::Enqueued) && self.is_empty()
            }
            Sink::Poll(poll) => poll.is_some() && self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Returns whether a replaceable event must be stored in `conflated`.
    pub(super) fn conflates(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => {
                // An event after a stored one must be stored as well, so that it does not overtake
                // it.
                self.is_blocked() || self.bytes > HIGH_WATER || self.conflated.is_some()
            }
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// Returns whether the queue waits for a slow client and therefore counts.
    pub(super) fn is_backed_up(&self) -> bool {
        self.held || self.bytes > UNCOUNTED || self.is_blocked()
    }

    /// Returns whether the client appears to be slow.
    pub(super) fn is_slow(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => self.slow_since.is_some() || self.bytes > HIGH_WATER,
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// Returns the bytes held for a slow client.
    pub(super) fn backlog(&self) -> usize {
        let counts = (self.held || self.conflated.is_some()) && self.life.is_open();
        if counts { self.total_cost() } else { 0 }
    }

    /// Returns the cost of the queued frames, without `conflated`.
    fn cost(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_OVERHEAD
    }

    /// Returns the cost of all frames.
    pub(in crate::engine) fn total_cost(&self) -> usize {
        self.cost()
            + self
                .conflated
                .as_ref()
                .map_or(0, |conflated| conflated.cost())
    }

    /// Returns the frames that count as held for a slow client.
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

    /// Starts to count the frames as held for a slow client, until the queue is empty.
    #[cold]
    pub(super) fn begin_holding(&mut self, memory: &MemoryBudget) {
        if !self.held && !self.frames.is_empty() {
            self.frames.iter().for_each(|frame| memory.hold(frame));
            self.held = true;
        }
    }

    /// Stores a replaceable frame. Returns how many frames were dropped, and whether this one is
    /// stored.
    pub(super) fn conflate(
        &mut self,
        stream: u64,
        policy: DropPolicy,
        frame: &Frame,
        budget: usize,
        memory: &MemoryBudget,
    ) -> (u64, bool) {
        let room = if self.bytes == 0 {
            // One event is accepted regardless of its size.
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

    /// Drops all replaceable frames. Returns their number.
    pub(super) fn drop_conflated(&mut self, memory: &MemoryBudget) -> u64 {
        let frames = self
            .conflated
            .take()
            .into_iter()
            .flat_map(|l| l.into_frames());
        frames.map(|frame| memory.release(&frame)).count() as u64
    }

    /// Moves the replaceable frames to the queue, where nothing replaces them.
    pub(super) fn settle_conflated(&mut self, memory: &MemoryBudget) {
        let Some(conflated) = self.conflated.take() else {
            return;
        };
        // Conflated frames have always counted, so from here on all frames must count.
        self.begin_holding(memory);
        self.held = true;
        for frame in conflated.into_frames() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Takes out the first frame.
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

    /// Returns the budget whose excess ended the session, if any.
    pub(in crate::engine) fn exceeded(&self) -> Option<Budget> {
        match self.life {
            QueueState::Cut(budget) => Some(budget),
            QueueState::Open | QueueState::Sealed(_) | QueueState::Superseded => None,
        }
    }

    /// Returns whether polls must wait for a WebSocket that is being attached.
    pub(in crate::engine) fn is_attaching(&self) -> bool {
        self.attaching > 0
    }

    /// Records the start of a post. Returns `false` if another request is posting packets.
    pub(in crate::engine) fn begin_post(&mut self) -> bool {
        !std::mem::replace(&mut self.posting, true)
    }

    pub(in crate::engine) fn end_post(&mut self) {
        self.posting = false;
    }

    /// Accepts no more frames from here on.
    pub(in crate::engine) fn seal(&mut self, reason: CloseReason) {
        if self.life.is_open() {
            self.life = QueueState::Sealed(reason);
        }
    }

    /// Accepts no more frames from here on, because the client has a new session.
    pub(super) fn supersede(&mut self) {
        if self.life.is_open() {
            self.life = QueueState::Superseded;
        }
    }

    /// Returns whether the client had a new session before this one ended.
    pub(in crate::engine) fn is_superseded(&self) -> bool {
        self.life == QueueState::Superseded
    }

    /// Ends the session because the client is too slow: no more frames are accepted. If the memory
    /// is needed for other sessions, the queue is dropped immediately. Otherwise the driver tries
    /// once more to write some of it. Frames queued after a dropped one are never sent.
    #[cold]
    pub(super) fn cut(&mut self, budget: Budget, memory: &MemoryBudget) {
        self.life = QueueState::Cut(budget);
        // Dropping the buffer also removes the session from the largest replay buffers.
        self.replay = None;
        self.filed = None;
        match budget {
            Budget::Connection => {}
            Budget::Total => self.drop_unsent(memory),
        }
        self.wake_driver();
    }

    /// Drops the queue except for the rest of a partially written frame. The frames of a batch that
    /// is being written are not in the queue.
    pub(in crate::engine) fn drop_unsent(&mut self, memory: &MemoryBudget) {
        self.forget(self.offset > 0 && self.writer != Writer::Writing, memory);
        self.pong = None;
    }

    /// Drops the queue.
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
