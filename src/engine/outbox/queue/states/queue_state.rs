//! Whether the session accepts frames. The first end of a session is final.
//!
//! | event | `Open` | `Sealed` | `Superseded` | `Overflow` |
//! |---|---|---|---|---|
//! | the session ends | `Sealed` | – | – | – |
//! | the client has a new session | `Superseded` | – | – | – |
//! | the client is too slow | `Overflow` | – | – | – |
//!
//! While a session is open, a frame that arrives is queued, conflated, dropped, or cuts the
//! session. After its end the frame is refused, but still retained for recovery, unless the session
//! was cut.
//!
//! A session that has ended is never cut: its queue no longer counts for load shedding, and its
//! client may resume it with the retained frames.

use roomcast_protocol::engine::CloseReason;

use super::State;

/// Whether the session accepts frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::engine::outbox::queue) enum QueueState {
    #[default]
    Open,
    /// The session has ended. Frames queued before may still be sent.
    Sealed(CloseReason),
    /// The client has a new session. Frames queued before are still sent, because the old client
    /// may still be reading.
    Superseded,
    /// The session was ended because its client is too slow.
    Overflow(Budget),
}

/// The budget that a slow client exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Budget {
    /// The budget of the connection.
    Connection,
    /// The budget of all connections together.
    Total,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::engine::outbox::queue) enum Event {
    /// The session has ended.
    Seal(CloseReason),
    /// The client has a new session.
    Supersede,
    /// The client is too slow.
    Overflow(Budget),
}

impl State for QueueState {
    type Event = Event;

    #[inline]
    fn after(self, event: Event) -> Option<Self> {
        match (event, self) {
            (Event::Seal(reason), Self::Open) => Some(Self::Sealed(reason)),
            (Event::Supersede, Self::Open) => Some(Self::Superseded),
            (Event::Overflow(budget), Self::Open) => Some(Self::Overflow(budget)),
            (
                Event::Seal(_) | Event::Supersede | Event::Overflow(_),
                Self::Sealed(_) | Self::Superseded | Self::Overflow(_),
            ) => None,
        }
    }
}

impl QueueState {
    #[inline]
    pub(in crate::engine::outbox::queue) fn is_open(&self) -> bool {
        matches!(self, Self::Open)
    }

    pub(in crate::engine::outbox::queue) fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded)
    }

    /// Returns why the session has ended, if it has.
    pub(in crate::engine::outbox::queue) fn closed(&self) -> Option<CloseReason> {
        match *self {
            Self::Open => None,
            Self::Sealed(reason) => Some(reason),
            Self::Superseded => Some(CloseReason::TransportClose),
            Self::Overflow(_) => Some(CloseReason::Overflow),
        }
    }

    /// Returns the budget whose excess ended the session, if any.
    pub(in crate::engine::outbox::queue) fn exceeded(&self) -> Option<Budget> {
        match *self {
            Self::Overflow(budget) => Some(budget),
            Self::Open | Self::Sealed(_) | Self::Superseded => None,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::{
        super::{check, every},
        *,
    };

    #[test]
    fn queue_has_a_next_state_or_refusal_for_each_event() {
        use QueueState::{Open, Overflow, Sealed, Superseded};

        const REASON: CloseReason = CloseReason::PingTimeout;
        let states = every! { QueueState:
            Open => Open,
            Sealed(_) => Sealed(CloseReason::ForcedClose),
            Superseded => Superseded,
            Overflow(Budget::Connection) => Overflow(Budget::Connection),
            Overflow(Budget::Total) => Overflow(Budget::Total),
        };
        let [connection, total] = [Budget::Connection, Budget::Total];
        let only_open = |next| [Some(next), None, None, None, None];
        let table = every! { Event:
            Event::Seal(_) => (Event::Seal(REASON), only_open(Sealed(REASON))),
            Event::Supersede => (Event::Supersede, only_open(Superseded)),
            Event::Overflow(Budget::Connection) => (Event::Overflow(connection), only_open(Overflow(connection))),
            Event::Overflow(Budget::Total) => (Event::Overflow(total), only_open(Overflow(total))),
        };
        check(states, table);
    }
}
