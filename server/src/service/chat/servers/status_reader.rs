//! Reads the statuses that other servers have changed.
//!
//! The adapter announces changed keys. Because announcements may be lost, each value is also read
//! once a minute, or every 13 seconds without an adapter. While announcements may be missing
//! ([`Announced`]), and for one round afterwards, each value is read every three seconds. A value
//! that could not be read is read again before others.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::announced::Announced;
use super::statuses::SHARDS;
use crate::service::chat::handle::Chat;
use crate::service::follower::{Failure, Followed, Intervals, Progress};
use roomcast::Namespace;
use roomcast::adapter::values::Changes;

/// Follows the values, and emits changes of this and other servers to the clients of this server.
pub(crate) struct StatusReader {
    chat: Chat,
    namespace: Namespace,
    /// The keys that other servers announce. `None` before the values are opened.
    changes: Option<Changes>,
    announced: Announced,
    round: Round,
    /// Values to read now, because they were announced or could not be read.
    pending: BTreeSet<usize>,
}

impl StatusReader {
    pub(in crate::service::chat) fn new(chat: Chat, namespace: Namespace) -> Self {
        let announcer = chat.announcer().cloned();
        let announced = Announced::new(namespace.io().clone(), announcer, chat.0.store.leases());
        Self {
            changes: chat.0.statuses.changes(),
            chat,
            namespace,
            announced,
            round: Round::default(),
            pending: BTreeSet::new(),
        }
    }
}

impl Followed for StatusReader {
    async fn advance(&mut self) -> Result<Progress, Failure> {
        // While the store does not answer, other values would fail as well.
        if self.chat.0.store.is_shared() && self.round.is_due() && self.pending.is_empty() {
            let is_announced = self.announced.check().await;
            self.pending.extend(self.round.next(is_announced));
        }
        let statuses = &self.chat.0.statuses;
        let numbers: Vec<usize> = self.pending.iter().copied().take(FAST_READS).collect();
        let reads = numbers.iter().map(|number| statuses.reload(*number));
        let results = futures_util::future::join_all(reads).await;
        let mut result = Ok(Progress::Done { changed: false });
        for (number, outcome) in numbers.into_iter().zip(results) {
            match outcome {
                Ok(()) => drop(self.pending.remove(&number)),
                Err(error) => {
                    self.round.hurry();
                    result = Err(error.into());
                }
            }
        }
        statuses
            .emit_changed(&self.namespace, &self.chat.0.store)
            .await?;
        result.map(
            |done| match (self.pending.is_empty(), self.round.is_complete) {
                (false, _) => Progress::More,
                (true, true) => done,
                (true, false) => Progress::Partial,
            },
        )
    }

    fn intervals(&self) -> Intervals {
        // Without other servers there is nothing to poll.
        let poll = match self.chat.0.store.is_shared() {
            true => self.round.due.saturating_duration_since(Instant::now()),
            false => Duration::MAX,
        };
        Intervals {
            retry: FAST_READ_INTERVAL,
            max_retry: MAX_RETRY_DELAY,
            ..Intervals::every(poll)
        }
    }

    async fn woken(&mut self) {
        let announced = async {
            match &mut self.changes {
                Some(changes) => changes.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            key = announced => match key {
                Some(key) => {
                    let number = key.parse::<usize>().ok().filter(|number| *number < SHARDS);
                    self.pending.extend(number);
                }
                // Some announcements were dropped, so any value may have changed.
                None => self.round.hurry(),
            },
            () = self.chat.0.statuses.wait_for_changes() => {}
        }
    }
}

/// Which values are read, and how often.
#[derive(Debug)]
struct Round {
    /// The next value. The mark of the reader.
    next: usize,
    /// When to read it.
    due: Instant,
    /// The number of values still to be read after announcements may have been missing.
    hurried: usize,
    /// Whether all values are known: each was read, or all changes are announced.
    is_complete: bool,
}

impl Default for Round {
    fn default() -> Self {
        Self {
            next: 0,
            due: Instant::now(),
            hurried: 0,
            is_complete: false,
        }
    }
}

impl Round {
    fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    /// Schedules a fast read of all values.
    const fn hurry(&mut self) {
        self.hurried = SHARDS;
        self.is_complete = false;
    }

    /// Returns the values to read now, and schedules the next ones.
    fn next(&mut self, is_announced: Option<bool>) -> impl Iterator<Item = usize> + use<> {
        let (delay, count) = self.pace(is_announced);
        self.due = Instant::now() + delay;
        let first = self.next;
        self.next = (first + count) % SHARDS;
        self.is_complete = self.next < count || is_announced == Some(true) && self.hurried == 0;
        (first..first + count).map(|number| number % SHARDS)
    }

    /// Returns the time until the next read, and the number of values to read now.
    const fn pace(&mut self, is_announced: Option<bool>) -> (Duration, usize) {
        if let Some(false) = is_announced {
            self.hurry();
        }
        if self.hurried > 0 {
            self.hurried = self.hurried.saturating_sub(FAST_READS);
            return (FAST_READ_INTERVAL, FAST_READS);
        }
        match is_announced {
            None => (SOLE_READ_INTERVAL, 1),
            Some(_) => (READ_INTERVAL, 1),
        }
    }
}

/// The interval between reads while announcements arrive.
const READ_INTERVAL: Duration = Duration::from_millis(250);
/// The interval between reads without an adapter.
const SOLE_READ_INTERVAL: Duration = Duration::from_millis(50);
/// The interval between reads while announcements may be missing.
const FAST_READ_INTERVAL: Duration = Duration::from_millis(80);
/// The number of values read concurrently while announcements may be missing.
const FAST_READS: usize = 8;
/// The maximum delay between two attempts to emit or read while the store does not answer.
const MAX_RETRY_DELAY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_announcements_speed_up_reads_until_one_round_after() {
        let mut round = Round::default();
        assert_eq!(round.pace(Some(true)), (READ_INTERVAL, 1));
        assert_eq!(round.pace(Some(false)), (FAST_READ_INTERVAL, FAST_READS));
        for read in 1..SHARDS / FAST_READS {
            assert_eq!(
                round.pace(Some(true)),
                (FAST_READ_INTERVAL, FAST_READS),
                "{read}"
            );
        }
        assert_eq!(round.pace(Some(true)), (READ_INTERVAL, 1));
        assert_eq!(round.pace(None), (SOLE_READ_INTERVAL, 1));
        round.hurry();
        assert_eq!(round.pace(None), (FAST_READ_INTERVAL, FAST_READS));
    }

    #[test]
    fn each_value_is_read_within_the_documented_time() {
        let round = |interval: Duration| interval.as_millis() * SHARDS as u128;
        // A missing heartbeat is noticed after 2.5 s.
        assert!(round(FAST_READ_INTERVAL) / FAST_READS as u128 + 2_500 <= 6_000);
        assert!(round(SOLE_READ_INTERVAL) <= 13_000);
        assert!(round(READ_INTERVAL) <= 64_000);
    }

    #[tokio::test(start_paused = true)]
    async fn round_is_complete_after_all_reads_or_with_announcements() {
        let mut round = Round::default();
        for read in 1..=SHARDS {
            assert_eq!(round.next(None).count(), 1);
            assert_eq!(round.is_complete, read == SHARDS, "{read}");
        }
        assert_eq!(Vec::from_iter(round.next(Some(true))), [0]);
        assert!(round.is_complete, "all changes are announced");
        assert!(!round.is_due());
        assert_eq!(
            Vec::from_iter(round.next(Some(false))),
            Vec::from_iter(1..9)
        );
        for _ in 1..SHARDS / FAST_READS {
            assert!(!round.is_complete, "announcements may be missing");
            round.next(Some(true)).for_each(drop);
        }
        assert!(round.is_complete);
    }
}
