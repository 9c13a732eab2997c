//! Caches clients that no server of the cluster knows, to avoid repeated queries of other servers.

use std::{collections::HashSet, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::offer::Pid;

/// Secrets that were recently unknown. Servers generate secrets at random, so an unknown one never
/// becomes known.
///
/// There are two generations. The older one is dropped when the younger one is full or old enough.
pub(crate) struct UnknownClients(Mutex<Generations>);

struct Generations {
    young: HashSet<Pid>,
    old: HashSet<Pid>,
    /// When the younger generation started.
    since: Instant,
}

/// Maximum number of secrets per generation.
const MAX: usize = 8192;
/// Maximum age of the younger generation.
const AGE: Duration = Duration::from_secs(60);

impl UnknownClients {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Generations {
            young: HashSet::new(),
            old: HashSet::new(),
            since: Instant::now(),
        }))
    }

    /// Caches a client that no server knows.
    pub(crate) fn insert(&self, pid: Pid) {
        let mut generations = self.0.lock();
        generations.rotate();
        if generations.young.len() >= MAX {
            generations.renew();
        }
        generations.young.insert(pid);
    }

    /// Returns the number of cached clients.
    pub(crate) fn len(&self) -> usize {
        let generations = self.0.lock();
        generations.young.len() + generations.old.len()
    }

    /// Returns whether the client was recently unknown to all servers.
    pub(crate) fn contains(&self, pid: Pid) -> bool {
        let mut generations = self.0.lock();
        generations.rotate();
        generations.young.contains(&pid) || generations.old.contains(&pid)
    }
}

impl Generations {
    fn rotate(&mut self) {
        let age = self.since.elapsed();
        if age >= 2 * AGE {
            self.young = HashSet::new();
        }
        if age >= AGE {
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.old = std::mem::take(&mut self.young);
        self.since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unknown_clients_are_cached_for_one_to_two_minutes() {
        let unknown = UnknownClients::new();
        let pid = Pid::random();
        assert!(!unknown.contains(pid));
        unknown.insert(pid);
        tokio::time::advance(AGE).await;
        assert!(unknown.contains(pid));
        tokio::time::advance(2 * AGE).await;
        assert!(!unknown.contains(pid));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_unknown_clients_is_bounded() {
        let unknown = UnknownClients::new();
        for _ in 0..10 * MAX {
            unknown.insert(Pid::random());
        }
        let generations = unknown.0.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * MAX);
    }
}
