//! What the sockets of one connection share, and others reach while its task runs.

use std::{
    sync::{
        Arc, LazyLock, OnceLock, Weak,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use roomcast_protocol::Frame;

use super::watchers::ConnWatchers;
use crate::{
    engine::{Handshake, Mode, Outbox, Push},
    metrics::Metrics,
};

/// What the sockets of one connection share.
pub(crate) struct ConnInner<S> {
    pub(in crate::socket) outbox: Outbox,
    pub(in crate::socket) handshake: Arc<Handshake>,
    /// The references are weak, because each socket holds its connection.
    pub(in crate::socket) sockets: Mutex<Vec<Weak<S>>>,
    /// Handlers that have outlived their socket and still wait.
    detached: AtomicUsize,
    /// When the client last sent a packet, in whole seconds since [`START`].
    heard: Heard,
    /// The watchers of the connection; most connections have none.
    watchers: OnceLock<Box<ConnWatchers>>,
}

impl<S> ConnInner<S> {
    pub(crate) fn new(outbox: Outbox, handshake: Arc<Handshake>, now: Instant) -> Self {
        Self {
            outbox,
            handshake,
            sockets: Mutex::default(),
            detached: AtomicUsize::new(0),
            heard: Heard::new(seconds(now)),
            watchers: OnceLock::new(),
        }
    }

    /// Queues a frame for the client and tells those who watch the connection.
    #[inline]
    pub(crate) fn push(&self, frame: &Frame, mode: Mode, metrics: &Metrics) -> Push {
        let push = self.outbox.push(frame, mode);
        if push == Push::Queued
            && let Some(watchers) = self.watchers()
        {
            watchers.tell_created(metrics, frame);
        }
        push
    }

    /// The watchers of the connection, if it ever had one.
    #[inline]
    pub(crate) fn watchers(&self) -> Option<&ConnWatchers> {
        let watchers = self.watchers.get().map(|watchers| &**watchers);
        watchers.filter(|watchers| watchers.is_watched())
    }

    /// Everything has left, or the connection is over: who waits for it looks again.
    pub(crate) fn release(&self) {
        if let Some(watchers) = self.watchers.get() {
            watchers.drained().notify_waiters();
        }
    }

    pub(crate) fn make_watchers(&self) -> &ConnWatchers {
        self.watchers.get_or_init(Box::default)
    }

    /// Handlers that have outlived their socket and still wait.
    pub(crate) fn detached(&self) -> usize {
        self.detached.load(Ordering::Relaxed)
    }

    pub(crate) fn count_detached(&self, handlers: usize) {
        self.detached.fetch_add(handlers, Ordering::Relaxed);
    }

    pub(crate) fn count_settled(&self, handlers: usize) {
        self.detached.fetch_sub(handlers, Ordering::Relaxed);
    }

    /// The client has sent a packet.
    #[inline]
    pub(crate) fn hear(&self, now: Instant) {
        self.heard.store(seconds(now), Ordering::Relaxed);
    }

    /// How long ago the client last sent a packet, in whole seconds.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        let heard = self.heard.load(Ordering::Relaxed);
        Duration::from_secs(seconds(now).saturating_sub(heard).into())
    }

    /// When the client last sent a packet: the beginning of that second, by the clock of the system.
    pub(crate) fn last_active(&self) -> SystemTime {
        let heard = self.heard.load(Ordering::Relaxed);
        started() + Duration::from_secs(heard.into())
    }

    #[inline]
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    #[inline]
    pub(crate) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    pub(crate) fn forget_gone(&self) {
        let is_there = |known: &Weak<S>| known.strong_count() > 0;
        self.sockets.lock().retain(is_there);
    }
}

/// A moment in whole seconds since [`START`].
type Heard = AtomicU32;

/// Bytes that the moment takes in which a client was heard last.
#[cfg(test)]
pub(in crate::socket) const HEARD_BYTES: usize = size_of::<Heard>();

/// What times of connections are counted from, so that four bytes are enough for each.
static START: LazyLock<Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());

#[inline]
fn seconds(now: Instant) -> u32 {
    let since = now.saturating_duration_since(*START);
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// When [`START`] was, by the clock of the system. Two clocks that are read one after the other never agree to the millisecond,
/// so the time that was found first stays until the clock of the system was set.
fn started() -> SystemTime {
    // The order of reading keeps what comes out from being later than it was.
    let clock = SystemTime::now();
    let now = tokio::time::Instant::now().into_std();
    let since = now.saturating_duration_since(*START);
    let at = clock.checked_sub(since).unwrap_or(UNIX_EPOCH);
    let mut started = STARTED.lock();
    match *started {
        Some(known) if apart(known, at) < CLOCK_WAS_SET => known,
        Some(_) | None => *started.insert(at),
    }
}

fn apart(one: SystemTime, other: SystemTime) -> Duration {
    let distance = one.duration_since(other);
    distance.unwrap_or_else(|error| error.duration())
}

/// What [`started`] has found.
static STARTED: Mutex<Option<SystemTime>> = Mutex::new(None);
/// How far the clock of the system is off by itself at most.
const CLOCK_WAS_SET: Duration = Duration::from_secs(2);
