//! The engine: all sessions of one server and their shared state.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use http::HeaderMap;
use roomcast_protocol::{
    SessionId, Sid,
    engine::{CloseReason, Transport},
};
use tokio::sync::{Notify, Semaphore, watch};

use super::{application::Application, load_shedding::shed_load, sessions::Sessions};
use crate::{
    Config,
    engine::{
        admission::{ConnectionLimiter, Hooks},
        forwarding::Forwarder,
        outbox::{Flusher, Heartbeats, MemoryBudget, Outbox},
        primitives::{Peer, StallGate, now},
        transport::OpenConnection,
    },
    limit::{Client, Guard, LogThrottle},
    metrics::{Counter, Gauge, Metrics},
    tasks::Tasks,
};

/// All sessions of one server and their shared state.
pub(crate) struct Engine {
    pub(super) application: Box<dyn Application>,
    pub(in crate::engine) config: Arc<Config>,
    pub(in crate::engine) hooks: Arc<Hooks>,
    pub(in crate::engine) metrics: Arc<Metrics>,
    tasks: Tasks,
    /// Limits the sessions that wait for hooks to admit them.
    pub(in crate::engine) admissions: Semaphore,
    pub(in crate::engine) guard: Option<Arc<Guard>>,
    /// Forwards requests to other servers, if clients may reach any server of the cluster.
    pub(in crate::engine) forwarder: Option<Arc<Forwarder>>,
    /// Limits log lines about requests with forged forwarding headers.
    pub(in crate::engine) forgery_log: LogThrottle,
    /// Limits log lines about requests of pages from origins that are not allowed.
    pub(in crate::engine) foreign_origin_log: LogThrottle,
    /// Limits log lines about a surrounding server that does not provide client addresses.
    pub(in crate::engine) missing_address_log: LogThrottle,
    /// Completed once missing addresses have been logged, when no limit needs them.
    pub(in crate::engine) missing_addresses_logged: Once,
    pub(in crate::engine) connection_limiter: Arc<ConnectionLimiter>,
    pub(in crate::engine) sessions: Arc<Sessions>,
    pub(super) memory: Arc<MemoryBudget>,
    /// Holds all sessions after the process stood still.
    pub(super) stalls: Arc<StallGate>,
    pub(super) flushers: OnceLock<Box<[Arc<Flusher<Outbox>>]>>,
    pub(super) next_flusher: AtomicUsize,
    pub(super) next_poll: AtomicU64,
    /// Whether the server refuses new sessions.
    pub(super) draining: AtomicBool,
    pub(super) stopped: watch::Sender<bool>,
    /// Notified when a connection has ended, or while draining when a session has ended.
    pub(in crate::engine) ended: Arc<Notify>,
}

impl Engine {
    pub(crate) fn new(
        application: Box<dyn Application>,
        config: Arc<Config>,
        hooks: Arc<Hooks>,
        metrics: Arc<Metrics>,
        tasks: Tasks,
        guard: Option<Arc<Guard>>,
        forwarder: Option<Arc<Forwarder>>,
    ) -> Arc<Self> {
        let memory = MemoryBudget::new(config.outbox.total_outbox_bytes, Arc::clone(&metrics));
        let admission = &config.admission;
        let limiter = ConnectionLimiter::new(
            admission.handshakes_per_second,
            admission.max_handshakes,
            now(),
        );
        let max_pending = admission.max_pending_requests.min(Semaphore::MAX_PERMITS);
        let stalls = StallGate::new(hooks.stall.clone());
        Arc::new(Self {
            application,
            memory: Arc::new(memory),
            connection_limiter: Arc::new(limiter),
            admissions: Semaphore::new(max_pending),
            config,
            hooks,
            metrics,
            tasks,
            guard,
            forwarder,
            forgery_log: LogThrottle::default(),
            foreign_origin_log: LogThrottle::new(10),
            missing_address_log: LogThrottle::default(),
            missing_addresses_logged: Once::new(),
            sessions: Arc::new(Sessions::new()),
            stalls: Arc::new(stalls),
            flushers: OnceLock::new(),
            next_flusher: AtomicUsize::new(0),
            next_poll: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            stopped: watch::Sender::new(false),
            ended: Arc::default(),
        })
    }

    /// Returns the number of open and closing sessions.
    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// Ends all sessions and refuses further requests. Waits until queued frames are sent, for at
    /// most `grace`.
    pub(crate) async fn shutdown(&self, grace: Duration) {
        self.refuse_new_sessions();
        // The flag is set before sessions are closed, because sessions that are already ending
        // check it when they are woken.
        self.stopped.send_replace(true);
        self.close_tunnels(Duration::ZERO);
        for outbox in self.sessions.all() {
            outbox.close(CloseReason::ServerShutdown);
        }
        // A response may still be in flight after its session has ended.
        let drained = self.wait_until_empty(Gauge::Connections);
        if tokio::time::timeout(grace, drained).await.is_err() {
            tracing::warn!(
                sessions = self.sessions.len(),
                connections = self.metrics.gauge(Gauge::Connections),
                "shutdown grace period is over, closing the remaining connections"
            );
        }
        for outbox in self.sessions.all() {
            outbox.abort(CloseReason::ServerShutdown);
        }
    }

    /// Waits until no session is left, and nothing that this gauge counts.
    pub(super) async fn wait_until_empty(&self, gauge: Gauge) {
        loop {
            // The notification is registered before the check, so that none is missed in between.
            let ended = self.ended.notified();
            if self.session_count() == 0 && self.metrics.gauge(gauge) <= 0 {
                return;
            }
            ended.await;
        }
    }

    /// Returns the client that sent a request over the connection of `peer`.
    pub(crate) fn identify(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        match &self.guard {
            Some(guard) => {
                let client = guard.client(Client::connected(peer.address, peer.secure), headers);
                Peer {
                    address: client.address,
                    secure: client.is_secure,
                }
            }
            None => peer,
        }
    }

    /// Returns whether connections from this address start with a PROXY protocol header.
    pub(in crate::engine) fn expects_proxy_protocol(&self, peer: SocketAddr) -> bool {
        let guard = self.guard.as_ref();
        guard.is_some_and(|guard| guard.expects_proxy_protocol(peer.ip()))
    }

    /// Returns the address of a peer if the limits per address apply to it.
    pub(in crate::engine) fn limited(&self, peer: SocketAddr) -> Option<IpAddr> {
        let guard = self.guard.as_ref()?;
        guard.limits(peer.ip()).then_some(peer.ip())
    }

    /// Returns the tasks that work for the sessions of this engine.
    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    pub(crate) fn guard(&self) -> Option<&Arc<Guard>> {
        self.guard.as_ref()
    }

    /// Returns a future that completes when the server stops.
    pub(in crate::engine) fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut stopped = self.stopped.subscribe();
        async move {
            // Fails if the engine is dropped, which also stops the server.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        }
    }

    /// Returns the flusher for the next session; flushers are assigned round-robin.
    pub(super) fn flusher(&self) -> Arc<Flusher<Outbox>> {
        // The tasks start with the first session, because an engine may be created outside of a
        // runtime. None of them holds the engine, because dropping the engine stops them.
        let flushers = self.flushers.get_or_init(|| {
            let workers = tokio::runtime::Handle::current().metrics().num_workers();
            let memory = Arc::clone(&self.memory);
            let shedding = move || shed_load(Arc::clone(&memory));
            tokio::spawn(self.tasks().clone().keep("load shedding", shedding));
            self.start_watching_stalls();
            (0..workers.max(1)).map(|_| self.start_flusher()).collect()
        });
        // Only the remainder matters, so the count may wrap. It orders no other memory.
        let index = self.next_flusher.fetch_add(1, Ordering::Relaxed) % flushers.len();
        flushers
            .get(index)
            .map_or_else(|| self.start_flusher(), Arc::clone)
    }

    fn start_watching_stalls(&self) {
        if self.stalls.is_watched() {
            let stalls = Arc::clone(&self.stalls);
            stalls.start();
            let watch = move || Arc::clone(&stalls).run();
            tokio::spawn(self.tasks().clone().keep("stalls", watch));
        }
    }

    fn start_flusher(&self) -> Arc<Flusher<Outbox>> {
        let session = &self.config.session;
        let flusher = Arc::new(Flusher::new(
            Arc::clone(&self.memory),
            Arc::clone(&self.stalls),
            Heartbeats::new(session.ping_interval, session.ping_timeout, now()),
            session.max_payload,
            session.deflate_settings(),
        ));
        let (writing, beating) = (Arc::clone(&flusher), Arc::clone(&flusher));
        let write = move || Arc::clone(&writing).run();
        tokio::spawn(self.tasks().clone().keep("flusher", write));
        let beat = move || Arc::clone(&beating).beat();
        tokio::spawn(self.tasks().clone().keep("heartbeats", beat));
        flusher
    }

    /// Returns whether the server refuses all requests.
    pub(in crate::engine) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    /// Returns the session id as the client knows it.
    pub(in crate::engine) fn session_id(&self, sid: Sid) -> SessionId {
        let tag = self.forwarder.as_ref().map(|forwarder| forwarder.tag());
        SessionId { sid, tag }
    }

    /// Returns whether the id belongs to another server, whether or not the session exists.
    pub(in crate::engine) fn is_foreign(&self, id: SessionId) -> bool {
        id.tag.is_some() && id != self.session_id(id.sid)
    }

    /// Closes tunnels for other servers' sessions within this time.
    pub(super) fn close_tunnels(&self, within: Duration) {
        if let Some(forwarder) = &self.forwarder {
            forwarder.close_tunnels(within);
        }
    }

    /// Returns whether the server refuses new sessions.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(in crate::engine) fn next_poll_id(&self) -> u64 {
        self.next_poll.fetch_add(1, Ordering::Relaxed)
    }

    pub(in crate::engine) fn count_connection(&self) -> OpenConnection {
        OpenConnection::new(&self.metrics, &self.ended)
    }

    /// Removes the session of a driver that has ended.
    pub(super) fn forget(&self, outbox: &Outbox, transport: Transport) {
        // The table and the gauge change before the notification, because woken tasks check them.
        self.sessions.remove(outbox.sid());
        self.metrics.shift(session_gauge(transport), -1);
        if self.is_draining() {
            self.ended.notify_waiters();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for flusher in self.flushers.get().into_iter().flatten() {
            flusher.stop();
        }
        self.stalls.stop();
        self.memory.stop();
    }
}

pub(super) fn session_gauge(transport: Transport) -> Gauge {
    match transport {
        Transport::Polling => Gauge::SessionsPolling,
        Transport::WebSocket => Gauge::SessionsWebSocket,
    }
}

pub(super) fn closed_counter(reason: CloseReason) -> Counter {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::metrics::Table as _;

    #[test]
    fn each_counter_of_closed_sessions_has_a_reason() {
        let reasons = [
            CloseReason::TransportClose,
            CloseReason::TransportError,
            CloseReason::PingTimeout,
            CloseReason::ParseError,
            CloseReason::ForcedClose,
            CloseReason::ServerShutdown,
            CloseReason::Overflow,
        ];
        let counted: HashSet<_> = reasons
            .map(|reason| closed_counter(reason).position())
            .into();
        let rows = Counter::ROWS.iter().enumerate();
        let rows = rows.filter(|(_, row)| row.family == "roomcast_sessions_closed_total");
        assert_eq!(
            rows.map(|(position, _)| position).collect::<HashSet<_>>(),
            counted
        );
    }
}
