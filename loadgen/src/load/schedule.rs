//! The schedule of messages, and a thread that signals when each is due.

use std::{
    thread,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

/// The times at which messages are due.
///
/// The senders of all workers send in rotation: message `k` of the run is due `k / rate` seconds
/// after its start. It belongs to sender `k % senders`, as that sender's message `k / senders`. So
/// the stamp of a message gives its due time, and the message needs no timestamp.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// Messages per second of all senders together; must be positive.
    pub(crate) rate: f64,
    /// The number of senders of all workers; at least one.
    pub(crate) senders: usize,
    /// The time from the first message to the end of the last interval.
    pub(crate) length: Duration,
}

/// A message that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    pub(crate) sender: usize,
    /// The number of the message, counted from 0 for each sender.
    pub(crate) number: u64,
    /// The due time, relative to the start of the run.
    pub(crate) due: Duration,
}

impl Schedule {
    /// Returns when a message is due.
    pub(crate) fn due(&self, sender: usize, number: u64) -> Duration {
        let index = number as f64 * self.senders as f64 + sender as f64;
        Duration::try_from_secs_f64(index / self.rate).unwrap_or(Duration::MAX)
    }

    /// Returns the total number of messages of a sender.
    pub(crate) fn messages(&self, sender: usize) -> u64 {
        let messages = self.length.as_secs_f64() * self.rate - sender as f64;
        (messages / self.senders as f64).ceil().max(0.0) as u64
    }

    /// Returns the messages of the senders `worker`, `worker + workers`, … in the order of their
    /// times.
    pub(crate) fn ticks(self, worker: usize, workers: usize) -> impl Iterator<Item = Tick> {
        // This covers one message too many, and `take_while` decides, so that rounding does no
        // harm.
        (0..=self.messages(worker))
            .flat_map(move |number| {
                let senders = (worker..self.senders).step_by(workers.max(1));
                senders.map(move |sender| (sender, number))
            })
            .map(move |(sender, number)| Tick {
                sender,
                number,
                due: self.due(sender, number),
            })
            .take_while(move |tick| tick.due < self.length)
    }
}

/// Sends each tick when it is due, from a thread of its own, because the runtime's timer is only
/// accurate to a millisecond.
///
/// A late receiver finds the ticks queued with their original times.
pub(crate) fn pace(
    start: Instant,
    ticks: impl Iterator<Item = Tick> + Send + 'static,
) -> mpsc::Receiver<Tick> {
    let (sender, receiver) = mpsc::channel(4096);
    thread::spawn(move || {
        for tick in ticks {
            if let Some(wait) = (start + tick.due).checked_duration_since(Instant::now()) {
                thread::sleep(wait);
            }
            if sender.blocking_send(tick).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(rate: f64, senders: usize, seconds: u64) -> Schedule {
        Schedule {
            rate,
            senders,
            length: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn senders_alternate_at_even_intervals() {
        let ticks: Vec<_> = schedule(4.0, 3, 1).ticks(0, 1).collect();
        let order: Vec<_> = ticks
            .iter()
            .map(|tick| (tick.sender, tick.number, tick.due.as_millis()))
            .collect();
        assert_eq!(order, [(0, 0, 0), (1, 0, 250), (2, 0, 500), (0, 1, 750)]);
    }

    #[test]
    fn shards_share_the_messages_between_them() {
        let schedule = schedule(1000.0, 7, 2);
        let mut all: Vec<_> = (0..3)
            .flat_map(|worker| schedule.ticks(worker, 3))
            .collect();
        all.sort_by_key(|tick| tick.due);
        assert_eq!(all, schedule.ticks(0, 1).collect::<Vec<_>>());
        assert_eq!(all.len(), 2000);
        for tick in all {
            assert_eq!(schedule.due(tick.sender, tick.number), tick.due);
        }
    }

    #[test]
    fn number_of_messages_is_known_in_advance() {
        for (rate, senders, seconds) in [(4.0, 3, 1), (1000.0, 7, 2), (0.5, 10, 4), (3.3, 2, 5)] {
            let schedule = schedule(rate, senders, seconds);
            for sender in 0..senders {
                let sent = schedule
                    .ticks(0, 1)
                    .filter(|tick| tick.sender == sender)
                    .count();
                assert_eq!(
                    schedule.messages(sender),
                    sent as u64,
                    "{schedule:?} {sender}"
                );
            }
        }
    }

    #[test]
    fn a_late_receiver_gets_every_tick_with_its_intended_time() {
        let schedule = schedule(1000.0, 2, 1);
        let past = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        let mut ticks = pace(past, schedule.ticks(0, 1));
        let mut received = Vec::new();
        while let Some(tick) = ticks.blocking_recv() {
            received.push(tick);
        }
        assert_eq!(received, schedule.ticks(0, 1).collect::<Vec<_>>());
    }
}
