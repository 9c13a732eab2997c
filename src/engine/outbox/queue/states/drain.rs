//! Whether the application is notified when everything has been sent.
//!
//! | event | `Unwatched` | `Watched` | `Due` |
//! |---|---|---|---|
//! | the application requests a notification | `Watched` | unchanged | unchanged |
//! | everything has been sent | – | `Due`; the driver is woken | – |
//! | the driver's iteration begins | – | – | `Unwatched`; the application is notified |

use super::StateMachine;

/// Whether the application is notified when everything has been sent.
#[derive(Debug)]
pub(in crate::engine::outbox::queue) struct Drain(State);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unwatched,
    Watched,
    /// Everything has been sent, and the driver must notify the application.
    Due,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Watch,
    Complete,
    Notify,
}

impl StateMachine for State {
    type Event = Event;

    #[inline]
    fn after(self, event: Event) -> Option<Self> {
        match (event, self) {
            (Event::Watch, Self::Unwatched | Self::Watched) => Some(Self::Watched),
            (Event::Watch, Self::Due) | (Event::Complete, Self::Watched) => Some(Self::Due),
            (Event::Notify, Self::Due) => Some(Self::Unwatched),
            (Event::Complete, Self::Unwatched | Self::Due)
            | (Event::Notify, Self::Unwatched | Self::Watched) => None,
        }
    }
}

impl Drain {
    pub(in crate::engine::outbox::queue) fn new() -> Self {
        Self(State::Unwatched)
    }

    /// Records that the application is to be notified.
    pub(in crate::engine::outbox::queue) fn watch(&mut self) {
        self.0.apply(Event::Watch);
    }

    /// Records that everything has been sent. Returns whether the driver must be woken.
    #[must_use]
    pub(in crate::engine::outbox::queue) fn complete(&mut self) -> bool {
        self.0.apply(Event::Complete)
    }

    /// Returns whether the caller must notify the application, and records that it does.
    #[must_use]
    pub(in crate::engine::outbox::queue) fn notify(&mut self) -> bool {
        self.0.apply(Event::Notify)
    }

    #[inline]
    pub(in crate::engine::outbox::queue) fn is_watched(&self) -> bool {
        self.0 == State::Watched
    }

    /// Returns whether the driver must notify the application.
    pub(in crate::engine::outbox::queue) fn is_due(&self) -> bool {
        self.0 == State::Due
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{check, every},
        *,
    };

    #[test]
    fn drain_has_a_next_state_or_refusal_for_each_event() {
        use State::{Due, Unwatched, Watched};

        let states = every! { State:
            Unwatched => Unwatched,
            Watched => Watched,
            Due => Due,
        };
        let table = every! { Event:
            Event::Watch => (Event::Watch, [Some(Watched), Some(Watched), Some(Due)]),
            Event::Complete => (Event::Complete, [None, Some(Due), None]),
            Event::Notify => (Event::Notify, [None, None, Some(Unwatched)]),
        };
        check(states, table);
    }
}
