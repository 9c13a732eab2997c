//! Limits how many events are published to the channels of a kind.

use std::time::{Duration, Instant};

use roomcast::internal::SharedTokenBucket;

/// Limits the events of a kind that are published at this server.
#[derive(Debug)]
pub(in crate::service::channels) struct Pace {
    rested: SharedTokenBucket,
    start: Instant,
    /// The time between two events.
    cost: Duration,
}

impl Pace {
    pub(super) fn new(per_second: u32) -> Option<Self> {
        (per_second > 0).then(|| Self {
            rested: SharedTokenBucket::default(),
            start: Instant::now(),
            cost: SECOND / per_second,
        })
    }

    /// Counts events, all or none. Otherwise, returns how long to wait.
    pub(in crate::service::channels) fn take(&self, events: u32) -> Result<(), Duration> {
        // A whole list is always possible after a pause.
        let burst = SECOND.max(self.cost.saturating_mul(LONGEST_LIST));
        let cost = self.cost.saturating_mul(events);
        self.rested.take(self.start.elapsed(), cost, burst)
    }
}

/// The maximum number of events in one request.
const LONGEST_LIST: u32 = 1000;
const SECOND: Duration = Duration::from_secs(1);
