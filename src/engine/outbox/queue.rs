//! What is guarded by the mutex of an outbox.

use std::{collections::VecDeque, task::Waker, time::Instant};

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    control::Control,
    handle::{Inner, Wake},
    parked::Parked,
    waiting::{FRAME_OVERHEAD, Filed, Frames, Lossy, Outgoing, Pressure, Recent, Yielding},
};
use crate::{
    engine::{ground::now, transport::Stream},
    metrics::{Metrics, Timing},
};

/// The frames of one session, where they go, and what its driver is asked.
///
/// Whatever takes frames out or puts them in keeps `held` true to its word.
pub(in crate::engine) struct Queue {
    pub(in crate::engine) frames: Frames,
    /// Bytes of the first frame that have been written: `offset < frames[0].len()`.
    pub(super) offset: usize,
    /// Bytes of all frames, the first one whole.
    pub(in crate::engine) bytes: usize,
    /// The newest WebSocket pong, ready to send. Older ones need no answer (RFC 6455, 5.5.3).
    pub(super) pong: Option<Frame>,
    /// What waits for a poll or for a slow client and may give way. Never empty.
    pub(super) lossy: Option<Box<Lossy>>,
    /// Where this one lies among those for whom much waits, if it may be one of them.
    pub(super) filed: Option<Box<Filed>>,
    /// All frames count as waiting for a slow client; those in `lossy` always do.
    pub(super) held: bool,
    /// Waits in a flusher's list.
    pub(super) listed: bool,
    /// A batch is out of the queue and being written.
    pub(super) flushing: bool,
    /// The driver runs and will flush at the end of its turn.
    pub(in crate::engine) in_turn: bool,
    /// The kernel took no more.
    pub(super) blocked: bool,
    /// The driver has asked to be woken when there is room again.
    pub(super) awaited: bool,
    /// When the kernel first took no more, as long as something of what was queued has not left.
    slow_since: Option<Instant>,
    pub(super) pulse: Pulse,
    pub(super) closed: Option<CloseReason>,
    /// What the session was cut for, if it was.
    pub(in crate::engine) exceeded: Option<Budget>,
    pub(super) drain: Drain,
    /// A request brings packets.
    posting: bool,
    /// WebSockets on their way to take the session over; see
    /// [`Attaching`](super::handle::Attaching).
    pub(super) attaching: u32,
    /// What may be asked for again; `None` if nothing may.
    pub(super) recent: Option<Box<Recent<Inner>>>,
    pub(in crate::engine) sink: Sink,
    /// The polling request that waits for packets.
    pub(in crate::engine) poll: Option<Parked>,
    /// The next one may wait without the driver having looked at it.
    pub(in crate::engine) takes_polls: bool,
    pub(in crate::engine) control: VecDeque<Control>,
    pub(in crate::engine) waker: Option<Waker>,
    /// Somebody wants the driver to have another turn.
    pub(in crate::engine) woken: bool,
}

/// Whether the application wants to know when everything has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    Unwatched,
    Watched,
    /// It has, and the driver is to tell.
    Due,
}

/// What a slow client was cut for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Budget {
    /// Its own budget.
    Connection,
    /// That of all connections together.
    Total,
}

impl Budget {
    /// What the application is told.
    pub(in crate::engine) const fn description(self) -> &'static str {
        match self {
            Self::Connection => "more than outbox_bytes waited for the client",
            Self::Total => "more than total_outbox_bytes waited for slow clients",
        }
    }
}

/// What is next in the heartbeat of a session, in its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Whatever its driver does.
    #[default]
    Own,
    /// The wheel sends a ping, not before this time.
    Due(Instant),
    /// The wheel has sent a ping at this time and there was no pong yet.
    Sent(Instant),
}

/// Where frames go.
#[derive(Clone)]
pub(in crate::engine) enum Sink {
    /// A WebSocket that anyone may flush.
    WebSocket(Stream),
    /// The polling request that waits, or the next one.
    Poll,
    /// Nowhere; frames wait.
    Detached,
}

/// Above this many queued bytes a client is slow.
const HIGH_WATER: usize = 64 * 1024;
/// Up to this many queued bytes are on their way and not worth counting, unless the kernel refuses.
const UNCOUNTED: usize = 16 * 1024;

impl Queue {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            frames: Frames::default(),
            offset: 0,
            bytes: 0,
            pong: None,
            lossy: None,
            filed: None,
            held: false,
            listed: false,
            flushing: false,
            in_turn: false,
            blocked: false,
            awaited: false,
            slow_since: None,
            pulse: Pulse::Own,
            closed: None,
            exceeded: None,
            drain: Drain::Unwatched,
            posting: false,
            attaching: 0,
            recent: None,
            sink,
            poll: None,
            takes_polls: false,
            control: VecDeque::new(),
            waker: None,
            woken: false,
        }
    }

    /// Who has to be woken for what was queued.
    pub(super) fn schedule(&mut self) -> Wake {
        if self.in_turn || self.listed || self.flushing || self.blocked {
            return Wake::Nobody;
        }
        if self.can_flush() {
            self.listed = true;
            Wake::Flusher
        } else {
            Wake::Nobody
        }
    }

    /// Whether there is anywhere to write to, and for a poll anything to be written.
    pub(super) fn can_flush(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => true,
            Sink::Poll => self.poll.is_some() && !self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether the driver, which has others leave frames to it, must write again.
    pub(in crate::engine) fn must_flush(&self) -> bool {
        self.can_flush()
            && self.has_unsent()
            && !self.listed
            && !self.blocked
            && !self.flushing
            && self.closed.is_none()
    }

    /// Whether nothing is in the way of an event, which is what a volatile one asks: as in the
    /// official server, neither frames that have not left yet nor, while polling, a poll that is
    /// not there.
    pub(super) fn is_writable(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => !self.blocked && !self.flushing && self.is_empty(),
            Sink::Poll => self.poll.is_some() && self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether a lossy event has to wait where it can give way.
    pub(super) fn holds_lossy(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => self.blocked || self.bytes > HIGH_WATER || self.lossy.is_some(),
            Sink::Poll | Sink::Detached => true,
        }
    }

    /// Whether what is queued now waits for a slow client, and so counts.
    pub(super) fn is_backed_up(&self) -> bool {
        self.held || self.blocked || self.bytes > UNCOUNTED
    }

    /// Whether the client does not keep up, as far as can be seen.
    pub(super) fn is_slow(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => self.slow_since.is_some() || self.bytes > HIGH_WATER,
            Sink::Poll | Sink::Detached => true,
        }
    }

    /// What waits for a client that does not keep up, in bytes.
    pub(super) fn backlog(&self) -> usize {
        let counts = (self.held || self.lossy.is_some()) && self.closed.is_none();
        if counts { self.total_cost() } else { 0 }
    }

    /// What the frames cost that are queued, but for the lossy ones.
    fn cost(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_OVERHEAD
    }

    /// What everything costs that waits.
    pub(in crate::engine) fn total_cost(&self) -> usize {
        self.cost() + self.lossy.as_ref().map_or(0, |lossy| lossy.cost())
    }

    /// The frames that count as waiting for a slow client.
    #[cfg(test)]
    pub(in crate::engine) fn counted(&self) -> Vec<Frame> {
        let bytes: usize = self.frames.iter().map(Frame::len).sum();
        assert_eq!(self.bytes, bytes);
        let held = self.frames.iter().filter(|_| self.held);
        let lossy = self.lossy.iter().flat_map(|lossy| lossy.frames());
        held.chain(lossy).cloned().collect()
    }

    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.lossy.is_none()
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, frame: Frame, pressure: &Pressure) {
        if self.held {
            pressure.hold(&frame);
        }
        self.bytes += frame.len();
        self.frames.push_back(frame);
    }

    /// From here on the frames count as waiting for a slow client, until none is left.
    #[cold]
    pub(super) fn begin_holding(&mut self, pressure: &Pressure) {
        if !self.held && !self.frames.is_empty() {
            self.frames.iter().for_each(|frame| pressure.hold(frame));
            self.held = true;
        }
    }

    /// Keeps a lossy frame. How many have gone, and whether this one is kept.
    pub(super) fn keep_lossy(
        &mut self,
        stream: u64,
        yielding: Yielding,
        frame: &Frame,
        budget: usize,
        pressure: &Pressure,
    ) -> (u64, bool) {
        let room = if self.bytes == 0 {
            // One event is taken whatever its size.
            budget.max(frame.len() + FRAME_OVERHEAD)
        } else {
            budget.saturating_sub(self.cost())
        };
        pressure.hold(frame);
        let mut gone = 0;
        let lossy = self.lossy.get_or_insert_default();
        let kept = lossy.keep(stream, yielding, frame.clone(), room, |frame| {
            pressure.release(&frame);
            gone += 1;
        });
        if lossy.len() == 0 {
            self.lossy = None;
        }
        (gone, kept)
    }

    /// Drops what may give way: how many that were.
    pub(super) fn drop_lossy(&mut self, pressure: &Pressure) -> u64 {
        let frames = self.lossy.take().into_iter().flat_map(|l| l.into_frames());
        frames.map(|frame| pressure.release(&frame)).count() as u64
    }

    /// What could give way until now is on its way.
    pub(super) fn settle_lossy(&mut self, pressure: &Pressure) {
        let Some(lossy) = self.lossy.take() else {
            return;
        };
        self.begin_holding(pressure);
        self.held = true;
        for frame in lossy.into_frames() {
            self.bytes += frame.len();
            self.frames.push_back(frame);
        }
    }

    /// Takes the first frame out.
    pub(super) fn pop(&mut self, pressure: &Pressure) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes = self.bytes.saturating_sub(frame.len());
        if self.held {
            pressure.release(&frame);
            self.held = !self.frames.is_empty();
        }
        Some(frame)
    }

    /// Takes frames out for one polling answer: at most `limit` bytes, at least one frame.
    pub(super) fn take_for_poll(&mut self, limit: usize, pressure: &Pressure) -> Vec<Frame> {
        let mut taken = Vec::new();
        let mut size = 0;
        self.settle_lossy(pressure);
        while let Some(frame) = self.frames.front() {
            size += frame.polling().len() + 1;
            if size > limit && !taken.is_empty() {
                break;
            }
            taken.extend(self.pop(pressure));
        }
        self.note_drained();
        taken
    }

    /// Takes everything out that is to be written.
    pub(in crate::engine) fn take_batch(&mut self, pressure: &Pressure) -> Outgoing {
        // A pong goes first, but never into the middle of another frame.
        if let Some(pong) = self.pong.take_if(|_| self.offset == 0) {
            if self.held {
                pressure.hold(&pong);
            }
            self.bytes += pong.len();
            self.frames.push_front(pong);
        }
        self.flushing = true;
        Outgoing {
            frames: std::mem::take(&mut self.frames),
            offset: self.offset,
            written: 0,
            held: self.held,
        }
    }

    /// Puts back what was not written, before what came meanwhile.
    pub(in crate::engine) fn put_back(&mut self, batch: Outgoing, pressure: &Pressure) {
        self.flushing = false;
        self.bytes = self.bytes.saturating_sub(batch.written);
        self.offset = batch.offset;
        if !batch.frames.is_empty() && batch.held != self.held {
            if batch.held {
                self.begin_holding(pressure);
                self.held = true;
            } else {
                batch.frames.iter().for_each(|frame| pressure.hold(frame));
            }
        }
        self.frames.prepend(batch.frames);
        self.held &= !self.frames.is_empty();
        if self.closed.is_some() {
            // The rest of the queue may have been forgotten meanwhile.
            self.bytes = self.frames.iter().map(Frame::len).sum();
        }
        if matches!(self.sink, Sink::Detached) {
            // The driver has gone meanwhile, and nobody else would ever take this out of the account.
            self.clear(pressure);
        }
    }

    /// The kernel takes no more.
    pub(super) fn block(&mut self, pressure: &Pressure) {
        self.blocked = true;
        self.awaited = false;
        self.slow_since.get_or_insert_with(now);
        self.begin_holding(pressure);
    }

    /// From here on frames leave on this stream.
    pub(in crate::engine) fn switch(&mut self, stream: Stream, pressure: &Pressure) {
        self.settle_lossy(pressure);
        self.blocked = !stream.is_flushed();
        self.awaited = false;
        self.sink = Sink::WebSocket(stream);
    }

    /// Everything may have left.
    pub(super) fn note_drained(&mut self) {
        if self.drain == Drain::Watched && !self.has_unsent() {
            self.drain = Drain::Due;
            Wake::driver(self.waker.take()).call();
        }
    }

    /// A client that was slow may have taken everything.
    pub(super) fn note_caught_up(&mut self, metrics: &Metrics) {
        if self.slow_since.is_some()
            && !self.has_unsent()
            && let Some(since) = self.slow_since.take()
        {
            self.filed = None;
            if self.closed.is_none() {
                metrics.time(Timing::SlowClient, now() - since);
            }
        }
    }

    pub(in crate::engine) fn is_drain_due(&self) -> bool {
        self.drain == Drain::Due
    }

    pub(super) fn has_unsent(&self) -> bool {
        !self.is_empty() || self.pong.is_some()
    }

    pub(in crate::engine) fn is_drained(&self) -> bool {
        self.frames.is_empty() && !self.flushing
    }

    /// Whether the driver must ask the kernel for room.
    pub(in crate::engine) fn needs_driver(&self) -> bool {
        self.blocked && !self.awaited
    }

    pub(in crate::engine) fn is_blocked(&self) -> bool {
        self.blocked
    }

    pub(in crate::engine) fn is_between_frames(&self) -> bool {
        self.offset == 0 && !self.flushing
    }

    pub(in crate::engine) fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Whether polls must wait for a WebSocket that is about to be attached.
    pub(in crate::engine) fn is_attaching(&self) -> bool {
        self.attaching > 0
    }

    /// `false`: another request is at it.
    pub(in crate::engine) fn begin_post(&mut self) -> bool {
        !std::mem::replace(&mut self.posting, true)
    }

    pub(in crate::engine) fn end_post(&mut self) {
        self.posting = false;
    }

    /// No more frames are taken from here on.
    pub(in crate::engine) fn seal(&mut self, reason: CloseReason) {
        self.closed.get_or_insert(reason);
    }

    /// The client does not keep up: no more frames are taken. What waits is forgotten at once if that
    /// is for the sake of others; else its driver tries a last time to get some of it out first.
    /// Nothing that was queued later than what is forgotten will leave.
    #[cold]
    pub(super) fn cut(&mut self, budget: Budget, pressure: &Pressure) -> Wake {
        self.closed = Some(CloseReason::Overflow);
        self.exceeded = Some(budget);
        // It has lost its place, too.
        self.recent = None;
        self.filed = None;
        match budget {
            Budget::Connection => {}
            Budget::Total => self.forget_unsent(pressure),
        }
        Wake::driver(self.waker.take())
    }

    /// Forgets what is queued, but for the rest of a frame that has left in part. Of a batch that is
    /// being written nothing is here.
    pub(in crate::engine) fn forget_unsent(&mut self, pressure: &Pressure) {
        self.forget(self.offset > 0 && !self.flushing, pressure);
        self.pong = None;
    }

    /// Forgets what is queued.
    pub(in crate::engine) fn clear(&mut self, pressure: &Pressure) {
        self.forget(false, pressure);
        self.offset = 0;
        self.pong = None;
    }

    fn forget(&mut self, but_first: bool, pressure: &Pressure) {
        self.filed = None;
        self.drop_lossy(pressure);
        if self.held {
            let forgotten = self.frames.iter().skip(usize::from(but_first));
            forgotten.for_each(|frame| pressure.release(frame));
        }
        self.frames.clear(but_first);
        self.held &= !self.frames.is_empty();
        self.bytes = self.frames.iter().map(Frame::len).sum();
    }
}
