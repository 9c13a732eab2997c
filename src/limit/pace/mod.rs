//! The token bucket arithmetic of all rate limits, and the advice for refused callers.
//!
//! The state is the time at which the bucket is full again (GCRA, the virtual scheduling algorithm
//! of ITU-T I.371). Each limiter defines its own limits, their purpose and the reaction to an
//! excess.

mod retry_after;

pub use retry_after::{RetryAfter, WaitingLine};

use std::{
    ops::{Add, Sub},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// When the full burst is available again. `T` is an [`Instant`](std::time::Instant), or a
/// [`Duration`] since a start that the limiter chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenBucket<T>(T);

impl<T: Copy + Ord + Add<Duration, Output = T> + Sub<Output = Duration>> TokenBucket<T> {
    /// Creates a bucket that is full at this time.
    pub const fn at(time: T) -> Self {
        Self(time)
    }

    /// Returns the time at which the bucket is full again.
    pub const fn time(self) -> T {
        self.0
    }

    /// Returns the state after charging `cost`, even beyond the limit.
    #[must_use]
    pub fn charged(self, now: T, cost: Duration) -> Self {
        Self(self.0.max(now) + cost)
    }

    /// Returns the state after charging `cost`, if that stays within `burst`.
    ///
    /// # Errors
    ///
    /// Returns the time to wait until the charge is possible.
    pub fn take(self, now: T, cost: Duration, burst: Duration) -> Result<Self, Duration> {
        let after = self.charged(now, cost);
        let limit = now + burst;
        if after.0 > limit {
            return Err(after.0 - limit);
        }
        Ok(after)
    }
}

/// A [`TokenBucket`] shared by threads, as nanoseconds since a start that the limiter chooses.
#[derive(Debug, Default)]
pub struct SharedTokenBucket(AtomicU64);

impl SharedTokenBucket {
    /// Charges an event that has already happened. If the bucket is otherwise full, the event is
    /// paid after `rest`. The bucket is full again after `most` at the latest.
    pub fn charge(&self, now: Duration, cost: Duration, rest: Duration, most: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let charged = |known| {
            // While earlier costs are outstanding, the costs add up. Otherwise only the rest of
            // this cost counts, because time has passed since the event.
            let after = (Duration::from_nanos(known) + cost).max(now + rest);
            known.max(nanos(after.min(now + most)))
        };
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| {
                Some(charged(known))
            });
    }

    /// Returns when the full burst is available again.
    pub fn get(&self) -> TokenBucket<Duration> {
        TokenBucket(Duration::from_nanos(self.0.load(Ordering::Relaxed)))
    }

    /// Clears all costs and returns the previous state.
    pub fn reset(&self) -> TokenBucket<Duration> {
        TokenBucket(Duration::from_nanos(self.0.swap(0, Ordering::Relaxed)))
    }

    /// Charges `cost` if that stays within `burst`. See [`TokenBucket::take`].
    ///
    /// # Errors
    ///
    /// Returns the time to wait until the charge is possible.
    pub fn take(&self, now: Duration, cost: Duration, burst: Duration) -> Result<(), Duration> {
        // The state is one word and guards no other memory, so `Relaxed` is enough. Two threads
        // never take the same capacity: a thread that loses the exchange checks again.
        let mut known = self.0.load(Ordering::Relaxed);
        loop {
            let rested = TokenBucket(Duration::from_nanos(known));
            let after = rested.take(now, cost, burst)?.0;
            // 64 bits of nanoseconds last for 584 years.
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            let swapped =
                self.0
                    .compare_exchange_weak(known, after, Ordering::Relaxed, Ordering::Relaxed);
            match swapped {
                Ok(_) => return Ok(()),
                Err(other) => known = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn burst_is_followed_by_the_configured_rate() {
        let now = Instant::now();
        let mut rested = TokenBucket::at(now);
        for _ in 0..3 {
            rested = rested.take(now, SECOND, 3 * SECOND).unwrap();
        }
        assert_eq!(rested.take(now, SECOND, 3 * SECOND), Err(SECOND));
        let later = now + SECOND / 4;
        assert_eq!(rested.take(later, SECOND, 3 * SECOND), Err(SECOND * 3 / 4));
        let rested = rested.take(now + SECOND, SECOND, 3 * SECOND).unwrap();
        assert_eq!(rested.time(), now + 4 * SECOND);
    }

    #[test]
    fn charges_count_even_beyond_the_limit() {
        let rested = TokenBucket::at(Duration::ZERO).charged(SECOND, 10 * SECOND);
        assert_eq!(rested.time(), 11 * SECOND);
        assert_eq!(rested.take(SECOND, SECOND, 2 * SECOND), Err(9 * SECOND));
    }

    #[test]
    fn charge_is_capped_and_never_lowers_the_state() {
        let rested = SharedTokenBucket::default();
        rested.charge(SECOND, 2 * SECOND, 2 * SECOND, 5 * SECOND);
        assert_eq!(rested.get().time(), 3 * SECOND);
        rested.charge(SECOND, 20 * SECOND, 20 * SECOND, 5 * SECOND);
        assert_eq!(rested.get().time(), 6 * SECOND);
        // A larger earlier charge remains.
        rested.charge(SECOND, SECOND, SECOND, 2 * SECOND);
        assert_eq!(rested.get().time(), 6 * SECOND);
        assert_eq!(rested.reset().time(), 6 * SECOND);
        assert_eq!(rested.get().time(), Duration::ZERO);
    }

    #[test]
    fn late_charges_count_in_full_only_while_other_costs_are_not_over() {
        let (rest, most) = (SECOND, 60 * SECOND);
        let idle = SharedTokenBucket::default();
        idle.charge(20 * SECOND, 5 * SECOND, rest, most);
        assert_eq!(idle.get().time(), 21 * SECOND);
        let busy = SharedTokenBucket::default();
        busy.take(20 * SECOND, 10 * SECOND, most).unwrap();
        busy.charge(20 * SECOND, 5 * SECOND, rest, most);
        assert_eq!(busy.get().time(), 35 * SECOND);
    }

    #[test]
    fn concurrent_threads_take_no_more_than_one_thread() {
        let rested = SharedTokenBucket::default();
        let take = || (0..1000).filter(|_| rested.take(SECOND, SECOND, 100 * SECOND).is_ok());
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| take().count())).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(taken, 100);
        assert_eq!(rested.get().time(), 101 * SECOND);
    }

    proptest! {
        #[test]
        fn taken_never_exceeds_burst_plus_elapsed_time(
            steps in prop::collection::vec(0_u64..3000, 1..200),
            cost in 1_u64..500,
            burst in 1_u64..5000,
        ) {
            let milliseconds = Duration::from_millis;
            let (shared, mut alone) = (SharedTokenBucket::default(), TokenBucket::at(Duration::ZERO));
            let (mut now, mut taken) = (0, Vec::new());
            for step in steps {
                now += step;
                let (time, cost, burst) = (milliseconds(now), milliseconds(cost), milliseconds(burst));
                let answer = alone.take(time, cost, burst);
                prop_assert_eq!(shared.take(time, cost, burst), answer.map(drop));
                match answer {
                    Ok(after) => {
                        alone = after;
                        taken.push(now);
                    }
                    // After the returned wait, the charge succeeds.
                    Err(wait) => prop_assert!(alone.take(time + wait, cost, burst).is_ok() || cost > burst),
                }
            }
            for (first, since) in taken.iter().enumerate() {
                for (last, until) in taken.iter().enumerate().skip(first) {
                    let worth = burst + (until - since);
                    prop_assert!((last - first + 1) as u64 * cost <= worth);
                }
            }
        }
    }
}
