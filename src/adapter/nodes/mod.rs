//! Which servers there are: each tells the others about every second that it is there.
//!
//! A heartbeat is an event between servers in a namespace of its own, [`NAMESPACE`], so that every
//! adapter carries it as it is. Foreign servers on the same transport do not have that namespace, and
//! neither listen to its channels nor apply what they find in it.

mod beat;
mod forwarding;
mod keep;
mod moving;
mod node;
mod reach;

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

pub(super) use self::beat::{Beat, bye, changed};
pub use self::node::{Load, Node, NodeOptions, NodeTaken};
use self::reach::Reach;
pub(crate) use self::{
    forwarding::Forwarding,
    keep::keep,
    moving::{Given, MissedEvent, Question, Wanted},
};
pub(super) use super::operation::NAMESPACE;
use super::{
    envelope::NodeId,
    interface::{Backlog, Gaps},
};
use crate::{
    limit::LogThrottle,
    metrics::{Counter, Gauge, Metrics},
};

/// The events in it.
pub(super) const BEAT: &str = "beat";
pub(super) const BYE: &str = "bye";
/// A value that servers share was changed.
pub(super) const CHANGED: &str = "changed";
/// A client has come that was on another server.
pub(super) const TAKE: &str = "take";

/// The servers of a cluster, as far as this one has heard.
pub(crate) struct Registry {
    name: NodeId,
    options: NodeOptions,
    forwarding: Option<Forwarding>,
    started: SystemTime,
    since: Instant,
    others: Mutex<HashMap<NodeId, KnownNode>>,
    /// Since when this server hears what others say, as far as is known: silence before that proves nothing.
    hears_since: Mutex<Instant>,
    /// Microseconds, and thousandths.
    lag: AtomicU64,
    busy: AtomicU64,
    /// Envelopes that are known to be lost.
    lost: AtomicU64,
    backlog: Mutex<Backlog>,
    reach: Mutex<Reach>,
    /// How many requests had come for sessions that this server never had when that was looked at last, and when to tell of more.
    astray: (AtomicU64, LogThrottle),
    /// Notified when a server is new, which should hear of this one before the next heartbeat is due.
    wanted: Notify,
    /// Limits the log lines about servers that have the same id and do not seal.
    namesakes: LogThrottle,
    taken: watch::Sender<Option<NodeTaken>>,
    is_closed: AtomicBool,
    /// Held while this server says that it is there, or that it goes.
    speaking: Mutex<()>,
    metrics: Arc<Metrics>,
}

/// How this server compares with another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rivalry {
    /// The other server has another id.
    None,
    /// Both have the same id, and the other server has certainly run for longer.
    Younger,
    /// The other server may have run for longer, and has the greater name.
    Unclear,
    /// The other server has to yield.
    Older,
}

struct KnownNode {
    node: Node,
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "nobody asks for it")
    )]
    forwarding: Option<Forwarding>,
    /// For how long it had been running when that was heard.
    #[cfg_attr(
        not(feature = "forwarding"),
        expect(dead_code, reason = "nobody asks for it")
    )]
    uptime: (Duration, Instant),
    /// Whether it has certainly the id of this server.
    is_rival: bool,
    /// Since when its id seems to be its own rather than this server's, as far as only the names tell.
    rival_since: Option<Instant>,
    /// When it was heard, without the time for which this server could hear nobody.
    heard: Instant,
}

/// What a heartbeat has told.
pub(super) enum Heard {
    /// Nothing new.
    Again,
    /// The server has lost something since it was heard last.
    Losing,
    /// There is a server that was not known.
    New(Box<Node>),
    /// There are more servers than are remembered.
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
            others: Mutex::default(),
            hears_since: Mutex::new(Instant::now()),
            lag: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            backlog: Mutex::default(),
            reach: Mutex::default(),
            astray: (AtomicU64::new(0), LogThrottle::every(ASTRAY)),
            wanted: Notify::new(),
            namesakes: LogThrottle::every(NAMESAKES),
            taken: watch::Sender::default(),
            is_closed: AtomicBool::new(false),
            speaking: Mutex::default(),
            metrics: Arc::clone(metrics),
        }
    }

    /// Tells others how they hand requests on to this server.
    #[cfg(feature = "forwarding")]
    pub(crate) fn with_forwarding(mut self, forwarding: Option<Forwarding>) -> Self {
        self.forwarding = forwarding;
        self
    }

    /// Where the other server is to which requests are handed on by this tag, with which key, and for how long it has been
    /// running, if it wants to be told when a request is handed on. `None` also for a server that cannot prove itself.
    #[cfg(feature = "forwarding")]
    pub(crate) fn owner(
        &self,
        tag: roomcast_protocol::Tag,
    ) -> Option<(Arc<str>, [u8; 32], Option<Duration>)> {
        // All are looked through: there are a thousand servers at most, and only requests for other servers ask.
        let others = self.others.lock();
        let mut others = others.values();
        others.find_map(|known| {
            let forwarding = known
                .forwarding
                .filter(|forwarding| forwarding.tag == tag && forwarding.proves_itself)?;
            let (uptime, told) = known.uptime;
            // A heartbeat that was long under way makes the other server seem younger than it is, until the next one.
            let uptime = forwarding
                .is_timed
                .then(|| uptime.saturating_add(told.elapsed()));
            Some((known.node.address.clone()?, forwarding.key, uptime))
        })
    }

    /// For how long this server has been running.
    #[cfg(feature = "forwarding")]
    pub(crate) fn uptime(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether another server hands requests on without saying when, as those of the version before do.
    #[cfg(feature = "forwarding")]
    pub(crate) fn has_untimed(&self) -> bool {
        let others = self.others.lock();
        let mut forwarding = others.values().filter_map(|known| known.forwarding);
        forwarding.any(|forwarding| !forwarding.is_timed)
    }

    /// Whether one of the other servers is such a one.
    pub(crate) fn has(&self, is_it: impl Fn(&NodeId) -> bool) -> bool {
        self.others.lock().keys().any(is_it)
    }

    pub(super) const fn name(&self) -> &NodeId {
        &self.name
    }

    /// Whether this server has an id that another one may have as well.
    pub(crate) fn has_given_id(&self) -> bool {
        self.options.id.is_some()
    }

    /// This server and the others, by id; the younger of two with one id comes first.
    pub(crate) fn nodes(&self) -> Vec<Node> {
        let now = Instant::now();
        let mut nodes = vec![self.own()];
        nodes.extend(self.others.lock().values().map(|known| Node {
            heard: now.duration_since(known.heard),
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
                cut_off: gaps.time,
            },
            heard: Duration::ZERO,
            is_this: true,
        }
    }

    /// Has the others hear of this server before the next heartbeat is due.
    pub(super) fn beat_soon(&self) {
        self.wanted.notify_one();
    }

    /// Notes that envelopes of this server or for it are lost.
    pub(super) fn note_lost(&self, envelopes: u64) {
        self.lost.fetch_add(envelopes, Ordering::Relaxed);
    }

    /// Notes what waits in the adapter.
    pub(super) fn note_backlog(&self, backlog: Backlog) {
        *self.backlog.lock() = backlog;
    }

    /// Notes whether others are reached; not to be called while they are not, and what they send comes later.
    pub(super) fn note_reached(&self, is_reached: bool) {
        let lag = self.backlog.lock().lag.unwrap_or_default();
        let mut reach = self.reach.lock();
        reach.look(is_reached, lag, Instant::now());
    }

    /// How many requests have come for sessions that this server never had, if that is to be told now: others, which may
    /// have them, are known.
    pub(super) fn astray(&self) -> Option<u64> {
        let (before, log_throttle) = &self.astray;
        let all = self.metrics.counter(Counter::RejectedSession);
        let more = all.saturating_sub(before.swap(all, Ordering::Relaxed));
        let has_others = !self.others.lock().is_empty();
        has_others.then(|| log_throttle.add(more)).flatten()
    }

    /// Notes that what others have sent up to now may be missing.
    pub(super) fn note_missed(&self) {
        self.reach.lock().back(Instant::now());
    }

    /// How often, and for how long, this server was cut off.
    pub(super) fn gaps(&self) -> Gaps {
        self.reach.lock().gaps(Instant::now())
    }

    pub(super) fn beat(&self) -> Beat {
        let rivals = match self.options.id {
            None => Vec::new(),
            Some(_) => {
                let others = self.others.lock();
                let rivals = others.values().filter(|known| known.is_rival);
                let names = rivals.map(|known| known.node.name.as_str().into());
                names.take(beat::MAX_RIVALS).collect()
            }
        };
        Beat::of(&self.own(), self.since.elapsed(), self.forwarding, rivals)
    }

    /// Notes a heartbeat of another server.
    pub(super) fn hear(&self, from: &NodeId, beat: Beat) -> Heard {
        let heard = Instant::now();
        let rivalry = self.rivalry(from, &beat);
        let is_rival = rivalry != Rivalry::None;
        // A heartbeat that does not name this server may be one of before its start, which was kept and sent again.
        let knows_this = beat.rivals.iter().any(|name| **name == *self.name.as_str());
        let taken = NodeTaken {
            id: Arc::clone(&beat.id),
            address: beat.address.clone(),
        };
        let forwarding = beat.forwarding;
        let uptime = (beat.uptime(), heard);
        let node = beat.node(from.clone());
        let mut rival_since = (rivalry == Rivalry::Unclear && knows_this).then_some(heard);
        let mut others = self.others.lock();
        let count = others.len();
        let is = match others.entry(from.clone()) {
            Entry::Occupied(mut known) => {
                let lost = node.load.lost;
                rival_since = rival_since.map(|now| known.get().rival_since.unwrap_or(now));
                let before = known.insert(KnownNode {
                    node,
                    forwarding,
                    uptime,
                    is_rival,
                    rival_since,
                    heard,
                });
                match lost > before.node.load.lost {
                    true => Heard::Losing,
                    false => Heard::Again,
                }
            }
            Entry::Vacant(_) if count >= MAX_NODES => Heard::TooMany,
            Entry::Vacant(place) => {
                place.insert(KnownNode {
                    node: node.clone(),
                    forwarding,
                    uptime,
                    is_rival,
                    rival_since,
                    heard,
                });
                // One permit is enough for all servers that are new, since all of them hear the same heartbeat.
                self.wanted.notify_one();
                Heard::New(Box::new(node))
            }
        };
        drop(others);
        let patience = self.options.heartbeat * CLEARING;
        let is_settled = rival_since.is_some_and(|since| heard.duration_since(since) >= patience);
        if (rivalry == Rivalry::Younger && knows_this) || is_settled {
            self.yield_id(taken);
        }
        is
    }

    /// Compares this server with another one that has the same id.
    fn rivalry(&self, from: &NodeId, beat: &Beat) -> Rivalry {
        if self.options.id.as_deref() != Some(&*beat.id) {
            return Rivalry::None;
        }
        if !beat.is_authentic {
            if let Some(more) = self.namesakes.permit() {
                tracing::warn!(
                    id = %beat.id, name = %from, more,
                    "a server announces the id of this server in a heartbeat that is not sealed: ignored"
                );
            }
            return Rivalry::None;
        }
        // The times for which both have run are compared, because the clocks of two servers may differ. A
        // heartbeat that is late makes the other server seem younger than it is, and never older: at most one of
        // the two finds the other one older.
        let (own, other) = (self.since.elapsed(), beat.uptime());
        if other > own {
            Rivalry::Younger
        } else if own.saturating_sub(other) <= UNCLEAR && self.name < *from {
            Rivalry::Unclear
        } else {
            Rivalry::Older
        }
    }

    /// Another server keeps the id of this one, which must not go on.
    fn yield_id(&self, taken: NodeTaken) {
        if !self.is_closed() && self.taken.borrow().is_none() {
            tracing::error!(%taken, "this server must not run");
            self.taken.send_replace(Some(taken));
        }
    }

    /// A server has said that it goes, or the adapter knows that it has gone.
    pub(super) fn forget(&self, node: &NodeId) -> Option<Node> {
        let known = self.others.lock().remove(node)?;
        Some(Node {
            heard: known.heard.elapsed(),
            ..known.node
        })
    }

    /// Notes that this server hears nobody, or has heard nobody up to now. Nobody is taken for gone before it has heard
    /// others for a whole lease again.
    pub(super) fn note_deaf(&self) {
        *self.hears_since.lock() = Instant::now();
    }

    /// The servers that nothing was heard of for too long, while this one could hear; they are forgotten.
    pub(super) fn expire(&self) -> Vec<Node> {
        let lease = self.options.lease;
        let since = *self.hears_since.lock();
        if since.elapsed() <= lease {
            return Vec::new();
        }
        let mut others = self.others.lock();
        let silent = others
            .values()
            .filter(|known| known.heard.elapsed() > lease)
            .map(|known| Node {
                heard: known.heard.elapsed(),
                ..known.node.clone()
            });
        let silent: Vec<_> = silent.collect();
        for node in &silent {
            others.remove(&node.name);
        }
        silent
    }

    /// Notes that this server was late by so much. While it stood still it could hear nobody, so that time
    /// counts for nobody's silence.
    fn note_lag(&self, late: Duration) {
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.lag.store(micros, Ordering::Relaxed);
        if late > self.options.heartbeat {
            let now = Instant::now();
            for known in self.others.lock().values_mut() {
                known.heard = (known.heard + late).min(now);
            }
        }
    }

    /// Why this server must not go on, once it is known.
    pub(crate) fn taken(&self) -> Option<NodeTaken> {
        self.taken.borrow().clone()
    }

    /// Waits until this server must not go on, which may be never.
    pub(crate) async fn until_taken(&self) -> NodeTaken {
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

    /// Says that this server is there, unless it has left: behind its good-bye others would take it for one that has come back.
    pub(super) fn while_here(&self, speak: impl FnOnce()) {
        let _speaking = self.speaking.lock();
        if !self.is_closed() {
            speak();
        }
    }

    /// Notes that this server leaves, and says good-bye the first time.
    pub(super) fn close(&self, say_goodbye: impl FnOnce()) {
        let _speaking = self.speaking.lock();
        if !self.is_closed.swap(true, Ordering::Relaxed) {
            say_goodbye();
        }
    }
}

/// Servers that are remembered, about half a kibibyte each.
const MAX_NODES: usize = 1024;
/// The time between two lines of the log about requests that go astray.
const ASTRAY: Duration = Duration::from_secs(60);
/// The time between two lines of the log about servers that have the same id and do not seal.
const NAMESAKES: Duration = Duration::from_secs(60);
/// A server that seems to be younger by at most this much may be older, since its heartbeats may be late.
const UNCLEAR: Duration = Duration::from_secs(10);
/// For how many heartbeats the server that has to yield by its name waits for the other one to find itself
/// younger, and to leave.
const CLEARING: u32 = 4;

#[cfg(test)]
mod tests;
