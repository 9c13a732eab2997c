//! Whether the driver's iteration is running.
//!
//! | event | `Idle` | `Polling` | `Running` | `RunAgain` |
//! |---|---|---|---|---|
//! | an iteration begins | `Running` | `Running` | unchanged | `Running` |
//! | the driver is woken | unchanged | unchanged | `RunAgain` | unchanged |
//! | the iteration ends | – | – | `Idle` or `Polling` | `Idle` or `Polling` |
//!
//! A wake of an idle driver calls its waker, once. After `RunAgain`, another iteration follows.
//!
//! The end of an iteration checks for new work and stores the waker under one lock. Work that
//! arrives earlier is seen, and later work finds the waker, so no wake is lost.
//!
//! The task that opens a WebSocket begins the first iteration before the driver runs, so an
//! iteration may begin twice.

use super::State;

/// Whether the driver's iteration is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::outbox::queue) enum DriverState {
    /// The driver is idle and must be woken for polling requests.
    #[default]
    Idle,
    /// The driver is idle, and a polling request may wait without it.
    Polling,
    /// The driver is running and writes the queue at the end of its iteration.
    Running,
    /// The driver is running and another iteration is requested.
    RunAgain,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::engine::outbox::queue) enum Event {
    Begin,
    Wake,
    End {
        /// Whether a polling request may wait without the driver.
        takes_polls: bool,
    },
}

impl State for DriverState {
    type Event = Event;

    #[inline]
    fn after(self, event: Event) -> Option<Self> {
        use DriverState::{Idle, Polling, RunAgain, Running};

        match (event, self) {
            (Event::Begin, Idle | Polling | Running | RunAgain) => Some(Running),
            (Event::Wake, Idle | Polling) => Some(self),
            (Event::Wake, Running | RunAgain) => Some(RunAgain),
            (Event::End { .. }, Idle | Polling) => None,
            (Event::End { takes_polls: false }, Running | RunAgain) => Some(Idle),
            (Event::End { takes_polls: true }, Running | RunAgain) => Some(Polling),
        }
    }
}

impl DriverState {
    #[inline]
    pub(in crate::engine::outbox::queue) fn is_running(&self) -> bool {
        matches!(self, Self::Running | Self::RunAgain)
    }

    /// Returns whether another iteration was requested.
    pub(in crate::engine::outbox::queue) fn runs_again(&self) -> bool {
        *self == Self::RunAgain
    }

    /// Returns whether a polling request may wait without the driver.
    pub(in crate::engine::outbox::queue) fn takes_polls(&self) -> bool {
        *self == Self::Polling
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Machine, check, every},
        *,
    };

    #[test]
    fn driver_has_a_next_state_or_refusal_for_each_event() {
        use DriverState::{Idle, Polling, RunAgain, Running};

        let states = every! { DriverState:
            Idle => Idle,
            Polling => Polling,
            Running => Running,
            RunAgain => RunAgain,
        };
        let [leaves_polls, takes_polls] =
            [false, true].map(|takes_polls| Event::End { takes_polls });
        let (none, idle, polling) = (None, Some(Idle), Some(Polling));
        let (running, again) = (Some(Running), Some(RunAgain));
        let table = every! { Event:
            Event::Begin => (Event::Begin, [running, running, running, running]),
            Event::Wake => (Event::Wake, [idle, polling, again, again]),
            Event::End { takes_polls: false } => (leaves_polls, [none, none, idle, idle]),
            Event::End { takes_polls: true } => (takes_polls, [none, none, polling, polling]),
        };
        check(states, table);
    }

    #[test]
    fn wake_during_an_iteration_requests_another() {
        let mut driver = Machine::<DriverState>::default();
        driver.apply(Event::Wake);
        assert!(
            !driver.is_running(),
            "the waker of an idle driver is called"
        );
        driver.apply(Event::Begin);
        assert!(!driver.runs_again());
        driver.apply(Event::Wake);
        assert!(driver.is_running() && driver.runs_again());
        driver.apply(Event::End { takes_polls: true });
        assert!(driver.takes_polls());
        driver.apply(Event::Begin);
        assert!(!driver.runs_again());
    }
}
