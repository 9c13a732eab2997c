//! What the threads of a run share with each other, and with whoever watches them.

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
    account::Total,
    load::{Plan, Stamps},
};

/// What all threads of a run and the one that watches them share.
#[derive(Debug)]
pub(crate) struct RunState {
    pub(crate) stamps: Stamps,
    /// For the eyes of whoever watches; figures come from [`Stats`](crate::account::Stats).
    pub(crate) progress: Progress,
    /// Set when the run is to end early.
    pub(crate) stop: watch::Sender<bool>,
    /// When the first message is due; set when all clients have come together.
    pub(crate) start: Mutex<Option<Instant>>,
    /// What each sender has sent.
    pub(crate) totals: Mutex<Vec<Total>>,
    /// Whether a sender has got a message of its own.
    pub(super) own_seen: AtomicBool,
    barrier: Barrier,
}

/// Counters that only ever grow.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) connected: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) sent: AtomicU64,
    pub(crate) arrived: AtomicU64,
}

impl RunState {
    pub(crate) fn new(plan: &Plan, stamps: Stamps) -> Self {
        Self {
            stamps,
            progress: Progress::default(),
            stop: watch::Sender::new(false),
            start: Mutex::new(None),
            totals: Mutex::new(vec![Total::default(); plan.all_senders()]),
            own_seen: AtomicBool::new(false),
            barrier: Barrier::new(plan.threads),
        }
    }

    /// Waits for the other threads.
    pub(super) async fn meet(&self) {
        self.barrier.wait().await;
    }

    /// Waits for the other threads, and agrees with them on a start.
    pub(super) async fn meet_to_start(&self) -> Instant {
        if self.barrier.wait().await.is_leader() {
            // The start lies ahead, so that no thread is late for the first message.
            *self.start.lock() = Some(Instant::now() + Duration::from_millis(20));
        }
        // Nobody reads the start before the leader has set it.
        self.barrier.wait().await;
        let start = *self.start.lock();
        start.unwrap_or_else(Instant::now)
    }

    /// Waits until this time, or until the run is to end. Returns whether it may go on.
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
