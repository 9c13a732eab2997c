//! Engine.IO: HTTP requests and WebSockets in, messages out, and the other way round.
//!
//! It knows nothing of Socket.IO: messages go up through [`Application`], frames come
//! down through [`Outbox`]. A session is one task, its [`driver`]; everybody else holds
//! its outbox. What outboxes have queued is written by one [`flusher`] per worker.

mod accepted;
mod alarm;
mod clock;
mod closing;
pub(crate) mod compression;
mod connection;
mod control;
pub(crate) mod cors;
mod door;
mod driver;
mod ending;
mod exchange;
mod farewell;
mod flusher;
mod frames;
pub(crate) mod fuzzing;
mod handshake;
mod head;
mod heartbeats;
mod hooks;
mod http;
mod line;
mod listener;
mod lossy;
mod mount;
mod outbox;
mod outgoing;
mod parked;
mod peer;
mod polling;
mod polls;
mod pressure;
mod proxied;
mod queue;
mod random;
mod raw;
mod recent;
mod refusal;
mod relief;
mod replay;
mod reply;
mod request;
mod requests;
mod response;
mod sessions;
mod stream;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod unattended;
mod upgrade;
mod wheel;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use roomcast_protocol::{
    Frame, Sid,
    engine::{CloseReason, Message, Open, Packet, Session, SessionConfig, Transport},
};
use tokio::sync::{Notify, Semaphore, watch};

use self::{
    clock::now,
    door::Door,
    driver::Driver,
    flusher::Flusher,
    heartbeats::Heartbeats,
    http::Opening,
    pressure::Pressure,
    queue::Sink,
    sessions::{Announced, Sessions},
    stream::Stream,
    wire::Wire,
};
use crate::{
    Config,
    limit::{Client, Guard, Quiet},
    metrics::{Counter, Gauge, Metrics},
};

pub(crate) use flusher::Batch;
pub use handshake::Handshake;
pub(crate) use hooks::Hooks;
pub use hooks::{EngineRequest, Forbidden};
pub(crate) use listener::{Endpoints, bind, serve};
pub(crate) use lossy::Yielding;
pub(crate) use outbox::{Mode, Outbox, Push};
pub(crate) use peer::Peer;
pub(crate) use random::random_sid;
pub(crate) use raw::Raw;
pub use raw::{RawEngine, RawSession};
pub(crate) use recent::Limits;
pub use refusal::{ConnectionError, ErrorContext};
#[cfg(test)]
pub(crate) use tests::sizes;
pub(crate) use tls::Tls as MaybeTls;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub(crate) use unattended::Unattended;

/// What runs on top of Engine.IO sessions. All but `open` is called from the session's
/// own task, so a connection needs no lock.
pub(crate) trait Application: Send + Sync + Sized + 'static {
    /// State of one session.
    type Connection: Send + 'static;

    /// A session has been opened.
    fn open(
        self: &Arc<Self>,
        session: Outbox,
        handshake: Arc<Handshake>,
        now: Instant,
    ) -> Self::Connection;

    /// A message has come in. An error ends the session.
    fn message(
        &self,
        connection: &mut Self::Connection,
        message: Message,
        now: Instant,
    ) -> Result<(), CloseReason>;

    /// Drives what waits. Ready ends the session.
    fn poll(&self, connection: &mut Self::Connection, cx: &mut Context<'_>) -> Poll<CloseReason>;

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self, connection: &Self::Connection) -> Option<Instant>;

    /// A deadline has come. An error ends the session.
    fn handle_timeout(
        &self,
        connection: &mut Self::Connection,
        now: Instant,
    ) -> Result<(), CloseReason>;

    /// The session has gone over to WebSocket.
    fn upgraded(&self, connection: &mut Self::Connection);

    /// The client has answered a ping.
    fn heartbeat(&self, _connection: &mut Self::Connection) {}

    /// Everything queued has left; only told after [`Outbox::watch_drain`].
    fn drained(&self, _connection: &mut Self::Connection) {}

    /// More about why the session is about to end.
    fn describe(&self, _connection: &mut Self::Connection, _description: &'static str) {}

    /// The session is over. Called exactly once.
    fn close(&self, connection: Self::Connection, reason: CloseReason);
}

/// All sessions of one server.
pub(crate) struct Engine<A: Application> {
    application: Arc<A>,
    config: Arc<Config>,
    hooks: Arc<Hooks>,
    metrics: Arc<Metrics>,
    /// Sessions that may wait for hooks to admit them.
    admissions: Semaphore,
    guard: Option<Arc<Guard>>,
    /// Log lines about requests of pages that may not use the server.
    foreign_origins: Quiet,
    door: Arc<Door>,
    sessions: Arc<Sessions>,
    pressure: Arc<Pressure>,
    flushers: OnceLock<Box<[Arc<Flusher>]>>,
    next_flusher: AtomicUsize,
    next_poll: AtomicU64,
    stopped: watch::Sender<bool>,
    /// Notified when a connection has ended, or a session while stopping.
    ended: Arc<Notify>,
}

impl<A: Application> Engine<A> {
    pub(crate) fn new(
        application: Arc<A>,
        config: Arc<Config>,
        hooks: Arc<Hooks>,
        metrics: Arc<Metrics>,
        guard: Option<Arc<Guard>>,
    ) -> Arc<Self> {
        let pressure = Pressure::new(config.total_outbox_bytes, Arc::clone(&metrics));
        let door = Door::new(config.handshakes_per_second, config.max_handshakes, now());
        Arc::new(Self {
            application,
            pressure: Arc::new(pressure),
            door: Arc::new(door),
            admissions: Semaphore::new(config.max_pending_requests.min(Semaphore::MAX_PERMITS)),
            config,
            hooks,
            metrics,
            guard,
            foreign_origins: Quiet::new(10),
            sessions: Arc::new(Sessions::new()),
            flushers: OnceLock::new(),
            next_flusher: AtomicUsize::new(0),
            next_poll: AtomicU64::new(0),
            stopped: watch::Sender::new(false),
            ended: Arc::default(),
        })
    }

    /// Sessions that are open or closing.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Ends all sessions and takes no more requests; waits for what is queued to leave, at
    /// most for `grace`.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.stopped.send_replace(true);
        for outbox in self.sessions.all() {
            outbox.close(CloseReason::ServerShutdown);
        }
        let drained = async {
            loop {
                let ended = self.ended.notified();
                // An answer may still be on its way after its session has ended.
                if self.sessions.len() == 0 && self.metrics.gauge(Gauge::Connections) <= 0 {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(
                sessions = self.sessions.len(),
                connections = self.metrics.gauge(Gauge::Connections),
                "the grace is over: what is left is cut off"
            );
        }
        for outbox in self.sessions.all() {
            outbox.abort(CloseReason::ServerShutdown);
        }
    }

    /// Who sent a request that came over the connection of `peer`.
    pub(crate) fn identify(&self, peer: Peer, headers: &::http::HeaderMap) -> Peer {
        match &self.guard {
            Some(guard) => {
                let client = guard.client(Client::new(peer.address, peer.secure), headers);
                Peer {
                    address: client.address,
                    secure: client.is_secure,
                }
            }
            None => peer,
        }
    }

    /// Whether a connection from this address begins with a header of the PROXY protocol.
    fn expects_proxy_protocol(&self, peer: SocketAddr) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.expects_proxy_protocol(peer.ip()))
    }

    /// The address of a peer, if the limits of addresses are for it.
    fn limited(&self, peer: SocketAddr) -> Option<IpAddr> {
        let guard = self.guard.as_ref()?;
        guard.limits(peer.ip()).then_some(peer.ip())
    }

    pub(crate) fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    pub(crate) fn stopped(&self) -> watch::Receiver<bool> {
        self.stopped.subscribe()
    }

    /// Gives a session that is to be opened its id, so that what the client is told of it can leave
    /// together with the answer to its request.
    fn announce(&self, opening: &mut Opening) -> Bytes {
        let outbox = self.new_outbox(opening.sid, &Sink::Detached);
        let open = self.open_packet(outbox.sid(), Transport::WebSocket);
        opening.announced = Some(Announced::new(outbox, &self.sessions));
        Frame::packet(&Packet::Open(open)).websocket().clone()
    }

    fn open_websocket(
        self: &Arc<Self>,
        stream: Stream,
        unread: Bytes,
        opening: Opening,
    ) -> Driver<A> {
        let outbox = match opening.announced.and_then(Announced::into_outbox) {
            Some(outbox) => {
                outbox.lock().sink = Sink::WebSocket(stream.clone());
                outbox
            }
            None => {
                let outbox = self.new_outbox(opening.sid, &Sink::WebSocket(stream.clone()));
                let open = self.open_packet(outbox.sid(), Transport::WebSocket);
                // The driver's first turn writes it, and no flusher needs to.
                let _ = outbox.begin_turn();
                outbox.push_control(Frame::packet(&Packet::Open(open)));
                outbox
            }
        };
        let wire = Wire::new(stream, unread, &self.config, now());
        self.open(outbox, Transport::WebSocket, opening.handshake, Some(wire))
    }

    fn open(
        self: &Arc<Self>,
        outbox: Outbox,
        transport: Transport,
        handshake: Arc<Handshake>,
        wire: Option<Wire>,
    ) -> Driver<A> {
        let now = now();
        let config = SessionConfig {
            ping_interval: self.config.ping_interval,
            ping_timeout: self.config.ping_timeout,
            upgrade_timeout: self.config.upgrade_timeout,
        };
        let session = Session::server(now, transport, config);
        self.metrics.count(Counter::SessionsOpened);
        self.metrics.shift(session_gauge(transport), 1);
        if self.is_stopped() {
            // Whoever stops may have told all sessions before this one was there.
            outbox.close(CloseReason::ServerShutdown);
        }
        let permit = handshake.take_permit();
        let connection = self.application.open(outbox.clone(), handshake, now);
        Driver::new(Arc::clone(self), outbox, session, connection, wire, permit)
    }

    fn open_packet(&self, sid: Sid, transport: Transport) -> Open {
        let can_upgrade = transport == Transport::Polling
            && self.config.allow_upgrades
            && self.config.transports.contains(&Transport::WebSocket);
        Open {
            sid,
            upgrades: can_upgrade
                .then_some(Transport::WebSocket)
                .into_iter()
                .collect(),
            ping_interval: self.config.ping_interval,
            ping_timeout: self.config.ping_timeout,
            max_payload: self.config.max_payload as u64,
        }
    }

    /// The outbox of a new session, which can be found from now on. An id that somebody else has
    /// got meanwhile is replaced by a random one.
    fn new_outbox(&self, sid: Option<Sid>, sink: &Sink) -> Outbox {
        let mut sid = sid.unwrap_or_else(random_sid);
        loop {
            let outbox = Outbox::new(
                sid,
                self.config.outbox_bytes,
                sink.clone(),
                self.flusher(),
                Arc::clone(&self.metrics),
            );
            if self.sessions.insert(&outbox) {
                return outbox;
            }
            sid = random_sid();
        }
    }

    /// The flusher of the next session: they take turns.
    fn flusher(&self) -> Arc<Flusher> {
        let flushers = self.flushers.get_or_init(|| {
            let workers = tokio::runtime::Handle::current().metrics().num_workers();
            let (sessions, pressure) = (Arc::clone(&self.sessions), Arc::clone(&self.pressure));
            tokio::spawn(relief::relieve(sessions, pressure));
            (0..workers.max(1))
                .map(|_| {
                    let flusher = self.new_flusher();
                    tokio::spawn(Arc::clone(&flusher).run());
                    tokio::spawn(Heartbeats::run(Arc::clone(&flusher)));
                    flusher
                })
                .collect()
        });
        let turn = self.next_flusher.fetch_add(1, Ordering::Relaxed) % flushers.len();
        flushers
            .get(turn)
            .map_or_else(|| self.new_flusher(), Arc::clone)
    }

    fn new_flusher(&self) -> Arc<Flusher> {
        let (interval, timeout) = (self.config.ping_interval, self.config.ping_timeout);
        let heartbeats = Heartbeats::new(interval, timeout, now());
        let pressure = Arc::clone(&self.pressure);
        Arc::new(Flusher::new(pressure, heartbeats, self.config.max_payload))
    }

    /// Whether it takes no more requests.
    fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    fn next_poll_id(&self) -> u64 {
        self.next_poll.fetch_add(1, Ordering::Relaxed)
    }

    fn count_connection(&self) -> listener::OpenConnection {
        self.metrics.shift(Gauge::Connections, 1);
        listener::OpenConnection {
            metrics: Arc::clone(&self.metrics),
            ended: Arc::clone(&self.ended),
        }
    }

    /// A driver has ended.
    fn forget(&self, outbox: &Outbox, transport: Transport) {
        self.sessions.remove(outbox.sid());
        self.metrics.shift(session_gauge(transport), -1);
        if self.is_stopped() {
            self.ended.notify_waiters();
        }
    }
}

impl<A: Application> Drop for Engine<A> {
    fn drop(&mut self) {
        for flusher in self.flushers.get().into_iter().flatten() {
            flusher.stop();
        }
        self.pressure.stop();
    }
}

impl<A: Application> std::fmt::Debug for Engine<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn session_gauge(transport: Transport) -> Gauge {
    match transport {
        Transport::Polling => Gauge::SessionsPolling,
        Transport::WebSocket => Gauge::SessionsWebSocket,
    }
}

fn closed_counter(reason: CloseReason) -> Counter {
    match reason {
        CloseReason::TransportClose => Counter::ClosedTransportClose,
        CloseReason::PingTimeout => Counter::ClosedPingTimeout,
        CloseReason::ParseError => Counter::ClosedParseError,
        CloseReason::ForcedClose => Counter::ClosedForced,
        CloseReason::ServerShutdown => Counter::ClosedShutdown,
        CloseReason::Overflow => Counter::ClosedOverflow,
        CloseReason::TransportError | _ => Counter::ClosedTransportError,
    }
}
