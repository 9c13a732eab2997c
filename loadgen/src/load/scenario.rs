//! Scenarios: how the clients of a measurement behave, and their reasonable numbers.

/// The behaviour of the clients in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scenario {
    /// One room in which every client gets every message.
    Fanout,
    /// Many small rooms.
    Rooms,
    /// Requests with acknowledgement.
    Echo,
    /// Clients connect and disconnect.
    Connect,
    /// Clients stay connected and send nothing.
    Idle,
    /// Like `fanout`, but some clients stop reading.
    Slow,
    /// Conversations of the Roomcast chat, with a check that acknowledged messages are stored.
    Chat,
}

impl Scenario {
    /// Returns the name of the scenario on the command line and in reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fanout => "fanout",
            Self::Rooms => "rooms",
            Self::Echo => "echo",
            Self::Connect => "connect",
            Self::Idle => "idle",
            Self::Slow => "slow",
            Self::Chat => "chat",
        }
    }

    /// Returns whether messages go to rooms.
    pub(crate) const fn is_broadcast(self) -> bool {
        matches!(self, Self::Fanout | Self::Rooms | Self::Slow | Self::Chat)
    }

    /// Returns whether clients send no messages.
    pub(crate) const fn is_silent(self) -> bool {
        matches!(self, Self::Connect | Self::Idle)
    }

    /// Returns the numbers of clients and rooms and the total rate per second that are reasonable
    /// on any machine.
    #[must_use]
    pub const fn defaults(self) -> (usize, usize, f64) {
        match self {
            Self::Fanout => (100, 1, 10.0),
            Self::Rooms => (1000, 100, 100.0),
            Self::Echo => (100, 1, 1000.0),
            Self::Connect => (100, 1, 100.0),
            Self::Idle => (1000, 1, 1.0),
            Self::Slow => (100, 1, 20.0),
            Self::Chat => (100, 20, 40.0),
        }
    }
}
