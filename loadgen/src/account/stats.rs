//! The figures that one thread collects, and their merging.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use super::{
    completion::Completion,
    stored::Stored,
    times::{Timeline, Times},
};

/// Counts of names. From the 33rd different name on, all further names are counted together.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally(pub(crate) BTreeMap<String, u64>);

impl Tally {
    pub(crate) fn count(&mut self, name: &str) {
        self.add_some(name, 1);
    }

    fn add_some(&mut self, name: &str, count: u64) {
        if let Some(found) = self.0.get_mut(name) {
            *found += count;
        // Servers choose these names, so their number is bounded.
        } else if self.0.len() < 32 {
            self.0.insert(name.to_owned(), count);
        } else {
            *self.0.entry("others".to_owned()).or_default() += count;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (name, count) in &other.0 {
            self.add_some(name, *count);
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

/// Errors in the delivery of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) duplicate: u64,
    pub(crate) out_of_order: u64,
    pub(crate) corrupt: u64,
    pub(crate) misrouted: u64,
    /// Requests without an acknowledgement.
    pub(crate) unanswered: u64,
}

/// All figures that a thread collects.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stats {
    /// The time from when a message was due to when it was received.
    pub(crate) latency: Times,
    /// The time from when a message was due to when its acknowledgement was received.
    pub(crate) acks: Times,
    /// The duration of connecting, including the namespace.
    pub(crate) connect: Times,
    /// The time from when a message was due to when it was sent: the generator's own delay.
    pub(crate) lag: Times,
    pub(crate) timeline: Timeline,
    pub(crate) sent: u64,
    /// Messages that were due when the client was disconnected or its queue was full.
    pub(crate) unsent: u64,
    /// The deliveries expected by all clients.
    pub(crate) expected: u64,
    pub(crate) delivered: u64,
    /// Messages that clients did not receive because their connection had ended.
    pub(crate) missed: u64,
    pub(crate) faults: Faults,
    /// Messages that the server refused, by reason.
    pub(crate) refused: Tally,
    pub(crate) opened: u64,
    /// Clients that could not connect, by reason.
    pub(crate) failed: Tally,
    /// Connections that ended early, by reason.
    pub(crate) dropped: Tally,
    pub(crate) pings: u64,
    pub(crate) slow: Slow,
    /// The times at which messages had reached all receivers.
    pub(crate) completion: Completion,
    /// The messages that a chat has stored, or why that is unknown. Set when all threads have
    /// ended.
    pub(crate) stored: Option<Result<Stored, String>>,
}

/// Clients that stop reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Slow {
    pub(crate) clients: u64,
    #[serde(rename = "cut")]
    pub(crate) disconnected: u64,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    /// Messages that are missing although later messages arrived.
    pub(crate) holes: u64,
}

impl Stats {
    /// Creates figures for a measured time of this length.
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            timeline: Timeline::new(length),
            ..Self::default()
        }
    }

    /// Adds the figures of another thread.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.acks.add(&other.acks);
        self.connect.add(&other.connect);
        self.lag.add(&other.lag);
        self.timeline.add(&other.timeline);
        self.refused.add(&other.refused);
        self.failed.add(&other.failed);
        self.dropped.add(&other.dropped);
        self.completion.merge(&other.completion);
        let (own, merged) = (&mut self.faults, &other.faults);
        let (slow, merged_slow) = (&mut self.slow, &other.slow);
        for (own, merged) in [
            (&mut self.sent, other.sent),
            (&mut self.unsent, other.unsent),
            (&mut self.expected, other.expected),
            (&mut self.delivered, other.delivered),
            (&mut self.missed, other.missed),
            (&mut self.opened, other.opened),
            (&mut self.pings, other.pings),
            (&mut own.lost, merged.lost),
            (&mut own.duplicate, merged.duplicate),
            (&mut own.out_of_order, merged.out_of_order),
            (&mut own.corrupt, merged.corrupt),
            (&mut own.misrouted, merged.misrouted),
            (&mut own.unanswered, merged.unanswered),
            (&mut slow.clients, merged_slow.clients),
            (&mut slow.disconnected, merged_slow.disconnected),
            (&mut slow.expected, merged_slow.expected),
            (&mut slow.received, merged_slow.received),
            (&mut slow.holes, merged_slow.holes),
        ] {
            *own += merged;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_merged() {
        let mut one = Stats::new(Duration::from_secs(1));
        one.sent = 1;
        one.faults.lost = 2;
        one.slow.disconnected = 3;
        one.dropped.count("x");
        let mut both = one.clone();
        both.merge(&one);
        assert_eq!(
            (both.sent, both.faults.lost, both.slow.disconnected),
            (2, 4, 6)
        );
        assert_eq!(both.dropped.0["x"], 2);
    }

    #[test]
    fn tally_is_bounded() {
        let mut tally = Tally::default();
        for i in 0..1000 {
            tally.count(&i.to_string());
        }
        assert_eq!((tally.0.len(), tally.total()), (33, 1000));
    }
}
