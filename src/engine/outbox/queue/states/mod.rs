//! The states of an outbox. The lock of the queue guards all of them.
//!
//! | state | what it records |
//! |---|---|
//! | [`Writer`] | which task writes |
//! | [`DriverState`] | whether the driver's iteration is running |
//! | [`QueueState`] | whether the session accepts frames |
//! | [`Sink`] | the transport of the session |
//! | [`Drain`] | whether a drain is watched |
//! | [`PingState`] | which task sends the pings |
//!
//! Each state is a private enum in a module of its own, and its methods are the only way to change
//! it. The documentation of each module lists all states and events. A dash marks an event that the
//! state refuses: the state is unchanged, and the method returns `false` or nothing. A test of each
//! module checks the whole table, and does not compile if a state or an event has no row.

mod drain;
mod driver_state;
mod ping_state;
mod queue_state;
mod sink;
mod writer;

pub(super) use drain::Drain;
pub(super) use driver_state::DriverState;
pub(in crate::engine::outbox) use ping_state::PingState;
pub(in crate::engine) use queue_state::Budget;
pub(super) use queue_state::QueueState;
pub(super) use sink::Sink;
pub(super) use writer::Writer;

/// A state that changes only by events.
trait StateMachine: Copy {
    type Event;

    /// Returns the state after the event, or `None` if this state refuses the event.
    fn after(self, event: Self::Event) -> Option<Self>;

    /// Changes the state. Returns `false` if it refuses the event.
    #[inline]
    fn apply(&mut self, event: Self::Event) -> bool {
        let next = self.after(event);
        if let Some(next) = next {
            *self = next;
        }
        next.is_some()
    }
}

/// The task to wake. `O` is the handle of an outbox.
#[must_use]
pub(in crate::engine::outbox) enum Wake<O> {
    None,
    Flusher,
    /// The flusher of another outbox to which the frame was passed on.
    FlusherOf(O),
}

impl<O> Wake<O> {
    /// Combines two wakes for one outbox; either of them is sufficient.
    pub(in crate::engine::outbox) fn or(self, other: Self) -> Self {
        match self {
            Self::None => other,
            wake @ (Self::Flusher | Self::FlusherOf(_)) => wake,
        }
    }
}

/// Lists a value for each variant of an enum. Does not compile if a variant is missing.
#[cfg(test)]
macro_rules! every {
    ($type:ty: $($variant:pat => $value:expr,)+) => {{
        fn _every(value: $type) {
            match value {
                $($variant => {})+
            }
        }
        [$($value),+]
    }};
}
#[cfg(test)]
use every;

/// Checks the state after each event in each state; `None` is a refusal.
#[cfg(test)]
fn check<S, const STATES: usize, const EVENTS: usize>(
    states: [S; STATES],
    table: [(S::Event, [Option<S>; STATES]); EVENTS],
) where
    S: StateMachine<Event: Copy + std::fmt::Debug> + PartialEq + std::fmt::Debug,
{
    for (event, row) in table {
        for (state, next) in states.into_iter().zip(row) {
            let mut changed = state;
            assert_eq!(changed.apply(event), next.is_some(), "{state:?}, {event:?}");
            assert_eq!(changed, next.unwrap_or(state), "{state:?}, {event:?}");
        }
    }
}
