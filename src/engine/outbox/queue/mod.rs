//! The queue of an outbox, guarded by its mutex: the frames of one session, their cost, and the
//! session's state.
//!
//! The fields are private to this module, and each state changes only by its own methods
//! ([`states`]). Further methods are in submodules: iterations of the driver in `iteration`,
//! answering polls in `polls`, writing in `writing`.

mod iteration;
mod polls;
pub(super) mod requests;
mod states;
mod writing;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    task::Waker,
    time::Instant,
};

use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Transport},
};

pub(in crate::engine) use self::{iteration::IterationRemains, states::Budget};
pub(super) use self::{
    iteration::{IterationEnd, IterationStart},
    states::PingEvent,
};
use self::{
    requests::{Control, PendingPoll},
    states::{Drain, DriverState, Machine, PingState, QueueEvent, QueueState, Writer},
};
use super::waiting::{
    Class, Conflation, DropPolicy, FRAME_OVERHEAD, Frames, HeaviestEntry, Limits, MemoryBudget,
    ReplayBuffer, Sheddable,
};
use crate::{engine::transport::Stream, metrics::Metrics};

/// The transport of a session.
pub(in crate::engine) type Sink = states::Sink<Stream, PendingPoll>;

/// The frames of one session, their sink, and the control messages to its driver.
///
/// All code that adds or removes frames must keep `held` correct. `H` is the owner that takes over
/// retained frames on recovery.
pub(in crate::engine) struct Queue<H> {
    frames: Frames,
    /// Bytes of the first frame that have been written, in the form for this session: less than its
    /// length.
    offset: usize,
    /// Bytes of all frames, including the whole first one.
    bytes: usize,
    /// The newest WebSocket pong, ready to send. Earlier pings need no answer of their own (RFC
    /// 6455, 5.5.3).
    pong: Option<Frame>,
    /// Replaceable frames that wait for a poll or a slow client. Never empty.
    conflated: Option<Box<Conflation>>,
    /// The session's entry among the heaviest sessions; `None` if little is queued.
    filed: Option<Box<HeaviestEntry>>,
    /// Whether all queued frames count as held for a slow client. Frames in `conflated` always do.
    held: bool,
    /// The task that writes the queue, or will check it.
    writer: Machine<Writer>,
    /// Whether the driver's iteration is running.
    driver: Machine<DriverState>,
    /// The waker of the driver; `None` if it has already been called, or before the driver's first
    /// iteration.
    waker: Option<Waker>,
    /// When the kernel first refused bytes; `None` once everything queued has been sent.
    slow_since: Option<Instant>,
    pings: Machine<PingState>,
    /// Whether the session accepts frames.
    life: Machine<QueueState>,
    drain: Machine<Drain>,
    /// Whether a request is posting packets. A second concurrent post ends the session.
    posting: bool,
    /// Number of WebSockets that are being attached; see [`Attaching`](super::handle::Attaching).
    attaching: u32,
    /// The frames retained for replay; `None` if this session cannot be recovered.
    replay: Option<Box<ReplayBuffer<H>>>,
    sink: Sink,
    control: VecDeque<Control>,
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
            writer: Machine::default(),
            driver: Machine::default(),
            waker: None,
            slow_since: None,
            pings: Machine::default(),
            life: Machine::default(),
            drain: Machine::default(),
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
        let has_room = match self.transport() {
            Transport::WebSocket => !self.writer.is_writing() && !self.writer.is_blocked(),
            Transport::Polling => self.has_poll(),
        };
        has_room && self.is_empty()
    }

    /// Returns whether a replaceable event must be stored in `conflated`.
    pub(super) fn conflates(&self) -> bool {
        match self.transport() {
            Transport::WebSocket => {
                // An event after a stored one must be stored as well, so that it does not overtake
                // it.
                self.is_blocked() || self.bytes > HIGH_WATER || self.conflated.is_some()
            }
            Transport::Polling => true,
        }
    }

    /// Returns whether the queue waits for a slow client and therefore counts.
    pub(super) fn is_backed_up(&self) -> bool {
        self.held || self.bytes > UNCOUNTED || self.is_blocked()
    }

    /// Returns whether the client appears to be slow.
    pub(super) fn is_slow(&self) -> bool {
        match self.transport() {
            Transport::WebSocket => self.slow_since.is_some() || self.bytes > HIGH_WATER,
            Transport::Polling => true,
        }
    }

    /// Returns the bytes held for a slow client.
    fn backlog(&self) -> usize {
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

    /// Returns the current transport of the session.
    #[inline]
    pub(super) fn transport(&self) -> Transport {
        self.sink.transport()
    }

    /// Returns a handle to the stream of the session, if it has a WebSocket.
    #[inline]
    pub(super) fn stream(&self) -> Option<Stream> {
        self.sink.stream().cloned()
    }

    /// Returns whether no driver runs.
    #[cfg(test)]
    pub(in crate::engine) fn is_detached(&self) -> bool {
        self.sink.is_detached()
    }

    /// Sets the stream of a session that was announced to its client.
    pub(in crate::engine) fn open(&mut self, stream: Stream) {
        self.sink.open(stream);
    }

    /// Returns whether the session accepts frames.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.life.is_open()
    }

    /// Returns whether a frame of this size fits into the budget of the session. An empty queue
    /// accepts one frame of any size. Otherwise an event above the budget could never be sent.
    pub(super) fn has_room(&self, size: usize, budget: usize) -> bool {
        self.bytes == 0 || self.total_cost() + size <= budget
    }

    pub(super) fn has_conflated(&self) -> bool {
        self.conflated.is_some()
    }

    /// Stores the newest pong for the next write.
    pub(in crate::engine) fn set_pong(&mut self, pong: Frame) {
        self.pong = Some(pong);
    }

    pub(super) fn pings(&mut self) -> &mut Machine<PingState> {
        &mut self.pings
    }

    /// Returns the frames retained for replay, if this session can be recovered.
    pub(super) fn replay(&mut self) -> Option<&mut ReplayBuffer<H>> {
        self.replay.as_deref_mut()
    }

    /// Retains the frames of a channel for replay from here on.
    pub(super) fn retain_for_replay(
        &mut self,
        channel: u64,
        floor: Option<u64>,
        limits: Limits,
        metrics: &Arc<Metrics>,
    ) {
        self.replay
            .get_or_insert_with(|| Box::new(ReplayBuffer::new(limits, Arc::clone(metrics))))
            .open(channel, floor);
    }

    /// Discards the retained frames of a channel.
    pub(super) fn discard_replay(&mut self, channel: u64) {
        self.replay.take_if(|replay| replay.close(channel));
    }

    /// Files the session by the bytes queued for its slow client.
    pub(super) fn refile(
        &mut self,
        memory: &MemoryBudget,
        shed: impl FnOnce() -> Weak<dyn Sheddable>,
    ) {
        let waiting = self.backlog();
        memory.waiting().file(&mut self.filed, waiting, shed);
    }

    /// Returns whether the session is filed in this class or a larger one.
    pub(super) fn is_filed_in(&self, class: Class) -> bool {
        self.filed
            .as_ref()
            .is_some_and(|filed| filed.class() >= class)
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

    /// Removes the queued frames that a new frame of this stream replaces. Returns their number.
    #[cold]
    pub(super) fn remove_replaced(&mut self, stream: u64, memory: &MemoryBudget) -> u64 {
        let mut removed = 0;
        // The stream may have written a part of the first message, or compressed it with its
        // context. Control frames overtake that message.
        let kept = match self.transport() {
            Transport::WebSocket if !self.writer.is_writing() => {
                let control = self.frames.iter().take_while(|frame| frame.packets() == 0);
                control.count() + 1
            }
            Transport::WebSocket | Transport::Polling => 0,
        };
        while let Some(frame) = self.frames.take_of(stream, kept) {
            self.bytes = self.bytes.saturating_sub(frame.len());
            if self.held {
                memory.release(&frame);
            }
            removed += 1;
        }
        self.held &= !self.frames.is_empty();
        removed
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
        let mut dropped = 0;
        let conflated = self.conflated.get_or_insert_default();
        let is_stored = conflated.store(stream, policy, frame.clone(), room, |frame| {
            memory.release(&frame);
            dropped += 1;
        });
        if conflated.len() == 0 {
            self.conflated = None;
        }
        (dropped, is_stored)
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
    fn pop(&mut self, memory: &MemoryBudget) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        if self.held {
            memory.release(&frame);
            self.held = !self.frames.is_empty();
        }
        Some(frame)
    }

    pub(in crate::engine) fn is_drained(&self) -> bool {
        self.frames.is_empty() && !self.writer.is_writing()
    }

    pub(in crate::engine) fn is_blocked(&self) -> bool {
        self.writer.is_blocked()
    }

    pub(in crate::engine) fn is_between_frames(&self) -> bool {
        self.offset == 0 && !self.writer.is_writing()
    }

    pub(in crate::engine) fn closed(&self) -> Option<CloseReason> {
        self.life.closed()
    }

    /// Returns the budget whose excess ended the session, if any.
    pub(in crate::engine) fn exceeded(&self) -> Option<Budget> {
        self.life.exceeded()
    }

    /// Returns whether polls must wait for a WebSocket that is being attached.
    pub(in crate::engine) fn is_attaching(&self) -> bool {
        self.attaching > 0
    }

    pub(super) fn begin_attach(&mut self) {
        self.attaching += 1;
    }

    pub(super) fn end_attach(&mut self) {
        self.attaching -= 1;
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
        self.life.apply(QueueEvent::Seal(reason));
    }

    /// Accepts no more frames from here on, because the client has a new session.
    pub(super) fn supersede(&mut self) {
        self.life.apply(QueueEvent::Supersede);
    }

    /// Returns whether the client had a new session before this one ended.
    pub(in crate::engine) fn is_superseded(&self) -> bool {
        self.life.is_superseded()
    }

    /// Ends the session because the client is too slow: no more frames are accepted. If the memory
    /// is needed for other sessions, the queue is dropped immediately. Otherwise the driver tries
    /// once more to write some of it. Frames queued after a dropped one are never sent. A session
    /// that has already ended keeps its reason and its frames.
    #[cold]
    pub(super) fn overflow(&mut self, budget: Budget, memory: &MemoryBudget) {
        if !self.life.apply(QueueEvent::Overflow(budget)) {
            return;
        }
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
        self.forget(self.offset > 0 && !self.writer.is_writing(), memory);
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
