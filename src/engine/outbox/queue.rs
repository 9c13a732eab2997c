//! What is guarded by the mutex of an outbox.

use std::{collections::VecDeque, task::Waker, time::Instant};

use roomcast_protocol::{Frame, engine::CloseReason};

use super::{
    requests::{Control, Parked},
    states::{Budget, Drain, Life, Pulse, Sink, Turn, Wake, Writer},
    waiting::{FRAME_OVERHEAD, Filed, Frames, Lossy, Outgoing, Pressure, Recent, Yielding},
};
use crate::{
    engine::{ground::now, transport::Stream},
    metrics::{Metrics, Timing},
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
    /// The newest WebSocket pong, ready to send. Older ones need no answer (RFC 6455, 5.5.3).
    pub(super) pong: Option<Frame>,
    /// What waits for a poll or for a slow client and may give way. Never empty.
    pub(super) lossy: Option<Box<Lossy>>,
    /// Where this one lies among those for whom much waits, if it may be one of them.
    pub(super) filed: Option<Box<Filed>>,
    /// All frames count as waiting for a slow client; those in `lossy` always do.
    pub(super) held: bool,
    pub(super) writer: Writer,
    turn: Turn,
    /// Wakes the driver. `None`: it was woken, or has never parked.
    waker: Option<Waker>,
    /// When the kernel first took no more, as long as something of what was queued has not left.
    slow_since: Option<Instant>,
    pub(super) pulse: Pulse,
    pub(super) life: Life,
    pub(super) drain: Drain,
    /// A request brings packets.
    posting: bool,
    /// WebSockets on their way to take the session over; see
    /// [`Attaching`](super::handle::Attaching).
    pub(super) attaching: u32,
    /// What may be asked for again; `None` if nothing may.
    pub(super) recent: Option<Box<Recent<H>>>,
    pub(in crate::engine) sink: Sink,
    pub(in crate::engine) control: VecDeque<Control>,
}

/// Above this many queued bytes a client is slow.
const HIGH_WATER: usize = 64 * 1024;
/// Up to this many queued bytes are on their way and not worth counting, unless the kernel refuses.
const UNCOUNTED: usize = 16 * 1024;

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
    /// Its session is over but for its transport.
    pub(in crate::engine) is_ending: bool,
    /// It has polling requests that wait for a WebSocket that is on its way.
    pub(in crate::engine) has_polls: bool,
    /// It has payloads that it may read on.
    pub(in crate::engine) has_posts: bool,
    /// It has a WebSocket, of which it can ask for room.
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
    Parked,
}

impl<H> Queue<H> {
    pub(super) fn new(sink: Sink) -> Self {
        Self {
            frames: Frames::default(),
            offset: 0,
            bytes: 0,
            pong: None,
            lossy: None,
            filed: None,
            held: false,
            writer: Writer::Nobody,
            turn: Turn::Parked,
            waker: None,
            slow_since: None,
            pulse: Pulse::Own,
            life: Life::Open,
            drain: Drain::Unwatched,
            posting: false,
            attaching: 0,
            recent: None,
            sink,
            control: VecDeque::new(),
        }
    }

    /// Who has to be woken for what was queued.
    pub(super) fn schedule<O>(&mut self) -> Wake<O> {
        // A driver in its turn writes at the end of it, and whoever writes looks again.
        if self.is_in_turn() || self.writer != Writer::Nobody || !self.can_flush() {
            return Wake::Nobody;
        }
        self.writer = Writer::Listed;
        Wake::Flusher
    }

    /// Whether there is anywhere to write to, and for a poll anything to be written.
    fn can_flush(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => true,
            Sink::Poll(poll) => poll.is_some() && !self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether the driver, which has others leave frames to it, must write again.
    fn must_flush(&self) -> bool {
        self.writer == Writer::Nobody
            && self.has_unsent()
            && self.can_flush()
            && self.life.is_open()
    }

    /// Whether nothing is in the way of an event, which is what a volatile one asks: as in the
    /// official server, neither frames that have not left yet nor, while polling, a poll that is
    /// not there.
    pub(super) fn is_writable(&self) -> bool {
        match &self.sink {
            Sink::WebSocket(_) => {
                matches!(self.writer, Writer::Nobody | Writer::Listed) && self.is_empty()
            }
            Sink::Poll(poll) => poll.is_some() && self.is_empty(),
            Sink::Detached => false,
        }
    }

    /// Whether a lossy event has to wait where it can give way.
    pub(super) fn holds_lossy(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => {
                self.is_blocked() || self.bytes > HIGH_WATER || self.lossy.is_some()
            }
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// Whether what is queued now waits for a slow client, and so counts.
    pub(super) fn is_backed_up(&self) -> bool {
        self.held || self.bytes > UNCOUNTED || self.is_blocked()
    }

    /// Whether the client does not keep up, as far as can be seen.
    pub(super) fn is_slow(&self) -> bool {
        match self.sink {
            Sink::WebSocket(_) => self.slow_since.is_some() || self.bytes > HIGH_WATER,
            Sink::Poll(_) | Sink::Detached => true,
        }
    }

    /// What waits for a client that does not keep up, in bytes.
    pub(super) fn backlog(&self) -> usize {
        let counts = (self.held || self.lossy.is_some()) && self.life.is_open();
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
        self.writer = Writer::Writing;
        Outgoing {
            frames: std::mem::take(&mut self.frames),
            offset: self.offset,
            written: 0,
            held: self.held,
        }
    }

    /// Puts back what was not written, before what came meanwhile.
    pub(in crate::engine) fn put_back(&mut self, batch: Outgoing, pressure: &Pressure) {
        self.writer = Writer::Nobody;
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
        if !self.life.is_open() {
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
        self.writer = Writer::Blocked { is_awaited: false };
        self.slow_since.get_or_insert_with(now);
        self.begin_holding(pressure);
    }

    /// From here on frames leave on this stream. The polling request that still waits is given back.
    #[must_use]
    pub(in crate::engine) fn switch(
        &mut self,
        stream: Stream,
        pressure: &Pressure,
    ) -> Option<Parked> {
        self.settle_lossy(pressure);
        if !stream.is_flushed() {
            self.writer = Writer::Blocked { is_awaited: false };
        } else if self.is_blocked() {
            self.writer = Writer::Nobody;
        }
        match std::mem::replace(&mut self.sink, Sink::WebSocket(stream)) {
            Sink::Poll(poll) => poll,
            Sink::WebSocket(_) | Sink::Detached => None,
        }
    }

    /// Everything may have left.
    pub(super) fn note_drained(&mut self) {
        if self.drain == Drain::Watched && !self.has_unsent() {
            self.drain = Drain::Due;
            self.wake_driver();
        }
    }

    /// A client that was slow may have taken everything.
    pub(super) fn note_caught_up(&mut self, metrics: &Metrics) {
        if self.slow_since.is_some()
            && !self.has_unsent()
            && let Some(since) = self.slow_since.take()
        {
            self.filed = None;
            if self.life.is_open() {
                metrics.time(Timing::SlowClient, now() - since);
            }
        }
    }

    fn has_unsent(&self) -> bool {
        !self.is_empty() || self.pong.is_some()
    }

    /// Whether there is something that nobody writes yet.
    pub(super) fn has_work(&self) -> bool {
        self.writer == Writer::Nobody && self.has_unsent()
    }

    /// Whether something has not left yet.
    pub(super) fn is_on_its_way(&self) -> bool {
        self.has_unsent() || matches!(self.writer, Writer::Writing | Writer::Blocked { .. })
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

    /// What the driver has learned of the kernel. A write that is under way will find out for itself.
    pub(super) fn set_blocked(&mut self, is_blocked: bool) {
        match (self.writer, is_blocked) {
            (Writer::Writing, _) | (Writer::Nobody | Writer::Listed, false) => {}
            (Writer::Blocked { .. }, false) => self.writer = Writer::Nobody,
            (Writer::Nobody | Writer::Listed | Writer::Blocked { .. }, true) => {
                self.writer = Writer::Blocked { is_awaited: true };
            }
        }
    }

    pub(in crate::engine) fn closed(&self) -> Option<CloseReason> {
        self.life.closed()
    }

    /// What the session was cut for, if it was.
    pub(in crate::engine) fn exceeded(&self) -> Option<Budget> {
        match self.life {
            Life::Cut(budget) => Some(budget),
            Life::Open | Life::Sealed(_) => None,
        }
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

    /// Whether a polling request waits.
    pub(in crate::engine) fn has_poll(&self) -> bool {
        matches!(self.sink, Sink::Poll(Some(_)))
    }

    /// Takes the polling request out that waits.
    pub(in crate::engine) fn take_poll(&mut self) -> Option<Parked> {
        match &mut self.sink {
            Sink::Poll(poll) => poll.take(),
            Sink::WebSocket(_) | Sink::Detached => None,
        }
    }

    /// Takes out the one with this id, if it is the one that waits.
    pub(in crate::engine) fn forget_poll(&mut self, id: u64) -> bool {
        let Sink::Poll(poll) = &mut self.sink else {
            return false;
        };
        poll.take_if(|parked| parked.id == id).is_some()
    }

    /// Lets a polling request wait. Where nothing polls it is dropped, and its session is unknown.
    pub(in crate::engine) fn park_poll(&mut self, parked: Parked) {
        if let Sink::Poll(poll) = &mut self.sink {
            *poll = Some(parked);
        }
    }

    /// Whether a polling request may wait, or be answered, without the driver.
    pub(super) fn takes_polls(&self) -> bool {
        self.turn == Turn::Polling
            && matches!(self.sink, Sink::Poll(None))
            && self.control.is_empty()
            && self.life.is_open()
            && !self.is_attaching()
    }

    fn is_in_turn(&self) -> bool {
        matches!(self.turn, Turn::Running | Turn::Recalled)
    }

    /// Wakes the driver, or lets it have another turn after the one it has. Waking only schedules, so
    /// it may be done under the lock.
    pub(super) fn wake_driver(&mut self) {
        match self.turn {
            Turn::Running | Turn::Recalled => self.turn = Turn::Recalled,
            // Where there is no waker any more, somebody else has woken it already.
            Turn::Parked | Turn::Polling => {
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
            Turn::Parked
        };
        match &self.waker {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => self.waker = Some(waker.clone()),
        }
        if again {
            TurnEnd::Again
        } else {
            TurnEnd::Parked
        }
    }

    /// The driver goes away: nothing leaves any more, and nobody is waited for. What it leaves behind is
    /// to be dropped without the lock.
    pub(in crate::engine) fn detach(&mut self, pressure: &Pressure) -> impl Sized + use<H> {
        self.seal(CloseReason::TransportError);
        self.clear(pressure);
        let sink = std::mem::replace(&mut self.sink, Sink::Detached);
        (std::mem::take(&mut self.control), sink, self.waker.take())
    }

    /// No more frames are taken from here on.
    pub(in crate::engine) fn seal(&mut self, reason: CloseReason) {
        if self.life.is_open() {
            self.life = Life::Sealed(reason);
        }
    }

    /// The client does not keep up: no more frames are taken. What waits is forgotten at once if that
    /// is for the sake of others; else its driver tries a last time to get some of it out first.
    /// Nothing that was queued later than what is forgotten will leave.
    #[cold]
    pub(super) fn cut(&mut self, budget: Budget, pressure: &Pressure) {
        self.life = Life::Cut(budget);
        // It has lost its place, too.
        self.recent = None;
        self.filed = None;
        match budget {
            Budget::Connection => {}
            Budget::Total => self.forget_unsent(pressure),
        }
        self.wake_driver();
    }

    /// Forgets what is queued, but for the rest of a frame that has left in part. Of a batch that is
    /// being written nothing is here.
    pub(in crate::engine) fn forget_unsent(&mut self, pressure: &Pressure) {
        self.forget(self.offset > 0 && self.writer != Writer::Writing, pressure);
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
