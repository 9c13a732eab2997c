//! Detects that no other server is listening, for adapters whose servers all announce themselves.
//!
//! A publication without receivers costs more than sending an event to a small room. So a server
//! publishes nothing while certainly no other server listens. Three conditions make this certain:
//!
//! - **Every listening server sends a greeting, and servers answer a greeting.** This server has
//!   listened for longer than peers may be silent, and has received no message of a peer in that
//!   time. It also has received none in the time after which an earlier peer is forgotten. That
//!   time is much longer than the silence after which a server has left.
//! - **This server processes the messages of peers.** Every second, it receives its own probe by
//!   the same route, after all earlier messages. A probe is valid for two seconds. A server that
//!   does not receive its probe publishes.
//! - **One message of a peer ends it.** From the moment at which a greeting is read, everything is
//!   published again.
//!
//! A new server can therefore miss messages that were sent before its greeting was read, but no
//! later messages. It misses earlier messages in any case. A server that was isolated without
//! noticing sends no greeting. Its next message ends the state.
//!
//! This is about peers, not about rooms: a room without remote members is published.
//! `docs/adapters.md` has the reasons.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Whether certainly no other server is listening.
#[derive(Debug)]
pub(in crate::adapter) struct SoleServer {
    /// Minimum time that this server must have listened.
    settling: Duration,
    /// Minimum time without a message of a peer.
    forgetting: Duration,
    made: Instant,
    /// Until when no other server is listening, in milliseconds since `made`. Zero if this is
    /// uncertain.
    until: AtomicU64,
    known: Mutex<PeerActivity>,
}

#[derive(Debug, Default)]
struct PeerActivity {
    /// Since when this server has been subscribed to all of its current channels.
    listens: Option<Instant>,
    /// Since when this server has been subscribed to any channel on the current connection.
    connected: Option<Instant>,
    /// When the last message of a peer arrived.
    other: Option<Instant>,
}

impl SoleServer {
    pub(in crate::adapter) fn new(settling: Duration, forgetting: Duration) -> Self {
        Self {
            settling,
            forgetting,
            made: Instant::now(),
            until: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    /// Records that this server has subscribed, maybe again or to more channels. Peers do not know
    /// of this yet.
    pub(in crate::adapter) fn listens(&self) {
        let now = Instant::now();
        let mut known = self.known.lock();
        known.listens = Some(now);
        known.connected.get_or_insert(now);
        self.until.store(0, Ordering::Release);
    }

    /// Records that this server no longer receives messages.
    pub(in crate::adapter) fn disconnected(&self) {
        let mut known = self.known.lock();
        (known.listens, known.connected) = (None, None);
        self.until.store(0, Ordering::Release);
    }

    /// Waits until idle peers have had time to read the greeting of this server. Without a
    /// connection this time is unknown, and it returns immediately.
    pub(in crate::adapter) async fn until_known(&self) {
        let connected = self.known.lock().connected;
        if let Some(connected) = connected.filter(|then| then.elapsed() < GREETING) {
            sleep_until(connected + GREETING).await;
        }
    }

    /// Records a message of a peer.
    pub(in crate::adapter) fn peer_message_received(&self) {
        let mut known = self.known.lock();
        known.other = Some(Instant::now());
        self.until.store(0, Ordering::Release);
    }

    /// Records that a probe of this server returned, after all earlier messages of peers.
    pub(in crate::adapter) fn probe_returned(&self) {
        let now = Instant::now();
        let known = self.known.lock();
        let is_past = |then: Option<Instant>, least| {
            then.is_some_and(|then| now.duration_since(then) >= least)
        };
        let is_alone = is_past(known.listens, self.settling)
            && (known.other.is_none() || is_past(known.other, self.forgetting));
        let until = match is_alone {
            true => self.millis(now + VALID),
            false => 0,
        };
        // The lock is still held, so that this does not overwrite a concurrent greeting.
        self.until.store(until, Ordering::Release);
    }

    /// Returns whether certainly no other server is listening now.
    pub(in crate::adapter) fn is_certain(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until > 0 && self.millis(Instant::now()) < until
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.duration_since(self.made);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Maximum time for existing servers to read the greeting of a new server and to answer.
pub(in crate::adapter) const GREETING: Duration = Duration::from_millis(300);
/// The validity of a returned probe. One is sent every second.
const VALID: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn alone() -> SoleServer {
        SoleServer::new(15 * SECOND, 300 * SECOND)
    }

    /// Advances the time while probes of this server return.
    async fn pass(alone: &SoleServer, seconds: u32) {
        for _ in 0..seconds {
            advance(SECOND).await;
            alone.probe_returned();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn server_without_peers_counts_as_sole_after_settling_time() {
        let alone = alone();
        pass(&alone, 20).await;
        assert!(!alone.is_certain(), "it does not listen");
        alone.listens();
        pass(&alone, 14).await;
        assert!(!alone.is_certain(), "others may be silent for that long");
        pass(&alone, 1).await;
        assert!(alone.is_certain());
        alone.listens();
        assert!(!alone.is_certain(), "it listens to more than before");
        pass(&alone, 15).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn reconnected_server_must_settle_again() {
        let alone = alone();
        alone.until_known().await;
        alone.listens();
        pass(&alone, 20).await;
        assert!(alone.is_certain());
        alone.disconnected();
        assert!(!alone.is_certain());
        pass(&alone, 20).await;
        assert!(!alone.is_certain(), "it does not listen");
        alone.listens();
        let before = Instant::now();
        alone.until_known().await;
        assert!(
            before.elapsed() >= GREETING,
            "others read its greeting first"
        );
        pass(&alone, 15).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn message_of_peer_ends_sole_server_state_for_forgetting_time() {
        let alone = alone();
        alone.listens();
        pass(&alone, 20).await;
        assert!(alone.is_certain());
        alone.peer_message_received();
        assert!(!alone.is_certain());
        pass(&alone, 299).await;
        assert!(!alone.is_certain());
        pass(&alone, 1).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn sole_server_state_is_uncertain_without_returned_probe() {
        let alone = alone();
        alone.listens();
        pass(&alone, 20).await;
        advance(SECOND * 2 - Duration::from_millis(1)).await;
        assert!(alone.is_certain());
        advance(Duration::from_millis(1)).await;
        assert!(!alone.is_certain(), "a greeting may have come by unheard");
        alone.probe_returned();
        assert!(alone.is_certain(), "what came before its word was taken in");
    }
}
