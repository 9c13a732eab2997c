//! The states of an outbox. The lock of the queue guards all of these enums.
//!
//! **Which task writes**: [`Writer`]. Unless it is `Nobody`, a task is certain to check the queue
//! again, so a task that queues a frame wakes no other task.
//!
//! | state | event | next state |
//! |---|---|---|
//! | `Nobody` | a frame is queued | `Enqueued`; the flusher is woken |
//! | `Nobody` | `flush` begins | `Writing` |
//! | `Nobody` | the driver finds no room | `Blocked` |
//! | `Enqueued` | `flush` begins | `Writing`, or `Nobody` if nothing is queued |
//! | `Enqueued` | the driver finds no room | `Blocked` |
//! | `Writing` | a frame is queued | unchanged; the next batch includes it |
//! | `Writing` | `flush` begins | unchanged; that call returns immediately |
//! | `Writing` | everything is written | `Nobody` |
//! | `Writing` | no room | `Blocked`; the driver is woken |
//! | `Writing` | four batches are written, more is queued | `Enqueued`, at the end of the list |
//! | `Writing` | an error | `Nobody`; the session is sealed and its queue is dropped |
//! | `Blocked` | a frame is queued | unchanged; the frame waits and counts |
//! | `Blocked` | `flush` begins | unchanged; that call returns immediately |
//! | `Blocked` | the driver finds room | `Nobody`; the driver writes |
//!
//! A session that is upgraded to a WebSocket is `Blocked` exactly if the stream has buffered data.
//!
//! In `Nobody`, a queued frame waits in two cases. While the driver's iteration is running, the
//! driver writes it at the end. While there is no sink to write to, the next poll takes it. A batch
//! that is put back after the driver has ended is dropped.
//!
//! **Whether the driver's iteration is running**: [`DriverState`].
//!
//! | state | iteration begins | driver is woken | iteration ends |
//! |---|---|---|---|
//! | `Idle`, `Polling` | `Running` | its waker is called, once | |
//! | `Running` | | `RunAgain` | `Idle` or `Polling`, after it has written queued frames |
//! | `RunAgain` | | | the same, and another iteration follows |
//!
//! The end of an iteration checks for new work and stores the waker under one lock. Work that
//! arrives earlier is seen, and later work finds the waker, so no wake is lost.
//!
//! **Whether the session accepts frames**: [`QueueState`], which never returns to `Open`.
//!
//! | state | sealed | superseded | cut | a frame arrives |
//! |---|---|---|---|---|
//! | `Open` | `Sealed` | `Superseded` | `Cut` | queued, conflated, dropped, or cuts the session |
//! | `Sealed`, `Superseded` | | | | refused, but still retained for recovery |
//! | `Cut` | | | | refused, and not retained |
//!
//! **Where frames are sent**: [`Sink`], which changes once from `Poll` to `WebSocket`, and to
//! `Detached` when the driver ends. A request can wait only while polling. **Whether a drain is
//! watched**: [`Drain`]. **Which task sends the pings**: [`PingState`].

use std::time::Instant;

use roomcast_protocol::engine::CloseReason;

use crate::engine::{outbox::queue::requests::PendingPoll, transport::Stream};

/// The task that writes the queue, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::outbox) enum Writer {
    /// No task. A task that queues a frame must arrange for writing it.
    Nobody,
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

/// Whether the driver's iteration is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::outbox) enum DriverState {
    /// The driver is idle and must be woken for polling requests.
    Idle,
    /// The driver is idle, and a polling request may wait without it.
    Polling,
    /// The driver is running and writes the queue at the end of its iteration.
    Running,
    /// The driver is running and another iteration is requested.
    RunAgain,
}

/// Whether the session accepts frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::outbox) enum QueueState {
    Open,
    /// The session has ended. Frames queued before may still be sent.
    Sealed(CloseReason),
    /// The client has a new session. Frames queued before are still sent, because the old client
    /// may still be reading.
    Superseded,
    /// The session was ended because its client is too slow.
    Cut(Budget),
}

impl QueueState {
    pub(in crate::engine::outbox) fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }

    /// Returns why the session has ended, if it has.
    pub(in crate::engine::outbox) fn closed(self) -> Option<CloseReason> {
        match self {
            Self::Open => None,
            Self::Sealed(reason) => Some(reason),
            Self::Superseded => Some(CloseReason::TransportClose),
            Self::Cut(_) => Some(CloseReason::Overflow),
        }
    }
}

/// Whether the application is notified when everything has been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::outbox) enum Drain {
    Unwatched,
    Watched,
    /// Everything has been sent, and the driver must notify the application.
    Due,
}

/// The budget that a slow client exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Budget {
    /// The budget of the connection.
    Connection,
    /// The budget of all connections together.
    Total,
}

impl Budget {
    /// Returns the description for the application.
    pub(in crate::engine) const fn description(self) -> &'static str {
        match self {
            Self::Connection => "more than outbox_bytes waited for the client",
            Self::Total => "more than total_outbox_bytes waited for slow clients",
        }
    }
}

/// The heartbeat state of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::outbox) enum PingState {
    /// The driver sends the pings of its session.
    #[default]
    ByDriver,
    /// The timer wheel sends the next ping, not before this time.
    Due(Instant),
    /// The timer wheel sent a ping at this time, and no pong has arrived.
    Sent(Instant),
}

/// Where frames are sent.
pub(in crate::engine) enum Sink {
    /// A WebSocket that any task may flush.
    WebSocket(Stream),
    /// The waiting polling request; `None` between two polls.
    Poll(Option<PendingPoll>),
    /// Nowhere; frames wait.
    Detached,
}

/// The task to wake. `O` is the handle of an outbox.
#[must_use]
pub(in crate::engine::outbox) enum Wake<O> {
    Nobody,
    Flusher,
    /// The flusher of another outbox to which the frame was passed on.
    FlusherOf(O),
}

impl<O> Wake<O> {
    /// Combines two wakes for one outbox; either of them is sufficient.
    pub(in crate::engine::outbox) fn or(self, other: Self) -> Self {
        match self {
            Self::Nobody => other,
            wake @ (Self::Flusher | Self::FlusherOf(_)) => wake,
        }
    }
}
