//! The list of servers in the cluster, maintained by heartbeats about once a second.
//!
//! A heartbeat is a server-side event in its own namespace, [`NAMESPACE`], so every adapter can
//! transport it. Node servers on the same transport do not have this namespace. They neither
//! subscribe to its channels nor apply its events.
//!
//! A name is never used again, an id may be. Envelope numbers begin at one with each start, so
//! deduplication uses the name. Of two servers with the same id, the uptime decides which one must
//! end, because the clocks of machines differ. If it is the same, the name decides.

mod announcer;
mod forwarding;
mod handover;
mod heartbeat;
mod isolation;
mod node;

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(in crate::adapter) use self::heartbeat::{Heartbeat, bye, changed};
use self::isolation::Isolation;
pub use self::node::{Load, Node, NodeIdConflict, NodeOptions};
pub(crate) use self::{
    announcer::keep,
    forwarding::Forwarding,
    handover::{HandoverId, HandoverRequest, HandoverState, MissedEvent},
};
pub(super) use crate::adapter::operation::NAMESPACE;
use crate::{
    adapter::{
        envelope::NodeId,
        interface::{Backlog, Gaps},
    },
    limit::LogThrottle,
    metrics::{Counter, Gauge, Metrics},
};

/// The event of a heartbeat.
pub(super) const BEAT: &str = "beat";
/// The event of a leave message.
pub(super) const BYE: &str = "bye";
/// The event that announces a changed shared value.
pub(super) const CHANGED: &str = "changed";
/// The event that requests a client from the server to which it was connected.
pub(super) const TAKE: &str = "take";

/// The servers of the cluster that this server knows.
pub(crate) struct Registry {
    name: NodeId,
    options: NodeOptions,
    forwarding: Option<Forwarding>,
    started: SystemTime,
    since: Instant,
    peers: Mutex<HashMap<NodeId, KnownNode>>,
    /// Since when this server has received messages of peers without interruption. Earlier silence
    /// of a peer proves nothing.
    receiving_since: Mutex<Instant>,
    /// The last scheduling delay in microseconds.
    lag: AtomicU64,
    /// The busy share of the worker threads in thousandths.
    busy: AtomicU64,
    /// The number of envelopes that are known to be lost.
    lost: AtomicU64,
    backlog: Mutex<Backlog>,
    reach: Mutex<Isolation>,
    /// The number of requests for unknown sessions at the last check, and the throttle for the
    /// warning about them.
    misrouted: (AtomicU64, LogThrottle),
    /// Notified when a new server should receive a heartbeat before the next one is due.
    heartbeat_due: Notify,
    /// Throttles the log about servers that have the same id and do not seal.
    namesakes: LogThrottle,
    taken: watch::Sender<Option<NodeIdConflict>>,
    is_closed: AtomicBool,
    /// Held while this server sends a heartbeat or a leave message.
    speaking: Mutex<()>,
    metrics: Arc<Metrics>,
}

/// The comparison of this server with a peer, if both have the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rivalry {
    /// The peer has another id.
    None,
    /// The peer has certainly run for longer.
    Younger,
    /// The peer may have run for longer, and its name is greater.
    Unclear,
    /// The peer must give up the id.
    Older,
}

struct KnownNode {
    node: Node,
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "only forwarding reads it")
    )]
    forwarding: Option<Forwarding>,
    /// The uptime in its last heartbeat, and when that arrived.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "only forwarding reads it")
    )]
    uptime: (Duration, Instant),
    /// Whether it certainly has the id of this server.
    is_rival: bool,
    /// Since when the id belongs to this peer, as far as only the names decide.
    rival_since: Option<Instant>,
    /// When its last heartbeat arrived, plus the time for which this server stood still since then.
    last_heartbeat: Instant,
}

/// The result of a heartbeat.
pub(super) enum HeartbeatOutcome {
    /// The heartbeat contains no news.
    Again,
    /// The server has lost envelopes since its last heartbeat.
    Losing,
    /// The server was unknown.
    New(Box<Node>),
    /// The list of servers is full.
    TooMany,
}

impl Registry {
    pub(crate) fn new(name: NodeId, options: NodeOptions, metrics: &Arc<Metrics>) -> Self {
        Self {
            name,
            options,
            forwarding: None,
            started: SystemTime::now(),
            since: Instant::now(),
            peers: Mutex::default(),
            receiving_since: Mutex::new(Instant::now()),
            lag: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            backlog: Mutex::default(),
            reach: Mutex::default(),
            misrouted: (
                AtomicU64::new(0),
                LogThrottle::every(MISROUTED_LOG_INTERVAL),
            ),
            heartbeat_due: Notify::new(),
            namesakes: LogThrottle::every(ID_CONFLICT_LOG_INTERVAL),
            taken: watch::Sender::default(),
            is_closed: AtomicBool::new(false),
            speaking: Mutex::default(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Sets the data with which peers forward requests to this server.
    #[cfg(feature = "forwarding")]
    pub(crate) fn with_forwarding(mut self, forwarding: Option<Forwarding>) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// Returns the address, the key and the uptime of the peer to which requests with this tag are
    /// forwarded.
    #[cfg(feature = "forwarding")]
    pub(crate) fn owner(
        &self,
        tag: roomcast_protocol::Tag,
    ) -> Option<(Arc<str>, [u8; 32], Duration)> {
        // This scans all peers, but there are at most a thousand, and only requests for other
        // servers get here.
        let peers = self.peers.lock();
        let mut peers = peers.values();
        peers.find_map(|known| {
            let forwarding = known
                .forwarding
                .filter(|forwarding| forwarding.tag == tag)?;
            let (uptime, received_at) = known.uptime;
            // After a delayed heartbeat, the peer seems younger than it is until its next
            // heartbeat.
            let uptime = uptime.saturating_add(received_at.elapsed());
            Some((known.node.address.clone()?, forwarding.key, uptime))
        })
    }

    /// Returns the uptime of this server.
    #[cfg(feature = "forwarding")]
    pub(crate) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Returns whether the name of a peer satisfies the predicate.
    pub(crate) fn has(&self, is_it: impl Fn(&NodeId) -> bool) -> bool {
        self.peers.lock().keys().any(is_it)
    }

    pub(in crate::adapter) const fn name(&self) -> &NodeId {
        &self.name
    }

    /// Returns whether this server has a configured id, which another server might have too.
    pub(crate) fn has_configured_id(&self) -> bool {
        self.options.id.is_some()
    }

    /// Returns this server and its peers, sorted by id. Of two servers with the same id, the
    /// younger comes first.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let now = Instant::now();
        let mut nodes = vec![self.own()];
        nodes.extend(self.peers.lock().values().map(|known| Node {
            heartbeat_age: now.duration_since(known.last_heartbeat),
            ..known.node.clone()
        }));
        nodes.sort_by(|a, b| (&a.id, b.started, &a.name).cmp(&(&b.id, a.started, &b.name)));
        nodes
    }

    fn own(&self) -> Node {
        let gauge = |gauge| u64::try_from(self.metrics.gauge(gauge)).unwrap_or_default();
        let id = self.options.id.as_deref();
        let backlog = *self.backlog.lock();
        let gaps = self.gaps();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Node {
            id: id.unwrap_or(self.name.as_str()).into(),
            name: self.name.clone(),
            version: self.options.version.clone(),
            address: self.options.address.clone(),
            started: self.started,
            load: Load {
                connections: gauge(Gauge::Connections),
                sessions: gauge(Gauge::SessionsPolling) + gauge(Gauge::SessionsWebSocket),
                sockets: gauge(Gauge::Sockets),
                rooms: gauge(Gauge::Rooms),
                queued_bytes: gauge(Gauge::OutboxBytes),
                lag: Duration::from_micros(self.lag.load(Ordering::Relaxed)),
                busy: self.busy.load(Ordering::Relaxed) as f64 / 1e3,
                adapter_queued: count(backlog.messages),
                adapter_queued_bytes: count(backlog.bytes),
                adapter_lag: backlog.lag.unwrap_or_default(),
                lost: self.lost.load(Ordering::Relaxed),
                gaps: gaps.count,
                gap_time: gaps.time,
            },
            heartbeat_age: Duration::ZERO,
            is_this: true,
        }
    }

    /// Requests a heartbeat before the next one is due.
    pub(super) fn request_heartbeat(&self) {
        self.heartbeat_due.notify_one();
    }

    /// Adds envelopes that this server sent or should have received, and that are lost.
    pub(super) fn note_lost(&self, envelopes: u64) {
        self.lost.fetch_add(envelopes, Ordering::Relaxed);
    }

    /// Sets the backlog of the adapter.
    pub(super) fn note_backlog(&self, backlog: Backlog) {
        *self.backlog.lock() = backlog;
    }

    /// Records whether the peers are reachable. Callers must skip this while they are unreachable
    /// and the adapter replays missed messages.
    pub(super) fn note_reached(&self, is_reached: bool) {
        let lag = self.backlog.lock().lag.unwrap_or_default();
        let mut reach = self.reach.lock();
        reach.record(is_reached, lag, Instant::now());
    }

    /// Returns the number of recent requests for sessions that this server never had, if it should
    /// be logged now. Without peers it returns `None`, because no other server can have the
    /// sessions.
    pub(super) fn misrouted(&self) -> Option<u64> {
        let (before, log_throttle) = &self.misrouted;
        let all = self.metrics.counter(Counter::RejectedSession);
        let more = all.saturating_sub(before.swap(all, Ordering::Relaxed));
        let has_peers = !self.peers.lock().is_empty();
        has_peers.then(|| log_throttle.add(more)).flatten()
    }

    /// Records that messages of peers up to now may be missing.
    pub(super) fn note_missed(&self) {
        self.reach.lock().back(Instant::now());
    }

    /// Returns how often, and for how long, this server was isolated.
    pub(super) fn gaps(&self) -> Gaps {
        self.reach.lock().gaps(Instant::now())
    }

    pub(super) fn beat(&self) -> Heartbeat {
        let rivals = match self.options.id {
            None => Vec::new(),
            Some(_) => {
                let peers = self.peers.lock();
                let rivals = peers.values().filter(|known| known.is_rival);
                let names = rivals.map(|known| known.node.name.as_str().into());
                names.take(heartbeat::MAX_RIVALS).collect()
            }
        };
        Heartbeat::of(&self.own(), self.since.elapsed(), self.forwarding, rivals)
    }

    /// Processes a heartbeat of another server.
    pub(super) fn receive_heartbeat(&self, from: &NodeId, beat: Heartbeat) -> HeartbeatOutcome {
        let last_heartbeat = Instant::now();
        let rivalry = self.rivalry(from, &beat);
        let is_rival = rivalry != Rivalry::None;
        // A heartbeat that does not name this server may have been recorded before its start and
        // replayed.
        let knows_this = beat.rivals.iter().any(|name| **name == *self.name.as_str());
        let taken = NodeIdConflict {
            id: Arc::clone(&beat.id),
            address: beat.address.clone(),
        };
        let forwarding = beat.forwarding;
        let uptime = (beat.uptime(), last_heartbeat);
        let node = beat.node(from.clone());
        let mut rival_since = (rivalry == Rivalry::Unclear && knows_this).then_some(last_heartbeat);
        let mut peers = self.peers.lock();
        let count = peers.len();
        let is = match peers.entry(from.clone()) {
            Entry::Occupied(mut known) => {
                let lost = node.load.lost;
                rival_since = rival_since.map(|now| known.get().rival_since.unwrap_or(now));
                let before = known.insert(KnownNode {
                    node,
                    forwarding,
                    uptime,
                    is_rival,
                    rival_since,
                    last_heartbeat,
                });
                match lost > before.node.load.lost {
                    true => HeartbeatOutcome::Losing,
                    false => HeartbeatOutcome::Again,
                }
            }
            Entry::Vacant(_) if count >= MAX_NODES => HeartbeatOutcome::TooMany,
            Entry::Vacant(place) => {
                place.insert(KnownNode {
                    node: node.clone(),
                    forwarding,
                    uptime,
                    is_rival,
                    rival_since,
                    last_heartbeat,
                });
                // One permit suffices for all new servers, because all of them receive the same
                // heartbeat.
                self.heartbeat_due.notify_one();
                HeartbeatOutcome::New(Box::new(node))
            }
        };
        drop(peers);
        let max_rivalry = self.options.heartbeat * YIELD_AFTER_HEARTBEATS;
        let is_settled =
            rival_since.is_some_and(|since| last_heartbeat.duration_since(since) >= max_rivalry);
        if (rivalry == Rivalry::Younger && knows_this) || is_settled {
            self.yield_id(taken);
        }
        is
    }

    /// Compares this server with a peer that may have the same id.
    fn rivalry(&self, from: &NodeId, beat: &Heartbeat) -> Rivalry {
        if self.options.id.as_deref() != Some(&*beat.id) {
            return Rivalry::None;
        }
        if !beat.is_authentic {
            if let Some(more) = self.namesakes.permit() {
                tracing::warn!(
                    id = %beat.id, name = %from, more,
                    "ignored an unsealed heartbeat with this server's node id"
                );
            }
            return Rivalry::None;
        }
        // The uptimes are compared, because the clocks of two servers may differ. A late heartbeat
        // makes the peer seem younger than it is, and never older. So at most one of the two
        // servers finds the other one older.
        let (own, other) = (self.since.elapsed(), beat.uptime());
        if other > own {
            Rivalry::Younger
        } else if own.saturating_sub(other) <= UPTIME_TOLERANCE && self.name < *from {
            Rivalry::Unclear
        } else {
            Rivalry::Older
        }
    }

    /// Records that a peer keeps the id of this server, so this server must stop.
    fn yield_id(&self, taken: NodeIdConflict) {
        if !self.is_closed() && self.taken.borrow().is_none() {
            tracing::error!(%taken, "node id conflict, this server must stop");
            self.taken.send_replace(Some(taken));
        }
    }

    /// Removes a peer that sent a leave message, or that left according to the adapter.
    pub(super) fn forget(&self, node: &NodeId) -> Option<Node> {
        let known = self.peers.lock().remove(node)?;
        Some(Node {
            heartbeat_age: known.last_heartbeat.elapsed(),
            ..known.node
        })
    }

    /// Records that this server receives no messages, or has received none up to now. No server
    /// expires until this one has received heartbeats for one full lease.
    pub(super) fn restart_lease(&self) {
        *self.receiving_since.lock() = Instant::now();
    }

    /// Removes and returns the peers without a heartbeat for one lease, while this server could
    /// receive heartbeats.
    pub(super) fn expire(&self) -> Vec<Node> {
        let lease = self.options.lease;
        let since = *self.receiving_since.lock();
        if since.elapsed() <= lease {
            return Vec::new();
        }
        let mut peers = self.peers.lock();
        let silent = peers
            .values()
            .filter(|known| known.last_heartbeat.elapsed() > lease)
            .map(|known| Node {
                heartbeat_age: known.last_heartbeat.elapsed(),
                ..known.node.clone()
            });
        let silent: Vec<_> = silent.collect();
        for node in &silent {
            peers.remove(&node.name);
        }
        silent
    }

    /// Records the delay of this server's own heartbeat. While this server stood still, it could
    /// not receive messages, so this time does not count as silence of its peers.
    fn note_lag(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(micros, Ordering::Relaxed);
        if late > self.options.heartbeat {
            let mut peers = self.peers.lock();
            let arrivals = peers.values_mut().map(|known| &mut known.last_heartbeat);
            excuse_stall(late, arrivals);
        }
    }

    /// Returns the silence after which a peer expires.
    #[cfg(feature = "nats")]
    pub(super) const fn lease(&self) -> Duration {
        self.options.lease
    }

    /// Returns the reason why this server must stop, if it must.
    pub(crate) fn taken(&self) -> Option<NodeIdConflict> {
        self.taken.borrow().clone()
    }

    /// Waits until this server must stop, which may never happen.
    pub(crate) async fn until_taken(&self) -> NodeIdConflict {
        let mut taken = self.taken.subscribe();
        let known = taken.wait_for(Option::is_some).await;
        let known = known.ok().and_then(|known| known.clone());
        match known {
            Some(taken) => taken,
            None => std::future::pending().await,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// Calls `send` unless this server has left. After its leave message, peers would take a
    /// heartbeat for a return.
    pub(super) fn unless_left(&self, send: impl FnOnce()) {
        let _speaking = self.speaking.lock();
        if !self.is_closed() {
            send();
        }
    }

    /// Records that this server leaves. The first call sends the leave message.
    pub(super) fn close(&self, send_leave: impl FnOnce()) {
        let _speaking = self.speaking.lock();
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            send_leave();
        }
    }
}

/// Moves the times at which the last messages of peers arrived by the time for which this server
/// stalled. It has not read the messages of that time yet, so its peers were not silent.
pub(in crate::adapter) fn excuse_stall<'a>(
    stall: Duration,
    arrivals: impl Iterator<Item = &'a mut Instant>,
) {
    let now = Instant::now();
    for arrival in arrivals {
        *arrival = (*arrival + stall).min(now);
    }
}

/// The maximum number of peers, about half a kibibyte each.
const MAX_NODES: usize = 1024;
/// The interval between log lines about requests for unknown sessions.
const MISROUTED_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// The interval between log lines about servers that have the same id and do not seal.
const ID_CONFLICT_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A peer that seems younger by at most this much may be older, since its heartbeats may be late.
const UPTIME_TOLERANCE: Duration = Duration::from_secs(10);
/// If the names decide, the server that must yield waits for this many heartbeats. In the meantime,
/// the other server may find itself younger and leave.
const YIELD_AFTER_HEARTBEATS: u32 = 4;

#[cfg(test)]
mod tests;
