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
//! Each state is an enum in a module of its own, and the events of that module are the only way to
//! change it. The documentation of each module lists all states and events. A dash marks an event
//! that the state refuses: the state is unchanged. A test of each module checks the whole table,
//! and does not compile if a state or an event has no row.
//!
//! All senders, the driver, the flusher and requests that poll share an outbox. A lost wake-up
//! stalls a client, and an unnecessary wake-up makes every broadcast slower. With explicit states,
//! the tables show each wake-up. `src/engine/tests/model` compares the outbox with a naive queue
//! under random operations.

mod drain;
mod driver_state;
mod ping_state;
mod queue_state;
mod sink;
mod writer;

use std::ops::Deref;

pub(super) use drain::{Drain, Event as DrainEvent};
pub(super) use driver_state::{DriverState, Event as DriverEvent};
pub(in crate::engine::outbox) use ping_state::{Event as PingEvent, PingState};
pub(in crate::engine) use queue_state::Budget;
pub(super) use queue_state::{Event as QueueEvent, QueueState};
pub(super) use sink::Sink;
pub(super) use writer::{Event as WriterEvent, Writer};

/// A state that changes only by events.
pub(in crate::engine::outbox) trait State: Copy {
    type Event;

    /// Returns the state after the event, or `None` if this state refuses the event.
    fn after(self, event: Self::Event) -> Option<Self>;
}

/// A state, which cannot be changed in another way.
#[derive(Debug, Default)]
pub(in crate::engine::outbox) struct Machine<S>(S);

impl<S: State> Machine<S> {
    /// Changes the state. Returns `false` if it refuses the event.
    #[inline]
    pub(in crate::engine::outbox) fn apply(&mut self, event: S::Event) -> bool {
        let next = self.0.after(event);
        if let Some(next) = next {
            self.0 = next;
        }
        next.is_some()
    }
}

impl<S> Deref for Machine<S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        &self.0
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
    S: State<Event: Copy + std::fmt::Debug> + PartialEq + std::fmt::Debug,
{
    for (event, row) in table {
        for (state, next) in states.into_iter().zip(row) {
            let mut machine = Machine(state);
            assert_eq!(machine.apply(event), next.is_some(), "{state:?}, {event:?}");
            assert_eq!(*machine, next.unwrap_or(state), "{state:?}, {event:?}");
        }
    }
}
