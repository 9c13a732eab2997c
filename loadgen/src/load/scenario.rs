//! Scenarios: how the clients of a measurement behave, and how many of them make sense.

/// The behaviour of the clients in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scenario {
    /// One room, everyone gets every message.
    Fanout,
    /// Many small rooms.
    Rooms,
    /// Requests with acknowledgement.
    Echo,
    /// Clients come and go.
    Connect,
    /// Clients stay and say nothing.
    Idle,
    /// As `fanout`, but some stop reading.
    Slow,
    /// Conversations of our own chat, and whether what it acknowledges is stored.
    Chat,
}

impl Scenario {
    /// The name of the scenario on the command line and in reports.
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

    /// Whether messages go to rooms.
    pub(crate) const fn is_broadcast(self) -> bool {
        matches!(self, Self::Fanout | Self::Rooms | Self::Slow | Self::Chat)
    }

    /// Whether clients stay and say nothing, or come and go.
    pub(crate) const fn is_silent(self) -> bool {
        matches!(self, Self::Connect | Self::Idle)
    }

    /// Clients, rooms and rate (per second, all clients together) that make sense on any machine.
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
