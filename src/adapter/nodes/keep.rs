//! The task that tells others of this server, and forgets those that are silent.

use std::{
    sync::{Weak, atomic::Ordering},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    time::{Instant, sleep_until},
};

use super::Registry;
use crate::adapter::cluster::Joined;

/// Runs as long as the server lives and has not left the cluster.
pub(crate) async fn keep(cluster: Weak<Joined>) {
    let mut rhythm = Rhythm::new();
    loop {
        let registry = {
            // The strong reference ends with this block: the task must not keep the server alive while it sleeps.
            let Some(joined) = cluster.upgrade() else {
                return;
            };
            let registry = joined.registry();
            if registry.is_closed() {
                return;
            }
            rhythm.note(registry);
            joined.mark_gaps();
            joined.beat();
            std::sync::Arc::clone(registry)
        };
        let last = Instant::now();
        let due = last + registry.options.heartbeat;
        let soon = async {
            registry.wanted.notified().await;
            // Until a gap is marked nobody is recovered, so that does not wait.
            if let Some(joined) = cluster.upgrade() {
                joined.mark_gaps();
            }
            // All servers that are new at about the same time are told at once. If the heartbeat is due before, they
            // hear that one.
            sleep_until(last + SOON).await;
        };
        tokio::select! {
            () = sleep_until(due) => registry.note_lag(due.elapsed()),
            () = soon => {}
        }
    }
}

/// How busy the threads of the runtime were since the last heartbeat.
pub(super) struct Rhythm {
    at: Instant,
    busy: Duration,
}

impl Rhythm {
    fn new() -> Self {
        let (at, busy) = (Instant::now(), busy().0);
        Self { at, busy }
    }

    fn note(&mut self, registry: &Registry) {
        let (at, (busy, workers)) = (Instant::now(), busy());
        let time = at.duration_since(self.at).as_secs_f64() * workers;
        if time > 0.0 {
            let part = busy.saturating_sub(self.busy).as_secs_f64() / time;
            let thousandths = (part.clamp(0.0, 1.0) * 1e3) as u64;
            registry.busy.store(thousandths, Ordering::Relaxed);
        }
        *self = Self { at, busy };
    }
}

/// How long all worker threads together were busy, and how many there are.
fn busy() -> (Duration, f64) {
    let metrics = Handle::current().metrics();
    let workers = metrics.num_workers();
    let busy = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker));
    (busy.sum(), workers as f64)
}

/// The pause between two heartbeats of which the second is for a new server.
const SOON: Duration = Duration::from_millis(100);
