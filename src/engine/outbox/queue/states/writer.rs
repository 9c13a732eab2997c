//! Which task writes the queue. Unless no task does, a task is certain to check the queue again, so
//! a task that queues a frame wakes no other task.
//!
//! | event | `Idle` | `Enqueued` | `Writing` | `Blocked` |
//! |---|---|---|---|---|
//! | a frame needs the flusher | `Enqueued` | – | – | – |
//! | a flush begins | unchanged | `Idle` | – | – |
//! | a batch is taken out | `Writing` | – | – | – |
//! | the batch is put back | – | – | `Idle` | – |
//! | the kernel has refused bytes of the batch | `Blocked` | – | – | – |
//! | the driver finds room, or upgrade to a flushed stream | unchanged | unchanged | – | `Idle` |
//! | the driver finds no room and awaits it | `Blocked` | `Blocked` | – | `Blocked` |
//! | upgrade to a stream with buffered data | `Blocked` | `Blocked` | – | `Blocked` |
//!
//! - After a batch is put back, the same task decides under the same lock: it takes the next batch,
//!   is blocked, or leaves more frames to the flusher after four batches.
//! - A write in progress determines itself whether there is room, so it refuses what the driver
//!   finds. A flush that finds a batch being written or no room returns immediately.
//! - While a session polls, no batch is taken out, so an upgrade never finds one.
//!
//! In `Idle`, a queued frame waits in two cases. While the driver's iteration is running, the
//! driver writes it at the end. While there is no transport to write to, the next poll takes it. A
//! batch that is put back after the driver has ended is dropped.

use super::State;

/// The task that writes the queue, or is about to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::outbox::queue) enum Writer {
    /// No task. A task that queues a frame must arrange for writing it.
    #[default]
    Idle,
    /// The session is in the list of its flusher.
    Enqueued,
    /// A batch has been taken out of the queue and is being written.
    Writing,
    /// The kernel accepts no more. Only the driver learns when it accepts bytes again.
    Blocked {
        /// Whether the driver has registered to be woken then.
        is_awaited: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(in crate::engine::outbox::queue) enum Event {
    /// The session is added to the list of its flusher. Refused if a task will check the queue.
    Enqueue,
    /// A task checks the queue, which is the work for which the session may be in the flusher's
    /// list. If the driver is first, the flusher finds nothing to do.
    BeginFlush,
    /// A batch is taken out. Refused if the caller must not write.
    TakeBatch,
    /// The batch is written or put back.
    PutBack,
    /// The kernel has refused bytes of the batch that was just put back. The driver does not await
    /// room yet.
    Block,
    /// The driver has found room, or a new stream is flushed.
    FindRoom,
    /// The driver has found no room, and is woken when there is some.
    AwaitRoom,
    /// Frames are written to a new stream with buffered data from now on.
    Upgrade,
}

impl State for Writer {
    type Event = Event;

    #[inline]
    fn after(self, event: Event) -> Option<Self> {
        use Writer::{Blocked, Enqueued, Idle, Writing};

        let next = match (event, self) {
            (Event::Enqueue, Idle) => Enqueued,
            (Event::BeginFlush, Idle | Enqueued) => Idle,
            (Event::TakeBatch, Idle) => Writing,
            (Event::PutBack, Writing) => Idle,
            (Event::Block, Idle) => Blocked { is_awaited: false },
            (Event::FindRoom, Idle | Enqueued) => self,
            (Event::FindRoom, Blocked { .. }) => Idle,
            (Event::AwaitRoom, Idle | Enqueued | Blocked { .. }) => Blocked { is_awaited: true },
            (Event::Upgrade, Idle | Enqueued | Blocked { .. }) => Blocked { is_awaited: false },
            (Event::Enqueue | Event::TakeBatch | Event::Block, Enqueued | Blocked { .. })
            | (Event::BeginFlush, Blocked { .. })
            | (Event::PutBack, Idle | Enqueued | Blocked { .. })
            | (
                Event::Enqueue
                | Event::BeginFlush
                | Event::TakeBatch
                | Event::Block
                | Event::FindRoom
                | Event::AwaitRoom
                | Event::Upgrade,
                Writing,
            ) => return None,
        };
        Some(next)
    }
}

impl Writer {
    /// Returns whether no task writes or is about to.
    #[inline]
    pub(in crate::engine::outbox::queue) fn is_idle(&self) -> bool {
        *self == Self::Idle
    }

    #[inline]
    pub(in crate::engine::outbox::queue) fn is_writing(&self) -> bool {
        *self == Self::Writing
    }

    #[inline]
    pub(in crate::engine::outbox::queue) fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked { .. })
    }

    /// Returns whether the driver must register to be woken when there is room.
    pub(in crate::engine::outbox::queue) fn is_unattended(&self) -> bool {
        *self == Self::Blocked { is_awaited: false }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check, every},
        *,
    };

    #[test]
    fn writer_has_a_next_state_or_refusal_for_each_event() {
        use Writer::{Blocked, Enqueued, Idle, Writing};

        const UNAWAITED: Writer = Blocked { is_awaited: false };
        const AWAITED: Writer = Blocked { is_awaited: true };
        let states = every! { Writer:
            Idle => Idle,
            Enqueued => Enqueued,
            Writing => Writing,
            Blocked { is_awaited: false } => UNAWAITED,
            Blocked { is_awaited: true } => AWAITED,
        };
        let (none, idle, enqueued) = (None, Some(Idle), Some(Enqueued));
        let (writing, unawaited, awaited) = (Some(Writing), Some(UNAWAITED), Some(AWAITED));
        let table = every! { Event:
            Event::Enqueue => (Event::Enqueue, [enqueued, none, none, none, none]),
            Event::BeginFlush => (Event::BeginFlush, [idle, idle, none, none, none]),
            Event::TakeBatch => (Event::TakeBatch, [writing, none, none, none, none]),
            Event::PutBack => (Event::PutBack, [none, none, idle, none, none]),
            Event::Block => (Event::Block, [unawaited, none, none, none, none]),
            Event::FindRoom => (Event::FindRoom, [idle, enqueued, none, idle, idle]),
            Event::AwaitRoom => (Event::AwaitRoom, [awaited, awaited, none, awaited, awaited]),
            Event::Upgrade => {
                (Event::Upgrade, [unawaited, unawaited, none, unawaited, unawaited])
            },
        };
        check(states, table);
    }
}
