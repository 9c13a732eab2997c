//! The state that the sockets of one connection share, accessible outside of its task.

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

/// The shared state of one connection's sockets.
pub(crate) struct ConnInner<S> {
    pub(in crate::socket) outbox: Outbox,
    pub(in crate::socket) handshake: Arc<Handshake>,
    /// Weak references, because each socket holds its connection.
    pub(in crate::socket) sockets: Mutex<Vec<Weak<S>>>,
    /// Running handlers that have outlived their socket.
    detached: AtomicUsize,
    /// Time of the client's last packet, in whole seconds since [`START`].
    last_packet: LastPacketTime,
    /// The observers of the connection. Most connections have none.
    watchers: OnceLock<Box<ConnWatchers>>,
}

impl<S> ConnInner<S> {
    pub(crate) fn new(outbox: Outbox, handshake: Arc<Handshake>, now: Instant) -> Self {
        Self {
            outbox,
            handshake,
            sockets: Mutex::default(),
            detached: AtomicUsize::new(0),
            last_packet: LastPacketTime::new(seconds(now)),
            watchers: OnceLock::new(),
        }
    }

    /// Queues a frame for the client, and notifies the observers of the connection.
    #[inline]
    pub(crate) fn push(&self, frame: &Frame, mode: Mode, metrics: &Metrics) -> Push {
        let push = self.outbox.push(frame, mode);
        if let Some(watchers) = self.watchers() {
            watchers.notify_push(metrics, frame, push);
        }
        push
    }

    /// Returns the observers of the connection, if it ever had one.
    #[inline]
    pub(crate) fn watchers(&self) -> Option<&ConnWatchers> {
        let watchers = self.watchers.get().map(|watchers| &**watchers);
        watchers.filter(|watchers| watchers.is_watched())
    }

    /// Wakes callers that wait for a drain, because all data is sent or the connection is closed.
    pub(crate) fn release(&self) {
        if let Some(watchers) = self.watchers.get() {
            watchers.drained().notify_waiters();
        }
    }

    pub(crate) fn make_watchers(&self) -> &ConnWatchers {
        self.watchers.get_or_init(Box::default)
    }

    /// Returns the number of running handlers that have outlived their socket.
    pub(crate) fn detached(&self) -> usize {
        self.detached.load(Ordering::Relaxed)
    }

    pub(crate) fn count_detached(&self, handlers: usize) {
        self.detached.fetch_add(handlers, Ordering::Relaxed);
    }

    pub(crate) fn count_settled(&self, handlers: usize) {
        self.detached.fetch_sub(handlers, Ordering::Relaxed);
    }

    /// Records that the client has sent a packet.
    #[inline]
    pub(crate) fn record_packet(&self, now: Instant) {
        self.last_packet.store(seconds(now), Ordering::Relaxed);
    }

    /// Returns the time since the client's last packet, in whole seconds.
    pub(crate) fn idle(&self, now: Instant) -> Duration {
        let last_packet = self.last_packet.load(Ordering::Relaxed);
        Duration::from_secs(seconds(now).saturating_sub(last_packet).into())
    }

    /// Returns the system time of the client's last packet, rounded down to a second.
    pub(crate) fn last_active(&self) -> SystemTime {
        let last_packet = self.last_packet.load(Ordering::Relaxed);
        started() + Duration::from_secs(last_packet.into())
    }

    #[inline]
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    #[inline]
    pub(crate) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    pub(crate) fn remove_closed(&self) {
        let is_open = |known: &Weak<S>| known.strong_count() > 0;
        self.sockets.lock().retain(is_open);
    }
}

/// A time in whole seconds since [`START`].
type LastPacketTime = AtomicU32;

/// Size of the time of a client's last packet, in bytes.
#[cfg(test)]
pub(in crate::socket) const LAST_PACKET_BYTES: usize = size_of::<LastPacketTime>();

/// The reference for times of connections, so that each fits into four bytes.
static START: LazyLock<Instant> = LazyLock::new(|| tokio::time::Instant::now().into_std());

#[inline]
fn seconds(now: Instant) -> u32 {
    let since = now.saturating_duration_since(*START);
    u32::try_from(since.as_secs()).unwrap_or(u32::MAX)
}

/// Returns [`START`] by the system clock.
///
/// Successive readings of two clocks differ slightly, so the first result is reused until the
/// system clock is changed.
fn started() -> SystemTime {
    // This order of reading ensures that the result is never too late.
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

/// The cached result of [`started`].
static STARTED: Mutex<Option<SystemTime>> = Mutex::new(None);
/// A larger difference means that the system clock was changed.
const CLOCK_WAS_SET: Duration = Duration::from_secs(2);
