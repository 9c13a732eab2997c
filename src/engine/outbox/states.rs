//! What an outbox can be in. Each of these enums answers one question, and all are guarded by the lock of
//! the queue.
//!
//! **Who writes**: [`Writer`]. As long as it is not `Nobody`, somebody is bound to look at the queue again,
//! and whoever queues a frame wakes nobody.
//!
//! | state | a frame is queued | `flush` begins | all is written | no room | four batches were written, and there is more | an error | the driver finds room | the driver finds none |
//! |---|---|---|---|---|---|---|---|---|
//! | `Nobody` | `Listed`, and the flusher is woken | `Writing` | | | | | | `Blocked` |
//! | `Listed` | | `Writing`, or `Nobody` with nothing to write | | | | | | `Blocked` |
//! | `Writing` | taken along by the next batch | returns at once | `Nobody` | `Blocked`, and the driver is woken | `Listed`, behind the others | `Nobody`; the session is sealed, and nothing is left | | |
//! | `Blocked` | waits, and counts | returns at once | | | | | `Nobody`, and the driver writes | |
//!
//! A session that goes over to a WebSocket is `Blocked` if that has buffered something, and not otherwise.
//!
//! A frame is also left alone, in `Nobody`, while the driver has its turn (it writes at the end of it) and
//! while there is nowhere to write to: a poll that comes takes it along. A batch that is put back into a
//! queue whose driver has gone is forgotten.
//!
//! **Whether the driver has its turn**: [`Turn`].
//!
//! | state | turn begins | somebody wakes it | turn ends |
//! |---|---|---|---|
//! | `Idle`, `Polling` | `Running` | its waker is called, once | |
//! | `Running` | | `Recalled` | `Idle` or `Polling`; not while frames are left to it, which it writes first |
//! | `Recalled` | | | the same, and it has another turn |
//!
//! The end of a turn looks at everything that others may have left to it and stores the waker under one
//! lock. Whoever comes before that is seen, and whoever comes after it finds the waker: no wake is lost.
//!
//! **Whether the session takes frames**: [`Life`], which never goes back to `Open`.
//!
//! | state | sealed | superseded | cut | a frame comes |
//! |---|---|---|---|---|
//! | `Open` | `Sealed` | `Superseded` | `Cut` | it is queued, conflated or dropped, or cuts the session |
//! | `Sealed`, `Superseded` | | | | it is refused; what is kept for recovery is kept all the same |
//! | `Cut` | | | | it is refused, and nothing is kept |
//!
//! **Where frames go**: [`Sink`], from `Poll` to `WebSocket` once, and to `Detached` when the driver goes.
//! Only while polling a request can wait. **Whether somebody asked to be told that all has left**:
//! [`Drain`]. **Who sends the pings**: [`PingState`].

use std::time::Instant;

use roomcast_protocol::engine::CloseReason;

use super::requests::PendingPoll;
use crate::engine::transport::Stream;

/// Which task writes what is queued, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writer {
    /// No task writes. Whoever queues something has to arrange for writing it.
    Nobody,
    /// The session waits in the list of its flusher.
    Listed,
    /// A batch is out of the queue and is being written.
    Writing,
    /// The kernel took no more. Only the driver learns when it takes bytes again.
    Blocked {
        /// Whether the driver has asked to be woken then.
        is_awaited: bool,
    },
}

/// Whether the driver of the session has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// The driver does not run, and wants to be woken by polling requests.
    Idle,
    /// The driver does not run, and a polling request may wait without it.
    Polling,
    /// The driver runs, and writes what is queued at the end of its turn.
    Running,
    /// The driver runs, and has been asked for another turn.
    Recalled,
}

/// Whether the session takes frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// The session is over. What was queued before may still leave.
    Sealed(CloseReason),
    /// The client has a new session. What was queued before still leaves, because somebody may read it after all.
    Superseded,
    /// The session was cut off because its client does not keep up.
    Cut(Budget),
}

impl Life {
    pub(super) fn is_open(self) -> bool {
        matches!(self, Self::Open)
    }

    /// Why the session is over, if it is.
    pub(super) fn closed(self) -> Option<CloseReason> {
        match self {
            Self::Open => None,
            Self::Sealed(reason) => Some(reason),
            Self::Superseded => Some(CloseReason::TransportClose),
            Self::Cut(_) => Some(CloseReason::Overflow),
        }
    }
}

/// Whether the application wants to know when everything has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    Unwatched,
    Watched,
    /// Everything has left, and the driver has to tell the application.
    Due,
}

/// What a slow client was cut for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Budget {
    /// The budget of the connection.
    Connection,
    /// The budget of all connections together.
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
pub(super) enum PingState {
    /// The driver sends the pings of its session.
    #[default]
    ByDriver,
    /// The wheel sends a ping, not before this time.
    Due(Instant),
    /// The wheel has sent a ping at this time and there was no pong yet.
    Sent(Instant),
}

/// Where frames go.
pub(in crate::engine) enum Sink {
    /// A WebSocket that anyone may flush.
    WebSocket(Stream),
    /// The polling request that waits, or else the next one.
    Poll(Option<PendingPoll>),
    /// Frames go nowhere, and wait.
    Detached,
}

/// Which task has to be woken. `O` is the handle of an outbox.
#[must_use]
pub(super) enum Wake<O> {
    Nobody,
    Flusher,
    /// The flusher of another outbox, to which the frame was passed on.
    FlusherOf(O),
}

impl<O> Wake<O> {
    /// Joins two wakes for one outbox, of which either does what both would.
    pub(super) fn or(self, other: Self) -> Self {
        match self {
            Self::Nobody => other,
            wake @ (Self::Flusher | Self::FlusherOf(_)) => wake,
        }
    }
}
