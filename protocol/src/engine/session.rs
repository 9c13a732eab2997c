use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Message, Packet, Probe, Transport};

/// The state machine of one Engine.IO session, for either end.
///
/// It holds no transport and reads no clock. Its methods are of four kinds:
///
/// - queries: [`transport`](Self::transport), [`is_upgrading`](Self::is_upgrading),
///   [`is_probed`](Self::is_probed), [`close_reason`](Self::close_reason),
///   [`next_ping`](Self::next_ping);
/// - `handle_*`: input from the network or the clock; the returned [`Action`] is what the driver
///   must do;
/// - [`close`](Self::close): a command of the application;
/// - [`poll_timeout`](Self::poll_timeout): when to call [`handle_timeout`](Self::handle_timeout).
///   Repeat that call until it returns [`Action::None`].
///
/// A closed session answers everything with [`Action::None`].
#[derive(Clone, Debug)]
pub struct Session {
    role: Role,
    pinger: Pinger,
    state: SessionState,
    heartbeat: Heartbeat,
    config: SessionConfig,
}

/// The end of the connection that a [`Session`] represents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// Sends pings and offers upgrades.
    Server,
    /// Answers pings and requests upgrades.
    Client,
}

/// The timing of a session, which a server announces in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The time from the open packet or a pong to the next ping.
    pub ping_interval: Duration,
    /// The time within which the peer must answer a ping.
    pub ping_timeout: Duration,
    /// The maximum time from the attachment of a new transport to the switch to it.
    pub upgrade_timeout: Duration,
}

/// The transport that a packet was received on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a session has at most these two")]
pub enum Source {
    /// The transport in use.
    Current,
    /// The transport that an upgrade is testing.
    Candidate,
}

/// The next step of the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle every action")]
pub enum Action {
    /// Nothing.
    None,
    /// Deliver the message to the application.
    Deliver(Message),
    /// Send the packet on the transport on which the handled packet arrived. From
    /// [`Session::handle_timeout`], send it on the current transport.
    Reply(Packet),
    /// The candidate becomes the current transport. A server flushes to it and closes the old
    /// transport. A client first sends [`Packet::Upgrade`] on it.
    Switch,
    /// Close the candidate. The session remains as it is.
    DropCandidate,
    /// The session has ended.
    Close(CloseReason),
}

/// The reason why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed the session or its transport.
    TransportClose,
    /// The transport failed or was misused.
    TransportError,
    /// The peer did not answer a ping in time.
    PingTimeout,
    /// A packet could not be parsed.
    ParseError,
    /// The application ended the session.
    ForcedClose,
    /// The server is shutting down.
    ServerShutdown,
    /// The peer read too slowly, so its outbox was full.
    Overflow,
}

impl Session {
    /// Creates the session of a server that has just been opened on `transport`.
    #[must_use]
    pub fn server(now: Instant, transport: Transport, config: SessionConfig) -> Self {
        Self {
            role: Role::Server,
            pinger: Pinger::Server,
            state: SessionState::Open { transport },
            heartbeat: Heartbeat::Due {
                ping: now + config.ping_interval,
            },
            config,
        }
    }

    /// Creates the session of a server for a client of Engine.IO v3.
    ///
    /// The client sends the pings. The session ends if no packet arrives for the ping interval and
    /// the ping timeout together.
    #[must_use]
    pub fn server_v3(now: Instant, transport: Transport, config: SessionConfig) -> Self {
        Self {
            pinger: Pinger::Client,
            heartbeat: Heartbeat::silence(now, config),
            ..Self::server(now, transport, config)
        }
    }

    /// Creates the session of a client that has just received the handshake from `transport`.
    #[must_use]
    pub fn client(now: Instant, transport: Transport, config: SessionConfig) -> Self {
        Self {
            role: Role::Client,
            pinger: Pinger::Server,
            state: SessionState::Open { transport },
            // A client sends no pings. It waits for the server's ping as long as the official
            // client does.
            heartbeat: Heartbeat::silence(now, config),
            config,
        }
    }

    /// Returns the transport in use, or the last transport after the session is closed.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.state {
            SessionState::Open { transport } | SessionState::Closed { transport, .. } => transport,
            SessionState::Upgrading { .. } => Transport::Polling,
        }
    }

    /// Returns whether a candidate transport is attached.
    #[must_use]
    pub const fn is_upgrading(&self) -> bool {
        matches!(self.state, SessionState::Upgrading { .. })
    }

    /// Returns whether the candidate has answered the probe.
    ///
    /// A server then ends pending polls with [`Packet::Noop`], so that the client can switch.
    #[must_use]
    pub const fn is_probed(&self) -> bool {
        matches!(self.state, SessionState::Upgrading { probed: true, .. })
    }

    /// Returns why the session ended, if it has.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self.state {
            SessionState::Open { .. } | SessionState::Upgrading { .. } => None,
            SessionState::Closed { reason, .. } => Some(reason),
        }
    }

    /// Returns when a server pings next.
    ///
    /// Returns `None` while it waits for a pong, once closed, and for a client. A driver may send
    /// the pings of many sessions itself, but never before this time. It must report each ping
    /// before its pong arrives: call [`handle_timeout`](Self::handle_timeout) with the time at
    /// which the ping was sent.
    #[must_use]
    pub const fn next_ping(&self) -> Option<Instant> {
        match (&self.state, self.heartbeat) {
            (SessionState::Closed { .. }, _) | (_, Heartbeat::Waiting { .. }) => None,
            (
                SessionState::Open { .. } | SessionState::Upgrading { .. },
                Heartbeat::Due { ping },
            ) => Some(ping),
        }
    }

    /// Handles a packet that was received on a transport.
    pub fn handle_packet(&mut self, now: Instant, from: Source, packet: Packet) -> Action {
        match (&self.state, from) {
            (SessionState::Closed { .. }, _) => Action::None,
            (SessionState::Open { .. } | SessionState::Upgrading { .. }, Source::Current) => {
                self.handle_current(now, packet)
            }
            (SessionState::Open { .. }, Source::Candidate) => Action::DropCandidate,
            (&SessionState::Upgrading { until, probed }, Source::Candidate) => {
                self.handle_candidate(until, probed, packet)
            }
        }
    }

    /// Attaches a WebSocket of this session as the candidate, next to the polling transport.
    ///
    /// Returns `false` if the WebSocket must be closed, because the session is closed, uses a
    /// WebSocket already, or is testing another. A client sends [`Packet::Ping`] with
    /// [`Probe::Probe`] on it first.
    #[must_use]
    pub fn handle_attach(&mut self, now: Instant) -> bool {
        match self.state {
            SessionState::Open {
                transport: Transport::Polling,
            } => {
                let until = now + self.config.upgrade_timeout;
                self.state = SessionState::Upgrading {
                    until,
                    probed: false,
                };
                true
            }
            SessionState::Open {
                transport: Transport::WebSocket,
            }
            | SessionState::Upgrading { .. }
            | SessionState::Closed { .. } => false,
        }
    }

    /// Detaches the candidate. The session continues with polling.
    pub const fn handle_detach(&mut self) {
        if self.is_upgrading() {
            self.state = SessionState::Open {
                transport: Transport::Polling,
            };
        }
    }

    /// Handles what is due at `now`. Call it again until it returns [`Action::None`].
    pub fn handle_timeout(&mut self, now: Instant) -> Action {
        match self.state {
            SessionState::Closed { .. } => return Action::None,
            SessionState::Upgrading { until, .. } if until <= now => {
                self.handle_detach();
                return Action::DropCandidate;
            }
            SessionState::Open { .. } | SessionState::Upgrading { .. } => {}
        }
        match self.heartbeat {
            Heartbeat::Due { ping } if ping <= now => {
                // The timeout counts from when the ping was due: timers are slightly late, and the
                // peer counts from the same moment. If the delay exceeds the slack of a timer, it
                // counts from now.
                let sent = if now.saturating_duration_since(ping) <= TIMER_SLACK {
                    ping
                } else {
                    now
                };
                self.heartbeat = Heartbeat::Waiting {
                    until: sent + self.config.ping_timeout,
                };
                Action::Reply(Packet::Ping(Probe::None))
            }
            Heartbeat::Waiting { until } if until <= now => self.end(CloseReason::PingTimeout),
            Heartbeat::Due { .. } | Heartbeat::Waiting { .. } => Action::None,
        }
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called next, or `None` once
    /// closed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let heartbeat = match self.heartbeat {
            Heartbeat::Due { ping } => ping,
            Heartbeat::Waiting { until } => until,
        };
        match self.state {
            SessionState::Open { .. } => Some(heartbeat),
            SessionState::Upgrading { until, .. } => Some(until.min(heartbeat)),
            SessionState::Closed { .. } => None,
        }
    }

    /// Ends the session. The first reason is kept.
    pub const fn close(&mut self, reason: CloseReason) {
        if self.close_reason().is_none() {
            self.state = SessionState::Closed {
                transport: self.transport(),
                reason,
            };
        }
    }

    fn handle_current(&mut self, now: Instant, packet: Packet) -> Action {
        if self.pinger == Pinger::Client {
            // Every packet proves that the client is alive.
            self.heartbeat = Heartbeat::silence(now, self.config);
            match packet {
                Packet::Ping(_) => return Action::Reply(Packet::Pong(Probe::None)),
                Packet::Pong(_) => return self.end(CloseReason::TransportError),
                Packet::Open(_)
                | Packet::Close
                | Packet::Message(_)
                | Packet::Upgrade
                | Packet::Noop => {}
            }
        }
        match (packet, self.role) {
            (Packet::Message(message), _) => Action::Deliver(message),
            (Packet::Close, _) => self.end(CloseReason::TransportClose),
            (Packet::Pong(_), Role::Server) => {
                // An unsolicited pong has no effect, so a flood of them cannot postpone the next
                // ping.
                if matches!(self.heartbeat, Heartbeat::Waiting { .. }) {
                    self.heartbeat = Heartbeat::Due {
                        ping: now + self.config.ping_interval,
                    };
                }
                Action::None
            }
            (Packet::Ping(_), Role::Client) => {
                self.heartbeat = Heartbeat::silence(now, self.config);
                Action::Reply(Packet::Pong(Probe::None))
            }
            // "Invalid heartbeat direction": in version 4, only the server sends pings.
            (Packet::Ping(_), Role::Server) | (Packet::Pong(_), Role::Client) => {
                self.end(CloseReason::TransportError)
            }
            (Packet::Open(_) | Packet::Upgrade | Packet::Noop, _) => Action::None,
        }
    }

    fn handle_candidate(&mut self, until: Instant, probed: bool, packet: Packet) -> Action {
        match (packet, self.role, probed) {
            (Packet::Ping(Probe::Probe), Role::Server, _) => {
                self.state = SessionState::Upgrading {
                    until,
                    probed: true,
                };
                Action::Reply(Packet::Pong(Probe::Probe))
            }
            (Packet::Upgrade, Role::Server, true)
            | (Packet::Pong(Probe::Probe), Role::Client, _) => {
                self.state = SessionState::Open {
                    transport: Transport::WebSocket,
                };
                Action::Switch
            }
            (
                Packet::Open(_)
                | Packet::Close
                | Packet::Ping(_)
                | Packet::Pong(_)
                | Packet::Message(_)
                | Packet::Upgrade
                | Packet::Noop,
                Role::Server | Role::Client,
                _,
            ) => {
                self.handle_detach();
                Action::DropCandidate
            }
        }
    }

    fn end(&mut self, reason: CloseReason) -> Action {
        self.close(reason);
        Action::Close(reason)
    }
}

impl CloseReason {
    /// All reasons, for metrics that start at zero.
    pub const ALL: &[Self] = &[
        Self::TransportClose,
        Self::TransportError,
        Self::PingTimeout,
        Self::ParseError,
        Self::ForcedClose,
        Self::ServerShutdown,
        Self::Overflow,
    ];

    /// Returns the label of this reason in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TransportClose => "transport_close",
            Self::TransportError => "transport_error",
            Self::PingTimeout => "ping_timeout",
            Self::ParseError => "parse_error",
            Self::ForcedClose => "forced_close",
            Self::ServerShutdown => "server_shutdown",
            Self::Overflow => "overflow",
        }
    }
}

/// Writes the text of the Node.js server, which has none for an overflow.
impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::TransportClose => "transport close",
            Self::TransportError | Self::Overflow => "transport error",
            Self::PingTimeout => "ping timeout",
            Self::ParseError => "parse error",
            Self::ForcedClose => "forced close",
            Self::ServerShutdown => "server shutting down",
        })
    }
}

/// The maximum delay of a timer.
const TIMER_SLACK: Duration = Duration::from_millis(10);

/// The side that sends the pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinger {
    Server,
    /// The client, in version 3.
    Client,
}

#[derive(Clone, Copy, Debug)]
enum SessionState {
    Open {
        transport: Transport,
    },
    /// Polling continues while a WebSocket is tested.
    Upgrading {
        until: Instant,
        probed: bool,
    },
    Closed {
        transport: Transport,
        reason: CloseReason,
    },
}

#[derive(Clone, Copy, Debug)]
enum Heartbeat {
    /// A server sends its next ping at this time.
    Due { ping: Instant },
    /// A server waits for the pong, a client for the next ping, a server of version 3 for any
    /// packet.
    Waiting { until: Instant },
}

impl Heartbeat {
    /// Waits for a peer that must send something within one ping interval, and has the ping timeout
    /// to do so.
    fn silence(now: Instant, config: SessionConfig) -> Self {
        Self::Waiting {
            until: now + config.ping_interval + config.ping_timeout,
        }
    }
}
