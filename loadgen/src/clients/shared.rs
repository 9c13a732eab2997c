//! State that the threads of a run share with each other and with the observer.

use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Barrier, watch},
    time::sleep_until,
};

use crate::{
    account::SenderTotal,
    load::{Plan, Stamps},
};

/// State that all threads of a run and the observing thread share.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) stamps: Stamps,
    /// For the progress display only; the figures come from [`Stats`](crate::account::Stats).
    pub(crate) progress: Progress,
    /// Set to end the run early.
    pub(crate) stop: watch::Sender<bool>,
    /// The time at which the first message is due; set when all clients have connected.
    pub(crate) start: Mutex<Option<Instant>>,
    /// The messages that each sender has sent.
    pub(crate) totals: Mutex<Vec<SenderTotal>>,
    /// Whether a sender has received its own message.
    pub(super) own_seen: AtomicBool,
    barrier: Barrier,
}

/// Counters that never decrease.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) connected: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) arrived: AtomicU64,
}

impl RunState {
    pub(crate) fn new(plan: &Plan, stamps: Stamps) -> Self {
        Self {
            stamps,
            progress: Progress::default(),
            stop: watch::Sender::new(false),
            start: Mutex::new(None),
            totals: Mutex::new(vec![SenderTotal::default(); plan.all_senders()]),
            own_seen: AtomicBool::new(false),
            barrier: Barrier::new(plan.threads),
        }
    }

    /// Waits for the other threads.
    pub(super) async fn meet(&self) {
        self.barrier.wait().await;
    }

    /// Waits for the other threads and agrees with them on a start time.
    pub(super) async fn meet_to_start(&self) -> Instant {
        if self.barrier.wait().await.is_leader() {
            // The start is in the future, so that no thread is late for the first message.
            *self.start.lock() = Some(Instant::now() + Duration::from_millis(20));
        }
        // No thread reads the start before the leader has set it.
        self.barrier.wait().await;
        let start = *self.start.lock();
        start.unwrap_or_else(Instant::now)
    }

    /// Waits until this time, or until the run is stopped. Returns whether the run continues.
    pub(super) async fn wait_until(&self, time: Instant) -> bool {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = sleep_until(time.into()) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}
