//! The times at which messages have reached their last receivers.

use std::time::Duration;

use super::times::Times;
use crate::load::Plan;

/// The arrivals of each message; those of several threads can be merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Completion {
    /// The arrivals of each message, by its position in the run; at most [`MAX_MESSAGES`].
    messages: Vec<Arrivals>,
    /// The clients of each room that stayed connected to the end.
    pub(crate) receivers: Vec<u32>,
    /// Whether senders are among the receivers of their own messages.
    pub(crate) includes_own: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Arrivals {
    count: u32,
    /// The longest of these times, in nanoseconds.
    longest: u64,
}

impl Completion {
    /// Records that a message has reached another receiver.
    pub(crate) fn note(&mut self, index: u64, time: Duration) {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        if index >= MAX_MESSAGES {
            return;
        }
        if self.messages.len() <= index {
            self.messages.resize(index + 1, Arrivals::default());
        }
        if let Some(arrivals) = self.messages.get_mut(index) {
            arrivals.count += 1;
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            arrivals.longest = arrivals.longest.max(time);
        }
    }

    /// Adds the arrivals that another thread has recorded.
    pub(crate) fn merge(&mut self, other: &Self) {
        let length = self.messages.len().max(other.messages.len());
        self.messages.resize(length, Arrivals::default());
        for (own, merged) in self.messages.iter_mut().zip(&other.messages) {
            own.count += merged.count;
            own.longest = own.longest.max(merged.longest);
        }
        let length = self.receivers.len().max(other.receivers.len());
        self.receivers.resize(length, 0);
        for (own, merged) in self.receivers.iter_mut().zip(&other.receivers) {
            *own += merged;
        }
        self.includes_own |= other.includes_own;
    }

    /// Returns the time until the last receiver got a message, for every message that reached all.
    pub(crate) fn times(&self, plan: &Plan) -> Times {
        let mut times = Times::default();
        let schedule = plan.schedule();
        for (index, arrivals) in self.messages.iter().enumerate() {
            let (sender, number) = (index % schedule.senders, index / schedule.senders);
            let members = self.receivers.get(plan.room_of(sender));
            let members = members.copied().unwrap_or_default();
            let expected = members.saturating_sub(u32::from(!self.includes_own));
            let is_measured = schedule.due(sender, number as u64) >= plan.warmup;
            if is_measured && expected > 0 && arrivals.count >= expected {
                times.record(Duration::from_nanos(arrivals.longest));
            }
        }
        times
    }
}

/// The maximum number of messages whose receivers are counted; more would take too much memory.
const MAX_MESSAGES: usize = 4_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Scenario, small_plan};

    #[test]
    fn message_is_complete_when_the_last_receiver_of_all_threads_has_it() {
        const MS: Duration = Duration::from_millis(1);
        let mut plan = small_plan(Scenario::Fanout);
        (plan.clients, plan.senders) = (4, 2);
        let half = |receivers, times: &[(u64, u32)]| {
            let mut half = Completion {
                receivers: vec![receivers],
                ..Completion::default()
            };
            for &(index, time) in times {
                half.note(index, MS * time);
            }
            half
        };
        let mut all = half(2, &[(0, 1), (0, 5), (1, 2)]);
        all.merge(&half(2, &[(0, 9), (1, 3), (2, 4)]));
        let times = all.times(&plan);
        assert_eq!(
            times.count(),
            1,
            "only the first one came to all but its sender"
        );
        assert!((times.max() - 9.0).abs() < 0.1, "{}", times.max());
        all.includes_own = true;
        assert_eq!(all.times(&plan).count(), 0);
    }

    #[test]
    fn messages_beyond_the_limit_are_not_counted() {
        let mut completion = Completion::default();
        completion.note(u64::MAX, Duration::ZERO);
        completion.note(MAX_MESSAGES as u64, Duration::ZERO);
        assert!(completion.messages.is_empty());
    }
}
