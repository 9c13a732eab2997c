//! The transport of a session, which has one owner: its outbox. Frames are sent to it, the driver
//! reads from it, and requests are checked against it. All of them ask the outbox and retain no
//! handle to its stream. The state machine of the protocol has a phase of the upgrade for its own
//! rules, which no code of the engine reads as the transport.
//!
//! | event | `Announced` | `Polling` | `WebSocket` | `Ended` |
//! |---|---|---|---|---|
//! | the announced session opens | `WebSocket` | – | – | – |
//! | the session is upgraded | – | `WebSocket` | – | – |
//! | a poll arrives | – | the poll waits, instead of an earlier one | – | – |
//! | the waiting poll is taken out | – | no poll waits | – | – |
//! | the driver ends | `Ended` | `Ended` | `Ended` | unchanged |
//!
//! The upgrade and the end return the waiting poll, and the end also the stream. A refused poll is
//! dropped, and so is an earlier one that is replaced. Both are answered like polls for an unknown
//! session.

use roomcast_protocol::engine::Transport;

/// The transport of a session: its stream of type `S`, or its waiting polling request of type `P`.
#[derive(Debug)]
pub(in crate::engine) struct Sink<S, P>(State<S, P>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State<S, P> {
    /// None yet: the client may know the session, but no driver runs.
    Announced,
    /// The waiting polling request; `None` between two polls.
    Polling(Option<P>),
    /// A WebSocket that any task may flush.
    WebSocket(S),
    /// None: the driver has ended.
    Ended,
}

#[derive(Clone, Copy, Debug)]
enum Event<S, P> {
    Open(S),
    Upgrade(S),
    StorePoll(P),
    TakePoll,
    End,
}

/// The stream and the waiting poll that a transport no longer uses.
type Removed<S, P> = (Option<S>, Option<P>);

impl<S, P> State<S, P> {
    /// Returns the state after the event, and what the event has removed from the earlier state.
    ///
    /// Inlined, because each caller has a constant event: a poll then takes 200 instructions less.
    #[inline(always)]
    fn after(self, event: Event<S, P>) -> (Self, Removed<S, P>) {
        match (event, self) {
            (Event::Open(stream), Self::Announced) => (Self::WebSocket(stream), (None, None)),
            (Event::Upgrade(stream), Self::Polling(poll)) => {
                (Self::WebSocket(stream), (None, poll))
            }
            (Event::StorePoll(new), Self::Polling(poll)) => {
                (Self::Polling(Some(new)), (None, poll))
            }
            (Event::TakePoll, Self::Polling(poll)) => (Self::Polling(None), (None, poll)),
            (Event::End, Self::Polling(poll)) => (Self::Ended, (None, poll)),
            (Event::End, Self::WebSocket(stream)) => (Self::Ended, (Some(stream), None)),
            (Event::End, Self::Announced | Self::Ended) => (Self::Ended, (None, None)),
            (Event::Open(_), state @ (Self::Polling(_) | Self::WebSocket(_) | Self::Ended))
            | (
                Event::Upgrade(_) | Event::StorePoll(_) | Event::TakePoll,
                state @ (Self::Announced | Self::WebSocket(_) | Self::Ended),
            ) => (state, (None, None)),
        }
    }

    #[inline(always)]
    fn apply(&mut self, event: Event<S, P>) -> Removed<S, P> {
        let (next, removed) = std::mem::replace(self, Self::Ended).after(event);
        *self = next;
        removed
    }
}

impl<S, P> Sink<S, P> {
    /// Returns the transport of a session that is announced to its client.
    pub(in crate::engine) fn announced() -> Self {
        Self(State::Announced)
    }

    pub(in crate::engine) fn polling() -> Self {
        Self(State::Polling(None))
    }

    pub(in crate::engine) fn websocket(stream: S) -> Self {
        Self(State::WebSocket(stream))
    }

    /// Sets the stream of an announced session.
    pub(in crate::engine::outbox::queue) fn open(&mut self, stream: S) {
        self.0.apply(Event::Open(stream));
    }

    /// Replaces polling by this stream. Returns the polling request that is still waiting.
    #[must_use]
    pub(in crate::engine::outbox::queue) fn upgrade(&mut self, stream: S) -> Option<P> {
        let (_, poll) = self.0.apply(Event::Upgrade(stream));
        poll
    }

    /// Lets a polling request wait. If the session does not poll, the request is dropped.
    pub(in crate::engine::outbox::queue) fn store_poll(&mut self, poll: P) {
        self.0.apply(Event::StorePoll(poll));
    }

    /// Takes out the waiting polling request.
    pub(in crate::engine::outbox::queue) fn take_poll(&mut self) -> Option<P> {
        let (_, poll) = self.0.apply(Event::TakePoll);
        poll
    }

    /// Ends the transport. Returns its stream or its waiting polling request.
    pub(in crate::engine::outbox::queue) fn end(&mut self) -> Removed<S, P> {
        self.0.apply(Event::End)
    }

    /// Returns the kind of the transport; a session without transport counts as polling.
    #[inline]
    pub(in crate::engine::outbox::queue) fn transport(&self) -> Transport {
        match self.0 {
            State::WebSocket(_) => Transport::WebSocket,
            State::Announced | State::Polling(_) | State::Ended => Transport::Polling,
        }
    }

    #[inline]
    pub(in crate::engine::outbox::queue) fn stream(&self) -> Option<&S> {
        match &self.0 {
            State::WebSocket(stream) => Some(stream),
            State::Announced | State::Polling(_) | State::Ended => None,
        }
    }

    /// Returns the waiting polling request.
    #[inline]
    pub(in crate::engine::outbox::queue) fn waiting_poll(&self) -> Option<&P> {
        match &self.0 {
            State::Polling(poll) => poll.as_ref(),
            State::Announced | State::WebSocket(_) | State::Ended => None,
        }
    }

    /// Returns whether the session polls and no polling request waits.
    pub(in crate::engine::outbox::queue) fn is_between_polls(&self) -> bool {
        matches!(self.0, State::Polling(None))
    }

    /// Returns whether no driver runs, because the session is only announced or has ended.
    #[inline]
    pub(in crate::engine::outbox::queue) fn is_detached(&self) -> bool {
        matches!(self.0, State::Announced | State::Ended)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::every, *};

    #[test]
    fn transport_has_a_next_state_or_refusal_for_each_event() {
        use State::{Announced, Ended, Polling, WebSocket};

        let states = every! { State<&'static str, u8>:
            Announced => Announced,
            Polling(None) => Polling(None),
            Polling(Some(_)) => Polling(Some(1)),
            WebSocket(_) => WebSocket("old"),
            Ended => Ended,
        };
        let new = Some(WebSocket("new"));
        let (none, between, ended) = (None, Some(Polling(None)), Some(Ended));
        let poll = Some(Polling(Some(2)));
        let table = every! { Event<&'static str, u8>:
            Event::Open(_) => (Event::Open("new"), [new, none, none, none, none]),
            Event::Upgrade(_) => (Event::Upgrade("new"), [none, new, new, none, none]),
            Event::StorePoll(_) => (Event::StorePoll(2), [none, poll, poll, none, none]),
            Event::TakePoll => (Event::TakePoll, [none, between, between, none, none]),
            Event::End => (Event::End, [ended, ended, ended, ended, ended]),
        };
        for (event, row) in table {
            for (state, next) in states.into_iter().zip(row) {
                let mut changed = state;
                let removed = changed.apply(event);
                assert_eq!(changed, next.unwrap_or(state), "{state:?}, {event:?}");
                // The poll of the state is still in it or is returned.
                let expected = match (state, next) {
                    (Polling(poll), Some(_)) => (None, poll),
                    (WebSocket(stream), Some(_)) => (Some(stream), None),
                    (Announced | Ended, _) | (Polling(_) | WebSocket(_), None) => (None, None),
                };
                assert_eq!(removed, expected, "{state:?}, {event:?}");
            }
        }
    }
}
