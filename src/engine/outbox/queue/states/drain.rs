//! Whether the application is notified when everything has been sent.
//!
//! | event | `Unwatched` | `Watched` | `Due` |
//! |---|---|---|---|
//! | the application requests a notification | `Watched` | unchanged | unchanged |
//! | everything has been sent | – | `Due`; the driver is woken | – |
//! | the driver's iteration begins | – | – | `Unwatched`; the application is notified |

use super::State;

/// Whether the application is notified when everything has been sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::outbox::queue) enum Drain {
    #[default]
    Unwatched,
    Watched,
    /// Everything has been sent, and the driver must notify the application.
    Due,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::engine::outbox::queue) enum Event {
    /// The application requests a notification.
    Watch,
    /// Everything has been sent, so the driver must be woken.
    Complete,
    /// The driver notifies the application.
    Notify,
}

impl State for Drain {
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
    #[inline]
    pub(in crate::engine::outbox::queue) fn is_watched(&self) -> bool {
        *self == Self::Watched
    }

    /// Returns whether the driver must notify the application.
    pub(in crate::engine::outbox::queue) fn is_due(&self) -> bool {
        *self == Self::Due
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
        use Drain::{Due, Unwatched, Watched};

        let states = every! { Drain:
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
