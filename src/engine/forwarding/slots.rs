//! Limits the number of requests and WebSockets of other servers' sessions that are in flight.
//!
//! Refusing a poll ends the client's session. The client reconnects immediately and polls more than
//! before, so a limit that refuses polls causes a storm. Therefore:
//!
//! - Requests wait for a slot. While slots are scarce, polls are answered sooner, with an empty
//!   packet if necessary, so that each slot serves many requests.
//! - WebSockets are refused immediately, because their clients continue polling.
//! - New sessions are refused before so many requests wait that none gets a slot in time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// The maximum numbers of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Requests in flight.
    pub(crate) requests: usize,
    /// WebSockets in flight.
    pub(crate) tunnels: usize,
}

/// The slots of one server.
#[derive(Debug)]
pub(super) struct ForwardingSlots {
    bounds: Bounds,
    requests: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    /// The number of requests that wait for a slot.
    waiting: AtomicUsize,
}

/// The target time until a waiting request gets a slot.
const TARGET_WAIT: Duration = Duration::from_secs(2);
/// Minimum time that a poll waits while requests need its slot; less would be wasted work.
const MIN_HOLD: Duration = Duration::from_millis(20);
/// Maximum time that a poll waits while slots are scarce.
const MAX_HOLD: Duration = Duration::from_secs(5);
/// Number of waiting requests per slot from which new sessions, which would also need slots, are
/// refused.
const CROWDED_PER_SLOT: usize = 16;
/// Maximum number of waiting requests per slot; each holds a connection of its client.
const MAX_WAITING_PER_SLOT: usize = 64;

impl ForwardingSlots {
    pub(super) fn new(bounds: Bounds) -> Self {
        let bounds = Bounds {
            requests: bounds.requests.min(Semaphore::MAX_PERMITS),
            tunnels: bounds.tunnels.min(Semaphore::MAX_PERMITS),
        };
        let semaphore = |slots: usize| Arc::new(Semaphore::new(slots));
        Self {
            bounds,
            requests: semaphore(bounds.requests),
            tunnels: semaphore(bounds.tunnels),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Returns a slot for a WebSocket; `None` if there are too many.
    pub(super) fn tunnel(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.tunnels).try_acquire_owned().ok()
    }

    /// Returns a slot for a request as soon as one is free; `None` if that takes too long or too
    /// many requests wait.
    pub(super) async fn request(&self, time_limit: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(slot) = Arc::clone(&self.requests).try_acquire_owned() {
            return Some(slot);
        }
        // The guard decrements the count on every exit, including when the client disconnects.
        let waiting = WaitingCount::new(&self.waiting);
        if waiting.before >= self.bounds.requests.saturating_mul(MAX_WAITING_PER_SLOT) {
            return None;
        }
        // Slots are assigned in the order of the requests.
        let slot = timeout(time_limit, Arc::clone(&self.requests).acquire_owned());
        slot.await.ok()?.ok()
    }

    /// Returns how long a poll may wait at the server of its session: the more requests wait for a
    /// slot, the shorter. `None` means no limit, while slots are plentiful.
    pub(super) fn hold(&self) -> Option<Duration> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 && self.requests.available_permits() > self.bounds.requests / 2 {
            return None;
        }
        let slots = u32::try_from(self.bounds.requests).unwrap_or(u32::MAX);
        let requests_waiting = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        let hold = TARGET_WAIT.saturating_mul(slots) / requests_waiting;
        Some(hold.clamp(MIN_HOLD, MAX_HOLD))
    }

    /// Returns whether so many requests wait that new sessions should be opened on other servers.
    pub(super) fn are_crowded(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting >= self.bounds.requests.saturating_mul(CROWDED_PER_SLOT)
    }
}

/// Counts a request while it waits.
struct WaitingCount<'a> {
    all: &'a AtomicUsize,
    /// The number of waiting requests before this one.
    before: usize,
}

impl<'a> WaitingCount<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        // The count guards no other memory, so relaxed is enough.
        let before = all.fetch_add(1, Ordering::Relaxed);
        Self { all, before }
    }
}

impl Drop for WaitingCount<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn holds_shrink_as_more_requests_wait_until_waiting_is_full() {
        let slots = Arc::new(ForwardingSlots::new(Bounds {
            requests: 2,
            tunnels: 1,
        }));
        assert_eq!(slots.hold(), None);
        let time_limit = Duration::from_secs(60);
        let first = slots.request(time_limit).await.unwrap();
        let second = slots.request(time_limit).await.unwrap();
        assert_eq!(slots.hold(), Some(TARGET_WAIT * 2));
        let wait = || {
            let slots = Arc::clone(&slots);
            tokio::spawn(async move { slots.request(time_limit).await.is_some() })
        };
        let mut waiting = Vec::new();
        let mut hold = MAX_HOLD;
        for n in 0..2 * MAX_WAITING_PER_SLOT {
            assert_eq!(slots.are_crowded(), n >= 2 * CROWDED_PER_SLOT);
            waiting.push(wait());
            tokio::task::yield_now().await;
            assert!(slots.hold().unwrap() <= hold);
            hold = slots.hold().unwrap();
        }
        assert!(hold < TARGET_WAIT && hold >= MIN_HOLD);
        assert!(slots.request(time_limit).await.is_none(), "too many wait");
        // Each waiting request gets a slot that an earlier one releases.
        drop((first, second));
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        assert_eq!(slots.hold(), None);
        let _held = (
            slots.request(time_limit).await,
            slots.request(time_limit).await,
        );
        assert!(
            slots.request(time_limit).await.is_none(),
            "it takes too long"
        );
        assert_eq!(slots.waiting.load(Ordering::Relaxed), 0);
        // WebSockets have separate slots.
        let tunnel = slots.tunnel();
        assert!(tunnel.is_some() && slots.tunnel().is_none());
    }
}
