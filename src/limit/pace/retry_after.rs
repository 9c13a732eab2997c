//! The advice when to retry that a refusal contains.
//!
//! All values of `retryAfter` (milliseconds) and `Retry-After` (seconds) are a [`RetryAfter`],
//! which is never 0. Callers that are refused together must not return together:
//!
//! | limit | advice |
//! |---|---|
//! | of one caller | [`RetryAfter::new`] |
//! | a rate that callers share | [`WaitingLine::advise`] |
//! | without a rate (slots, outages), shared | [`RetryAfter::spread`] |

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use serde_json::{Value, json};

/// How long a refused caller should wait before it retries: at least a millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RetryAfter(NonZeroU64);

impl RetryAfter {
    /// Rounds up to whole milliseconds, so that a caller that obeys has waited long enough.
    #[must_use]
    pub const fn new(wait: Duration) -> Self {
        let milliseconds = wait.as_nanos().div_ceil(1_000_000) as u64;
        match NonZeroU64::new(milliseconds) {
            Some(milliseconds) => Self(milliseconds),
            None => Self(NonZeroU64::MIN),
        }
    }

    /// Returns different times to consecutive callers, from `wait` to `wait + range`.
    #[must_use]
    pub fn spread(wait: Duration, range: Duration) -> Self {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        // Multiples of the golden ratio fill the range evenly after any number of calls.
        let fraction = CALLS
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_mul(0x9E37_79B9);
        Self::new(wait + range.mul_f64(f64::from(fraction) / f64::from(u32::MAX)))
    }

    /// Returns the value of `retryAfter`.
    #[must_use]
    pub const fn milliseconds(self) -> NonZeroU64 {
        self.0
    }

    /// Returns the value of the header `Retry-After`, which is at least 1.
    #[must_use]
    pub const fn seconds(self) -> u64 {
        self.0.get().div_ceil(1000)
    }

    /// Returns the time to wait.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0.get())
    }

    /// Returns the data of a [`Refusal`](crate::Refusal).
    #[must_use]
    pub fn data(self) -> Value {
        json!({"retryAfter": self.0})
    }
}

/// The callers that a shared rate limit has sent away, as the latest time advised to one of them:
/// nanoseconds since a start that the limiter chooses.
///
/// The next caller is advised one cost later, so that the rate admits each of them when it returns.
/// Times that have passed do not count. Advice reserves nothing.
#[derive(Debug, Default)]
pub struct WaitingLine(AtomicU64);

/// The minimum length of a waiting line.
const MIN_LENGTH: Duration = Duration::from_secs(120);

impl WaitingLine {
    /// Returns the advice for a caller that the rate of `cost` and `burst` refuses and could admit
    /// after `wait`.
    ///
    /// The line is as long as the burst takes to recover, and at least 120 s. Then it
    /// starts again, so that callers that do not wait cannot extend it without bound.
    pub fn advise(
        &self,
        now: Duration,
        wait: Duration,
        cost: Duration,
        burst: Duration,
    ) -> RetryAfter {
        let first = now + wait;
        let next = |latest| {
            let next = (Duration::from_nanos(latest) + cost).max(first);
            if next > first + burst.max(MIN_LENGTH) {
                return first;
            }
            next
        };
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        // As for the bucket, the state is one word that guards no other memory.
        let (Ok(latest) | Err(latest)) =
            self.0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |latest| {
                    Some(nanos(next(latest)))
                });
        RetryAfter::new(next(latest) - now)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::limit::SharedTokenBucket;

    const SECOND: Duration = Duration::from_secs(1);
    const COST: Duration = Duration::from_millis(10);

    /// A limit of 100 calls per second.
    #[derive(Default)]
    struct Limit {
        bucket: SharedTokenBucket,
        line: WaitingLine,
    }

    impl Limit {
        fn call(&self, now: Duration) -> Result<(), Duration> {
            let taken = self.bucket.take(now, COST, SECOND);
            taken.map_err(|wait| self.line.advise(now, wait, COST, SECOND).duration())
        }
    }

    #[test]
    fn advice_is_rounded_up_and_never_zero() {
        for (nanoseconds, milliseconds, seconds) in [
            (0, 1, 1),
            (1_000_000, 1, 1),
            (1_000_001, 2, 1),
            (1_000_000_000, 1000, 1),
            (1_000_000_001, 1001, 2),
        ] {
            let after = RetryAfter::new(Duration::from_nanos(nanoseconds));
            assert_eq!(after.milliseconds().get(), milliseconds);
            assert_eq!(after.seconds(), seconds);
            assert_eq!(after.data(), json!({"retryAfter": milliseconds}));
        }
    }

    #[test]
    fn callers_refused_together_are_admitted_when_they_return() {
        let limit = Limit::default();
        let now = 5 * SECOND;
        let mut times: Vec<_> = (0..300)
            .filter_map(|_| limit.call(now).err())
            .map(|after| now + after)
            .collect();
        assert_eq!(times.len(), 200);
        assert_eq!(times.iter().collect::<HashSet<_>>().len(), 200);
        assert_eq!(times.first(), Some(&(now + COST)));
        assert_eq!(times.last(), Some(&(now + 2 * SECOND)));
        times.sort_unstable();
        assert!(times.into_iter().all(|time| limit.call(time).is_ok()));
    }

    #[test]
    fn callers_that_do_not_wait_extend_the_line_only_to_its_length() {
        let limit = Limit::default();
        let now = 5 * SECOND;
        let longest = (0..100_000).filter_map(|_| limit.call(now).err()).max();
        assert_eq!(longest, Some(COST + MIN_LENGTH));
        let slow = WaitingLine::default();
        let advise = |_| slow.advise(now, SECOND, 60 * SECOND, 3600 * SECOND);
        let longest = (0..1000).map(advise).max().unwrap();
        assert!(longest.duration() > 3500 * SECOND && longest.duration() <= 3601 * SECOND);
    }

    #[test]
    fn times_that_have_passed_do_not_count() {
        let limit = Limit::default();
        let now = 5 * SECOND;
        let refused = |now| (0..200).filter_map(|_| limit.call(now).err()).count();
        assert_eq!(refused(now), 100);
        // All 100 have waited, and others have used up the rate.
        assert_eq!(refused(now + SECOND), 100);
        let now = now + 2 * SECOND;
        assert_eq!(refused(now), 100);
        assert_eq!(limit.call(now), Err(SECOND + COST));
    }

    #[test]
    fn spread_fills_its_range() {
        let mut tenths = [0; 10];
        for _ in 0..1000 {
            let after = RetryAfter::spread(2 * SECOND, SECOND).duration();
            let over = after.checked_sub(2 * SECOND).unwrap();
            tenths[(over.as_millis() as usize / 100).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| *count > 50), "{tenths:?}");
    }
}
