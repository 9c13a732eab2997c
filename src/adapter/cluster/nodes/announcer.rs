//! The heartbeat task: announces this server and removes expired peers.

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

/// Runs until the server is dropped or has left the cluster.
pub(crate) async fn keep(cluster: Weak<Joined>) {
    let mut rhythm = BusyMeter::new();
    loop {
        let registry = {
            // The strong reference ends with this block. The task must not keep the server alive
            // while it sleeps.
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
            registry.heartbeat_due.notified().await;
            // No session is recovered until the gap is marked, so this does not wait for the
            // heartbeat.
            if let Some(joined) = cluster.upgrade() {
                joined.mark_gaps();
            }
            // One heartbeat serves all servers that join at about the same time. If the regular
            // heartbeat is due earlier, it serves them instead.
            sleep_until(last + MIN_HEARTBEAT_INTERVAL).await;
        };
        tokio::select! {
            () = sleep_until(due) => {}
            () = soon => {}
        }
        // After a stall, both branches may be ready. The stall is noted in either case.
        if Instant::now() >= due {
            registry.note_lag(due.elapsed());
        }
    }
}

/// Measures how busy the threads of the runtime were since the last heartbeat.
pub(super) struct BusyMeter {
    at: Instant,
    busy: Duration,
}

impl BusyMeter {
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

/// Returns the total busy time of all worker threads, and their number.
fn busy() -> (Duration, f64) {
    let metrics = Handle::current().metrics();
    let workers = metrics.num_workers();
    let busy = (0..workers).map(|worker| metrics.worker_total_busy_duration(worker));
    (busy.sum(), workers as f64)
}

/// The minimum delay between a heartbeat and an additional heartbeat for a new server.
const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
