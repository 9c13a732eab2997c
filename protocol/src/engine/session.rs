use std::{
    fmt,
    time::{Duration, Instant},
};

use super::{Message, Packet, Probe, Transport};

/// The state machine of one Engine.IO session, for either end.
///
/// It holds no transport and reads no clock. Its methods are of four kinds:
///
/// - questions: [`transport`](Self::transport), [`is_upgrading`](Self::is_upgrading),
///   [`is_probed`](Self::is_probed), [`close_reason`](Self::close_reason),
///   [`next_ping`](Self::next_ping);
/// - `handle_*`: what came from the network or the clock; the [`Action`] is what to do now;
/// - [`close`](Self::close): a command of the application;
/// - [`poll_timeout`](Self::poll_timeout): when to call
///   [`handle_timeout`](Self::handle_timeout), which is called again until it says
///   [`Action::None`].
///
/// A closed session answers everything with [`Action::None`].
#[derive(Clone, Debug)]
pub struct Session {
    role: Role,
    state: SessionState,
    heartbeat: Heartbeat,
    config: SessionConfig,
}

/// Which end of the connection a [`Session`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// Sends pings and offers upgrades.
    Server,
    /// Answers pings and asks for upgrades.
    Client,
}

/// The times of a session, which a server announces in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// The time from the open packet or a pong to the next ping.
    pub ping_interval: Duration,
    /// How long a ping may stay unanswered.
    pub ping_timeout: Duration,
    /// How long an upgrade may take from the new transport's appearance to its use.
    pub upgrade_timeout: Duration,
}

/// The transport that a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a session has at most these two")]
pub enum Source {
    /// The one in use.
    Current,
    /// The one that an upgrade is trying.
    Candidate,
}

/// What a driver has to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a driver must handle every action")]
pub enum Action {
    /// Nothing.
    None,
    /// Hand the message to the application.
    Deliver(Message),
    /// Send the packet on the transport that the handled one came from; from
    /// [`Session::handle_timeout`], on the current one.
    Reply(Packet),
    /// The candidate is the current transport now. A server flushes to it and ends the old one; a
    /// client first sends [`Packet::Upgrade`] on it.
    Switch,
    /// Close the candidate. The session stays as it is.
    DropCandidate,
    /// The session is over.
    Close(CloseReason),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer closed the session or its transport.
    TransportClose,
    /// The transport failed or was misused.
    TransportError,
    /// No pong came.
    PingTimeout,
    /// A packet could not be read.
    ParseError,
    /// The application ended the session.
    ForcedClose,
    /// The server stops.
    ServerShutdown,
    /// The peer read too slowly, its outbox was full.
    Overflow,
}

impl Session {
    /// A server's session that has just been opened on `transport`.
    #[must_use]
    pub fn server(now: Instant, transport: Transport, config: SessionConfig) -> Self {
        Self {
            role: Role::Server,
            state: SessionState::Open { transport },
            heartbeat: Heartbeat::Due {
                ping: now + config.ping_interval,
            },
            config,
        }
    }

    /// A client's session whose handshake has just been read from `transport`.
    #[must_use]
    pub fn client(now: Instant, transport: Transport, config: SessionConfig) -> Self {
        Self {
            role: Role::Client,
            state: SessionState::Open { transport },
            heartbeat: Heartbeat::Waiting {
                // A client sends no pings. It waits as long as the official one for those of the
                // server.
                until: now + config.ping_interval + config.ping_timeout,
            },
            config,
        }
    }

    /// The transport in use, or the last one used.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self.state {
            SessionState::Open { transport } | SessionState::Closed { transport, .. } => transport,
            SessionState::Upgrading { .. } => Transport::Polling,
        }
    }

    /// Whether a candidate transport is attached.
    #[must_use]
    pub const fn is_upgrading(&self) -> bool {
        matches!(self.state, SessionState::Upgrading { .. })
    }

    /// Whether the candidate has proved that it works.
    ///
    /// A server then ends pending polls with [`Packet::Noop`], so that the client can switch.
    #[must_use]
    pub const fn is_probed(&self) -> bool {
        matches!(self.state, SessionState::Upgrading { probed: true, .. })
    }

    /// Why the session is over, if it is.
    #[must_use]
    pub const fn close_reason(&self) -> Option<CloseReason> {
        match self.state {
            SessionState::Open { .. } | SessionState::Upgrading { .. } => None,
            SessionState::Closed { reason, .. } => Some(reason),
        }
    }

    /// When a server pings next. `None` while it waits for a pong and once closed, and for a client.
    ///
    /// Whoever sends the pings of many sessions at once may do it without this state machine, never
    /// before this time, and tells it of each before the pong:
    /// [`handle_timeout`](Self::handle_timeout) with the time at which the ping was sent.
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

    /// Takes a packet that was read from a transport.
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

    /// A WebSocket of this session appeared beside its polling transport.
    ///
    /// Returns `false` if the WebSocket must be closed, because the session is closed, uses a WebSocket
    /// already, or is trying another one. A client sends [`Packet::Ping`] with [`Probe::Probe`] on it first.
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

    /// The candidate went away; polling goes on.
    pub const fn handle_detach(&mut self) {
        if self.is_upgrading() {
            self.state = SessionState::Open {
                transport: Transport::Polling,
            };
        }
    }

    /// Does what is due at `now`; to be called again until it returns [`Action::None`].
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
                // The timeout counts from when the ping was due: timers are a little late, and the
                // peer counts from the same moment. What is later than a timer can be counts from
                // now.
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

    /// When [`handle_timeout`](Self::handle_timeout) has something to do; `None` once closed.
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

    /// Ends the session. The first reason stays.
    pub const fn close(&mut self, reason: CloseReason) {
        if self.close_reason().is_none() {
            self.state = SessionState::Closed {
                transport: self.transport(),
                reason,
            };
        }
    }

    fn handle_current(&mut self, now: Instant, packet: Packet) -> Action {
        match (packet, self.role) {
            (Packet::Message(message), _) => Action::Deliver(message),
            (Packet::Close, _) => self.end(CloseReason::TransportClose),
            (Packet::Pong(_), Role::Server) => {
                // A pong that nobody asked for changes nothing, so a flood of them cannot put off
                // the next ping.
                if matches!(self.heartbeat, Heartbeat::Waiting { .. }) {
                    self.heartbeat = Heartbeat::Due {
                        ping: now + self.config.ping_interval,
                    };
                }
                Action::None
            }
            (Packet::Ping(_), Role::Client) => {
                let until = now + self.config.ping_interval + self.config.ping_timeout;
                self.heartbeat = Heartbeat::Waiting { until };
                Action::Reply(Packet::Pong(Probe::None))
            }
            // "Invalid heartbeat direction": in version 4 pings come from the server only.
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
    /// Every reason, for metrics that start at zero.
    pub const ALL: &[Self] = &[
        Self::TransportClose,
        Self::TransportError,
        Self::PingTimeout,
        Self::ParseError,
        Self::ForcedClose,
        Self::ServerShutdown,
        Self::Overflow,
    ];

    /// The label of this reason in metrics.
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

/// The words of the original server, which has none for an overflow.
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

/// How late a timer may be.
const TIMER_SLACK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
enum SessionState {
    Open {
        transport: Transport,
    },
    /// Polling goes on while a WebSocket is tried.
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
    /// A server waits for the pong, a client for the next ping.
    Waiting { until: Instant },
}
