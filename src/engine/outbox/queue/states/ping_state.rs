//! Which task sends the pings of a session, and when the timer wheel sent the last one.
//!
//! | event | `ByDriver` | `Due` | `Sent` |
//! |---|---|---|---|
//! | the driver registers the session | `Due` | `Due`, at the new time | – |
//! | the timer wheel sends a ping | – | `Sent` | – |
//! | a pong arrives | – | – | `Due` |
//!
//! If the timer wheel is full, the state is `Due` although the driver sends the pings. The driver
//! registers the session again after the next pong.

use std::time::Instant;

use super::State;

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

#[derive(Clone, Copy, Debug)]
pub(in crate::engine::outbox) enum Event {
    /// The timer wheel sends the pings, the next one not before this time.
    Register(Instant),
    /// The timer wheel sends a ping now.
    Send(Instant),
    /// A pong has arrived, and the next ping is due at this time.
    Confirm(Instant),
}

impl State for PingState {
    type Event = Event;

    #[inline]
    fn after(self, event: Event) -> Option<Self> {
        match (event, self) {
            (Event::Register(at), Self::ByDriver | Self::Due(_))
            | (Event::Confirm(at), Self::Sent(_)) => Some(Self::Due(at)),
            (Event::Send(now), Self::Due(_)) => Some(Self::Sent(now)),
            (Event::Register(_), Self::Sent(_))
            | (Event::Send(_), Self::ByDriver | Self::Sent(_))
            | (Event::Confirm(_), Self::ByDriver | Self::Due(_)) => None,
        }
    }
}

impl PingState {
    /// Returns when the wheel sends the next ping, if it awaits no pong.
    pub(in crate::engine::outbox) fn due_at(&self) -> Option<Instant> {
        match *self {
            Self::Due(at) => Some(at),
            Self::ByDriver | Self::Sent(_) => None,
        }
    }

    /// Returns when the wheel sent a ping that is still unanswered.
    pub(in crate::engine::outbox) fn sent_at(&self) -> Option<Instant> {
        match *self {
            Self::Sent(at) => Some(at),
            Self::ByDriver | Self::Due(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{check, every},
        *,
    };

    #[test]
    fn pings_have_a_next_state_or_refusal_for_each_event() {
        use PingState::{ByDriver, Due, Sent};

        let now = Instant::now();
        let [due, sent, next] = [1, 2, 3].map(|second| now + Duration::from_secs(second));
        let states = every! { PingState:
            ByDriver => ByDriver,
            Due(_) => Due(due),
            Sent(_) => Sent(sent),
        };
        let table = every! { Event:
            Event::Register(_) => (Event::Register(next), [Some(Due(next)), Some(Due(next)), None]),
            Event::Send(_) => (Event::Send(next), [None, Some(Sent(next)), None]),
            Event::Confirm(_) => (Event::Confirm(next), [None, None, Some(Due(next))]),
        };
        check(states, table);
    }
}
