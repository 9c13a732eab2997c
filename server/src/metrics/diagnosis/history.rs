//! How many sockets connected and disconnected in the last hour, in steps of ten seconds.

use std::collections::BTreeMap;

use roomcast::DisconnectReason;
use serde::{Deserialize, Serialize};

/// Counts of the last hour: a ring of [`STEPS`] steps.
#[derive(Debug)]
pub(super) struct History {
    /// The number of each step since 1970, with its counts.
    steps: Vec<(u64, Counts)>,
    /// The step in which counting began.
    first: u64,
}

/// Connects, refusals, and disconnects by reason.
type Counts = [u32; 2 + REASONS.len()];

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Connected,
    Refused,
    Disconnected(DisconnectReason),
}

impl Change {
    fn position(self) -> usize {
        match self {
            Self::Connected => 0,
            Self::Refused => 1,
            Self::Disconnected(reason) => {
                let at = REASONS.iter().position(|known| *known == reason);
                2 + at.unwrap_or_default()
            }
        }
    }
}

/// The complete steps of the last hour, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Steps {
    /// The number of the first step since 1970.
    pub(crate) first: u64,
    /// Sockets of the chat that connected.
    pub(crate) connected: Vec<u32>,
    /// Refused connections and sockets.
    pub(crate) refused: Vec<u32>,
    /// Disconnected sockets by reason. Without reasons that did not occur.
    pub(crate) disconnected: BTreeMap<String, Vec<u32>>,
}

impl Steps {
    /// Adds the steps of another server, whose clock may differ.
    pub(crate) fn merge(&mut self, other: &Self) {
        if other.connected.is_empty() {
            return;
        }
        if self.connected.is_empty() {
            self.clone_from(other);
            return;
        }
        let first = self.first.min(other.first);
        let end = |steps: &Self| steps.first.saturating_add(steps.connected.len() as u64);
        // A server with a wrong clock must not make the answer long.
        let length = (end(self).max(end(other)) - first).min(2 * STEPS as u64) as usize;
        let (own, others) = (self.first - first, other.first - first);
        let moved = |counts: &[u32], by: u64, sum: &mut Vec<u32>| {
            for (at, count) in counts.iter().enumerate() {
                let at = usize::try_from(by).unwrap_or(usize::MAX).saturating_add(at);
                if let Some(sum) = sum.get_mut(at) {
                    *sum = sum.saturating_add(*count);
                }
            }
        };
        let added = |one: &[u32], two: &[u32]| {
            let mut sum = vec![0; length];
            moved(one, own, &mut sum);
            moved(two, others, &mut sum);
            sum
        };
        let none = Vec::new();
        let reasons: Vec<String> = self
            .disconnected
            .keys()
            .chain(other.disconnected.keys())
            .cloned()
            .collect();
        self.disconnected = reasons
            .into_iter()
            .map(|reason| {
                let one = self.disconnected.get(&reason).unwrap_or(&none);
                let two = other.disconnected.get(&reason).unwrap_or(&none);
                let sum = added(one, two);
                (reason, sum)
            })
            .collect();
        self.connected = added(&self.connected, &other.connected);
        self.refused = added(&self.refused, &other.refused);
        self.first = first;
    }
}

impl History {
    /// Begins counting at a time in seconds since 1970.
    pub(super) fn new(now: u64) -> Self {
        Self {
            steps: vec![(0, NONE); STEPS],
            first: now / STEP_S,
        }
    }

    pub(super) fn count(&mut self, now: u64, change: Change) {
        let step = now / STEP_S;
        if let Some((number, counts)) = self.steps.get_mut(position(step)) {
            if *number != step {
                *number = step;
                *counts = NONE;
            }
            if let Some(count) = counts.get_mut(change.position()) {
                *count = count.saturating_add(1);
            }
        }
    }

    /// Returns the complete steps of the last hour.
    pub(super) fn steps(&self, now: u64) -> Steps {
        let current = now / STEP_S;
        // The ring also has the current step.
        let first = self.first.max(current.saturating_sub(STEPS as u64 - 1));
        let counts: Vec<Counts> = (first..current)
            .map(|step| match self.steps.get(position(step)) {
                Some((number, counts)) if *number == step => *counts,
                _ => NONE,
            })
            .collect();
        let column = |at: usize| -> Vec<u32> {
            counts
                .iter()
                .map(|counts| counts.get(at).copied().unwrap_or_default())
                .collect()
        };
        let reasons = REASONS.iter().enumerate();
        let columns = reasons.map(|(at, reason)| (reason.as_str().to_owned(), column(2 + at)));
        Steps {
            first,
            connected: column(0),
            refused: column(1),
            disconnected: columns
                .filter(|(_, counts)| counts.iter().any(|count| *count > 0))
                .collect(),
        }
    }
}

fn position(step: u64) -> usize {
    usize::try_from(step).unwrap_or_default() % STEPS
}

/// Seconds of a step.
pub(crate) const STEP_S: u64 = 10;
/// The counts of a step without changes.
const NONE: Counts = [0; 2 + REASONS.len()];
/// Steps of the ring: an hour.
const STEPS: usize = 360;
/// All reasons. The first also stands for reasons of later versions of the library.
const REASONS: [DisconnectReason; 10] = [
    DisconnectReason::TransportClose,
    DisconnectReason::TransportError,
    DisconnectReason::PingTimeout,
    DisconnectReason::ParseError,
    DisconnectReason::ForcedClose,
    DisconnectReason::ForcedServerClose,
    DisconnectReason::ServerShuttingDown,
    DisconnectReason::Overflow,
    DisconnectReason::ClientNamespaceDisconnect,
    DisconnectReason::ServerNamespaceDisconnect,
];

#[cfg(test)]
mod tests {
    use super::*;

    const LEFT: Change = Change::Disconnected(DisconnectReason::TransportClose);

    #[test]
    fn steps_are_counted_by_reason_and_forgotten_after_an_hour() {
        let mut history = History::new(100_000);
        for second in 100_000..110_000 {
            history.count(second, Change::Connected);
            if second % 2 == 0 {
                history.count(second, LEFT);
            }
        }
        let steps = history.steps(110_003);
        assert_eq!(steps.connected.len(), STEPS - 1);
        assert_eq!(steps.first + steps.connected.len() as u64, 11_000);
        assert!(steps.connected.iter().all(|count| *count == 10));
        assert_eq!(steps.disconnected["transport close"], vec![5; STEPS - 1]);
        assert_eq!(steps.disconnected.len(), 1);
        assert_eq!(
            history.steps(110_000 + 7_200).connected.iter().sum::<u32>(),
            0
        );
    }

    #[test]
    fn steps_of_servers_are_added_by_their_time() {
        let mut first = History::new(1_000);
        let mut second = History::new(1_020);
        first.count(1_005, Change::Connected);
        first.count(1_025, LEFT);
        second.count(1_025, Change::Refused);
        second.count(1_031, LEFT);
        let mut sum = first.steps(1_040);
        sum.merge(&second.steps(1_045));
        assert_eq!((sum.first, &*sum.connected), (100, &[1, 0, 0, 0][..]));
        assert_eq!(sum.refused, [0, 0, 1, 0]);
        assert_eq!(sum.disconnected["transport close"], [0, 0, 1, 1]);
        let mut none = Steps::default();
        none.merge(&sum);
        sum.merge(&Steps::default());
        assert_eq!(none, sum);
    }
}
