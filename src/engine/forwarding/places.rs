//! How many requests and WebSockets of other servers' sessions may be under way.
//!
//! A poll that is refused ends its session at the client, which comes again at once and polls more than before: a bound that
//! refuses polls makes a storm. So a request waits for its place, and while places are scarce polls are answered sooner, with
//! an empty packet if need be, so that each place serves many. A WebSocket is refused at once, since its client goes
//! on polling; and new sessions are, before so many wait that nobody gets a place in time.

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

/// How many there may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Requests.
    pub(crate) requests: usize,
    /// WebSockets.
    pub(crate) tunnels: usize,
}

/// The places of one server.
#[derive(Debug)]
pub(super) struct Places {
    bounds: Bounds,
    requests: Arc<Semaphore>,
    tunnels: Arc<Semaphore>,
    /// Requests that wait for a place.
    waiting: AtomicUsize,
}

/// How soon each request that waits should have its turn.
const TURN: Duration = Duration::from_secs(2);
/// How long a poll waits at least while others wait for its place: more often would be work for nothing.
const SHORTEST: Duration = Duration::from_millis(20);
/// How long a poll waits at most while places are scarce.
const LONGEST: Duration = Duration::from_secs(5);
/// As many requests may wait for each place before no new sessions are opened that would need one too.
const CROWDED: usize = 16;
/// As many may wait at all, each of which holds a connection of its client.
const MOST: usize = 64;

impl Places {
    pub(super) fn new(bounds: Bounds) -> Self {
        let bounds = Bounds {
            requests: bounds.requests.min(Semaphore::MAX_PERMITS),
            tunnels: bounds.tunnels.min(Semaphore::MAX_PERMITS),
        };
        let semaphore = |places: usize| Arc::new(Semaphore::new(places));
        Self {
            bounds,
            requests: semaphore(bounds.requests),
            tunnels: semaphore(bounds.tunnels),
            waiting: AtomicUsize::new(0),
        }
    }

    /// A place for a WebSocket; `None` if there are too many.
    pub(super) fn tunnel(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.tunnels).try_acquire_owned().ok()
    }

    /// A place for a request, as soon as one is free; `None` if that takes too long, or too many wait.
    pub(super) async fn request(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = Arc::clone(&self.requests).try_acquire_owned() {
            return Some(place);
        }
        // The guard counts it out again wherever this ends, also if the client gives up.
        let waiting = Waiting::new(&self.waiting);
        if waiting.before >= self.bounds.requests.saturating_mul(MOST) {
            return None;
        }
        // Places are given in the order in which they are asked for.
        let place = timeout(patience, Arc::clone(&self.requests).acquire_owned());
        place.await.ok()?.ok()
    }

    /// How long a poll may wait at the server of its session: the shorter, the more others wait for a place. `None` while
    /// places are plenty: for as long as it wants.
    pub(super) fn hold(&self) -> Option<Duration> {
        let waiting = self.waiting.load(Ordering::Relaxed);
        if waiting == 0 && self.requests.available_permits() > self.bounds.requests / 2 {
            return None;
        }
        let places = u32::try_from(self.bounds.requests).unwrap_or(u32::MAX);
        let others = u32::try_from(waiting + 1).unwrap_or(u32::MAX);
        let hold = TURN.saturating_mul(places) / others;
        Some(hold.clamp(SHORTEST, LONGEST))
    }

    /// Whether so many wait that new sessions should go elsewhere.
    pub(super) fn are_crowded(&self) -> bool {
        let waiting = self.waiting.load(Ordering::Relaxed);
        waiting >= self.bounds.requests.saturating_mul(CROWDED)
    }
}

/// Counts a request while it waits.
struct Waiting<'a> {
    all: &'a AtomicUsize,
    /// How many there were before it.
    before: usize,
}

impl<'a> Waiting<'a> {
    fn new(all: &'a AtomicUsize) -> Self {
        // The count guards nothing, so relaxed is enough.
        let before = all.fetch_add(1, Ordering::Relaxed);
        Self { all, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_more_wait_for_a_place_the_sooner_polls_are_answered_until_no_more_may_wait() {
        let places = Arc::new(Places::new(Bounds {
            requests: 2,
            tunnels: 1,
        }));
        assert_eq!(places.hold(), None);
        let patience = Duration::from_secs(60);
        let first = places.request(patience).await.unwrap();
        let second = places.request(patience).await.unwrap();
        assert_eq!(places.hold(), Some(TURN * 2));
        let wait = || {
            let places = Arc::clone(&places);
            tokio::spawn(async move { places.request(patience).await.is_some() })
        };
        let mut waiting = Vec::new();
        let mut hold = LONGEST;
        for n in 0..2 * MOST {
            assert_eq!(places.are_crowded(), n >= 2 * CROWDED);
            waiting.push(wait());
            tokio::task::yield_now().await;
            assert!(places.hold().unwrap() <= hold);
            hold = places.hold().unwrap();
        }
        assert!(hold < TURN && hold >= SHORTEST);
        assert!(places.request(patience).await.is_none(), "too many wait");
        // Each of those who wait gets the place of another one.
        drop((first, second));
        for waiting in waiting {
            assert!(waiting.await.unwrap());
        }
        assert_eq!(places.hold(), None);
        let _held = (
            places.request(patience).await,
            places.request(patience).await,
        );
        assert!(
            places.request(patience).await.is_none(),
            "it takes too long"
        );
        assert_eq!(places.waiting.load(Ordering::Relaxed), 0);
        // WebSockets have places of their own.
        let tunnel = places.tunnel();
        assert!(tunnel.is_some() && places.tunnel().is_none());
    }
}
